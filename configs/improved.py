"""Improved techniques for training GANs (Salimans et al. 2016, arXiv:1606.03498), on DCGAN.

    python launch.py --config=configs/improved.py

Minibatch discrimination in D, virtual batch norm in G, one-sided label smoothing (.9), historical averaging, on the
networks of configs/dcgan.py; the weight of the last, 1e-5, is ours. Feature
matching, which the paper has in place of the adversarial loss for its classifier, and not for its best pictures, is
a switch too:

    python launch.py --config=configs/improved.py --workdir=runs/matching --config.terms.adversarial.weight=0 \\
        --config.terms.feature_matching.weight=1 --config.discriminator.minibatch=none

3,500 steps of 32 take 5 minutes of one CPU core and end at an FID by the classifier of 28, where DCGAN's is 26 after
7,000.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import dcgan


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    config.discriminator.minibatch = "discrimination"
    config.generator.norm = "virtual"
    config.labels.real = 0.9
    for player in ("generator", "discriminator"):
        config.optimizer[player].historical_averaging = 1e-5
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("discriminator.minibatch", ["none", "discrimination"])]
    )
