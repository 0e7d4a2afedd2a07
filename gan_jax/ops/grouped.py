"""Convolution in groups of channels (Krizhevsky et al. 2012; "cardinality", Xie et al. 2017, arXiv:1611.05431).

XLA:CPU has no fast code for it, so there it is a product of matrices for each group. The kernel's k rows are multiplied
with three (or k) neighbours in a row, and the k results are added a row apart. That writes k times the image where
patches would take k² times.

For it the map has channels before pixels. So a group is one piece of memory, and shifts, pads and sums are along whole
rows: with channels last it took 1.3 to 1.5 times as long. `enter` and `leave`, the 1x1 convolutions before and after
it, turn the map about for little. The map is cut into parts of some images, or of one: products of rows of very many
pixels miss the cache. Elsewhere a map is as all others, and the convolution is XLA's own.

All are linear in each argument, and each other's derivatives, so that they are exact to any order. In bfloat16 they
compute in float32 on CPUs, which have no fast code for these products of bfloat16, and round once.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops.products import by_rows, narrow
from gan_jax.ops.xla_cpu import held, on_cpu

Array = jax.Array
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PIXELS = 16384  # of a part, if an image has no more
_MARGIN = 16  # rows of 2^n numbers meet in the same lines of the cache, so that they are longer by as many


def channels() -> int:
    """Which axis of a map between `enter` and `leave` has the channels: 1 on CPUs, 3 elsewhere."""
    return 1 if on_cpu() else 3


def enter(x: Array, kernel: Array) -> Array:
    """Convolve with a kernel of 1x1 before a convolution in groups.

    Args:
      x: ``[N, H, W, C]``.
      kernel: ``[C, F]``.

    Returns:
      ``[N / n, F, n, H, W]`` on CPUs, ``[N, H, W, F]`` elsewhere.
    """
    if not on_cpu():
        return by_rows(x, kernel)
    n, h, w, c = x.shape
    parts = _parts(n, h * w)
    inside = _wide(_entered, x.reshape(parts, -1, c), kernel)
    return inside.reshape(parts, -1, n // parts, h, w)


def leave(y: Array, kernel: Array) -> Array:
    """Convolve with a kernel of 1x1 behind a convolution in groups: the adjoint of `enter`, its kernel transposed.

    Args:
      y: ``[N / n, F, n, H, W]`` on CPUs, ``[N, H, W, F]`` elsewhere.
      kernel: ``[F, C]``.

    Returns:
      ``[N, H, W, C]``.
    """
    if not on_cpu():
        return by_rows(y, kernel)
    return _wide(_left, y.reshape(*y.shape[:2], -1), kernel.T).reshape(-1, *y.shape[3:], kernel.shape[1])


def grouped_conv(x: Array, kernel: Array) -> Array:
    """Cross-correlate each group of channels by itself, with zero padding to the same side.

    Args:
      x: ``[N / n, G f, n, H, W]`` on CPUs, ``[N, H, W, G f]`` elsewhere: the groups one after the other.
      kernel: ``[k, k, f, G c]``, k odd.

    Returns:
      ``[N / n, G c, n, H, W]`` on CPUs, ``[N, H, W, G c]`` elsewhere.
    """
    return _wide(_grouped, x, kernel)


def _parts(images: int, pixels: int) -> int:
    """Return into how many parts, equal ones, so many images are cut."""
    least = math.ceil(images * pixels / _PIXELS)
    parts = next(i for i in range(min(least, images), images + 1) if images % i == 0)
    return parts if parts <= 4 * least else 1  # as of a prime number of images


def _wide(function: Callable[[Array, Array], Array], x: Array, kernel: Array) -> Array:
    """Compute ``function`` of both, on CPUs in float32 in the place of bfloat16."""
    if not narrow(x):
        return function(x, kernel)
    return function(x.astype(jnp.float32), kernel.astype(jnp.float32)).astype(x.dtype)


def _grouped(x: Array, kernel: Array) -> Array:
    if x.ndim == 4:
        return _by_lax(x, kernel)
    side, _, f, _ = kernel.shape
    groups = x.shape[1] // f
    rows = kernel[::-1].reshape(side, side, f, groups, -1).transpose(3, 0, 4, 1, 2).reshape(groups, -1, side * f)
    images = x.shape[2:]
    near = _spread(x.reshape(len(x), groups, f, *images), side, -1, images)
    return _gathered(_product(rows, near), side, -2, images).reshape(len(x), -1, *images)


@jax.custom_vjp
def _product(a: Array, x: Array) -> Array:
    """``[G, M, K], [B, G, K, P] -> [B, G, M, P]``."""
    return lax.dot_general(_repeated(a, len(x)), x, (((3,), (2,)), ((0, 1), (0, 1))))


@jax.custom_vjp
def _outer(y: Array, x: Array) -> Array:
    """``[B, G, M, P], [B, G, K, P] -> [G, M, K]``."""
    return lax.dot_general(y, x, (((3,), (3,)), ((0, 1), (0, 1)))).sum(0)


def _turned(a: Array) -> Array:
    return a.swapaxes(1, 2)


_product.defvjp(
    lambda a, x: (_product(a, x), (a, x)), lambda s, g: (_outer(g, s[1]), _product(_turned(s[0]), g))
)
_outer.defvjp(
    lambda y, x: (_outer(y, x), (y, x)), lambda s, g: (_product(g, s[1]), _product(_turned(g), s[0]))
)


@jax.custom_vjp
def _entered(x: Array, kernel: Array) -> Array:
    """``[B, P, C], [C, F] -> [B, F, P]``."""
    return lax.dot_general(_repeated(kernel, len(x)), x, (((1,), (2,)), ((0,), (0,))))


@jax.custom_vjp
def _left(y: Array, kernel: Array) -> Array:
    """``[B, F, P], [C, F] -> [B, P, C]``."""
    return lax.dot_general(y, _repeated(kernel, len(y)), (((1,), (2,)), ((0,), (0,))))


@jax.custom_vjp
def _between(x: Array, y: Array) -> Array:
    """``[B, P, C], [B, F, P] -> [C, F]``."""
    return lax.dot_general(y, x, (((2,), (1,)), ((0,), (0,)))).sum(0).T


_entered.defvjp(lambda x, kernel: (_entered(x, kernel), (x, kernel)), lambda s, g: (_left(g, s[1]), _between(s[0], g)))
_left.defvjp(lambda y, kernel: (_left(y, kernel), (y, kernel)), lambda s, g: (_entered(g, s[1]), _between(g, s[0])))
_between.defvjp(lambda x, y: (_between(x, y), (x, y)), lambda s, g: (_left(s[1], g), _entered(s[0], g)))


def _by_lax(x: Array, kernel: Array) -> Array:
    padding = ((len(kernel) // 2,) * 2,) * 2
    groups = x.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT, feature_group_count=groups)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _spread(x: Array, side: int, axis: int, images: tuple[int, ...]) -> Array:
    """``[B, G, f, *images] -> [B, G, k f, n H W + margin]``: each pixel with those beside it (``axis`` -1) or above and
    below it (-2), 0 beyond the border."""
    x = held(x)
    near = jnp.stack([_moved(x, side // 2 - j, axis) for j in range(side)], 2)
    rows = near.reshape(*x.shape[:2], -1, math.prod(images))
    return held(jnp.pad(rows, ((0, 0), (0, 0), (0, 0), (0, _MARGIN))))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _gathered(rows: Array, side: int, axis: int, images: tuple[int, ...]) -> Array:
    """Return the adjoint of `_spread`."""
    found = held(rows)[..., : math.prod(images)].reshape(*rows.shape[:2], side, -1, *images)
    added = [_moved(found[:, :, j], j - side // 2, axis) for j in range(side)]
    return held(sum(added[1:], added[0]))


_spread.defvjp(lambda x, *own: (_spread(x, *own), None), lambda *own: (_gathered(own[-1], *own[:3]),))
_gathered.defvjp(lambda rows, *own: (_gathered(rows, *own), None), lambda *own: (_spread(own[-1], *own[:3]),))


def _moved(x: Array, by: int, axis: int) -> Array:
    """``x`` so many places further along an axis, or back; 0 where nothing was."""
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, [(by, -by, 0) if i == x.ndim + axis else (0, 0, 0) for i in range(x.ndim)])


def _repeated(x: Array, times: int) -> Array:
    return jnp.broadcast_to(x, (times, *x.shape))
