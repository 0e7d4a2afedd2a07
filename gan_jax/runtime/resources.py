"""What training costs: arithmetic and memory of the compiled program, speed, and the machine's own speed beside it."""

import dataclasses
import resource
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState
from gan_jax.core.update import update
from gan_jax.runtime import placement, program

_SIDES = {"cpu": 1024, "gpu": 8192, "tpu": 8192}  # of the matrices whose product is timed
_REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one training step, over all devices.

    Attributes:
      flops: floating-point operations, a multiplication and an addition being two.
      bytes: read and written by the program's operations; more than goes to memory where caches help.
      device_memory: bytes that the program holds at most on a device: state, data, and what is in between.
    """

    flops: float
    bytes: float
    device_memory: int


def cost(gan: GAN, chunk: program.Chunk, state: GANState, batch_size: int, devices: int) -> Cost:
    """Return what XLA says of the compiled ``chunk``, its loop over steps counted once.

    XLA counts the bodies of the loops over D's steps and their fakes once too. By as much as that is too little, by
    the FLOPs of the update before compilation, its figures are raised; not with JAX_PLATFORMS=cuda, where there is no
    CPU to count for.
    """
    assert chunk.compiled is not None
    found, memory = chunk.compiled.cost_analysis() or {}, chunk.compiled.memory_analysis()
    scale = float(devices)
    if gan.d_steps > 1 and _host() is not None:
        every, once = _flops(gan, state, batch_size)
        scale *= every / once
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Cost(
        flops=found.get("flops", 0.0) * scale,
        bytes=found.get("bytes accessed", 0.0) * scale,
        device_memory=held + memory.temp_size_in_bytes,
    )


def flops_before_compilation(gan: GAN, state: GANState, batch_size: int) -> float:
    """Of an update, with all of D's steps, on one device, as XLA counts them for the host's CPU."""
    return _flops(gan, state, batch_size)[0]


def _flops(gan: GAN, state: GANState, batch_size: int) -> tuple[float, float]:
    """Return the FLOPs of an update before compilation: of all turns of its loops, and of one turn each."""
    traced = _traced(gan, state, batch_size)
    once = _counted(traced)
    loops = (equation.params for equation in traced.jaxpr.eqns if equation.primitive.name == "scan")
    return once + sum((loop["length"] - 1) * _counted(loop["jaxpr"]) for loop in loops), once


def _traced(gan: GAN, state: GANState, batch_size: int) -> Any:
    """Return the program of an update."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    batch = {
        "image": jax.ShapeDtypeStruct((gan.d_steps, batch_size, *gan.image_shape), gan.dtype),
        "label": jax.eval_shape(partial(gan.labels, gan.d_steps, batch_size)),
        "index": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    }
    return jax.make_jaxpr(partial(update, gan))(shapes, batch)


def _counted(traced: Any) -> float:
    """Return XLA's count of a program's FLOPs, each loop's body once."""
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in traced.in_avals]
    with jax.default_device(_host()):  # XLA:GPU counts nothing before compilation
        found: Any = jax.jit(jax.extend.core.jaxpr_as_fun(traced)).lower(*shapes).cost_analysis()
    return float(found["flops"])


def _host() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def matmul_rate(devices: Sequence[jax.Device], dtype: Any) -> float:
    """FLOP/s of square matrix products on all ``devices`` at once, the best of a few: what the machine can do.

    Those of other processes count for as much as this one's.
    """
    side, own = _SIDES.get(devices[0].platform, 1024), placement.local_devices(devices)
    a = placement.sharded(np.ones((len(own), side, side), dtype), own)
    multiply = jax.jit(lambda a: jnp.einsum("dij,djk->dik", a, a))
    jax.block_until_ready(multiply(a))
    seconds = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(multiply(a))
        seconds.append(time.perf_counter() - begin)
    return len(devices) * 2 * side**3 / min(seconds)


def figures(
    cost: Cost, rates: Sequence[float], images_per_step: int, devices: Sequence[jax.Device], dtype: Any
) -> dict[str, Any]:
    """Return the run's figures by name, those of `cost` beside the speed ``rates`` (images/s, of each dispatch)."""
    low, median, high = np.percentile(rates, (25, 50, 75)) if len(rates) else (0.0, 0.0, 0.0)
    achieved, roof = cost.flops * median / images_per_step, matmul_rate(devices, dtype)
    stats = placement.local_devices(devices)[0].memory_stats() or {}
    found = {
        "images_per_second_median": round(median, 1),
        "images_per_second_quartiles": [round(low, 1), round(high, 1)],
        "gflop_per_step": cost.flops / 1e9,
        "gb_per_step": cost.bytes / 1e9,
        "gflop_per_second": achieved / 1e9,
        "matmul_gflop_per_second": roof / 1e9,
        "share_of_matmul_rate": achieved / roof,
        "device_memory_mb": stats.get("peak_bytes_in_use", cost.device_memory) / 2**20,
        "host_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in found.items()}
