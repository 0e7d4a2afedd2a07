"""How the steps of a run get their images: from the device's memory, or from a stream."""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.gan import Array
from gan_jax.core.pixels import to_float
from gan_jax.data import Dataset, Options
from gan_jax.data.images import dtype_of
from gan_jax.data.order import mirrored, sample_index
from gan_jax.data.stream import Reader, read
from gan_jax.runtime import placement, program

Plan = Iterable[tuple[int, int]]  # (first step, number of steps) of each dispatch
_MOST = 1000  # steps in one dispatch
_MOST_STREAMED = 20  # each dispatch moves room for as many, however few it needs


@dataclasses.dataclass(frozen=True)
class Feed:
    """What a compiled chunk of steps reads its images from.

    Attributes:
      fetch: for `gan_jax.runtime.program.compile_chunk`.
      data: what lies on every device throughout.
      capacity: the most steps that one dispatch can be fed.
      shares: ``shares(plan)`` gives each dispatch of the plan with the shares of the devices for it; a stream's are
        asked for one dispatch ahead, so that they travel while the devices compute.
      nothing: a share for no steps.
      streamed: whether the images come from a stream.
    """

    fetch: program.Fetch
    data: Any
    capacity: int
    shares: Callable[[Plan], Generator[Any]]
    nothing: Any
    streamed: bool


def feed(
    dataset: Dataset,
    options: Options,
    *,
    batch_size: int,
    d_steps: int,
    seed: int,
    steps_per_dispatch: int,
    dtype: Any,
    devices: Sequence[jax.Device],
    shards: int = 0,
    ahead: int = 0,
) -> Feed:
    """From memory if ``dataset`` fits ``options.device_budget_mb``, else a stream: the same batches to the bit.

    Args:
      dataset: its train images are fed.
      options: of the data.
      batch_size: the global batch size.
      d_steps: batches that a step takes.
      seed: of the order.
      steps_per_dispatch: the most steps that are wanted in one dispatch; 0: as many as make sense.
      dtype: of the images in the networks, in [-1, 1].
      devices: those that train, of all processes; what is read here are the shares of this process's own.
      shards: as for `gan_jax.runtime.program.compile_chunk`.
      ahead: as for `gan_jax.data.order.sample_index`.
    """
    split = _Split(devices, shards, placement.local_index(batch_size, devices, shards))
    finish = _finish(options.flip, batch_size, d_steps, dtype, ahead)
    if dataset.megabytes <= options.device_budget_mb:
        return _from_memory(dataset, finish, batch_size, d_steps, steps_per_dispatch or _MOST, split, ahead)
    reader = Reader(dataset.train_images, dataset.train_labels, split.index.ravel(), batch_size, d_steps, seed, ahead)
    return _from_stream(reader, finish, options, steps_per_dispatch or _MOST_STREAMED, split)


@dataclasses.dataclass(frozen=True)
class _Split:
    """How a batch is cut: this process's global example indices ``[parts, b]``, a part a device, or a logical shard."""

    devices: Sequence[jax.Device]
    shards: int
    index: np.ndarray

    def spread(self, share: Any) -> Any:
        """Leaves ``[parts, ...]`` on the devices, each with its own share."""
        return placement.sharded(
            placement.shared_out(share, len(placement.local_devices(self.devices)), self.shards), self.devices
        )


def _finish(flip: bool, batch_size: int, d_steps: int, dtype: Any, ahead: int) -> Callable[..., dict[str, Array]]:
    """Return what is done on the device to every batch of images ``[d_steps, b, H, W, C]``, wherever it came from."""

    def finish(images: Array, labels: Array, seed: Array, step: Array, index: Array) -> dict[str, Array]:
        if flip:
            coin = mirrored(step, index, batch_size, d_steps, seed, ahead=ahead)[..., None, None, None]
            images = jnp.where(coin, images[..., ::-1, :], images)
        return {"image": to_float(images, dtype), "label": labels, "index": index}

    return finish


def _from_memory(
    dataset: Dataset,
    finish: Callable[..., dict[str, Array]],
    batch_size: int,
    d_steps: int,
    capacity: int,
    split: _Split,
    ahead: int,
) -> Feed:
    length = len(dataset.train_images)
    host = {"image": dataset.train_images[np.arange(length)], "label": dataset.train_labels}

    def choose(share: Any, seed: Array, step: Array) -> Array:
        found: Array = sample_index(step, share["index"], length, batch_size, d_steps, seed, ahead=ahead)
        return found.astype(np.int32)

    def take(data: Any, share: Any, chosen: Array, seed: Array, step: Array) -> dict[str, Array]:
        return finish(data["image"][chosen], data["label"][chosen], seed, step, share["index"])

    share = split.spread({"index": split.index})
    data = placement.replicated(host, split.devices)
    fetch = program.Fetch(choose, take)
    return Feed(fetch, data, capacity, lambda plan: ((part, share) for part in plan), share, False)


def _from_stream(
    reader: Reader,
    finish: Callable[..., dict[str, Array]],
    options: Options,
    steps_per_dispatch: int,
    split: _Split,
) -> Feed:
    # Three dispatches' images lie on the devices at a time: that in use, the next, and the one on its way.
    capacity = int(np.clip(options.device_budget_mb * 2**20 // (3 * reader.nbytes), 1, steps_per_dispatch))
    index = split.index

    def choose(share: Any, seed: Array, step: Array) -> Array:
        place: Array = step - share["first"]
        return place

    def take(_: Any, share: Any, chosen: Array, seed: Array, step: Array) -> dict[str, Array]:
        return finish(share["image"][chosen], share["label"][chosen], seed, step, share["index"])

    def empty(first: int) -> dict[str, np.ndarray]:
        lead = (len(index), capacity, reader.d_steps, len(index[0]))
        return {
            "index": index,
            "first": np.full(len(index), first, np.int32),
            "image": np.zeros((*lead, *reader.images.shape[1:]), dtype_of(reader.images)),
            "label": np.zeros((*lead, *reader.labels.shape[1:]), reader.labels.dtype),
        }

    def shares(plan: Plan) -> Generator[Any]:
        dispatches = iter(plan)
        begin = next(dispatches, None)
        if begin is None:
            return
        ready = None
        with closing(read(reader, begin[0], options.workers)) as batches:
            for first, count in chain([begin], dispatches):
                host = empty(first)
                for k in range(count):
                    for name, values in next(batches).items():
                        parts = values.reshape(len(values), *index.shape, *values.shape[2:])
                        host[name][:, k] = np.swapaxes(parts, 0, 1)
                coming = split.spread(host)
                if ready is not None:
                    yield ready
                ready = (first, count), coming
        yield ready

    return Feed(program.Fetch(choose, take), (), capacity, shares, split.spread(empty(0)), True)
