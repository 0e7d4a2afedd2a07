"""Conditional GAN (Mirza & Osindero 2014, arXiv:1411.1784): both players get the label's one-hot code.

    python launch.py --config=configs/cgan.py
    python launch.py --mode=sample --workdir=runs/cgan --label=7 --out=sevens.png
    python launch.py --config=configs/cgan.py:folder --config.data.dir=PICTURES     # as many classes as they have

G gets it beside the latents, D as further channels of the image. The networks are DCGAN's, where the paper's are of
dense layers.

7,000 steps of 32 take 6 minutes of one CPU core and end at an FID by the classifier of 8, where DCGAN's is 26 and
fresh digits' 3: ten clear rows, a digit each.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import dcgan
from gan_jax.config import set_conditional


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    set_conditional(config, dataset, "concat", "concat")
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("optimizer.generator.learning_rate", [2e-4, 4e-4])]
    )
