"""SNGAN (Miyato et al. 2018, arXiv:1802.05957): residual networks, D's layers divided by their largest singular values.

    python launch.py --config=configs/sngan.py

Digits have narrower and shallower networks than the paper's, one D step and a constant rate; its own:

    python launch.py --config=configs/sngan.py:cifar10

RESULT
"""

from ml_collections import ConfigDict

from configs import dcgan
from gan_jax.config import adam

# By the side of the images.
_GENERATOR = {28: (64, 32), 32: (256, 256, 256), 64: (512, 256, 128, 64), 128: (1024, 512, 256, 128, 64)}
_DISCRIMINATOR = {
    28: (16, 32, 64),
    32: (128, 128, 128, 128),
    64: (64, 128, 256, 512, 1024),
    128: (64, 128, 256, 512, 1024, 1024),
}


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    size, digits = config.data.image_size, config.data.image_size == 28
    config.model, config.loss = "resnet", "hinge"
    config.latent_dim = 128
    config.steps = 3000 if digits else 100000
    config.d_steps = 1 if digits else 5
    config.generator.update({"widths": _GENERATOR[size], "initializer": "xavier"})
    down = len(_GENERATOR[size]) if size > 32 else 2
    config.discriminator.update({"widths": _DISCRIMINATOR[size], "downs": down, "initializer": "xavier"})
    config.discriminator.update({"norm": "none", "spectral": True})
    rate = adam(4e-4 if digits else 2e-4, 0.0, 0.9)
    config.optimizer = ConfigDict({"generator": rate, "discriminator": rate.copy_and_resolve_references()})
    if not digits:
        config.augment = "none"
        for player in ("generator", "discriminator"):
            config.optimizer[player].schedule = "linear"
    if digits:
        config.sample.every = config.eval.every = config.checkpoint.every = 500
    return config
