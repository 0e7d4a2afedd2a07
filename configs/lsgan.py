"""LSGAN (Mao et al. 2017, arXiv:1611.04076): DCGAN with least squares.

    python launch.py --config=configs/lsgan.py

RESULT
"""

from ml_collections import ConfigDict

from configs import dcgan


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    config.loss = "least_squares"
    return config
