"""AC-GAN (Odena, Olah & Shlens 2017, arXiv:1610.09585): D also names the class of what it sees.

    python launch.py --config=configs/acgan.py

Both players' losses for the class have weight 1, as in the paper. The networks are those of configs/dcgan.py, and fakes
have the labels of the real batch.

7,000 steps of 32 take 5 minutes of one CPU core and end at an FID by the classifier of 9, where DCGAN's is 26 and
fresh digits' 3; recall (.54) is the lowest of those told the classes, as D's classes favour typical digits.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import dcgan
from gan_jax.config import set_conditional


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = dcgan.get_config(dataset)
    set_conditional(config, dataset, "concat", "auxiliary")
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product([hyper.sweep("seed", range(3)), hyper.sweep("terms.auxiliary_generator.weight", [0.1, 1.0])])
