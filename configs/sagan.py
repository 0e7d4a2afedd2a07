"""SAGAN (Zhang et al. 2019, arXiv:1805.08318): residual networks with attention, spectrally normalised in both players.

    python launch.py --config=configs/sagan.py
    python launch.py --config=configs/sagan.py:earth32                              # six classes of latitude

Published ones, behind the colon; --config.data.* changes the data:

    python launch.py --config=configs/sagan.py:cifar10
    python launch.py --config=configs/sagan.py:imagenet128 --config.data.dir=IMAGES        # 64: imagenet64
    python launch.py --config=configs/sagan.py:folder@128 --config.data.dir=IMAGES         # without classes

Both are told the class, G by conditional batch norm, D by projection. The loss is the hinge, with a rate for G and one
for D ("two time-scales"), 1e-4 and 4e-4, Adam (0, .9), batches of 256, one step of D.

``cifar10`` and the networks for 64x64 are those of PyTorch-StudioGAN, which has rates of 2e-4, betas (.5, .999),
batches of 64 and five steps of D for the first, with attention at 16x16; ``imagenet128`` is the network of
BigGAN-PyTorch's script, with attention at 64x64 in both, where the authors' own has it at 32x32
(``--config.generator.attention=32 --config.discriminator.attention=32``).

Unlike theirs: one power iteration a step, not one a pass; batch norm's statistics move as everywhere here; G's classes
are those of the reals. Digits have SNGAN's narrow networks, with attention at 14x14, rates of 2e-4 and 4e-4, and
DiffAugment's translations: with 4e-4 for both players G draws one image a class after 1,500 steps.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import sngan
from gan_jax import sides
from gan_jax.config import DATASETS, adam, by_side, set_conditional

# By the shorter side of the images: of attention's maps, batch, steps of D, rates of G and D, Adam's betas, steps.
_NUMBERS: dict[int, tuple[int, int, int, tuple[float, float], tuple[float, float], int]] = {
    28: (14, 32, 1, (2e-4, 4e-4), (0.0, 0.9), 3000),
    32: (16, 64, 5, (2e-4, 2e-4), (0.5, 0.999), 100_000),
    64: (32, 256, 1, (1e-4, 4e-4), (0.0, 0.9), 100_000),
    128: (64, 256, 1, (1e-4, 4e-4), (0.0, 0.9), 1_000_000),
}
_NARROW = {  # embedded data: G's first width and its blocks', D's
    32: (96, (64, 64, 32), (32, 64, 96)),
    64: (96, (96, 64, 32, 16), (16, 32, 64, 96)),
}
_EMBEDDED = ("shapes32", "shapes64", "earth32", "earth64")


def get_config(preset: str = "mnist5k") -> ConfigDict:
    dataset = "folder@128" if preset == "imagenet128" else preset
    config = sngan.get_config(dataset)
    side = sides.shorter(config.data)
    small, at = side == 28 or preset in _EMBEDDED, by_side(_NUMBERS, side)[0]
    _, config.batch_size, config.d_steps, rates, betas, config.steps = by_side(_NUMBERS, 28 if small else side)
    if preset == "imagenet128":
        config.classes, config.data.labels = 1000, True
        config.generator.conditional, config.discriminator.conditional = "norm", "projection"
    elif DATASETS[dataset.partition("@")[0]][-1]:
        set_conditional(config, dataset, "norm", "projection")
    initializer = "orthogonal" if side == 32 and not small else "xavier"
    config.generator.update({"spectral": True, "attention": at, "biased": not small, "initializer": initializer})
    config.discriminator.update({"wide": True, "attention": at, "initializer": initializer})
    config.g_batches = 0 if small else 1
    for player, rate in zip(("generator", "discriminator"), rates, strict=True):
        config.optimizer[player] = adam(rate, *betas)
        config.schedules[f"{player}_rate"].kind = "constant"
        config[player].gain = 1.0
    if side == 64:
        config.discriminator.downs = 4
    if small:
        _narrow(config)
    return config


def _narrow(config: ConfigDict) -> None:
    """For two CPU cores."""
    side = sides.shorter(config.data)
    config.averages.ema.decay = 0.98
    config.augment.name = "translation"
    if side != 28:
        first, up, down = _NARROW[side]
        config.generator.update({"first": first, "widths": up})
        config.discriminator.update({"widths": down, "downs": len(down) - 1})
        config.augment.name = "color,translation"
        config.data.flip = config.data.name.startswith("earth")
    config.sample.every = config.eval.every = config.checkpoint.every = 500


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("optimizer.discriminator.learning_rate", [2e-4, 4e-4])]
    )
