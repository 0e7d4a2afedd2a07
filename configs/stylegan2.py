"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), by the numbers of its authors' ADA code (arXiv:2006.06676).

    python launch.py --config=configs/stylegan2.py

Behind the colon stands a preset of theirs, or a data set:

    python launch.py --config=configs/stylegan2.py:paper256 --config.data.dir=IMAGES    # paper512, paper1024, stylegan2
    python launch.py --config=configs/stylegan2.py:cifar                                # cifar_cond: told the classes
    python launch.py --config=configs/stylegan2.py:auto@256x8 --config.data.dir=IMAGES  # on 8 devices; auto@256: on 1

`auto` chooses by side and devices as theirs does: R1's weight is .0002 side^2 / batch, half of the average is of the
last 10/32 of a thousand batches' images. A run says so at its start. So does any data set of 64 pixels and more
(``celeb_a``, ``npz@128x4``). Images of other shapes, height x width, are ``folder@256x384``, on 8 devices
``folder@256x384x8``: R1's weight goes by their pixels, all else by the shorter side.

| | batch | R1 | channels | mapping layers | rate | average, thousand images |
|---|---|---|---|---|---|---|
| auto@64 | 32 | .0256 | 16384 / side | 2 | .0025 | 10 |
| auto@128 | 32 | .1024 | 16384 / side | 2 | .0025 | 10 |
| auto@256 | 16 | .8192 | 16384 / side | 2 | .0025 | 5 |
| auto@256x8 | 64 | .2048 | 16384 / side | 2 | .0025 | 20 |
| auto@512x8 | 64 | .8192 | 32768 / side | 2 | .0025 | 20 |
| auto@1024x8 | 32 | 6.5536 | 32768 / side | 2 | .002 | 10 |
| stylegan2@1024 | 32 | 10 | 32768 / side | 8 | .002 | 10 |
| paper256 | 64 | 1 | 16384 / side | 8 | .0025 | 20 |
| paper512 | 64 | .5 | 32768 / side | 8 | .0025 | 20 |
| paper1024 | 32 | 2 | 32768 / side | 8 | .002 | 10 |
| cifar | 64 | .01 | 32768 / side | 2 | .0025, G .002 | 500 |

All of these have ADA, whose p follows D (``augment``). Folders are mirrored in stylegan2 and paper256 to paper1024, as
FFHQ was: ``--config.data.flip=False`` where left and right matter.

Unlike theirs: D's step comes before G's; each example has its own cut of mixed styles; groups of the minibatch's
standard deviation are of the global batch; w's mean moves in G's step alone; bfloat16 stands for float16. Rates and
betas are not scaled by lazy regularisation, as a due penalty is added to the same Adam step here.

Digits and the other embedded images have networks of 8 to 64 channels, rates of .005, and, as for CIFAR-10, neither
path length nor mixed styles; G's step has no fresh latents. XLA:CPU takes far longer to compile wider networks, so that
the presets of theirs are for GPUs and TPUs.
"""

import math
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from gan_jax import sides
from gan_jax.config import SMALL, adam, average, default, schedule, set_conditional
from gan_jax.util.errors import UserError


class _Preset(NamedTuple):
    """A column of the authors' table; images in thousands."""

    images: float
    batch: int
    group: int
    channels: int
    rate: float
    r1: float
    average: float
    ramp: float
    mapping: int
    mirrored: bool = False


_PRESETS = {
    "stylegan2": ("folder@1024", _Preset(25e3, 32, 4, 32768, 0.002, 10, 10, 0, 8, mirrored=True)),
    "paper256": ("folder@256", _Preset(25e3, 64, 8, 16384, 0.0025, 1, 20, 0, 8, mirrored=True)),
    "paper512": ("folder@512", _Preset(25e3, 64, 8, 32768, 0.0025, 0.5, 20, 0, 8, mirrored=True)),
    "paper1024": ("folder@1024", _Preset(25e3, 32, 4, 32768, 0.002, 2, 10, 0, 8, mirrored=True)),
    "cifar": ("cifar10", _Preset(100e3, 64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2)),
}
# By the side of the images: thousands of them, R1. Digits are of few greys: with a tenth of it few kinds are drawn.
_SMALL = {28: (256, 1.0), 32: (160, 0.3), 64: (64, 1.0), 128: (32, 4.0)}
_NARROWEST = 16  # a second number behind a data set's name and side is, from this one on, no number of devices
_SMALL_DATA = (*SMALL, "earth128")


