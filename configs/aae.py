"""The adversarial autoencoder (Makhzani et al. 2015, arXiv:1511.05644): D tells codes from draws of the prior.

    python launch.py --config=configs/aae.py

An autoencoder of dense layers whose codes D drives towards N(0, 1); samples are decoded draws. Beside `samples/` a
run writes `reconstructions/`: unseen images, each with what the autoencoder makes of it. Unlike in the paper,
layers have 512 units and not 1000, the autoencoder's error and its adversarial loss are one sum and not two phases, and
samples are of averaged weights.

15,000 steps of 128 take 5 minutes of one CPU core and end at an FID by the classifier of 38 (DCGAN's, 26): some
samples blurred, as mean squared error has them.
"""

from typing import Any

from ml_collections import ConfigDict

from gan_jax.config import adam, default


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = default(dataset)
    config.update({"model": "aae", "task": "autoencoder", "latent_dim": 8, "steps": 15000})
    config.averages.ema.decay = 0.995
    config.generator.update(
        {"widths": (512, 512), "encoder_widths": (512, 512), "norm": "none", "initializer": "xavier"}
    )
    config.discriminator.update({"widths": (256, 256), "norm": "none", "initializer": "xavier"})
    config.terms.reconstruction.weight = 50.0
    config.optimizer = ConfigDict({"generator": adam(5e-4, 0.5, 0.9), "discriminator": adam(2e-4, 0.5, 0.9)})
    config.log.every, config.sample.every, config.eval.every, config.checkpoint.every = 200, 1000, 2000, 1000
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("terms.reconstruction.weight", [20.0, 50.0, 100.0])]
    )
