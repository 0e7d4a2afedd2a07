"""DCGAN (Radford, Metz & Chintala 2015, arXiv:1511.06434) on 28x28 digits.

    python launch.py --config=configs/dcgan.py

Takes about 9 minutes on 2 CPU cores (at 350 images/s); about three in four of the digits it ends with are plainly so:
configs/dcgan.png.

The paper's own 64x64x3 network:

    python launch.py --config=configs/dcgan.py --workdir=runs/dcgan64 --config.data.image_size=64 \
        --config.data.channels=3 --config.batch_size=64 --config.generator.widths="(512, 256, 128, 64)" \
        --config.discriminator.widths="(64, 128, 256, 512)"
"""

from ml_collections import ConfigDict

from gan_jax.config import default


def get_config() -> ConfigDict:
    config = default()
    config.steps = 5500
    config.batch_size = 32  # on so few images many small steps beat few large ones
    config.ema.decay = 0.9995
    config.log.every = 100
    config.sample.every = 500
    config.eval.every = 1000
    config.checkpoint.every = 1000
    config.steps_per_dispatch = 50
    config.model = "dcgan"
    config.augment = "translation"  # 4,500 images are few: without it D learns them by heart
    config.generator = ConfigDict({"widths": (128, 64)})  # from the 7x7 side up, one doubling each
    config.discriminator = ConfigDict({"widths": (64, 128, 256)})  # from the image down, one halving each
    return config
