"""R3GAN (Huang et al. 2024, arXiv:2501.05441): a modern ResNet, a relativistic loss, R1 and R2, and nothing else.

    python launch.py --config=configs/r3gan.py
    python launch.py --config=configs/r3gan.py:earth32                              # or shapes32, earth64

The published ones, each by the name of a preset; --config.data.* changes the data:

    python launch.py --config=configs/r3gan.py:cifar10                              # or cifar10_cond: told the class
    python launch.py --config=configs/r3gan.py:ffhq64 --config.data.dir=IMAGES      # 256: folder@256
    python launch.py --config=configs/r3gan.py:imagenet32                           # or imagenet64; told the class

As in the authors' code (brownvc/R3GAN) are networks and their initial values, batches, Adam (0, beta2), R1 and R2 in
every step with a gradient before the augmentation (ADA's, colours by half the chance, and cutout), half of the images
mirrored, and five cosines over the first 20 (ImageNet: 200) million images: of the rate, beta2, the penalties' weight,
the average's half-life, and the chance of an augmentation. ``folder@128``, between theirs, has networks and a weight of
our own.

Unlike theirs: G's step sees the reals of D's, not others; images of ImageNet are TFDS's (imagenet_resized). A run has
as many images as the cosines, where theirs goes on until it is stopped.

The small ones are as narrow as 2 CPU cores want them, with cosines over their own length. Reported are FIDs of 1.96
(CIFAR-10), 1.95 (FFHQ-64), 2.75 (FFHQ-256), 1.27 (ImageNet-32) and 2.09 (ImageNet-64), none of them repeated here.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from gan_jax import sides
from gan_jax.config import adam, average, by_side, default, schedule, set_conditional

_PLAYERS = ("generator", "discriminator")


class Preset(NamedTuple):
    """What differs from one to another.

    Attributes:
      widths: of the stages from 4x4 on.
      penalty: weight of R1 and R2, at first and at last.
      half_life: of the average, in images, at last; 0 at first.
      p: chance of an augmentation, at last; 0 at first.
      images: drawn by the end of the cosines.
      batch: images in one.
      group: channels of a group inside a block, which is twice as wide as the stage.
      blocks: of each stage.
      conditional: whether both players are told the class.
      rate: at first and at last.
      latent: numbers in one.
    """

    widths: tuple[int, ...]
    penalty: tuple[float, float]
    half_life: float
    p: float
    images: float = 2e7
    batch: int = 256
    group: int = 16
    blocks: int = 2
    conditional: bool = False
    rate: tuple[float, float] = (2e-4, 5e-5)
    latent: int = 64


_CIFAR = Preset((768,) * 4, (0.05, 0.005), 5e6, 0.55, batch=512)
_SMALL = Preset((128, 96, 48, 16), (2.0, 0.5), 3.5e3, 0.3, 1.2e5, 32, blocks=1, rate=(2e-3, 3e-4))
_IMAGENET = Preset((1536,) * 4, (0.5, 0.05), 5e7, 0.5, 2e8, 4096, group=32, conditional=True)
# By name; what it has in place of a data set's name is behind it.
_NAMED = {
    "cifar10": (_CIFAR, "cifar10"),
    "cifar10_cond": (_CIFAR._replace(conditional=True), "cifar10"),
    "ffhq64": (Preset((768,) * 4 + (384,), (2.0, 0.2), 5e5, 0.3), "folder@64"),
    "imagenet32": (_IMAGENET, "imagenet32"),
    "imagenet64": (_IMAGENET._replace(widths=(1536,) * 5, penalty=(1.0, 0.1), p=0.4), "imagenet64"),
    "mnist5k": (_SMALL, "mnist5k"),
    "shapes32": (_SMALL, "shapes32"),
    "earth32": (_SMALL, "earth32"),
    "earth64": (_SMALL._replace(widths=(128, 96, 64, 32, 16), penalty=(4.0, 1.0), images=4.8e4, batch=16), "earth64"),
}
# By the shorter side of other data sets' images.
_SIDES = {
    28: _NAMED["mnist5k"][0],
    32: _CIFAR,
    64: _NAMED["ffhq64"][0],
    128: Preset((768,) * 4 + (384, 192), (20.0, 2.0), 5e5, 0.3),
    256: Preset((768,) * 4 + (384, 192, 96), (150.0, 15.0), 5e5, 0.3),
}


def get_config(preset: str = "mnist5k") -> ConfigDict:
    own, dataset = _NAMED.get(preset, (None, preset))
    config = default(dataset)
    own = own or by_side(_SIDES, sides.shorter(config.data))
    config.model, config.loss, config.latent_dim = "r3gan", "relativistic", own.latent
    config.batch_size, config.steps = own.batch, int(own.images / own.batch)
    small = own.images < 1e6
    config.g_batches = 0 if small else 1
    digits = sides.shorter(config.data) == 28  # which have no mirror
    config.data.flip = not digits and dataset not in ("shapes32", "shapes64")
    stages = len(own.widths)
    low = 0 if small else min(4, stages - 1)
    groups = tuple(2 * width // own.group for width in own.widths)
    shared = {"blocks": (own.blocks,) * stages, "expansion": 2, "low_precision": low, "remat": False}
    config.generator = ConfigDict({"widths": own.widths, "groups": groups, "embedding": 64, **shared})
    config.discriminator = ConfigDict({"widths": own.widths[::-1], "groups": groups[::-1], **shared})
    for player in (config.generator, config.discriminator):
        player.conditional = "none"
    if own.conditional:
        set_conditional(config, dataset, "concat", "projection")
    config.augment.p = 0.0
    if small:
        config.augment.name = "translation" if digits else "color,translation"
    else:
        config.augment.name, config.augment.ada.color, config.augment.ada.cutout = "ada", 0.5, 1.0
    config.averages.ema = average("half_life", half_life=0.0, ramp_up=0.0)
    for name in _PLAYERS:
        config.optimizer[name] = adam(own.rate[0], 0.0, 0.9)
    for name in ("r1", "r2"):
        config.terms[name].weight = own.penalty[0]
    _set_cosines(config, own)
    config.log.every = 50 if small else 500
    config.sample.every = config.eval.every = config.checkpoint.every = 500 if small else 5000
    return config


def _set_cosines(config: ConfigDict, own: Preset) -> None:
    """All over the same images, each from the configured value on."""
    for name, key, final in (
        *((f"{player}_rate", f"optimizer.{player}.learning_rate", own.rate[1]) for player in _PLAYERS),
        *((f"{player}_b2", f"optimizer.{player}.b2", 0.99) for player in _PLAYERS),
        *((name, f"terms.{name}.weight", own.penalty[1]) for name in ("r1", "r2")),
        ("half_life", "averages.ema.half_life", own.half_life),
        ("augment", "augment.p", own.p),
    ):
        config.schedules[name] = schedule(key, "cosine", final=final, length=own.images, unit="images")


def get_hyper(hyper: Any) -> Any:
    return hyper.product([hyper.sweep("seed", range(3)), hyper.sweep("terms.r1.weight", [0.1, 0.5, 2.0])])
