"""The only place that knows of devices: spreading a batch over them and running many steps in one dispatch, by pmap.

The state goes in and comes out without a device axis (``in_axes=None``, ``out_axes=None``), so a checkpoint doesn't
know how many devices wrote it. What is spread is the vector of global example indices, from which each device draws its
own noise and fetches its own images.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.errors import UserError
from gan_jax.state import GAN, Array, GANState
from gan_jax.update import Metrics, update

AXIS = "device"

Fetch = Callable[[Any, Array, Array, Array], Array]
Chunk = Callable[[GANState, int, Any], tuple[GANState, Metrics]]


def compile_chunk(gan: GAN, fetch: Fetch, batch_size: int, capacity: int, devices: Sequence[jax.Device]) -> Chunk:
    """The compiled training program: ``chunk(state, steps, data) -> (state, metrics)``.

    Args:
      gan: what to train.
      fetch: ``fetch(data, seed, step, index)`` gives the real images ``[d_steps, b, H, W, C]`` of examples ``index``.
      batch_size: the global batch size.
      capacity: the most steps that one call can make.
      devices: those to run on.

    Returns:
      A function of a state (donated), a number of steps up to ``capacity`` and the data (on every device). Its metrics
      are arrays ``[capacity]``, of which the first ``steps`` entries are filled. The number of steps is an argument of
      the program, not a constant: one compilation serves every call, and 0 steps do no more than compile.

    Raises:
      UserError: the devices don't divide the batch.
    """
    index = shard_index(batch_size, len(devices))

    def run(state: GANState, steps: Array, data: Any, index: Array) -> tuple[GANState, Metrics]:
        def step(state: GANState, axis_name: str | None) -> tuple[GANState, Metrics]:
            batch = {"image": fetch(data, state.seed, state.step, index), "index": index}
            return update(gan, state, batch, axis_name=axis_name)

        def body(i: Array, carry: tuple[GANState, Metrics]) -> tuple[GANState, Metrics]:
            state, log = carry
            state, metrics = step(state, AXIS)
            return state, {name: log[name].at[i].set(value) for name, value in metrics.items()}

        shapes = jax.eval_shape(lambda s: step(s, None)[1], state)
        log = {name: jnp.zeros(capacity, shape.dtype) for name, shape in shapes.items()}
        final: tuple[GANState, Metrics] = jax.lax.fori_loop(0, steps, body, (state, log))
        return final

    mapped = jax.pmap(run, AXIS, in_axes=(None, None, None, 0), out_axes=None, devices=tuple(devices), donate_argnums=0)
    return lambda state, steps, data: mapped(state, np.int32(steps), data, index)


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


def on_all(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """The leaves of ``tree``, copied to every device, as `compile_chunk`'s program wants its state and data."""
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def on_first(tree: Any) -> Any:
    """The copy of ``tree`` that lies on its first device: for work that one device does alone."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
