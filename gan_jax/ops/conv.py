"""Convolution with stride 1 and a kernel of odd side, its adjoint and its weight gradient, written for XLA:CPU.

As in `gan_jax.ops.conv4`: what autodiff makes of the weight gradient loses its layout inside a loop, so it is
written out, and the three functions are each other's derivatives, to any order.
"""

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops import products, winograd
from gan_jax.ops.conv4 import FEW_CHANNELS, strided_conv, transposed_conv
from gan_jax.ops.xla_cpu import held, on_cpu

Array = jax.Array
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_CACHED = 2**21  # numbers of patches that are kept in a cache
_FILLED = 32  # channels with which XLA:CPU's own convolution reaches its rate


@jax.custom_vjp
def conv(x: Array, kernel: Array) -> Array:
    """Cross-correlation with zero padding to the same side.

    Args:
      x: ``[N, H, W, f]``.
      kernel: ``[k, k, f, c]``, k odd.

    Returns:
      ``[N, H, W, c]``.
    """
    if _few(kernel):
        return _to_few(x, kernel)
    if _of_few(x, kernel):
        return patches_conv(x, kernel)
    tile = _tile(x.shape, kernel.shape)
    if tile:
        out: Array = winograd.conv(winograd.whole(x, tile, border=1), kernel, tile)
        return out[:, : x.shape[1], : x.shape[2]]
    if products.narrow(x):
        return products.conv(_bordered(x, len(kernel) // 2), kernel)
    if _side_by_side(x.shape[2], kernel.shape[3]):
        return _conv_of_pairs(x, kernel)
    return conv_lax(x, kernel)


def conv_lax(x: Array, kernel: Array) -> Array:
    """`conv` as XLA has it, with its own derivatives."""
    return lax.conv_general_dilated(x, kernel, (1, 1), _same(kernel.shape[0]), dimension_numbers=_LAYOUT)


def patches_conv(x: Array, kernel: Array) -> Array:
    """`conv` as one product of matrices, of patches and kernel, for maps of few pixels and many channels.

    XLA:CPU's own takes a hundred times as long for 2x2 pixels of 512 channels.
    """
    size, _, f, c = kernel.shape
    return products.product(jnp.concatenate(_taps(_bordered(x, size // 2), size), -1), kernel.reshape(size**2 * f, c))


def doubled_conv(x: Array, kernel: Array) -> Array:
    """`conv` with a kernel of side 3 of an image whose pixels are doubled, at 4/9 of its products.

    Each output pixel sees 2x2 different ones, so that this is a transposed convolution whose taps are sums of the
    kernel's (Karras et al. 2018, arXiv:1710.10196, in their code).

    Args:
      x: ``[N, H, W, f]``.
      kernel: ``[3, 3, f, c]``; its sums are rounded to the dtype of ``x``.

    Returns:
      ``[N, 2H, 2W, c]``.
    """
    return transposed_conv(x, _overlapped(kernel[::-1, ::-1]).swapaxes(2, 3).astype(x.dtype))


def halved_conv(x: Array, kernel: Array) -> Array:
    """Return the means of 2x2 pixels of `conv` with a kernel of side 3, as one convolution at 4/9 of its products.

    Args:
      x: ``[N, 2H, 2W, f]``.
      kernel: ``[3, 3, f, c]``; its sums are rounded to the dtype of ``x``.

    Returns:
      ``[N, H, W, c]``.
    """
    return strided_conv(x, (_overlapped(kernel) / 4).astype(x.dtype))


def _overlapped(kernel: Array) -> Array:
    """Sum the kernel at four places: ``[3, 3, f, c] -> [4, 4, f, c]``."""
    rows = jnp.pad(kernel, ((0, 1), (0, 0), (0, 0), (0, 0))) + jnp.pad(kernel, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return jnp.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) + jnp.pad(rows, ((0, 0), (1, 0), (0, 0), (0, 0)))


def adjoint(y: Array, kernel: Array) -> Array:
    """Return the adjoint of `conv` in its image: ``[N, H, W, c] -> [N, H, W, f]``, itself a `conv`."""
    return conv(y, kernel.swapaxes(2, 3)[::-1, ::-1])


@jax.custom_vjp
def kernel_gradient(x: Array, y: Array, like: Array) -> Array:
    """Gradient of ``<conv(x, W), y>`` with respect to ``W``, bilinear in ``x`` and ``y``; ``like`` has W's shape."""
    if not on_cpu():
        gradient: Array = jax.linear_transpose(lambda kernel: conv_lax(x, kernel), like)(y)[0]
        return gradient
    if _few(like):
        return _kernel_gradient_of_few(x, y, len(like))
    tile = _tile(x.shape, like.shape)
    if tile:
        bordered, whole = winograd.whole(x, tile, border=1), winograd.whole(y, tile)
        by_tiles: Array = winograd.kernel_gradient(bordered, whole, len(like), tile)
        return by_tiles
    if products.narrow(x):
        return products.kernel_gradient(_bordered(x, len(like) // 2), y)
    f, c = like.shape[2:]
    if c < min(f, _FILLED):  # its vectors hold the second's channels
        return _kernel_gradient_lax(y, x, len(like))[::-1, ::-1].swapaxes(2, 3)
    return _kernel_gradient_lax(x, y, len(like))


def _kernel_gradient_lax(x: Array, y: Array, size: int) -> Array:
    """`kernel_gradient` as a convolution in canonical layout: the batch is contracted as if it were channels."""
    pairs = _side_by_side(x.shape[2], max(x.shape[3], y.shape[3] * 2))
    by_columns = _of_pairs(y) if pairs else y
    # The barrier keeps XLA from folding the transposes back into the convolution.
    x_t, y_t = held((x.transpose(3, 1, 2, 0), by_columns.transpose(1, 2, 0, 3)))
    apart = (1, 2) if pairs else (1, 1)
    out = lax.conv_general_dilated(x_t, y_t, (1, 1), _same(size), rhs_dilation=apart, dimension_numbers=_LAYOUT)
    found = out.transpose(1, 2, 0, 3)
    return _together(found) if pairs else found


def _side_by_side(columns: int, channels: int) -> bool:
    """Whether two pixels side by side shall be as one of twice the channels, for which a CPU's vectors have room."""
    return channels <= _FILLED // 2 and columns % 2 == 0 and on_cpu()


def _conv_of_pairs(x: Array, kernel: Array) -> Array:
    """`conv` with two pixels of a row as one's channels: 4/3 of the products, at up to 2.4 times the rate."""
    size, _, _, c = kernel.shape
    both = jnp.stack([jnp.pad(kernel, ((0, 0), (i, 1 - i), (0, 0), (0, 0))) for i in (0, 1)], 3)
    flat = both.reshape(size, size + 1, -1, 2 * c)
    out = lax.conv_general_dilated(x, flat, (1, 2), _same(size), dimension_numbers=_LAYOUT)
    return out.reshape(*x.shape[:3], c)


def _of_pairs(y: Array) -> Array:
    """``[N, H, W, c] -> [N, H, W / 2, 2c]``, which moves nothing."""
    n, h, w, c = y.shape
    return y.reshape(n, h, w // 2, 2 * c)


def _together(found: Array) -> Array:
    """Add what the pairs' pixels have for a kernel: ``[k, k + 1, f, 2c] -> [k, k, f, c]``."""
    size, _, f, c = found.shape
    pixels = found.reshape(size, size + 1, f, 2, c // 2)
    return pixels[:, :-1, :, 0] + pixels[:, 1:, :, 1]


def _few(kernel: Array) -> bool:
    """Whether so few channels come of many that a CPU's vectors would be nearly empty: those of an image."""
    size, _, f, c = kernel.shape
    return size > 1 and c <= FEW_CHANNELS and f >= 4 * c and on_cpu()


def _of_few(x: Array, kernel: Array) -> bool:
    """Whether so many channels come of few, and patches stay in a CPU's caches: 1.2 to 5 times as fast as XLA's own."""
    size, _, f, c = kernel.shape
    return size > 1 and f <= FEW_CHANNELS and c >= 4 * f and x.size * size**2 <= _CACHED and on_cpu()


def _to_few(x: Array, kernel: Array) -> Array:
    """`conv` as one product of matrices, of which each pixel then adds what its neighbours have for it."""
    n, h, w, f = x.shape
    size, _, _, c = kernel.shape
    of_pixels = products.unrounded(held(x.reshape(-1, f)), kernel.transpose(2, 0, 1, 3).reshape(f, -1))
    whole = _bordered(held(of_pixels).reshape(n, h, w, -1), size // 2).reshape(n, h + size - 1, w + size - 1, -1, c)
    parts = (tap[..., place, :] for place, tap in enumerate(_taps(whole, size)))
    return sum(parts, jnp.zeros((), whole.dtype)).astype(x.dtype)


def _kernel_gradient_of_few(x: Array, y: Array, size: int) -> Array:
    """`kernel_gradient` as one product of matrices: of ``y``, moved to each place of the kernel, and all of ``x``."""
    f, c = x.shape[3], y.shape[3]
    moved = jnp.stack(_taps(_bordered(y, size // 2), size)[::-1]).transpose(0, 4, 1, 2, 3)
    found = products.unrounded(*held((moved.reshape(size**2 * c, -1), x.reshape(-1, f))))
    return found.astype(x.dtype).reshape(size, size, c, f).swapaxes(2, 3)


def _taps(whole: Array, size: int) -> list[Array]:
    """Return what a bordered image has at each place of a kernel of that side, row by row."""
    h, w = whole.shape[1] - size + 1, whole.shape[2] - size + 1
    return [whole[:, i : i + h, j : j + w] for i in range(size) for j in range(size)]


def _bordered(x: Array, width: int) -> Array:
    """``x`` with a border of zeros."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)))


def _tile(shape: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """Of `gan_jax.ops.winograd`, or 0."""
    n, h, w, f = shape
    return winograd.best_tile(n, (h, w), 3, (f, kernel[3])) if on_cpu() and kernel[0] == 3 else 0


def _same(kernel_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (kernel_size // 2, kernel_size // 2), (kernel_size // 2, kernel_size // 2)


conv.defvjp(
    lambda x, kernel: (conv(x, kernel), (x, kernel)),
    lambda saved, g: (adjoint(g, saved[1]), kernel_gradient(saved[0], g, saved[1])),
)
kernel_gradient.defvjp(
    lambda x, y, like: (kernel_gradient(x, y, like), (x, y, like)),
    lambda saved, g: (adjoint(saved[1], g), conv(saved[0], g), jnp.zeros_like(saved[2])),
)
