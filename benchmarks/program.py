"""The trainer's own program of a config, for a benchmark to call."""

from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from gan_jax import build, parallel
from gan_jax.data import Dataset
from gan_jax.state import init_state
from gan_jax.update import Metrics


class Program:
    """What trains ``config`` on ``devices``, and where it stands.

    Args:
      config: its data are used unless a dataset is given.
      devices: those to run on.
      dataset: what to train on.

    Attributes:
      gan, hyper, dataset, feed, chunk: as `gan_jax.train` makes them.
      state: on the devices.
    """

    def __init__(self, config: ConfigDict, devices: Sequence[jax.Device], dataset: Dataset | None = None) -> None:
        self.gan, self.hyper = build.build_gan(config)
        self.dataset = dataset or build.build_dataset(config, None)
        self.feed = build.build_feed(config, self.gan, self.dataset, devices)
        shards = config.parallel.logical_shards
        self.chunk = parallel.compile_chunk(self.gan, self.feed.fetch, self.feed.capacity, devices, shards)
        state = jax.jit(init_state, static_argnums=0)(self.gan, config.seed, self.hyper)
        self.state = parallel.on_all(state, devices)

    def run(self, steps: int) -> Metrics:
        """Makes ``steps`` steps in one dispatch, waits for them and returns their metrics, arrays of `capacity`."""
        self.state, metrics = self.chunk(self.state, steps, self.feed.data, self.feed.nothing)
        jax.block_until_ready((self.state, metrics))
        return metrics
