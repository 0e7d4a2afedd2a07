"""FastGAN (Liu et al. 2021, arXiv:2101.04775): for a few hundred pictures, and hours, not days.

    python launch.py --config=configs/fastgan.py:folder@256 --config.data.dir=IMAGES        # or 512, 1024
    python launch.py --config=configs/fastgan.py                                            # digits; or earth64

Networks are those of the author's code at 256, 512 and 1024, and so are Adam (2e-4, .5, .999), batches of 8, 50,000
steps, the hinge loss with random margins, DiffAugment's colours and translations, mirrored images, and an average of G
with a decay of .999. D must be able to draw its maps of reals: ``terms.self_supervision``. The author reports that four
in five of 20 data sets of less than 100 images converge.

Unlike theirs: D's decoders are held to a squared error, where theirs is a perceptual distance that wants VGG's outside
weights; smaller reals are means of pixels; spectral norms make one power iteration a step; both images of a fake have
one augmentation. Samples of the average are by the average's statistics, too.

The small ones have an eighth of the channels, batches of 16, and half the rate for D. Digits aren't augmented: on black
D can't tell a digit that was moved from one that G draws elsewhere.
"""

from typing import Any

from ml_collections import ConfigDict

from gan_jax.config import SMALL, adam, average, default


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = default(dataset)
    small = dataset in SMALL or dataset == "earth128"
    config.model, config.loss, config.latent_dim = "fastgan", "soft_hinge", 256
    shared = {"width": 64, "norm": "batch", "initializer": "normal", "spectral": True, "remat": False}
    config.generator, config.discriminator = ConfigDict(shared), ConfigDict(shared)
    config.batch_size, config.steps = 8, 50_000
    for player in ("generator", "discriminator"):
        config.optimizer[player] = adam(2e-4, 0.5, 0.999)
    config.terms.self_supervision.weight = 1.0
    config.averages.ema = average(decay=0.999)
    config.augment.name = "color,translation"
    config.data.flip = True
    config.sample.every = config.checkpoint.every = config.eval.every = 5000
    config.log.every = 200
    if small:
        _as_for_two_cores(config)
    return config


def _as_for_two_cores(config: ConfigDict) -> None:
    config.generator.width = config.discriminator.width = 8
    config.batch_size, config.steps, config.latent_dim = 16, 10_000, 64
    config.optimizer.discriminator = adam(1e-4, 0.5, 0.999)
    config.averages.ema = average(decay=0.99)
    config.data.flip = config.data.name.startswith("earth")
    if config.data.channels == 1:
        config.augment.name = "none"
    config.sample.every = config.eval.every = config.checkpoint.every = 1000


def get_hyper(hyper: Any) -> Any:
    return hyper.product([hyper.sweep("seed", range(3)), hyper.sweep("terms.self_supervision.weight", [0.0, 1.0])])
