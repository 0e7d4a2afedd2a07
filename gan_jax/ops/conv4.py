"""The strided convolution of DCGAN, its adjoint and its weight gradient, each written so that XLA runs it fast.

The 4x4, stride 2, padding 1 convolution of DCGAN and its adjoint (the transposed convolution) are written here once, in
mutually recursive functions, because XLA:CPU compiles what autodiff makes of them 5 to 20 times too slowly: the
weight gradient of a transposed convolution becomes a reversed-kernel convolution, and inside a loop the weight gradient
of a plain strided one loses its layout. All are exact and differentiable to any order. One kernel ``W`` of shape
``[4, 4, f, c]`` serves both directions, ``f`` being the channels of the fine side and ``c`` those of the coarse side.

On GPUs most are cuDNN's. It computes with at least 8 channels (padded in passes of their own) and makes at least 64 at
a time, so where the fine side has fewer, 2x2 pixels of it are taken together, as channels of a 2x2 convolution.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops import products, winograd
from gan_jax.ops.xla_cpu import held, on_cpu, written

Array = jax.Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PADDING = ((1, 1), (1, 1))
# Below these sizes the matmul forms win on XLA:CPU (measured, see benchmarks/).
FEW_CHANNELS = 4
_SMALL_SIDE = 8
# On GPUs all take pixels together up to `FEW_CHANNELS`, and the input's gradient up to so many. On an H100 a step of
# DCGAN at 64x64, batch 1,024, in bfloat16 took 8.0 ms by that and 9.8 without (with layers' own up to 64 as well, for
# which batch normalisation reads and writes .5 GB more than now: not timed).
_GPU_CHANNELS = 64
_GPU_MULTIPLE = 8  # of channels: what its matrix units want


@jax.custom_vjp
def strided_conv(fine: Array, kernel: Array) -> Array:
    """Convolution with a 4x4 kernel, stride 2, zero padding 1 (cross-correlation, as in every deep-learning library).

    Args:
      fine: ``[N, 2H, 2W, f]``.
      kernel: ``[4, 4, f, c]``.

    Returns:
      ``[N, H, W, c]``, with ``out[n,h,w,c] = sum_ijf pad(fine)[n,2h+i,2w+j,f] kernel[i,j,f,c]``.
    """
    n, h, w = fine.shape[0], fine.shape[1] // 2, fine.shape[2] // 2
    if kernel.shape[2] <= FEW_CHANNELS:
        if not on_cpu():
            return _valid_conv(_filled(_phases(fine)), _filled(_phase_kernel(kernel), axis=2))
        patches = _patches(fine).reshape(n * h * w, -1)
        return products.product(patches, kernel.reshape(-1, kernel.shape[3])).reshape(n, h, w, -1)
    if products.narrow(fine):
        return products.conv(_phases(fine), _phase_kernel(kernel))
    tile = _tile((n, h, w, kernel.shape[3]), kernel.shape[2], h * w)
    if tile:
        out: Array = winograd.conv(_phases(fine, tile), _phase_kernel(kernel), tile)
        return out[:, :h, :w]
    return _strided_conv_lax(fine, kernel)


@jax.custom_vjp
def transposed_conv(coarse: Array, kernel: Array) -> Array:
    """Transposed convolution with a 4x4 kernel, stride 2, padding 1: the adjoint of `strided_conv` in its image.

    Args:
      coarse: ``[N, H, W, c]``.
      kernel: ``[4, 4, f, c]``, laid out as for `strided_conv`.

    Returns:
      ``[N, 2H, 2W, f]``: PyTorch's ``ConvTranspose2d(c, f, 4, 2, 1)`` with ``weight[c, f, i, j] = kernel[i, j, f, c]``.
    """
    f = kernel.shape[2]
    if f <= FEW_CHANNELS:
        return (_transposed_conv_columns if on_cpu() else _transposed_conv_subpixel)(coarse, kernel)
    if not on_cpu():
        return _transposed_conv_lax(coarse, kernel)
    if products.narrow(coarse):
        return _pixels(products.adjoint(coarse, _phase_kernel(kernel)))
    tile = _tile(coarse.shape, f, (coarse.shape[1] + 1) * (coarse.shape[2] + 1))
    if tile:
        return _transposed_conv_winograd(coarse, kernel, tile)
    if 2 * coarse.shape[1] <= _SMALL_SIDE:
        return _transposed_conv_lax(coarse, kernel)
    return _transposed_conv_subpixel(coarse, kernel)


@jax.custom_vjp
def _input_gradient(coarse: Array, kernel: Array) -> Array:
    """`transposed_conv`, where it is the gradient of a `strided_conv`.

    What follows is cheap, and reads the sub-pixels where they lie. After a layer it is batch normalisation, for which
    XLA writes out its own gradient if they aren't in order.
    """
    if not on_cpu() and kernel.shape[2] <= _GPU_CHANNELS:
        return _transposed_conv_subpixel(coarse, kernel)
    return transposed_conv(coarse, kernel)


@jax.custom_vjp
def kernel_gradient(fine: Array, coarse: Array) -> Array:
    """Gradient of ``<strided_conv(fine, W), coarse>`` with respect to ``W``.

    Args:
      fine: ``[N, 2H, 2W, f]``.
      coarse: ``[N, H, W, c]``.

    Returns:
      ``[4, 4, f, c]``, bilinear in both arguments.
    """
    f = fine.shape[-1]
    if not on_cpu():
        # XLA:GPU takes it for a convolution with `coarse` if that is no larger than the kernel, and moves both into
        # other layouts; of a side that was odd it makes one of four times the products, with zeros between the pixels.
        if f > FEW_CHANNELS and max(coarse.shape[1:3]) > 4:
            return _kernel_gradient_of(_strided_conv_lax, 4, fine, coarse)
        return _whole_kernel(_kernel_gradient_of(_valid_conv, 2, _filled(_phases(fine)), coarse)[:, :, : 4 * f])
    if f <= FEW_CHANNELS:
        patches = _patches(fine).reshape(-1, 16 * f)
        return products.product(patches, coarse.reshape(len(patches), -1), "tn").reshape(4, 4, f, -1)
    if products.narrow(fine):
        return _whole_kernel(products.kernel_gradient(_phases(fine), coarse))
    tile = _tile(coarse.shape, f, coarse.shape[1] * coarse.shape[2])
    if tile:
        return _whole_kernel(winograd.kernel_gradient(_phases(fine, tile), winograd.whole(coarse, tile), 2, tile))
    # A convolution in canonical layout: the batch is contracted as if it were channels. The barrier keeps XLA from
    # folding the transposes back into the convolution, which inside a loop costs a factor of 20.
    fine_t, coarse_t = held((fine.transpose(3, 1, 2, 0), coarse.transpose(1, 2, 0, 3)))
    out = lax.conv_general_dilated(fine_t, coarse_t, (1, 1), _PADDING, rhs_dilation=(2, 2), dimension_numbers=_LAYOUT)
    return out.transpose(1, 2, 0, 3)


def _transposed_conv_vjp(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    coarse, kernel = saved
    return strided_conv(g, kernel), kernel_gradient(g, coarse)


strided_conv.defvjp(
    lambda fine, kernel: (strided_conv(fine, kernel), (fine, kernel)),
    lambda saved, g: (_input_gradient(g, saved[1]), kernel_gradient(saved[0], g)),
)
transposed_conv.defvjp(lambda coarse, kernel: (transposed_conv(coarse, kernel), (coarse, kernel)), _transposed_conv_vjp)
_input_gradient.defvjp(lambda coarse, kernel: (_input_gradient(coarse, kernel), (coarse, kernel)), _transposed_conv_vjp)
kernel_gradient.defvjp(
    lambda fine, coarse: (kernel_gradient(fine, coarse), (fine, coarse)),
    lambda saved, g: (transposed_conv(saved[1], g), strided_conv(saved[0], g)),
)


def _strided_conv_lax(fine: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(fine, kernel, (2, 2), _PADDING, dimension_numbers=_LAYOUT)


def _kernel_gradient_of(convolution: Callable[[Array, Array], Array], side: int, x: Array, y: Array) -> Array:
    """By autodiff: of ``<convolution(x, W), y>``, W of shape ``[side, side, channels of x, channels of y]``."""
    shape = jax.ShapeDtypeStruct((side, side, x.shape[-1], y.shape[-1]), x.dtype)
    gradient: Array = jax.linear_transpose(lambda kernel: convolution(x, kernel), shape)(y)[0]
    return gradient


def _valid_conv(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=_LAYOUT)


def _transposed_conv_lax(coarse: Array, kernel: Array) -> Array:
    # Flipped last: XLA:GPU looks for a reverse right before the convolution, and puts zeros between pixels without.
    flipped = kernel.swapaxes(2, 3)[::-1, ::-1]
    pad = ((2, 2), (2, 2))
    return lax.conv_general_dilated(coarse, flipped, (1, 1), pad, lhs_dilation=(2, 2), dimension_numbers=_LAYOUT)


def _transposed_conv_subpixel(coarse: Array, kernel: Array) -> Array:
    """Convolve 2x2 to the 4 sub-pixels of each coarse pixel: row ``i = 2 (1 - p) + a`` is tap p of sub-pixel a."""
    _, _, f, c = kernel.shape
    taps = kernel.reshape(2, 2, 2, 2, f, c)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, c, 4 * f)
    taps = taps if on_cpu() else _filled(taps)
    blocks = lax.conv_general_dilated(coarse, taps, (1, 1), _PADDING, dimension_numbers=_LAYOUT)
    return _depth_to_space(blocks[..., : 4 * f])


def _transposed_conv_columns(coarse: Array, kernel: Array) -> Array:
    """One matmul to the 16 f columns of each coarse pixel, then their overlapping sums (col2im)."""
    n, h, w, c = coarse.shape
    f = kernel.shape[2]
    found = products.unrounded(coarse.reshape(-1, c), kernel.reshape(16 * f, c), "nt")
    columns = found.reshape(n, h, w, 2, 2, 2, 2, f)
    parts = [
        jnp.pad(columns[:, :, :, p, :, q], ((0, 0), (p, 1 - p), (q, 1 - q), (0, 0), (0, 0), (0, 0)))
        for p in (0, 1)
        for q in (0, 1)
    ]
    blocks = parts[0] + parts[1] + parts[2] + parts[3]
    return _depth_to_space(blocks.reshape(n, h + 1, w + 1, 4 * f)).astype(coarse.dtype)


def _tile(coarse: tuple[int, ...], f: int, positions: int) -> int:
    """Of `gan_jax.ops.winograd`, or 0; ``positions``: of the 2x2 convolution that would do instead."""
    n, h, w, c = coarse
    if not on_cpu() or f <= FEW_CHANNELS:
        return 0
    return winograd.best_tile(n, (h, w), 2, (4 * f, c), 4 * positions)


def _transposed_conv_winograd(coarse: Array, kernel: Array, tile: int) -> Array:
    _, h, w, _ = coarse.shape
    blocks = winograd.adjoint(winograd.whole(coarse, tile), _phase_kernel(kernel), tile)[:, : h + 1, : w + 1]
    return _pixels(blocks)


def _pixels(blocks: Array) -> Array:
    """`_depth_to_space`, in a loop of its own."""
    pixels: Array = written(_depth_to_space(held(blocks)))
    return pixels


def _phases(fine: Array, tile: int = 1) -> Array:
    """`strided_conv` as a 2x2 convolution, its input: ``[N, 2H, 2W, f] -> [N, H + 1, W + 1, 4 f]``, padded, H and W to
    whole tiles."""
    n, h, w, f = fine.shape
    down, right = winograd.padding((h // 2, w // 2), tile)
    padded = jnp.pad(held(fine).reshape(n, h, w * f), ((0, 0), (1, 1 + 2 * down), (f, f + 2 * right * f)))
    h, w = h // 2 + 1 + down, w // 2 + 1 + right
    phases: Array = written(padded.reshape(n, h, 2, w, 2 * f).transpose(0, 1, 3, 2, 4))
    return phases.reshape(n, h, w, 4 * f)


def _phase_kernel(kernel: Array) -> Array:
    """Return the kernel of the 2x2 convolution that `_phases` is for: ``[4, 4, f, c] -> [2, 2, 4 f, c]``."""
    _, _, f, c = kernel.shape
    return kernel.reshape(2, 2, 2, 2, f, c).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * f, c)


def _whole_kernel(phases: Array) -> Array:
    """Back from `_phase_kernel`'s."""
    _, _, f4, c = phases.shape
    return phases.reshape(2, 2, 2, 2, f4 // 4, c).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, f4 // 4, c)


def _filled(x: Array, axis: int = -1) -> Array:
    """``x`` with as many zeros along ``axis`` as make it a multiple of `_GPU_MULTIPLE`."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % _GPU_MULTIPLE)
    return jnp.pad(x, widths)


def _depth_to_space(blocks: Array) -> Array:
    """``[N, H+1, W+1, 4f] -> [N, 2H, 2W, f]``: interleaves the sub-pixels and crops the border that padding made."""
    n, h, w, f4 = blocks.shape
    pixels = blocks.reshape(n, h, w, 2, 2, f4 // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, f4 // 4)
    return pixels[:, 1:-1, 1:-1]


def _patches(fine: Array) -> Array:
    """Return the 4x4 window of every coarse pixel: ``[N, 2H, 2W, f] -> [N, H, W, 4, 4, f]``."""
    h, w = fine.shape[1], fine.shape[2]
    padded = jnp.pad(fine, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = jnp.stack([padded[:, i : i + h : 2] for i in range(4)], axis=3)
    return held(jnp.stack([rows[:, :, j : j + w : 2] for j in range(4)], axis=4))
