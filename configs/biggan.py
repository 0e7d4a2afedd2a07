"""BigGAN (Brock et al. 2019, arXiv:1809.11096): wide residual networks, attention, a latent for every block.

    python launch.py --config=configs/biggan.py
    python launch.py --config=configs/biggan.py:earth32                             # six classes of latitude

Published ones, behind the colon; --config.data.* changes the data:

    python launch.py --config=configs/biggan.py:cifar10                             # or cifar10_deep
    python launch.py --config=configs/biggan.py:imagenet128 --config.data.dir=IMAGES        # or 256, imagenet128_deep
    python launch.py --config=configs/biggan.py:imagenet64
    python launch.py --config=configs/biggan.py:folder@128 --config.data.dir=IMAGES         # without classes

| | channels | latent | batch | rates of G and D | betas | D's steps | average from step |
|---|---|---|---|---|---|---|---|
| cifar10 | 96, D 192 | 80 | 64 | 2e-4, 2e-4 | .5, .999 | 5 | 1,000 |
| imagenet64, 128, 256 | 96 | 100, 120, 140 | 2,048 | 1e-4, 4e-4 | 0, .999 | 1 | 20,000 |
| imagenet128_deep | 128 | 128 | 2,048 | 1e-4, 4e-4 | 0, .999 | 1 | 20,000 |

``cifar10`` and ``cifar10_deep`` are PyTorch-StudioGAN's, the others those of ajbrock/BigGAN-PyTorch, which computes a
batch in 8 parts, as here ``--config.parallel.logical_shards=8`` on one device. The loss is the hinge; initial kernels
are orthogonal; samples are of averaged weights. Figures are better by standing statistics
(``--config.eval.sampling='standing=16'``), and by truncated latents (``--sampling='truncation=0.5'``) images are better
and less varied. Orthogonal regularisation, off in that code, is ``--config.terms.orthogonal.weight=1e-4``.

Unlike theirs: one power iteration a step, not one a pass; G's classes are those of the reals. Digits and the other
embedded images have networks of 16 to 128 channels, two steps of D, as the paper, and half the rate for G. With one
step and equal rates D was at chance after 1,000 steps, and tiles of the Earth became blocky.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from gan_jax import sides
from gan_jax.config import DATASETS, SMALL, adam, average, by_side, default, set_conditional


class _Preset(NamedTuple):
    """What differs from one to another; ``up`` and ``down`` begin with the channels before the blocks, where there are
    such."""

    data: str
    up: tuple[int, ...]
    down: tuple[int, ...]
    halves: int
    attention: int
    latent: int
    batch: int = 2048
    steps: int = 138_000
    d_steps: int = 1
    rates: tuple[float, float] = (1e-4, 4e-4)
    betas: tuple[float, float] = (0.0, 0.999)
    start: int = 20_000
    classes: int = 1000
    deep: bool = False


def _wide(channels: int, times: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(channels * each for each in times)


_CIFAR = _Preset(
    "cifar10", (384,) * 4, (192,) * 4, 2, 16, 80, 64, 100_000, 5, (2e-4, 2e-4), (0.5, 0.999), 1000, classes=10
)
_128 = _Preset("folder@128", _wide(96, (16, 16, 8, 4, 2, 1)), _wide(96, (1, 2, 4, 8, 16, 16)), 5, 64, 120)
_NAMED = {
    "cifar10": _CIFAR,
    "cifar10_deep": _CIFAR._replace(deep=True),
    "imagenet64": _Preset("imagenet64", _wide(96, (16, 16, 8, 4, 2)), _wide(96, (1, 2, 4, 8, 16)), 4, 32, 100),
    "imagenet128": _128,
    "imagenet128_deep": _Preset(
        "folder@128", _wide(128, (16, 16, 8, 4, 2, 1)), _wide(128, (1, 2, 4, 8, 16, 16)), 5, 64, 128, deep=True
    ),
    "imagenet256": _Preset(
        "folder@256", _wide(96, (16, 16, 8, 8, 4, 2, 1)), _wide(96, (1, 2, 4, 8, 8, 16, 16)), 6, 64, 140
    ),
}
# By the shorter side of other data sets' images; and of those at hand, for two CPU cores.
_SIDES = {32: _CIFAR, 64: _NAMED["imagenet64"], 128: _128, 256: _NAMED["imagenet256"]}
_NARROW = {
    28: _Preset("", (64, 64, 32), (16, 32, 64), 2, 14, 60),
    32: _Preset("", (128, 96, 64, 32), (32, 64, 128), 2, 16, 80),
    64: _Preset("", (128, 128, 64, 32, 16), (16, 32, 64, 128), 3, 32, 100),
}


def get_config(preset: str = "mnist5k") -> ConfigDict:
    named = _NAMED.get(preset)
    config = default(named.data if named else preset)
    side, small = sides.shorter(config.data), preset in SMALL
    own = named or by_side(_NARROW if small else _SIDES, side)
    config.model, config.loss = "biggan_deep" if own.deep else "biggan", "hinge"
    config.latent_dim, config.batch_size, config.steps, config.d_steps = own.latent, own.batch, own.steps, own.d_steps
    shared = {"norm": "batch", "spectral": True, "initializer": "orthogonal", "attention": own.attention}
    first, *up = own.up
    config.generator.update({**shared, "first": first, "widths": tuple(up), "embedding": 128, "biased": not small})
    config.discriminator.update({**shared, "norm": "none", "widths": own.down, "downs": own.halves, "pooling": "sum"})
    if own.deep:
        stem, *down = own.down
        config.discriminator.update({"first": stem, "widths": tuple(down)})
    else:
        config.discriminator.update({"wide": True, "gain": 1.0})
    if named or DATASETS[preset.partition("@")[0]][-1]:
        set_conditional(config, named.data if named else preset, "shared", "projection")
        config.classes = config.classes or own.classes
    for player, rate in zip(("generator", "discriminator"), own.rates, strict=True):
        config.optimizer[player] = adam(rate, *own.betas)
    config.g_batches = 1
    config.averages.ema = average(decay=0.9999, start=own.start)
    config.data.flip = True
    config.sample.every = config.checkpoint.every = 1000
    config.eval.every = 5000
    config.log.every = 100
    if small:
        _as_for_two_cores(config)
    return config


def _as_for_two_cores(config: ConfigDict) -> None:
    config.batch_size, config.steps, config.d_steps, config.g_batches = 32, 2500, 2, 0
    for player, rate in (("generator", 2e-4), ("discriminator", 4e-4)):
        config.optimizer[player] = adam(rate, 0.0, 0.9)
    config.averages.ema = average(decay=0.98)
    config.data.flip = config.data.name.startswith("earth")
    config.augment.name = "translation" if sides.shorter(config.data) == 28 else "color,translation"
    config.sample.every = config.eval.every = config.checkpoint.every = 500


def get_hyper(hyper: Any) -> Any:
    return hyper.product(
        [hyper.sweep("seed", range(3)), hyper.sweep("optimizer.discriminator.learning_rate", [2e-4, 4e-4])]
    )
