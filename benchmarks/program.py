"""The trainer's own program of a config, for a benchmark to call, and the cases that are measured."""

import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from configs import biggan, dcgan, r3gan, sagan, sngan, stylegan2, wgan_gp
from gan_jax import build
from gan_jax.config import DATASETS, default
from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState, init_state
from gan_jax.core.update import Metrics
from gan_jax.data import Dataset
from gan_jax.data.feed import Feed
from gan_jax.runtime import placement, program

CASES: dict[str, tuple[Any, str, int, tuple[int, ...]]] = {  # config, data, batch, DCGAN's widths
    "a": (dcgan, "mnist5k", 128, (128, 64)),
    "b": (dcgan, "shapes32", 64, (256, 128, 64)),
    "c64": (dcgan, "shapes64", 64, (512, 256, 128, 64)),
    "c128": (dcgan, "shapes64", 128, (512, 256, 128, 64)),
    "c1024": (dcgan, "shapes64", 1024, (512, 256, 128, 64)),
    "d": (wgan_gp, "shapes32", 64, ()),
    "e": (sngan, "shapes32", 64, ()),
    "f32": (r3gan, "shapes32", 32, ()),
    "f64": (r3gan, "earth64", 16, ()),
    "g32": (stylegan2, "shapes32", 32, ()),
    "g64": (stylegan2, "shapes64", 32, ()),
    "h32": (sagan, "shapes32", 32, ()),
    "h32wide": (sagan, "cifar10", 64, ()),  # in whose place are shapes, too
    "i32": (biggan, "shapes32", 32, ()),
    "i32wide": (biggan, "cifar10", 64, ()),
    "g256": (stylegan2, "auto@256", 16, ()),
    "i128": (biggan, "imagenet128", 32, ()),
}
FOR_GPUS = ("c1024", "g256", "i128")
_HALF_LIFE = 10000.0  # of averages, in images, where a schedule begins at 0


def case_config(name: str) -> ConfigDict:
    """Of a case."""
    module, data, batch, widths = CASES[name]
    config = module.get_config(data)
    config.batch_size, config.augment.name = batch, "none"
    if widths:
        config.generator.widths, config.discriminator.widths = widths, widths[::-1]
    for entry in config.schedules.values():
        entry.kind = "constant"
    average = config.averages.ema
    if average.rule == "half_life":
        average.half_life = average.half_life or _HALF_LIFE
    if config.model == "stylegan2":  # with all that its authors' networks for faces have
        config.terms.path_length.weight, config.generator.style_mixing = 2.0, 0.9
        config.g_batches = 0
    own = {"earth64": "shapes64", "cifar10": "shapes32", "folder": f"shapes64@{config.data.image_size}"}
    here = own.get(config.data.name or config.data.source)
    if here:  # those pictures are in a package of their own, TFDS's, or the user's
        config.data.update({**default(here).data, "labels": bool(config.classes)})
        config.classes = DATASETS[here.partition("@")[0]][-1] if config.classes else 0
    if data in ("cifar10", "imagenet128"):  # one D step, and no fresh latents, so that a turn is short
        config.d_steps, config.g_batches, config.averages.ema.start = 1, 0, 0
    config.data.flip = False
    return config


def cycle(config: ConfigDict) -> int:
    """After how many steps all terms of ``config`` are due again."""
    return math.lcm(*(term.every for term in config.terms.values() if term.weight and "every" in term))


def named_config(name: str) -> ConfigDict:
    """Of a case, or of ``configs/``, with its data behind a colon or without: ``dcgan:shapes64``. Exit if none is."""
    if name in CASES:
        return case_config(name)
    file, _, data = name.partition(":")
    try:
        module = importlib.import_module(f"configs.{file}")
    except ModuleNotFoundError:
        sys.exit(f"error: there is no {name}: cases are {', '.join(CASES)}, configs those in configs/")
    config: ConfigDict = module.get_config(*([data] if data else []))
    return config


def parts(config: ConfigDict) -> tuple[GAN, Feed, GANState]:
    """Return what a program is compiled of: the GAN of ``config``, its data on one device, and its state's shapes."""
    gan, hyper = build.build_gan(config)
    feed = build.build_feed(config, gan, build.build_dataset(config, None), jax.devices()[:1])
    return gan, feed, jax.eval_shape(lambda: init_state(gan, 0, hyper))


class Program:
    """What trains ``config`` on ``devices``, and where it stands.

    Args:
      config: its data are used unless a dataset is given.
      devices: those to run on.
      dataset: what to train on.

    Attributes:
      gan, hyper, dataset, feed, chunk: as `gan_jax.training.train` makes them.
      state: on the devices.
    """

    def __init__(self, config: ConfigDict, devices: Sequence[jax.Device], dataset: Dataset | None = None) -> None:
        self.gan, self.hyper = build.build_gan(config)
        self.dataset = dataset or build.build_dataset(config, None)
        self.feed = build.build_feed(config, self.gan, self.dataset, devices)
        shards = config.parallel.logical_shards
        self.chunk = program.compile_chunk(self.gan, self.feed.fetch, self.feed.capacity, devices, shards)
        state = program.begun(self.gan, config.seed, self.hyper)
        self.state = placement.replicated(state, devices)

    def run(self, steps: int) -> Metrics:
        """Make ``steps`` steps in one dispatch, wait for them and return their metrics, ``[feed.capacity]``."""
        self.state, metrics = self.chunk(self.state, steps, self.feed.data, self.feed.nothing)
        jax.block_until_ready((self.state, metrics))
        return metrics


def with_devices(count: int, module: str, *arguments: str) -> Any:
    """Return what ``python -m module arguments`` prints as JSON where a CPU is ``count`` devices.

    A process of its own, because the threads of one with more devices than cores get into each other's way: on 2 cores
    a step on the first of 8 takes 1.7 times as long.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    command = [sys.executable, "-m", module, *arguments]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"XLA_FLAGS": flags})
    return json.loads(run.stdout)
