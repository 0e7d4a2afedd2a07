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


@jax.custom_vjp
def _grouped(x: Array, kernel: Array) -> Array:
    if x.ndim == 4:
        return _by_lax(x, kernel)
    side, _, f, _ = kernel.shape
    groups = x.shape[1] // f
    rows = kernel.reshape(side, side, f, groups, -1).transpose(3, 0, 4, 1, 2).reshape(groups, -1, side * f)
    near = _neighbours(x, groups, side, -1)
    products = held(lax.dot_general(_repeated(rows, len(x)), near, (((3,), (2,)), ((0, 1), (0, 1)))))
    found = products[..., : math.prod(x.shape[2:])].reshape(len(x), groups, side, -1, *x.shape[2:])
    # Row i of the kernel gives what belongs i - k/2 rows higher.
    added = [_moved(found[:, :, i], side // 2 - i, -2) for i in range(side)]
    return held(sum(added[1:], added[0])).reshape(len(x), -1, *x.shape[2:])


@jax.custom_vjp
def _kernel_gradient(x: Array, y: Array, like: Array) -> Array:
    """Return the gradient of ``<_grouped(x, W), y>`` with respect to ``W``, which has the shape of ``like``."""
    if x.ndim == 4:
        gradient: Array = jax.linear_transpose(lambda kernel: _by_lax(x, kernel), like)(y)[0]
        return gradient
    side, _, f, _ = like.shape
    groups = x.shape[1] // f
    both = _neighbours(x, groups, side, -1), _neighbours(y, groups, side, -2)
    found = lax.dot_general(*both, (((3,), (3,)), ((0, 1), (0, 1)))).sum(0)
    found = found.reshape(groups, side, f, side, -1)[:, :, :, ::-1]  # columns, then rows, of the kernel
    return found.transpose(3, 1, 2, 0, 4).reshape(like.shape)


def _adjoint(y: Array, kernel: Array, like: Array) -> Array:
    """Return the adjoint of `_grouped` in its image, of the shape of ``like``: itself a convolution in groups."""
    side, _, f, _ = kernel.shape
    inputs = like.shape[1 if like.ndim == 5 else 3]
    apart = kernel[::-1, ::-1].reshape(side, side, f, inputs // f, -1)
    return _grouped(y, apart.swapaxes(2, 4).reshape(side, side, -1, inputs))


_grouped.defvjp(
    lambda x, kernel: (_grouped(x, kernel), (x, kernel)),
    lambda saved, g: (_adjoint(g, saved[1], saved[0]), _kernel_gradient(saved[0], g, saved[1])),
)
_kernel_gradient.defvjp(
    lambda x, y, like: (_kernel_gradient(x, y, like), (x, y, like)),
    lambda saved, g: (
        _adjoint(saved[1], g, saved[0]),
        _grouped(saved[0], g),
        jnp.zeros_like(saved[2]),
    ),
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


def _neighbours(x: Array, groups: int, side: int, axis: int) -> Array:
    """``[B, G f, n, H, W] -> [B, G, k f, n H W + margin]``: each pixel with those beside it (``axis`` -1) or above and
    below it (-2), 0 beyond the border."""
    apart = held(x).reshape(len(x), groups, -1, *x.shape[2:])
    near = jnp.stack([_moved(apart, side // 2 - j, axis) for j in range(side)], 2)
    rows = near.reshape(len(x), groups, -1, math.prod(x.shape[2:]))
    return held(jnp.pad(rows, ((0, 0), (0, 0), (0, 0), (0, _MARGIN))))


def _moved(x: Array, by: int, axis: int) -> Array:
    """``x`` so many places further along an axis, or back; 0 where nothing was."""
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, [(by, -by, 0) if i == x.ndim + axis else (0, 0, 0) for i in range(x.ndim)])


def _repeated(x: Array, times: int) -> Array:
    return jnp.broadcast_to(x, (times, *x.shape))
