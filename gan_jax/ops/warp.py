"""An image under an affine map, without aliasing: resampled on a grid twice as fine, between two low-pass filters.

As in ADA (Karras et al. 2020, arXiv:2006.06676, appendix B): the image is upsampled by the wavelet sym6, sampled
bilinearly, and downsampled by the same wavelet reversed. The wavelet is orthonormal, so that the identity, and moves by
whole pixels, leave an image as it is but for rounding.

Beyond its borders an image is reflected without end. Published is a reflection as wide as the transforms of the *batch*
ask for, and black beyond, so an image there depends on others. The grid has one period of the reflection, of which
places outside are folded into it; shapes are static.

Both filters are matrix products. Sampling is written out with its adjoint, as each other's derivative to any order: of
four gathers autodiff makes four scatters, which XLA:CPU runs in thrice the time of the one here.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

# Daubechies' least asymmetric wavelet with 6 vanishing moments. Its centre of mass lies at tap 5.1.
_SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466),
    *(0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578),
    *(0.0017677118642428036, -0.007800708325034148),
)
_CENTRE = 5  # the tap that lies on a pixel's place
_REACH = len(_SYM6) - 1 - _CENTRE  # taps after it
_EXACT = "highest"  # elsewhere than on CPUs products are rounded to 10 bits otherwise


def warp(image: Array, inverse: Array) -> Array:
    """Return what an affine map makes of an image.

    Args:
      image: ``[H, W, C]``, float32 or wider.
      inverse: ``[2, 3]``: leads from a place (x, y, 1) of the result to that of the image which is seen there, in
        pixels from the centre, x to the right and y down. It is taken as a constant: no gradient goes to it.

    Returns:
      ``[H, W, C]``.
    """
    height, width, _ = image.shape
    up_y, up_x = (jnp.asarray(_up(side), image.dtype) for side in (height, width))
    down_y, down_x = (jnp.asarray(_down(side), image.dtype) for side in (height, width))
    canvas = jnp.einsum("pr,qc,rcz->pqz", up_y, up_x, image, precision=_EXACT)
    fine = _sampled(canvas, _places((height, width), lax.stop_gradient(inverse).astype(image.dtype)))
    return jnp.einsum("ma,nb,abz->mnz", down_y, down_x, fine, precision=_EXACT)


def reflected(places: Array, side: int) -> Array:
    """Return, of ``places`` (whole numbers) on a line, which of ``side`` pixels is seen there, by reflection."""
    inside = places % max(2 * (side - 1), 1)
    return jnp.minimum(inside, max(2 * (side - 1), 1) - inside) if side > 1 else 0 * inside


def _period(side: int) -> int:
    """After how many fine places a reflected line repeats itself."""
    return max(4 * (side - 1), 2)


@cache
def _up(side: int) -> tuple[tuple[float, ...], ...]:
    """``[period, side]``: from pixels to a period of fine places, of which pixel i lies at 2 i."""
    gain, period = 2 / sum(_SYM6), max(2 * (side - 1), 1)
    rows = [[0.0] * side for _ in range(_period(side))]
    for place, row in enumerate(rows):
        for tap, value in enumerate(_SYM6):
            if (place - tap + _CENTRE) % 2 == 0:
                pixel = (place - tap + _CENTRE) // 2 % period
                row[min(pixel, period - pixel) if side > 1 else 0] += gain * value
    return tuple(map(tuple, rows))


@cache
def _down(side: int) -> tuple[tuple[float, ...], ...]:
    """``[side, fine]``: from the fine places that pixels see, from ``-_CENTRE`` on, to pixels."""
    rows = [[0.0] * (2 * (side - 1) + len(_SYM6)) for _ in range(side)]
    for pixel, row in enumerate(rows):
        row[2 * pixel : 2 * pixel + len(_SYM6)] = [value / sum(_SYM6) for value in _SYM6]
    return tuple(map(tuple, rows))


def _places(sides: tuple[int, int], inverse: Array) -> tuple[Array, Array, Array, Array]:
    """Where the fine places of the result lie on the canvas: the corner before (y, x), and the way beyond it (y, x).

    They are a matrix product, as XLA computes such once: sums it would compute where the corner is needed, and again,
    rounded otherwise, where the way is. Of a place near a whole number these would not belong together.
    """
    height, width = sides
    y, x = (jnp.arange(2 * (s - 1) + len(_SYM6), dtype=inverse.dtype) - _CENTRE - (s - 1) for s in sides)
    of_result = jnp.stack(jnp.broadcast_arrays(x, y[:, None], jnp.asarray(1, inverse.dtype)), -1)
    fine = inverse * jnp.asarray([1, 1, 2], inverse.dtype) + jnp.asarray([[0, 0, width - 1], [0, 0, height - 1]])
    at = jnp.matmul(of_result.reshape(-1, 3), fine.T.astype(inverse.dtype), precision=_EXACT)
    at_x, at_y = jnp.moveaxis(at.reshape(*of_result.shape[:2], 2), -1, 0)
    corner_y, corner_x = jnp.floor(at_y), jnp.floor(at_x)
    whole = (c.astype(jnp.int32) % _period(s) for c, s in zip((corner_y, corner_x), sides, strict=True))
    return *whole, at_y - corner_y, at_x - corner_x


@jax.custom_vjp
def _sampled(canvas: Array, places: tuple[Array, Array, Array, Array]) -> Array:
    """Bilinear: ``canvas`` ``[P, Q, C]``, periodic, at `_places` ``[h, w]`` -> ``[h, w, C]``."""
    period_y, period_x, channels = canvas.shape
    y, x, beyond_y, beyond_x = places
    next_y, next_x = (y + 1) % period_y, (x + 1) % period_x
    pixels = canvas.reshape(-1, channels)

    def seen(y: Array, x: Array, weight: Array) -> Array:
        return weight[..., None] * pixels.at[y * period_x + x].get(mode="promise_in_bounds")

    upper = seen(y, x, (1 - beyond_y) * (1 - beyond_x)) + seen(y, next_x, (1 - beyond_y) * beyond_x)
    return upper + seen(next_y, x, beyond_y * (1 - beyond_x)) + seen(next_y, next_x, beyond_y * beyond_x)


@jax.custom_vjp
def _spread(fine: Array, places: tuple[Array, Array, Array, Array], like: Array) -> Array:
    """Apply the adjoint of `_sampled`: ``[h, w, C]`` -> an array as ``like``, ``[P, Q, C]``."""
    period_y, period_x, channels = like.shape
    y, x, beyond_y, beyond_x = places
    next_y, next_x = (y + 1) % period_y, (x + 1) % period_x
    at = [y * period_x + x, y * period_x + next_x, next_y * period_x + x, next_y * period_x + next_x]
    weights = [(1 - beyond_y) * (1 - beyond_x), (1 - beyond_y) * beyond_x, beyond_y * (1 - beyond_x)]
    each = jnp.stack([*weights, beyond_y * beyond_x], -1)[..., None] * fine[..., None, :]
    flat = jnp.zeros_like(like).reshape(-1, channels)
    return flat.at[jnp.stack(at, -1)].add(each, mode="promise_in_bounds").reshape(like.shape)


def _sampled_forward(canvas: Array, places: tuple[Array, ...]) -> tuple[Array, tuple[tuple[Array, ...], Array]]:
    return _sampled(canvas, places), (places, jnp.zeros_like(canvas))


def _sampled_backward(kept: tuple[tuple[Array, ...], Array], gradient: Array) -> tuple[Array, None]:
    return _spread(gradient, *kept), None


def _spread_forward(fine: Array, places: tuple[Array, ...], like: Array) -> tuple[Array, tuple[Array, ...]]:
    return _spread(fine, places, like), places


def _spread_backward(places: tuple[Array, ...], gradient: Array) -> tuple[Array, None, None]:
    return _sampled(gradient, places), None, None


_sampled.defvjp(_sampled_forward, _sampled_backward)
_spread.defvjp(_spread_forward, _spread_backward)
