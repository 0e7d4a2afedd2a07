"""The compiled training program, by pmap: many steps in one dispatch, of a run on all devices or of a population.

The state goes in and comes out without a device axis (``in_axes=None``, ``out_axes=None``), so a checkpoint doesn't
know how many devices wrote it. What is spread is the vector of global example indices, from which each device draws its
own noise and fetches its own images.
"""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.gan import GAN, Array, Hyperparams
from gan_jax.core.state import GANState, finite, init_state
from gan_jax.core.update import Metrics, update
from gan_jax.layers import cross_device_mean
from gan_jax.ops.xla_cpu import on_cpu
from gan_jax.runtime import distributed
from gan_jax.runtime import lockstep as logical
from gan_jax.runtime.placement import AXIS, replicated, sharded
from gan_jax.util import progress

# Reductions by the YNN library, and convolutions not, for which Eigen is up to 1.5 times as fast. Products neither, but
# where there are some of bfloat16, which take up to 6 times as long by Eigen.
_YNN, _PRODUCTS = "xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
_CPU_OPTIONS: dict[str, str | bool] = {_YNN: "LIBRARY_FUSION_TYPE_REDUCE"}
# Of passes without reductions that matter: Inception's features take half the time without YNN's products.
_PASS_OPTIONS: dict[str, str | bool] = {_YNN: ""}
# Of programs that run once: LLVM's effort takes twice the time to compile them, and wins milliseconds.
_ONCE: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}
# Else XLA:CPU takes the barriers away before it fuses, what `layers.winograd` needs, and before it looks for what is
# computed twice, of which it would keep the first, what ``remat`` needs. And it takes what is the same in all steps out
# of their loop, also the 1 of `xla_cpu.written`, as often as there is one: then it doesn't see any more that a layer
# and its gradients spread the same tiles.
# It also moves reshapes one place a round, for up to 50 rounds of all passes: a sixth to a third of the time to compile
# residual networks, for the same kernels.
_WITHOUT: dict[str, str | bool] = {
    "xla_disable_hlo_passes": "cse_barrier_expander,while-loop-invariant-code-motion,reshape-mover"
}
# The loop over steps as one CUDA graph, where XLA by itself has graphs only of what is between two convolutions and
# asks the host at each step whether there is another.
_CUDA_OPTIONS: dict[str, str | bool] = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION,"
    "CONDITIONAL,WHILE"
}


def begun(gan: GAN, seed: int, hyperparams: Hyperparams) -> GANState:
    """Return `init_state`'s, compiled: the same bits for a run alone and for a trial of a sweep."""
    state: GANState = _beginning()(gan, np.uint32(seed), hyperparams)
    return state


def beginning(gan: GAN, seed: int, hyperparams: Hyperparams) -> Callable[[], GANState]:
    """Return what returns `begun`'s: traced here, with the caller's settings of JAX, and compiled in a thread."""
    lowered = _beginning().lower(gan, np.uint32(seed), hyperparams)
    pool = ThreadPoolExecutor(1)
    found = pool.submit(lowered.compile)
    pool.shutdown(wait=False)

    def state() -> GANState:
        made: GANState = found.result()(np.uint32(seed), hyperparams)
        return made

    return state


def _beginning() -> Any:
    return jax.jit(init_state, static_argnums=0, compiler_options=_known(_ONCE))


@dataclasses.dataclass(frozen=True)
class Fetch:
    """How a device gets its batch for a step, as `gan_jax.core.update` wants it: ``fetch(data, share, seed, step)``.

    Attributes:
      choose: ``choose(share, seed, step)``: which of the data, arrays of integers.
      take: ``take(data, share, chosen, seed, step)``: the batch, once that is known.
    """

    choose: Callable[[Any, Array, Array], Array]
    take: Callable[[Any, Any, Array, Array, Array], dict[str, Array]]

    def __call__(self, data: Any, share: Any, seed: Array, step: Array) -> dict[str, Array]:
        """All of it."""
        return self.take(data, share, self.choose(share, seed, step), seed, step)


