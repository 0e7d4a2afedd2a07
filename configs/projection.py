"""The projection discriminator (Miyato & Koyama 2018, arXiv:1802.05637) and conditional batch norm, on SNGAN's
networks.

    python launch.py --config=configs/projection.py

RESULT
"""

from ml_collections import ConfigDict

from configs import sngan
from gan_jax.config import set_conditional


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = sngan.get_config(dataset)
    set_conditional(config, dataset, "norm", "projection")
    return config
