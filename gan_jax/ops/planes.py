"""Maps with channels before pixels, as convolutions in groups want them on CPUs, and what stands between those.

There a map of N images is ``[N / n, C, n, H, W]``: parts of n images, since products of rows of very many pixels miss
the cache. So a group of channels is one piece of memory, and shifts, pads and sums are along whole rows. `enter` and
`leave` turn images about on the way, `laid` and `plain` small maps. Elsewhere a map is as all others, ``[N, H, W, C]``,
and each function here is what the name says of those.

All are linear in each argument, and each other's derivatives, so that they are exact to any order. In bfloat16 they
compute in float32 on CPUs, which have no fast code for these products of bfloat16, and round once.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops import resample
from gan_jax.ops.products import by_rows, narrow
from gan_jax.ops.xla_cpu import held, on_cpu

Array = jax.Array
_PIXELS = 16384  # of a part, if an image has no more


def channels() -> int:
    """Which axis of a map has the channels: 1 on CPUs, 3 elsewhere."""
    return 1 if on_cpu() else 3


def enter(x: Array, kernel: Array) -> Array:
    """Convolve images with a kernel of 1x1, to a map.

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
    return wide(_entered, x.reshape(parts, -1, c), kernel).reshape(parts, -1, n // parts, h, w)


def leave(y: Array, kernel: Array) -> Array:
    """Convolve a map with a kernel of 1x1, to images: the adjoint of `enter`, its kernel transposed.

    Args:
      y: ``[N / n, F, n, H, W]`` on CPUs, ``[N, H, W, F]`` elsewhere.
      kernel: ``[F, C]``.

    Returns:
      ``[N, H, W, C]``.
    """
    if not on_cpu():
        return by_rows(y, kernel)
    return wide(_left, y.reshape(*y.shape[:2], -1), kernel.T).reshape(-1, *y.shape[3:], kernel.shape[1])


def within(x: Array, kernel: Array) -> Array:
    """Convolve a map with a kernel of 1x1, to a map.

    Args:
      x: ``[N / n, C, n, H, W]`` on CPUs, ``[N, H, W, C]`` elsewhere.
      kernel: ``[C, F]``.

    Returns:
      The same with F channels.
    """
    if not on_cpu():
        return by_rows(x, kernel)
    rows = x.reshape(len(x), 1, kernel.shape[0], -1)
    return wide(lambda x, kernel: product(kernel.T[None], x), rows, kernel).reshape(len(x), -1, *x.shape[2:])


def laid(x: Array) -> Array:
    """Return images ``[N, H, W, C]`` as a map; ``[N / n, C, n, H, W]`` on CPUs. For few numbers: it copies."""
    if not on_cpu():
        return x
    n, h, w, c = x.shape
    return jnp.moveaxis(x.reshape(_parts(n, h * w), -1, h, w, c), -1, 1)


def plain(x: Array) -> Array:
    """Return a map as images ``[N, H, W, C]``: the inverse of `laid`."""
    return jnp.moveaxis(x, 1, -1).reshape(-1, *x.shape[3:], x.shape[1]) if on_cpu() else x


def up(x: Array) -> Array:
    """`resample.up` of a map by the filter of both papers: twice the height and width."""
    return wide(_expanded, x) if on_cpu() else resample.up(x)


def down(x: Array) -> Array:
    """`resample.down` of a map by the filter of both papers: half the height and width."""
    return wide(_reduced, x) if on_cpu() else resample.down(x)


def wide(function: Callable[..., Array], x: Array, *kernel: Array) -> Array:
    """Compute ``function`` of all, on CPUs in float32 in the place of bfloat16."""
    if not narrow(x):
        return function(x, *kernel)
    return function(*(array.astype(jnp.float32) for array in (x, *kernel))).astype(x.dtype)


def moved(x: Array, by: int, axis: int) -> Array:
    """``x`` so many places further along an axis, counted from the last, or back; 0 where nothing was."""
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, [(by, -by, 0) if i == x.ndim + axis else (0, 0, 0) for i in range(x.ndim)])


