"""The only place that knows of devices: spreading a batch over them and running many steps in one dispatch, by pmap.

The state goes in and comes out without a device axis (``in_axes=None``, ``out_axes=None``), so a checkpoint doesn't
know how many devices wrote it. What is spread is the vector of global example indices, from which each device draws its
own noise and fetches its own images.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from gan_jax.errors import UserError
from gan_jax.layers import cross_device_mean
from gan_jax.state import GAN, Array, GANState, finite
from gan_jax.update import Metrics, update

AXIS = "device"

Fetch = Callable[[Any, Any, Array, Array], dict[str, Array]]


class Chunk:
    """A training program, compiled at its first call, whose arguments later ones must resemble.

    Attributes:
      compiled: what XLA made of it, once it has.
    """

    def __init__(self, mapped: Any) -> None:
        self._mapped = mapped
        self.compiled: Any = None

    def __call__(self, state: GANState, steps: int, data: Any, share: Any) -> tuple[GANState, Metrics]:
        """``steps`` steps from ``state``, which is donated."""
        arguments = (state, np.int32(steps), data, share)
        if self.compiled is None:
            self.compiled = self._mapped.lower(*arguments).compile()
        final: tuple[GANState, Metrics] = self.compiled(*arguments)
        return final


def compile_chunk(gan: GAN, fetch: Fetch, capacity: int, devices: Sequence[jax.Device]) -> Chunk:
    """The training program: ``chunk(state, steps, data, share) -> (state, metrics)``.

    Args:
      gan: what to train.
      fetch: ``fetch(data, share, seed, step)`` gives a device's batch for a step, as `gan_jax.update.update` wants it.
      capacity: the most steps that one call can make.
      devices: those to run on.

    Returns:
      A function of a state (donated), a number of steps up to ``capacity``, the data that lies on every device, and the
      shares of it that differ: arrays with a leading axis of devices, see `spread`. Its metrics are arrays
      ``[capacity]``, of which the first ``steps`` entries are filled. The number of steps is an argument of the
      program, not a constant: one compilation serves every call, and 0 steps do no more than compile. A further metric,
      ``fine``, says whether the state was finite before the first step. From one that is not, and after a step whose
      metrics are not, no step is made: the bad state comes out as it was.
    """

    run = partial(_steps, gan, fetch, capacity, AXIS, True)
    mapped = jax.pmap(run, AXIS, in_axes=(None, None, None, 0), out_axes=None, devices=tuple(devices), donate_argnums=0)
    return Chunk(mapped)


def compile_population(gan: GAN, fetch: Fetch, capacity: int, devices: Sequence[jax.Device], together: bool) -> Chunk:
    """As `compile_chunk`, for many trials of the same GAN, each of them whole on one device.

    Args:
      gan, fetch, capacity, devices: as for `compile_chunk`; the data lies on every device, and so does the one
        share, of the whole batch.
      together: whether a device makes a step of all its trials at once (``vmap``: what many small GANs on a GPU
        want), or the steps of one trial after those of another (``lax.map``: what pays where one GAN fills the device).

    Returns:
      A `Chunk` whose state, and whose metrics, have two more axes in front: devices, and trials on each.
    """

    def run(states: GANState, steps: Array, data: Any, share: Any) -> tuple[GANState, Metrics]:
        def one(state: GANState) -> tuple[GANState, Metrics]:
            # None halts: under vmap each step would have to choose between all of the old state and of the new.
            return _steps(gan, fetch, capacity, None, False, state, steps, data, share)

        final: tuple[GANState, Metrics] = jax.vmap(one)(states) if together else jax.lax.map(one, states)
        return final

    mapped = jax.pmap(run, AXIS, in_axes=(0, None, None, None), devices=tuple(devices), donate_argnums=0)
    return Chunk(mapped)


def _steps(
    gan: GAN,
    fetch: Fetch,
    capacity: int,
    axis_name: str | None,
    halts: bool,
    state: GANState,
    steps: Array,
    data: Any,
    share: Any,
) -> tuple[GANState, Metrics]:
    """``steps`` updates, and their metrics ``[capacity]``; if it ``halts``, none from what isn't finite."""

    def step(state: GANState, axis_name: str | None) -> tuple[GANState, Metrics]:
        return update(gan, state, fetch(data, share, state.seed, state.step), axis_name=axis_name)

    def more(carry: tuple[Array, GANState, Metrics, Array]) -> Array:
        i, _, _, fine = carry
        return (i < steps) & fine if halts else i < steps

    def body(carry: tuple[Array, GANState, Metrics, Array]) -> tuple[Array, GANState, Metrics, Array]:
        i, state, log, _ = carry
        state, metrics = step(state, axis_name)
        log = {name: log[name].at[i].set(value) for name, value in metrics.items()}
        return i + 1, state, log, jnp.isfinite(jnp.stack(list(metrics.values()))).all()

    shapes = jax.eval_shape(lambda s: step(s, None)[1], state)
    log = {name: jnp.zeros(capacity, shape.dtype) for name, shape in shapes.items()}
    # Of all devices: none may wait for another that halted.
    fine = cross_device_mean(finite(state).astype(jnp.float32), axis_name) == 1
    _, state, log, _ = jax.lax.while_loop(more, body, (jnp.zeros((), jnp.int32), state, log, fine))
    return state, log | {"fine": fine}