class Chunk:
    """A training program, compiled at its first call if not before; later arguments must resemble the first.

    Attributes:
      mapped: the pmapped function.
      options: for its compilation.
      capacity: the most steps that one call can make.
      compiled: what XLA made of it, once it has.
    """

    def __init__(
        self, mapped: Any, capacity: int, constants: Sequence[Any] = (), options: dict[str, Any] | None = None
    ) -> None:
        self.mapped, self.options, self._constants = mapped, options or {}, constants
        self.capacity = capacity
        self.compiled: Any = None

    def lower(self, state: Any, data: Any, share: Any) -> Any:
        """Return it traced, not yet compiled, for arguments like these; of one process shapes will do."""
        return self.mapped.lower(state, np.int32(0), data, share, *self._constants)

    def compile(self, state: Any, data: Any, share: Any) -> None:
        """Compile it, unless it is, for arguments like these, as of `lower`."""
        if self.compiled is None:
            with progress.elapsed("compiling"):
                self.compiled = compiled(self.lower(state, data, share), self.options)
            distributed.barrier()  # who compiles longer is waited for here: gloo gives a first exchange 30 s

    def __call__(self, state: GANState, steps: int, data: Any, share: Any) -> tuple[GANState, Metrics]:
        """Make ``steps`` steps from ``state``, which is donated."""
        self.compile(state, data, share)
        final: tuple[GANState, Metrics] = self.compiled(state, np.int32(steps), data, share, *self._constants)
        return final


def compile_chunk(gan: GAN, fetch: Fetch, capacity: int, devices: Sequence[jax.Device], shards: int = 0) -> Chunk:
    """Return the training program: ``chunk(state, steps, data, share) -> (state, metrics)``.

    Args:
      gan: what to train.
      fetch: what gives a device's batch for a step.
      capacity: the most steps that one call can make.
      devices: those to run on.
      shards: logical shards that the batch is computed in, see `gan_jax.runtime.lockstep`; 0: one on each device, their
        sums in whatever order suits the devices.

    Returns:
      A function of a state (donated), a number of steps up to ``capacity``, the data that lies on every device, and the
      shares of it that differ: arrays with a leading axis of devices, see `sharded`. Its metrics are arrays
      ``[capacity]``, of which the first ``steps`` entries are filled. The number of steps is an argument of the
      program, not a constant: one compilation serves every call, and 0 steps do no more than compile. A further metric,
      ``fine``, says whether the state was finite before the first step. From one that is not, and after a step whose
      metrics are not, no step is made: the bad state comes out as it was.
    """

    each = shards // len(devices)
    axis = AXIS if len(devices) > 1 else None  # XLA does not see through a mean over one device

    def run(state: GANState, steps: Array, data: Any, share: Any, *count: Array) -> tuple[GANState, Metrics]:
        def together(state: GANState, chosen: Any) -> tuple[GANState, Metrics]:
            return _step(gan, fetch, axis, (state, data), (share, chosen))

        def in_shards(state: GANState, chosen: Any) -> tuple[GANState, Metrics]:
            one = partial(_step, gan, fetch, logical.AXIS)
            places: dict[str, Any] = {"device_axis": AXIS, "shards": shards, "each": each, "count": count[0]}
            found: tuple[GANState, Metrics] = logical.lockstep(one, (state, data), (share, chosen), **places)
            return found

        chosen = _chosen(fetch, share, state, capacity, in_shards=shards > 0)
        return _repeat(in_shards if shards else together, chosen, capacity, state, steps, axis, halts=True)

    count, in_axes = ((np.asarray([each, 1], np.int32),), (None,)) if shards else ((), ())
    in_axes = (None, None, None, 0, *in_axes)
    mapped = jax.pmap(run, AXIS, in_axes=in_axes, out_axes=None, devices=tuple(devices), donate_argnums=0)
    # With these options the bits depend on how many devices share the cores, as was measured: not for logical shards.
    return Chunk(mapped, capacity, count, logical.COMPILER_OPTIONS if shards else _options(devices))


def compiled(lowered: Any, options: dict[str, Any]) -> Any:
    """Compile ``lowered`` with ``options``, and YNN's products where those pay."""
    if _YNN in options and "bf16" in lowered.as_text():
        options = options | {_YNN: ",".join(filter(None, (options[_YNN], _PRODUCTS)))}
    return lowered.compile(compiler_options=options or None)


