"""Activations, after a normalisation or after none, and what their derivatives remember."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan_jax.ops.xla_cpu import on_cpu

Array = jax.Array
_SLOPE = 0.2  # of LeakyReLU: Radford et al. 2015


def relu(x: Array, norm: Callable[[Array], Array] = lambda x: x) -> Array:
    """``max(norm(x), 0)``, with derivative 0 at 0.

    After a norm, which remembers its input, the derivative is told by that. After none (``norm(x) is x``) it is told by
    what comes out, which the next layer remembers in any case, so that ``x`` needn't be; but on CPUs, where that takes
    as much memory and is no faster.
    """
    y = norm(x)
    return nn.relu(y) if on_cpu() or y is not x else _rectified(y, 0.0)


def leaky_relu(x: Array, norm: Callable[[Array], Array] = lambda x: x) -> Array:
    """``max(norm(x), .2 norm(x))``, with derivative 1 at 0; for what is remembered see `relu`."""
    y = norm(x)
    return nn.leaky_relu(y, _SLOPE) if on_cpu() or y is not x else _rectified(y, _SLOPE)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _rectified(x: Array, slope: float) -> Array:
    return jnp.maximum(x, _sloping(x, slope))


@_rectified.defjvp
def _rectified_jvp(slope: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    out = _rectified(*primals, slope)
    # Not `out > 0` without a slope: XLA sees that this is `x > 0`, and remembers x.
    return out, jnp.where(out >= 0 if slope else out != 0, tangents[0], _sloping(tangents[0], slope))


def _sloping(x: Array, slope: float) -> Array:
    return slope * x if slope else jnp.zeros_like(x)
