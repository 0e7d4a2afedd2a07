"""WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028): a critic held to gradients of norm 1.

    python launch.py --config=configs/wgan_gp.py

As in the authors' code for digits (igul222/improved_wgan_training, gan_mnist.py): five critic steps a generator step,
penalty weight 10, no batch norm in the critic, Adam (.5, .9) at 1e-4. Unlike theirs: networks are those of
configs/dcgan.py, with batch norm in the generator; the last critic step's latents serve the generator's step, too;
samples are of averaged weights, images are translated. Digits have twice the rate, for 2,000 steps, not 200,000. Larger
images have the same, and not the authors' networks.

The ResNet of their CIFAR-10 (gan_cifar_resnet.py), with 2 x 64 fresh latents for the generator's step and a rate that
falls to 0 in 100,000 steps; unlike theirs, it is told no classes, and no noise is added to the images:

    python launch.py --config=configs/wgan_gp.py:cifar10

2,000 steps take 8 minutes of one CPU core and end at an FID by the classifier of 71 (DCGAN's, 26): the generator
moves 2,000 times, DCGAN's 7,000, in the same time, and the FID still falls.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import dcgan
from gan_jax import sides
from gan_jax.config import adam


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    digits = sides.shorter(config.data) == 28
    config.loss = "wasserstein"
    config.terms.wgan_gp.weight = 10.0
    config.steps = 2000 if digits else 100000
    config.averages.ema.decay = 0.99 if digits else 0.999
    config.d_steps = 5
    config.discriminator.norm = "none"
    rate = 2e-4 if digits or sides.shorter(config.data) == 32 else 1e-4
    config.optimizer = ConfigDict({"generator": adam(rate, 0.5, 0.9), "discriminator": adam(rate, 0.5, 0.9)})
    if sides.shorter(config.data) == 32:
        config.update({"model": "resnet", "latent_dim": 128, "batch_size": 64, "g_batches": 2})
        config.augment.name = "none"
        config.generator.update({"widths": (128, 128, 128), "initializer": "xavier"})
        config.discriminator.update({"widths": (128, 128, 128, 128), "downs": 2, "initializer": "xavier"})
        config.discriminator.update({"wide": False, "pooling": "mean"})
        for player in ("generator", "discriminator"):
            config.optimizer[player].b1 = 0.0
            config.schedules[f"{player}_rate"].kind = "linear"
    if digits:
        config.sample.every = config.eval.every = config.checkpoint.every = 500
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product([hyper.sweep("seed", range(3)), hyper.sweep("terms.wgan_gp.weight", [1.0, 10.0])])