def _options(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """Compiler options that pay there (`benchmarks.train_step`). Graphs are untried on several GPUs and on AMD's.

    (NVIDIA's names of older cards, as Tesla T4, don't begin so; those go without.)
    """
    if devices[0].platform == "cpu":
        return _known(_CPU_OPTIONS) | _WITHOUT
    return _known(_CUDA_OPTIONS) if len(devices) == 1 and "NVIDIA" in devices[0].device_kind else {}


def _known(options: dict[str, str | bool]) -> dict[str, str | bool]:
    """``options``, or none if this release of XLA doesn't take them."""
    return options if _are_known(tuple(options.items())) else {}


@cache
def _are_known(options: tuple[tuple[str, str | bool], ...]) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError:
        return False
    return True


def forget() -> None:
    """Let go of all compiled programs: each has up to thousands of mappings, and Linux ends a process of 65,530."""
    jax.clear_caches()
    gc.collect()


class Population:
    """Trials of the same GAN, each of them whole on one device, and the program that trains them.

    Trial number n is in slot ``n % slots`` of device ``n // slots``. The states of all are a list of pytrees whose
    leaves have an axis of devices in front: one for each slot if they take turns; if they go together, one, with an
    axis of slots behind that of devices.

    Args:
      gan, fetch, capacity, devices: as for `compile_chunk`; the data lies on every device, and so does the one
        share, of the whole batch.
      slots: on each device.
      together: whether a device makes a step of all its trials at once (``vmap``: what many small GANs on a GPU
        want), or the steps of one trial after those of another (what pays where one GAN fills the device, and keeps its
        rounding whatever the others are).
    """

    def __init__(
        self, gan: GAN, fetch: Fetch, capacity: int, devices: Sequence[jax.Device], slots: int, together: bool
    ) -> None:
        def one(state: GANState, steps: Array, data: Any, share: Any) -> tuple[GANState, Metrics]:
            def step(state: GANState, chosen: Any) -> tuple[GANState, Metrics]:
                return _step(gan, fetch, None, (state, data), (share, chosen))

            chosen = _chosen(fetch, share, state, capacity)
            # Together none halts: each step would have to choose between all of the old state and of the new.
            return _repeat(step, chosen, capacity, state, steps, None, halts=not together)

        run = jax.vmap(one, (0, None, None, None)) if together else one
        mapped = jax.pmap(run, AXIS, in_axes=(0, None, None, None), devices=tuple(devices), donate_argnums=0)
        self.devices, self.slots, self.together = devices, slots, together
        self.chunk = Chunk(mapped, capacity, (), _options(devices))

    def put(self, states: Sequence[GANState]) -> list[Any]:
        """Put the trials' states on their devices; empty slots repeat the last."""
        filled = [*states, *(states[-1] for _ in range(len(self.devices) * self.slots - len(states)))]
        rows = [filled[slot :: self.slots] for slot in range(self.slots)]
        stacked = [jax.tree.map(lambda *leaves: np.stack(leaves), *row) for row in rows]
        if self.together:
            stacked = [jax.tree.map(lambda *leaves: np.stack(leaves, 1), *stacked)]
        return [sharded(tree, self.devices) for tree in stacked]

    def __call__(
        self, states: list[Any], steps: int, data: Any, share: Any, live: Collection[int] | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Make ``steps`` steps of the trials from ``states``, which are donated.

        Where they take turns, slots without a ``live`` trial (numbers; all if None) are left out.

        Returns:
          The new states, and the metrics, in lists alike.
        """
        wanted = range(self.slots) if live is None or self.together else {number % self.slots for number in live}
        done = [
            self.chunk(state, steps, data, share) if slot in wanted else (state, None)
            for slot, state in enumerate(states)
        ]
        return [state for state, _ in done], [metrics for _, metrics in done]

    def state(self, states: list[Any], number: int) -> GANState:
        """Return a copy of one trial's state, alone on its device."""
        device, slot = divmod(number, self.slots)
        tree, place = (states[0], (0, slot)) if self.together else (states[slot], (0,))
        copy: GANState = jax.tree.map(lambda x: jnp.copy(x.addressable_data(device)[place]), tree)
        return copy

    def metrics(self, metrics: list[Any], number: int) -> Metrics:
        """Those of one trial."""
        device, slot = divmod(number, self.slots)
        if self.together:
            return {name: array[device, slot] for name, array in metrics[0].items()}
        return {name: array[device] for name, array in metrics[slot].items()}


def measured(
    together: Population, in_turn: Population, states: Sequence[GANState], *rest: Any, repeats: int = 3
) -> float:
    """How many times as fast as ``in_turn`` ``together`` is: the median of as many rounds, each of at least .1 s.

    ``states``, of all trials, and ``rest`` (data, share) are for both.
    """

    def seconds(population: Population, steps: int) -> float:
        placed = jax.block_until_ready(population.put(states))
        begin = time.perf_counter()
        jax.block_until_ready(population(placed, steps, *rest))
        return time.perf_counter() - begin

    for population in (together, in_turn):
        seconds(population, 0)
    once = min(seconds(together, 1), seconds(in_turn, 1))
    steps = min(together.chunk.capacity, 1 + int(0.1 / once))
    return statistics.median(seconds(in_turn, steps) / seconds(together, steps) for _ in range(repeats))


def _chosen(fetch: Fetch, share: Any, state: GANState, capacity: int, *, in_shards: bool = False) -> Any:
    """Return what is chosen for each of the ``capacity`` steps from ``state``.

    These are arrays ``[capacity, ...]``; None: as they come.

    To find images in their order takes a loop until all are found, and at each turn of such a loop a GPU waits for its
    host: all steps together take as many turns as one. A CPU doesn't wait, and would find far more than it needs.
    """
    if on_cpu():
        return None
    choose = jax.vmap(fetch.choose, (0, None, None)) if in_shards else fetch.choose
    return jax.vmap(choose, (None, None, 0))(share, state.seed, state.step + jnp.arange(capacity))


def _step(gan: GAN, fetch: Fetch, axis_name: str | None, common: Any, own: Any) -> tuple[GANState, Metrics]:
    (state, data), (share, chosen) = common, own
    when = state.seed, state.step
    batch = fetch(data, share, *when) if chosen is None else fetch.take(data, share, chosen, *when)
    return update(gan, state, batch, axis_name=axis_name)


def _repeat(
    step: Callable[[GANState, Any], tuple[GANState, Metrics]],
    chosen: Any,
    capacity: int,
    state: GANState,
    steps: Array,
    axis_name: str | None,
    *,
    halts: bool,
) -> tuple[GANState, Metrics]:
    """Repeat ``step`` ``steps`` times, each of what is ``chosen`` for it, and return the metrics as ``[capacity]``.

    If it ``halts``, no step is made from what isn't finite.
    """
    step = jax.jit(step, inline=True)  # what is traced for the metrics' names is the loop's body: seconds of each start
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), chosen)
    _, metrics = jax.eval_shape(step, state, first)

    def more(carry: tuple[Array, GANState, Array, Array]) -> Array:
        i, _, _, fine = carry
        return (i < steps) & fine if halts else i < steps

    def body(carry: tuple[Array, GANState, Array, Array]) -> tuple[Array, GANState, Array, Array]:
        i, state, log, _ = carry
        state, found = step(state, jax.tree.map(lambda x: x[i], chosen))
        values = jnp.stack([found[name] for name in metrics])  # one row: on GPUs each array would be a kernel
        return i + 1, state, log.at[i].set(values), jnp.isfinite(values).all()

    log = jnp.zeros((capacity, len(metrics)), jnp.result_type(*metrics.values()))
    # Of all devices: none may wait for another that halted.
    fine = cross_device_mean(finite(state).astype(jnp.float32), axis_name) == 1
    _, state, log, _ = jax.lax.while_loop(more, body, (jnp.zeros((), jnp.int32), state, log, fine))
    return state, {name: log[:, k] for k, name in enumerate(metrics)} | {"fine": fine}


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
    options = _known(_PASS_OPTIONS) if devices[0].platform == "cpu" else {}
    together, programs = shard * len(devices), {}

    def compiled_for(*arguments: Any) -> Any:
        kinds = str(jax.tree.map(lambda x: (x.shape, x.dtype), arguments))
        if kinds not in programs:
            programs[kinds] = compiled(mapped.lower(*arguments), options)
        return programs[kinds](*arguments)

    def run(common: Any, fetch: Callable[[np.ndarray], Any], count: int) -> Any:
        common = replicated(common, devices)
        parts = []
        with progress.bar(total=count, desc=what, unit="image", delay=2, leave=False) as bar:
            for start in range(0, count, together):
                numbers = np.minimum(np.arange(start, start + together), count - 1)
                examples = jax.tree.map(lambda x: x.reshape(len(devices), shard, *x.shape[1:]), fetch(numbers))
                parts.append(jax.tree.map(np.asarray, compiled_for(common, examples)))
                bar.update(min(together, count - start))
        flat = [jax.tree.map(lambda x: x.reshape(together, *x.shape[2:]), part) for part in parts]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *flat)

    return run
