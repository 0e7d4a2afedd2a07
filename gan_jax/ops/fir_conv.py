"""Convolutions of 3x3 with FIR resampling by [1, 3, 3, 1], each as one convolution at the coarse side.

The filter and the kernel are both linear, so that the pixels of one phase (of 2x2) are a 3x3 convolution of the coarse
image, or their sum over phases is: no image between is made, and `gan_jax.ops.conv` has its fast forms and
its derivatives. Exact but for rounding, at the image's border too, which is padded by zeros once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gan_jax.ops.conv import conv
from gan_jax.ops.resample import TAPS
from gan_jax.ops.xla_cpu import held, written

Array = jax.Array
_TAPS = [tap / sum(TAPS) for tap in TAPS]


def _phases(gain: float, offset: Callable[[int, int, int], int]) -> list[list[list[float]]]:
    """``[p, i, k]``: tap i of the coarse kernel of phase p is the sum over k of this times tap k of the kernel."""

    def tap(j: int) -> float:
        return gain * _TAPS[j] if 0 <= j < len(_TAPS) else 0.0

    return [[[tap(offset(p, i, k)) for k in range(3)] for i in range(3)] for p in range(2)]


_UP = _phases(2, lambda p, i, k: 2 * i + 1 - p - k)
_DOWN = _phases(1, lambda p, i, k: 2 * i + p - k)


def up_conv(x: Array, kernel: Array) -> Array:
    """Zeros between pixels, padding by 3 before and 2 behind, the filter with gain 4, then the kernel without padding.

    Args:
      x: ``[N, H, W, f]``.
      kernel: ``[3, 3, f, c]``, in the precision in which its sums are made; they are rounded to the dtype of ``x``.

    Returns:
      ``[N, 2H, 2W, c]`` (Karras et al. 2020, arXiv:1912.04958, in their code).
    """
    n, h, w, f = x.shape
    phases = jnp.einsum("pik,qjl,klfc->ijfpqc", *_twice(_UP, kernel), kernel).reshape(3, 3, f, -1)
    out = held(conv(x, phases.astype(x.dtype))).reshape(n, h, w, 2, 2, -1)
    pixels: Array = written(out.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, -1))
    return pixels


def down_conv(x: Array, kernel: Array) -> Array:
    """Pad by 2 on all sides, filter, then apply the kernel without padding at every second pixel.

    Args:
      x: ``[N, 2H, 2W, f]``.
      kernel: ``[3, 3, f, c]``, as of `up_conv`.

    Returns:
      ``[N, H, W, c]``.
    """
    n, h, w, f = x.shape
    phases = jnp.einsum("pik,qjl,klfc->ijpqfc", *_twice(_DOWN, kernel), kernel).reshape(3, 3, 4 * f, -1)
    together = held(x).reshape(n, h // 2, 2, w // 2, 2, f).transpose(0, 1, 3, 2, 4, 5)
    return conv(written(together).reshape(n, h // 2, w // 2, 4 * f), phases.astype(x.dtype))


def _twice(matrix: list[list[list[float]]], like: Array) -> tuple[Array, Array]:
    one = jnp.asarray(matrix, like.dtype)
    return one, one
