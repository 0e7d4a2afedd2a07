"""DCGAN (Radford, Metz & Chintala 2015, arXiv:1511.06434) on 28x28 digits.

    python launch.py --config=configs/dcgan.py

Takes 6 minutes on 2 CPU cores (at 1,360 images/s, and half a minute to train the classifier that judges it); about nine
in ten of the digits that it ends with are plainly so: configs/dcgan.png.

The 64x64x3 network of pytorch/examples (dcgan/main.py), which has half the paper's widths and kernels of 4x4 in place
of 5x5, on a folder of images:

    python launch.py --config=configs/dcgan.py:folder --config.data.dir=IMAGES       # or folder@128, folder@64x96

Loss, initial weights and Adam (2e-4, .5, .999) are the reference's too, and batches of 64. Unlike there, what D sees is
translated by up to an eighth (``augment``), and samples are of averaged weights. Digits have batches of 32 and twice
the rate.
"""

from typing import Any

from ml_collections import ConfigDict

from gan_jax import sides
from gan_jax.config import adam, by_side, default

# By the shorter side of the images: the generator's widths from side 4 up, and its mirror image, the discriminator's.
_WIDTHS = {28: (128, 64, 32), 32: (256, 128, 64), 64: (512, 256, 128, 64), 128: (1024, 512, 256, 128, 64)}


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = default(dataset)
    side = sides.shorter(config.data)
    digits = side == 28  # so small and few that higher rates and smaller batches do better
    config.steps = 14000 if digits else 50000
    config.batch_size = 32 if digits else 64
    config.averages.ema.decay = (
        0.995 if digits else 0.999
    )  # half of it is of the last 1 % of the steps, see docs/use.md
    config.log.every = 200
    config.sample.every = 1000
    config.eval.every = 2000
    config.checkpoint.every = 1000
    config.model = "dcgan"
    config.augment.name = "translation"  # 4,500 images are few: without it D learns them by heart
    widths = by_side(_WIDTHS, side)
    config.generator.widths = widths
    config.discriminator.widths = widths[::-1]
    rate = 4e-4 if digits else 2e-4
    config.optimizer = ConfigDict({"generator": adam(rate), "discriminator": adam(rate)})
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("optimizer.generator.learning_rate", [2e-4, 4e-4])]
    )


def get_search(trial: Any) -> dict[str, Any]:
    return {
        "optimizer.generator.learning_rate": trial.suggest_float("g_rate", 5e-5, 2e-3, log=True),
        "optimizer.discriminator.learning_rate": trial.suggest_float("d_rate", 5e-5, 2e-3, log=True),
        "averages.ema.decay": 1 - trial.suggest_float("forgetting", 1e-3, 1e-1, log=True),
    }
