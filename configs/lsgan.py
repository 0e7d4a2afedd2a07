"""LSGAN (Mao et al. 2017, arXiv:1611.04076): DCGAN with least squares.

    python launch.py --config=configs/lsgan.py

D's targets are 1 and 0, and G's is 1 (eq. 9); the sweep also tries 1, -1 and 0 (eq. 8). Networks and optimizers are
those of configs/dcgan.py, and not the paper's.

7,000 steps of 32 take 5 minutes of one CPU core and end at an FID by the classifier of 31, where DCGAN's is 26 and
fresh digits' 3.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import dcgan


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    config.loss = "least_squares"
    return config


def get_hyper(hyper: Any) -> Any:
    targets = [
        {"labels.fake": a, "labels.real": b, "labels.generator": c} for a, b, c in [(0.0, 1.0, 1.0), (-1.0, 1.0, 0.0)]
    ]
    return hyper.product([hyper.sweep("seed", range(3)), targets])
