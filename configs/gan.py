"""The multilayer-perceptron GAN (Goodfellow et al. 2014, arXiv:1406.2661) on 28x28 digits.

    python launch.py --config=configs/gan.py

Dense layers, as in the paper, with the non-saturating loss of its section 3; unlike there, all hidden layers have
LeakyReLU, D no dropout, latents are normal, and Adam trains both players.

Takes 3 minutes on 2 CPU cores, and ends with digits of all kinds, grainy and some broken, as dense layers draw them.

The deeper variant:

    python launch.py --config=configs/gan.py --workdir=runs/gan_deep --config.generator.widths="(128, 256, 512, 1024)" \
        --config.discriminator.widths="(512, 256, 128)"
"""

from typing import Any

from ml_collections import ConfigDict

from gan_jax.config import adam, default


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    config = default(dataset)
    config.steps = 20000
    config.averages.ema.decay = 0.98  # averages of dense layers' weights blur their strokes: the shorter the better
    config.model = "mlp"
    config.generator.update({"widths": (128, 256), "norm": "none", "initializer": "xavier"})
    config.discriminator.update({"widths": (256, 128), "norm": "none", "initializer": "xavier"})
    config.optimizer = ConfigDict({"generator": adam(b1=0.9), "discriminator": adam(b1=0.9)})
    config.log.every = 200
    config.sample.every = 1000
    config.eval.every = 1000
    config.checkpoint.every = 2000
    return config


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("optimizer.generator.learning_rate", [1e-4, 2e-4, 4e-4])]
    )


def get_search(trial: Any) -> dict[str, Any]:
    return {
        "optimizer.generator.learning_rate": trial.suggest_float("g_rate", 5e-5, 2e-3, log=True),
        "optimizer.discriminator.learning_rate": trial.suggest_float("d_rate", 5e-5, 2e-3, log=True),
        "labels.real": trial.suggest_float("real_label", 0.8, 1.0),
    }
