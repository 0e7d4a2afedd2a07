"""Convolution in groups of channels (Krizhevsky et al. 2012; "cardinality", Xie et al. 2017, arXiv:1611.05431).

XLA:CPU has no fast code for it, so there it is a product of matrices for each group. The kernel's k rows are multiplied
with three (or k) neighbours in a row, and the k results are added a row apart. That writes k times the image where
patches would take k² times. For it a map has channels before pixels (`gan_jax.ops.planes`): with channels last it took
1.3 to 1.5 times as long.

It is linear in each argument, and made of functions that are each other's derivatives, so that it is exact to any
order. What lies beside each pixel is laid there once, for values and for both gradients.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops.planes import moved, product, wide
from gan_jax.ops.xla_cpu import held

Array = jax.Array
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MARGIN = 16  # rows of 2^n numbers meet in the same lines of the cache, so that they are longer by as many


def grouped_conv(x: Array, kernel: Array) -> Array:
    """Cross-correlate each group of channels by itself, with zero padding to the same side.

    Args:
      x: a map of G f channels, the groups one after the other: ``[N / n, G f, n, H, W]`` on CPUs, ``[N, H, W, G f]``
        elsewhere.
      kernel: ``[k, k, f, G c]``, k odd.

    Returns:
      The same with G c channels.
    """
    return wide(_by_lax if x.ndim == 4 else _by_products, x, kernel)


def _by_lax(x: Array, kernel: Array) -> Array:
    padding = ((len(kernel) // 2,) * 2,) * 2
    groups = x.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT, feature_group_count=groups)


def _by_products(x: Array, kernel: Array) -> Array:
    side, _, f, _ = kernel.shape
    groups, images = x.shape[1] // f, x.shape[2:]
    rows = kernel[::-1].reshape(side, side, f, groups, -1).transpose(3, 0, 4, 1, 2).reshape(groups, -1, side * f)
    near = _spread(x.reshape(len(x), groups, f, *images), side, -1, images)
    return _gathered(product(rows, near), side, -2, images).reshape(len(x), -1, *images)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _spread(x: Array, side: int, axis: int, images: tuple[int, ...]) -> Array:
    """``[B, G, f, *images] -> [B, G, k f, n H W + margin]``: each pixel with those beside it (``axis`` -1) or above and
    below it (-2), 0 beyond the border."""
    x = held(x)
    near = jnp.stack([moved(x, side // 2 - j, axis) for j in range(side)], 2)
    rows = near.reshape(*x.shape[:2], -1, math.prod(images))
    return held(jnp.pad(rows, ((0, 0), (0, 0), (0, 0), (0, _MARGIN))))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _gathered(rows: Array, side: int, axis: int, images: tuple[int, ...]) -> Array:
    """Return the adjoint of `_spread`."""
    found = held(rows)[..., : math.prod(images)].reshape(*rows.shape[:2], side, -1, *images)
    added = [moved(found[:, :, j], j - side // 2, axis) for j in range(side)]
    return held(sum(added[1:], added[0]))


_spread.defvjp(lambda x, *own: (_spread(x, *own), None), lambda *own: (_gathered(own[-1], *own[:3]),))
_gathered.defvjp(lambda rows, *own: (_gathered(rows, *own), None), lambda *own: (_spread(own[-1], *own[:3]),))