@jax.custom_vjp
def product(a: Array, x: Array) -> Array:
    """Multiply a matrix for each group with the parts' pixels: ``[G, M, K], [B, G, K, P] -> [B, G, M, P]``."""
    return lax.dot_general(_repeated(a, len(x)), x, (((3,), (2,)), ((0, 1), (0, 1))))


@jax.custom_vjp
def _outer(y: Array, x: Array) -> Array:
    """``[B, G, M, P], [B, G, K, P] -> [G, M, K]``."""
    return lax.dot_general(y, x, (((3,), (3,)), ((0, 1), (0, 1)))).sum(0)


def _turned(a: Array) -> Array:
    return a.swapaxes(1, 2)


product.defvjp(lambda a, x: (product(a, x), (a, x)), lambda s, g: (_outer(g, s[1]), product(_turned(s[0]), g)))
_outer.defvjp(lambda y, x: (_outer(y, x), (y, x)), lambda s, g: (product(g, s[1]), product(_turned(g), s[0])))


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


@jax.custom_vjp
def _expanded(x: Array) -> Array:
    """``[B, C, n, H, W] -> [B', C, n', 2 H, 2 W]``."""
    n, (height, width) = len(x) * x.shape[2], x.shape[3:]
    x = _parted(x, _parts(n, 4 * height * width))
    columns = held(_along(x, 2 * _halving(2 * width).T))
    first, second = (0.75 * columns + 0.25 * moved(columns, by, -2) for by in (1, -1))
    return held(jnp.concatenate([first, second], -1)).reshape(*x.shape[:3], 2 * height, 2 * width)


@jax.custom_vjp
def _reduced(x: Array) -> Array:
    """``[B, C, n, 2 H, 2 W] -> [B', C, n', H, W]``."""
    n, (height, width) = len(x) * x.shape[2], x.shape[3:]
    pairs = x.reshape(*x.shape[:3], height // 2, 2 * width)
    first, second = held((pairs[..., :width], pairs[..., width:]))
    rows = held(0.375 * (first + second) + 0.125 * (moved(first, -1, -2) + moved(second, 1, -2)))
    return _parted(_along(rows, _halving(width)), _parts(n, height * width // 4))


_expanded.defvjp(lambda x: (_expanded(x), None), lambda _, g: (4 * _reduced(g),))
_reduced.defvjp(lambda x: (_reduced(x), None), lambda _, g: (_expanded(g) / 4,))


def _halving(length: int) -> Array:
    """Matrix ``[length, length / 2]`` of the filter and the leaving out: few numbers, and XLA:CPU has no fast code for
    every second number of a row."""
    at = jnp.arange(length)[:, None] - 2 * jnp.arange(length // 2)
    return jnp.select([(at == 0) | (at == 1), (at == -1) | (at == 2)], [0.375, 0.125], 0.0)


def _along(x: Array, matrix: Array) -> Array:
    return (x.reshape(-1, len(matrix)) @ matrix.astype(x.dtype)).reshape(*x.shape[:-1], -1)


def _parts(images: int, pixels: int) -> int:
    """Return into how many parts, equal ones, so many images are cut."""
    least = math.ceil(images * pixels / _PIXELS)
    parts = next(i for i in range(min(least, images), images + 1) if images % i == 0)
    return parts if parts <= 4 * least else 1  # as of a prime number of images


def _parted(x: Array, parts: int) -> Array:
    """``[B, C, n, H, W]`` in so many parts."""
    if parts == len(x):
        return x
    images = x.swapaxes(1, 2).reshape(parts, -1, x.shape[1], *x.shape[3:])
    return held(images.swapaxes(1, 2))


def _repeated(x: Array, times: int) -> Array:
    return jnp.broadcast_to(x, (times, *x.shape))
