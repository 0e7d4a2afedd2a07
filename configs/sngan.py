"""SNGAN (Miyato et al. 2018, arXiv:1802.05957): residual networks, D's layers divided by their largest singular values.

    python launch.py --config=configs/sngan.py

Digits have narrower and shallower networks than the paper's, blocks of D that widen in their first convolution (an FID
of 79 in place of 90 after 1,500 steps), one D step, a constant rate, translated images. The paper's own:

    python launch.py --config=configs/sngan.py:cifar10
    python launch.py --config=configs/sngan.py:folder@128 --config.data.dir=IMAGES

CIFAR-10's are as in the authors' code (pfnet-research/sngan_projection, sn_cifar10_unconditional.yml): the hinge loss,
five D steps, Adam (0, .9) at 2e-4 that falls to 0 in 50,000 steps, batches of 64, 2 x 64 fresh latents for G's step,
initial weights. Networks for 64x64 and 128x128 are theirs of ImageNet, with 64 fresh latents; their training there is
longer than the 100,000 steps here. Unlike theirs: D steps come before G's, D's last layer has a bias, samples are of
averaged weights.

3,000 steps of 32 take 7 minutes of one CPU core and end at an FID by the classifier of 39 (one seed), falling still.
DCGAN's is 26 after more than twice as many.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import dcgan
from gan_jax import sides
from gan_jax.config import adam, by_side

# By the shorter side of the images: the generator's first width and its blocks', the discriminator's, how many halve.
_NETWORKS = {
    28: (64, (64, 32), (16, 32, 64), 2),
    32: (256, (256, 256, 256), (128, 128, 128, 128), 2),
    64: (1024, (512, 256, 128, 64), (64, 128, 256, 512, 1024), 5),
    128: (1024, (1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024, 1024), 5),
}


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    side = sides.shorter(config.data)
    first, up, down, halving = by_side(_NETWORKS, side)
    digits = side == 28
    config.model, config.loss = "resnet", "hinge"
    config.latent_dim = 128
    config.steps = {28: 3000, 32: 50000}.get(side, 100000)
    config.averages.ema.decay = 0.98 if digits else 0.999
    config.d_steps, config.g_batches = {28: (1, 0), 32: (5, 2)}.get(side, (5, 1))
    config.generator.update({"first": first, "widths": up, "initializer": "xavier"})
    config.discriminator.update({"widths": down, "downs": halving, "initializer": "xavier"})
    config.discriminator.update({"norm": "none", "spectral": True, "wide": digits, "pooling": "sum"})
    rate = adam(4e-4 if digits else 2e-4, 0.0, 0.9)
    config.optimizer = ConfigDict({"generator": rate, "discriminator": rate.copy_and_resolve_references()})
    if not digits:
        config.augment.name = "none"
        for player in ("generator", "discriminator"):
            config.schedules[f"{player}_rate"].kind = "linear"
    if digits:
        config.sample.every = config.eval.every = config.checkpoint.every = 500
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("optimizer.discriminator.learning_rate", [2e-4, 4e-4])]
    )