def _auto(height: int, width: int, devices: int) -> _Preset:
    """Return what the authors' code chooses for squares on so many devices; else by pixels and the shorter side."""
    side, pixels = min(height, width), height * width
    batch = max(min(devices * min(4096 // math.isqrt(pixels), 32), 64), devices)
    channels = 32768 if side >= 512 else 16384
    rate, r1 = 0.002 if side >= 1024 else 0.0025, 0.0002 * pixels / batch
    return _Preset(25e3, batch, min(batch // devices, 4), channels, rate, r1, batch * 10 / 32, 0.05, 2)


def _size(name: str, text: str) -> tuple[str, int]:
    """Return what stands for the images' size in what is behind the @, and the number of devices."""
    *size, last = text.split("x")
    if size and last.isdecimal() and int(last) and (len(size) == 2 or name == "auto" or int(last) < _NARROWEST):
        return "x".join(size), int(last)
    return text, 1


def get_config(dataset: str = "mnist5k") -> ConfigDict:
    name, at, rest = dataset.partition("@")
    size, devices = _size(name, rest)
    kind = "cifar" if name == "cifar_cond" else name
    if kind in _PRESETS:
        data, preset = _PRESETS[kind]
        if devices > 1:
            raise UserError(f"{dataset!r}: {name} has its own numbers on any number of devices: leave out x{devices}")
        config = default(f"{data.partition('@')[0]}@{size}" if at else data)
        _published(config, preset)
    elif name in _SMALL_DATA and not at:
        config = default(name)
        _small(config)
    else:
        data = "folder" if name == "auto" else name
        config = default(f"{data}@{size}" if at else "folder@256" if name == "auto" else data)
        preset = _auto(*sides.of(config.data), devices)
        _published(config, preset)
        config.note = (
            f"auto chose for {sides.named(config.data)} on {devices} device{'s' * (devices > 1)}: "
            f"batch {preset.batch}, R1 {preset.r1:g}, {preset.channels} / side channels, rate {preset.rate:g}, "
            f"half-life {preset.average:g} thousand"
        )
    if kind == "cifar":
        _as_for_cifar(config)
    if name == "cifar_cond":
        set_conditional(config, "cifar10", "concat", "projection")
    return config


def _network(config: ConfigDict, channels: int, most: int, mapping: int) -> None:
    shared = {"conditional": "none", "channel_base": channels, "channel_max": most, "low_precision": 0, "remat": False}
    config.model, config.loss = "stylegan2", "non_saturating"
    config.generator = ConfigDict(
        {**shared, "w_dim": most, "mapping_layers": mapping, "style_mixing": 0.9, "w_avg_decay": 0.995}
    )
    config.discriminator = ConfigDict({**shared, "mapping_layers": 8, "architecture": "resnet", "stddev_group": 4})
    config.latent_dim = most
    config.terms.path_length.update({"weight": 2.0, "every": 4, "half_batch": True})
    config.log.every = 200


def _published(config: ConfigDict, preset: _Preset) -> None:
    _network(config, preset.channels, 512, preset.mapping)
    config.generator.low_precision = config.discriminator.low_precision = 4  # of the highest resolutions
    config.discriminator.stddev_group = preset.group
    config.batch_size, config.steps = preset.batch, math.ceil(preset.images * 1000 / preset.batch)
    config.g_batches = 1
    # Theirs scales rate and betas, as its regularisation makes further Adam steps. Here it adds to the same step.
    for player in ("generator", "discriminator"):
        config.optimizer[player] = adam(preset.rate, 0.0, 0.99)
    config.terms.r1.update({"weight": preset.r1, "every": 16})
    config.averages.ema = average("half_life", half_life=preset.average * 1000.0, ramp_up=preset.ramp)
    config.data.flip = preset.mirrored
    config.augment.update({"name": "ada", "p": 0.0})
    config.schedules.augment = schedule("augment.p", "ada")
    config.sample.every = config.checkpoint.every = 2000
    config.eval.every = 10000


def _as_for_cifar(config: ConfigDict) -> None:
    """No path length, no mixed styles, and D without shortcuts."""
    config.terms.path_length.weight, config.generator.style_mixing = 0.0, 0.0
    config.discriminator.architecture = "orig"
    # Theirs scales G's rate and beta for a regularisation that this preset hasn't got: it makes no further steps.
    config.optimizer.generator = adam(0.0025 * 4 / 5, 0.0, 0.99 ** (4 / 5))


def _small(config: ConfigDict) -> None:
    images, r1 = _SMALL[config.data.image_size]
    _network(config, 512 if config.data.image_size < 128 else 1024, 64, 2)
    config.batch_size = 32
    config.steps = images * 1000 // config.batch_size
    for player in ("generator", "discriminator"):
        config.optimizer[player] = adam(0.005, 0.0, 0.99)
    config.terms.r1.update({"weight": r1, "every": 16})
    # As for CIFAR-10, neither: on two cores both together cost a quarter of a step.
    config.terms.path_length.weight, config.generator.style_mixing = 0.0, 0.0
    config.averages.ema = average("half_life", half_life=3000.0, ramp_up=0.05)
    config.augment.name = "translation"
    config.sample.every = config.eval.every = config.checkpoint.every = 1000


def get_hyper(hyper: Any) -> Any:
    return hyper.product([hyper.sweep("seed", range(3)), hyper.sweep("terms.r1.weight", [0.02, 0.1, 0.5])])