def map_examples(
    function: Callable[[Any, Any], Any], devices: Sequence[jax.Device], what: str, shard: int = 50
) -> Callable[[Any, Callable[[np.ndarray], Any], int], Any]:
    """Many examples through ``function``, ``shard`` of them at a time on each device.

    Args:
      function: ``function(common, examples)``, arrays ``[shard, ...]`` in and out, each example by itself.
      devices: those to use. A shard has the same size on any number of them, and so the same result to the bit.
      what: in words, for the progress bar.
      shard: examples that a device works on at a time.

    Returns:
      ``run(common, fetch, count)``: with ``common`` on all devices and ``fetch(numbers)`` giving the examples of those
      numbers on the host, the results of ``count`` examples as NumPy arrays ``[count, ...]``.
    """
    mapped = jax.pmap(function, AXIS, in_axes=(None, 0), devices=tuple(devices))
    together = shard * len(devices)

    def run(common: Any, fetch: Callable[[np.ndarray], Any], count: int) -> Any:
        common = on_all(common, devices)
        parts = []
        with tqdm(total=count, desc=what, unit="image", delay=2, leave=False) as bar:
            for start in range(0, count, together):
                numbers = np.minimum(np.arange(start, start + together), count - 1)
                examples = jax.tree.map(lambda x: x.reshape(len(devices), shard, *x.shape[1:]), fetch(numbers))
                parts.append(jax.tree.map(np.asarray, mapped(common, examples)))
                bar.update(min(together, count - start))
        flat = [jax.tree.map(lambda x: x.reshape(together, *x.shape[2:]), part) for part in parts]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *flat)

    return run


def shard_index(batch_size: int, devices: int) -> np.ndarray:
    """Global example indices ``[devices, batch_size / devices]``, int32.

    Raises:
      UserError: not divisible; names the nearest batch sizes that are.
    """
    if batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        near = f"{below} or {above}" if below else f"{above}"
        raise UserError(
            f"batch_size {batch_size} is not divisible by the {devices} devices; the nearest that is: {near}"
        )
    return np.arange(batch_size, dtype=np.int32).reshape(devices, -1)


def nbytes(tree: Any) -> int:
    """Bytes of all leaves, arrays or their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def memory(devices: Sequence[jax.Device]) -> int:
    """Bytes of a device; of a CPU's, its part of the machine's."""
    if devices[0].platform == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
    return int((devices[0].memory_stats() or {}).get("bytes_limit", sys.maxsize))


def check_memory(tree: Any, devices: Sequence[jax.Device]) -> None:
    """Refuses what can't be, before anything is allocated.

    Raises:
      UserError: ``tree`` (of arrays or their shapes) is larger than the memory of a device, or, on a CPU, than each
        device's part of the machine's.
    """
    limit = memory(devices)
    needed = nbytes(tree)
    if needed > limit:
        raise UserError(
            f"the training state (parameters, their average, the optimizers' moments) takes {needed / 2**30:,.1f} GB, "
            f"and a device has {limit / 2**30:,.1f}: lower the networks' widths or data.image_size"
        )


def on_all(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """The leaves of ``tree``, copied to every device, as `compile_chunk`'s program wants its state and data."""
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def spread(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Each leaf ``[devices, ...]`` of ``tree`` cut along its first axis, a slice to each device."""
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS)))


def on_first(tree: Any) -> Any:
    """The copy of ``tree`` that lies on its first device: for work that one device does alone."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
