"""Doubling, halving and blurring of images by an FIR filter, as StyleGAN2 and R3GAN resample.

A filter is a list of taps, the same along both axes, normalised to a sum of 1. As in signal processing it is a true
convolution: zeros are put between pixels (`up`) or pixels left out (`down`, after the filter), and outside the image
there are zeros.

Each axis is a sum of shifted slices. Of the doubled image even and odd pixels are two sums of the small one, so that no
product with a zero is computed; side by side as channels they are in order already. XLA:CPU's depthwise convolutions
take many times as long. All are linear, and each other's transposes, so that they are exact to any order of derivative.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops.xla_cpu import held

Array = jax.Array
TAPS = (1, 3, 3, 1)  # (1, 2, 1) * (1, 1): of both papers
# ``out[h] = sum over (weight, phase, shift) of weight · fine[2 (h + shift) + phase]``
_Phases = tuple[tuple[float, int, int], ...]


def up(x: Array, margin: int = 0, taps: Sequence[float] = TAPS) -> Array:
    """Double both sides: each second pixel 0, then the filter with a gain of 4, so that a constant stays itself.

    Args:
      x: ``[N, H, W, C]``.
      margin: rows and columns more on each side, as a convolution without padding wants them after it: 1 for a 3x3.
      taps: of the filter; an image of which is at the centre, or before it where their number is even.

    Returns:
      ``[N, 2 H + 2 margin, 2 W + 2 margin, C]``.
    """
    first = _offset(len(taps), (len(taps) + 1) // 2 + margin)  # what a phase's first pixel sees last
    weights = _normalized(taps, 2.0)
    # Pixel ``2 h + a`` of the result sees the pixel ``h + s`` of ``x`` by the taps j with ``a + first - j = 2 s``.
    phases = tuple((w, (j - first) % 2, -(((j - first) % 2 + first - j) // 2)) for j, w in enumerate(weights))
    return _expanded(x, phases, margin)


def down(x: Array, taps: Sequence[float] = TAPS) -> Array:
    """Halve both sides: the filter, then the first of each two pixels.

    Args:
      x: ``[N, 2 H, 2 W, C]``.
      taps: of the filter.

    Returns:
      ``[N, H, W, C]``.
    """
    first = _offset(len(taps), (len(taps) - 1) // 2)
    weights = _normalized(taps, 1.0)
    return _reduced(x, tuple((w, (first - j) % 2, (first - j) // 2) for j, w in enumerate(weights)), 0)


def doubled(x: Array) -> Array:
    """Repeat each pixel as 2x2: ``[N, H, W, C] -> [N, 2H, 2W, C]``."""
    return x.repeat(2, 1).repeat(2, 2)


def halved(x: Array) -> Array:
    """Take means of 2x2 pixels: ``[N, 2H, 2W, C] -> [N, H, W, C]``."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def pooled(x: Array, height: int) -> Array:
    """Means of equal squares, ``[N, height, ..., C]``: ``x`` is halved until it has that height."""
    return reduce(lambda x, _: halved(x), range((x.shape[1] // height).bit_length() - 1), x)


def squared(x: Array, side: int) -> Array:
    """Means ``[N, side, side, C]``, as PyTorch's adaptive pooling: of 6 pixels to 4, those of the first two, of the
    second and third, and so on."""
    if x.shape[1] == x.shape[2]:
        return pooled(x, side)

    def means(length: int) -> Array:
        """``[side, length]``."""
        ends = [(i * length // side, -(-(i + 1) * length // side)) for i in range(side)]
        at = jnp.arange(length)
        rows = [jnp.where((at >= begin) & (at < end), 1 / (end - begin), 0) for begin, end in ends]
        return jnp.stack(rows).astype(x.dtype)

    return jnp.einsum("ir,jc,nrcz->nijz", means(x.shape[1]), means(x.shape[2]), x, precision="highest")


def on_each_side(transform: Callable[[Array], Array], images: Any) -> Any:
    """Transform images, or several sides of the same images, alike.

    Args:
      transform: of images ``[b, H, W, C]``, to images of the same shape.
      images: such, or a tuple of them whose first is the largest: of the others, each pixel is made a square of the
        largest's before, and squares' means are taken behind it.
    """
    largest, *smaller = jax.tree.leaves(images)

    def one(x: Array) -> Array:
        times = range((largest.shape[1] // x.shape[1]).bit_length() - 1)
        return pooled(transform(reduce(lambda x, _: doubled(x), times, x)), x.shape[1])

    found: Any = jax.tree.unflatten(jax.tree.structure(images), [transform(largest), *map(one, smaller)])
    return found


def blur(x: Array, padding: tuple[int, int], taps: Sequence[float] = TAPS) -> Array:
    """Filter without resampling.

    Args:
      x: ``[N, H, W, C]``.
      padding: rows (and columns) of zeros before and after it; (2, 2) before a 3x3 convolution of stride 2 without
        padding, with which it halves the sides.
      taps: of the filter.

    Returns:
      ``[N, H + before + after - len(taps) + 1, ..., C]``.
    """
    return _filtered(x, _normalized(taps, 1.0), padding)


def _normalized(taps: Sequence[float], total: float) -> tuple[float, ...]:
    return tuple(float(tap) * total / float(sum(taps)) for tap in taps)


def _offset(taps: int, padding: int) -> int:
    """Which pixel tap 0 meets in the first place, after so many zeros before."""
    return taps - 1 - padding


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _expanded(x: Array, phases: _Phases, margin: int) -> Array:
    """``[N, H, W, C] -> [N, 2 H + 2 margin, 2 W + 2 margin, C]``, the transpose of `_reduced`."""
    for axis in (1, 2):
        length = x.shape[axis] + margin
        both = [_summed([(x, [(w, -s) for w, p, s in phases if p == phase])], axis, length) for phase in (0, 1)]
        n, h, w, c = both[0].shape
        rows = [part.reshape(n, h, w * c) for part in both] if axis == 1 else both
        x = jnp.concatenate(rows, -1).reshape(n, h * (3 - axis), w * axis, c)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _reduced(x: Array, phases: _Phases, margin: int) -> Array:
    """``[N, 2 H + 2 margin, 2 W + 2 margin, C] -> [N, H, W, C]``."""
    for axis in (2, 1):
        n, h, w, c = x.shape
        pairs = x.reshape(n, h // 2, 2 * w * c) if axis == 1 else x.reshape(n, h, w // 2, 2 * c)
        both = [part.reshape(n, h * axis // 2, w // axis, c) for part in jnp.split(pairs, 2, -1)]
        sums = [(part, [(w, s) for w, p, s in phases if p == phase]) for phase, part in enumerate(held(both))]
        x = _summed(sums, axis, both[0].shape[axis] - margin)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _filtered(x: Array, weights: tuple[float, ...], padding: tuple[int, int]) -> Array:
    first = _offset(len(weights), padding[0])
    for axis in (1, 2):
        sums = [(x, [(w, first - j) for j, w in enumerate(weights)])]
        x = _summed(sums, axis, x.shape[axis] + sum(padding) - len(weights) + 1)
    return x


_expanded.defvjp(lambda x, *how: (_expanded(x, *how), None), lambda *args: (_reduced(args[3], *args[:2]),))
_reduced.defvjp(lambda x, *how: (_reduced(x, *how), None), lambda *args: (_expanded(args[3], *args[:2]),))
_filtered.defvjp(
    lambda x, *how: (_filtered(x, *how), None),
    lambda weights, padding, _, g: (_filtered(g, weights[::-1], tuple(len(weights) - 1 - p for p in padding)),),
)


def _summed(parts: list[tuple[Array, list[tuple[float, int]]]], axis: int, length: int) -> Array:
    """``out[h] = sum over parts and their (weight, shift) of weight · part[h + shift]`` along the axis, 0 outside."""
    shifts = [shift for _, taps in parts for _, shift in taps]
    before = max(0, -min(shifts))
    after = max(0, max(shifts) + length - parts[0][0].shape[axis])
    widths = [(before, after, 0) if i == axis else (0, 0, 0) for i in range(4)]
    terms = []
    for x, taps in parts:
        padded = held(lax.pad(x, jnp.zeros((), x.dtype), widths))
        for weight, shift in taps:
            start = before + shift
            terms.append(weight * lax.slice_in_dim(padded, start, start + length, axis=axis))
    return sum(terms[1:], terms[0])
