"""Sums over the rows of a batch, as XLA's compilers take them fastest."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops.xla_cpu import on_cpu

Array = jax.Array
Arrays = tuple[Array, ...]
_FEW_ROWS = 2048  # that XLA:GPU sums in one kernel


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def sums(xs: Arrays, batches: int) -> Arrays:
    """Each ``[N, ..., C] -> [batches, C]``: of each of the batches that it is made of. Its transpose is `spread`.

    Many rows are summed in two steps. The first, of all arrays, is one kernel on a GPU, and stays by itself: else
    XLA:GPU writes out what is to be summed in the backward pass, and takes a kernel for each array in the second step.
    """
    channels = xs[0].shape[-1]
    rows = xs[0].size // channels // batches
    if rows <= _FEW_ROWS:
        return tuple(x.reshape(batches, rows, channels).sum(1) for x in xs)
    groups = math.gcd(rows, 2 ** (math.isqrt(rows).bit_length() - 1))
    first = lax.optimization_barrier([x.reshape(batches * groups, -1, channels).sum(1) for x in xs])
    return tuple(jnp.stack(first).reshape(len(xs), batches, groups, channels).sum(2))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def spread(vs: Arrays, shape: tuple[int, ...]) -> Arrays:
    """Each ``[batches, C] -> shape``, ``(N, ..., C)``: to all entries of each batch. Its transpose is `sums`."""
    ones = (1,) * (len(shape) - 2)
    each = (jnp.repeat(v, shape[0] // len(v), 0).reshape(shape[0], *ones, -1) for v in vs)
    return tuple(jnp.broadcast_to(v, shape) for v in each)


sums.defvjp(
    lambda xs, batches: (sums(xs, batches), xs[0].shape),
    lambda batches, shape, g: (spread(g, shape),),
)
spread.defvjp(
    lambda vs, shape: (spread(vs, shape), len(vs[0])),
    lambda shape, batches, g: (sums(g, batches),),
)


def batch_moments(x: Array, batches: int) -> tuple[Arrays, Callable[[Arrays, tuple[int, ...]], Arrays]]:
    """Return mean and mean square of each channel of each batch in ``x``, ``[N, ..., C]``, and how to spread them.

    On CPUs one batch has moments ``[C]``, which broadcast by themselves: with an axis of one more, XLA:CPU made a step
    of dcgan 1.5 % more arithmetic. Else they are ``[batches, C]``.
    """
    if batches == 1 and on_cpu():
        axes = tuple(range(x.ndim - 1))
        return (x.mean(axes), jnp.square(x).mean(axes)), lambda vs, _: vs
    rows = float(x.size // x.shape[-1] // batches)  # which may be beyond int32
    total, squares = sums((x, jnp.square(x)), batches)
    return (total / rows, squares / rows), spread
