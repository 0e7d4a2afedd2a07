"""ADA's augmentations (Karras et al. 2020, arXiv:2006.06676, appendix B): each transform by a chance of its own.

`draw` says what becomes of an image, by its key; `transformed` does it. Both are of one image ``[H, W, C]`` in [-1, 1],
which is not clipped afterwards. The transforms, in the order in which they are made:

===========  ===========================================================================================================
blit         ``flip`` (mirrored by an even chance), ``rotate90`` (0 to 3 quarter turns), ``shift`` (each axis by
             U(-1/8, 1/8) of its side, rounded)
geom         ``scale`` (by 2^N(.2)), ``rotate`` (by U(-pi, pi), here or after ``aspect``), ``aspect`` (x by s, y by 1/s,
             s = 2^N(.2)), ``rotate`` once more, ``fraction`` (each axis by N(1/8) of its side)
color        ``brightness`` (+ N(.2)), ``contrast`` (times 2^N(.5)), ``luma`` (grey mirrored about 0 by an even chance),
             ``hue`` (turned about grey by U(-pi, pi)), ``saturation`` (times 2^N(1))
filter       four bands of frequencies, each with a gain of 2^N(1) by a chance of its own
noise        N(s) on every number, s = abs(N(.1))
cutout       a square of half the side, its centre anywhere in the image, becomes 0
===========  ===========================================================================================================

N(s) is normal with standard deviation s. The chance of a transform is p times the number of its group. The first two
groups are one resampling of the image, `gan_jax.ops.warp`; color is one affine map of a pixel's channels. A piece
whose draws all happen to change nothing leaves the image as it is, to the bit.

Grey is the mean of a pixel's channels. So grey images have no saturation, and `hue` is of three channels alone. Where
a fourth is alpha, color leaves it as it is.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan_jax.core.augment import of_colours
from gan_jax.ops.warp import reflected, warp

Array = jax.Array

GROUPS: dict[str, tuple[str, ...]] = {
    "blit": ("flip", "rotate90", "shift"),
    "geom": ("scale", "rotate", "aspect", "fraction"),
    "color": ("brightness", "contrast", "luma", "hue", "saturation"),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
_MOVE = 0.125  # of a side
_CUT = 0.5  # of a side
_ZOOM, _BRIGHTNESS, _CONTRAST, _SATURATION, _GAIN, _NOISE = 0.2, 0.2, 0.5, 1.0, 1.0, 0.1  # standard deviations
_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of a natural image's bands, as expected
# Daubechies' least asymmetric wavelet with 2 vanishing moments, whose bands `filter` amplifies.
_SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)


class Draws(NamedTuple):
    """What becomes of one image; the defaults change nothing.

    Attributes:
      mirrored: left for right.
      quarters: quarter turns.
      shift, fraction: moves, (x, y) in pixels.
      scale, aspect: factors; x is multiplied by the aspect, y divided.
      before, after: angles, of the turns before and after ``aspect``.
      brightness, contrast, saturation: added; factors.
      negative: grey mirrored about 0.
      hue: an angle.
      gains: of the four bands.
      noise: standard deviation.
      cut: whether a square is cut out.
      centre: of it, (x, y) from 0 to 1.
    """

    mirrored: Any = False
    quarters: Any = 0
    shift: Any = (0.0, 0.0)
    scale: Any = 1.0
    before: Any = 0.0
    aspect: Any = 1.0
    after: Any = 0.0
    fraction: Any = (0.0, 0.0)
    brightness: Any = 0.0
    contrast: Any = 1.0
    negative: Any = False
    hue: Any = 0.0
    saturation: Any = 1.0
    gains: Any = (1.0, 1.0, 1.0, 1.0)
    noise: Any = 0.0
    cut: Any = False
    centre: Any = (0.5, 0.5)


def draw(key: Array, chances: Mapping[str, Array | float], image: Array) -> Draws:
    """Draw what becomes of ``image``.

    Args:
      key: of the image. No transform's draw depends on the chances of others.
      chances: from 0 to 1, by the names of `GROUPS`; what isn't named doesn't happen.
      image: of which the shape and the type count.
    """
    height, width, _ = image.shape
    dtype = jnp.promote_types(image.dtype, jnp.float32)
    sides = jnp.asarray([width, height], dtype)
    chance, normal = jax.random.split(key)
    uniform = iter(jax.random.uniform(chance, (29,), dtype))
    gauss = iter(jax.random.normal(normal, (12,), dtype))

    def happens(name: str) -> Array:
        return jnp.asarray(next(uniform) < chances.get(name, 0.0))

    def turned(name: str) -> Array:
        """One of two turns: either happens with the whole chance."""
        one = 1 - jnp.sqrt(1 - jnp.asarray(chances.get(name, 0.0), dtype))
        return jnp.where(next(uniform) < one, (2 * next(uniform) - 1) * math.pi, 0)

    def power(name: str, deviation: float) -> Array:
        return jnp.where(happens(name), jnp.exp2(deviation * next(gauss)), 1)

    def band(number: int) -> Array:
        gain = power("filter", _GAIN)
        gains = jnp.where(jnp.arange(4) == number, gain, 1)
        return jnp.where(gain == 1, 1, gains / jnp.sqrt((jnp.asarray(_POWER, dtype) * gains**2).sum()))

    def pair(of: Any) -> Array:
        return jnp.stack([next(of), next(of)])

    return Draws(
        mirrored=happens("flip") & (next(uniform) < 0.5),
        quarters=jnp.where(happens("rotate90"), jnp.floor(4 * next(uniform)), 0).astype(jnp.int32),
        shift=jnp.where(happens("shift"), jnp.round((2 * pair(uniform) - 1) * _MOVE * sides), 0),
        scale=power("scale", _ZOOM),
        before=turned("rotate"),
        aspect=power("aspect", _ZOOM),
        after=turned("rotate"),
        fraction=jnp.where(happens("fraction"), pair(gauss) * _MOVE * sides, 0),
        brightness=jnp.where(happens("brightness"), _BRIGHTNESS * next(gauss), 0),
        contrast=power("contrast", _CONTRAST),
        negative=happens("luma") & (next(uniform) < 0.5),
        hue=jnp.where(happens("hue"), (2 * next(uniform) - 1) * math.pi, 0),
        saturation=power("saturation", _SATURATION),
        gains=band(0) * band(1) * band(2) * band(3),
        noise=jnp.where(happens("noise"), jnp.abs(_NOISE * next(gauss)), 0),
        cut=happens("cutout"),
        centre=pair(uniform),
    )


def transformed(
    image: Array, draws: Draws, key: Array, transforms: Collection[str] | None = None, alpha: str = "none"
) -> Array:
    """Return ``image`` ``[H, W, C]`` as ``draws`` say.

    Args:
      image: any number of channels.
      draws: of `draw`.
      key: of the noise.
      transforms: those that may happen; what only others need isn't computed. None: all.
      alpha: what the last of four channels is, see `gan_jax.core.augment.of_colours`.
    """
    may = {group: transforms is None or any(name in transforms for name in names) for group, names in GROUPS.items()}
    wide = image.astype(jnp.promote_types(image.dtype, jnp.float32))
    if may["blit"] or may["geom"]:
        wide = _if(_moves(draws), warp(wide, inverse(draws, wide.dtype)), wide)
    if may["color"]:
        changed = of_colours(wide, alpha, lambda colours, *share: coloured(colours, draws, *share))
        wide = _if(_colours(draws), changed, wide)
    if may["filter"]:
        gains = jnp.asarray(draws.gains, wide.dtype)
        wide = _if((gains != 1).any(), filtered(wide, gains), wide)
    if may["noise"]:
        noisy = wide + draws.noise * jax.random.normal(key, wide.shape, wide.dtype)
        wide = _if(jnp.asarray(draws.noise != 0), noisy, wide)
    if may["cutout"]:
        wide = _if(jnp.asarray(draws.cut), _cut(wide, draws), wide)
    return wide.astype(image.dtype)


def _if(changes: Array, changed: Array, image: Array) -> Array:
    return jnp.where(changes, changed, image)


def _moves(draws: Draws) -> Array:
    """Whether an image is resampled."""
    moved = (jnp.asarray(draws.shift) != 0).any() | (jnp.asarray(draws.fraction) != 0).any()
    turned = (jnp.asarray(draws.quarters) != 0) | (draws.before != 0) | (draws.after != 0)
    found: Array = moved | turned | jnp.asarray(draws.mirrored) | (draws.scale != 1) | (draws.aspect != 1)
    return found


def inverse(draws: Draws, dtype: Any) -> Array:
    """Return the matrix ``[2, 3]`` that leads from a place of the result to one of the image.

    Places are (x, y, 1) in pixels, x to the right, y down, from the centre. Each transform's own inverse is multiplied
    on the right.
    """
    quarters = jnp.asarray(draws.quarters) % 4
    cosines, sines = jnp.asarray([1, 0, -1, 0], dtype), jnp.asarray([0, 1, 0, -1], dtype)
    steps = [
        _stretch(jnp.where(draws.mirrored, -1, 1), 1, dtype),
        _turn(cosines[quarters], sines[quarters], dtype),
        _move(draws.shift, dtype),
        _stretch(1 / draws.scale, 1 / draws.scale, dtype),
        _turn(jnp.cos(draws.before), jnp.sin(draws.before), dtype),
        _stretch(1 / draws.aspect, draws.aspect, dtype),
        _turn(jnp.cos(draws.after), jnp.sin(draws.after), dtype),
        _move(draws.fraction, dtype),
    ]
    found = jnp.eye(3, dtype=dtype)
    for step in steps:
        found = jnp.matmul(found, step, precision="highest")
    return found[:2]


def _matrix(rows: Sequence[Sequence[Any]], dtype: Any) -> Array:
    return jnp.stack([jnp.stack([jnp.asarray(x, dtype) for x in row]) for row in rows])


def _stretch(x: Any, y: Any, dtype: Any) -> Array:
    return _matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]], dtype)


def _turn(cosine: Array, sine: Array, dtype: Any) -> Array:
    """Return the inverse of a turn from x towards y."""
    return _matrix([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]], dtype)


def _move(by: Any, dtype: Any) -> Array:
    """Return the inverse of a move."""
    return _matrix([[1, 0, -by[0]], [0, 1, -by[1]], [0, 0, 1]], dtype)


def _colours(draws: Draws) -> Array:
    changed = (draws.brightness != 0) | (draws.contrast != 1) | (draws.hue != 0) | (draws.saturation != 1)
    return jnp.asarray(changed) | jnp.asarray(draws.negative)


def coloured(image: Array, draws: Draws, share: Array | float = 1.0) -> Array:
    """Return ``image`` with other colours; they are multiplied by their ``share``, of transparent images their alpha.

    Brightness and the luma flip act on grey alone, hue and saturation on what a pixel is beside its grey, contrast on
    both. So the five affine maps, in their order, are one of each part.
    """
    channels = image.shape[-1]
    sign = jnp.where(draws.negative, -1, 1)
    grey = image.mean(-1, keepdims=True)
    result: Array = draws.contrast * sign * (grey + draws.brightness * share)
    if channels == 1:
        return result.astype(image.dtype)
    colour = image - grey
    if channels == 3:  # v x colour, v the unit vector along grey
        across = (jnp.roll(colour, 1, -1) - jnp.roll(colour, -1, -1)) / math.sqrt(3)
        colour = jnp.cos(draws.hue) * colour + jnp.sin(draws.hue) * across
    result += draws.contrast * draws.saturation * colour
    return result.astype(image.dtype)


def filtered(image: Array, gains: Array) -> Array:
    """Return ``image``, reflected at its borders, with its four bands amplified by ``gains`` ``[4]``."""
    taps = jnp.matmul(gains, jnp.asarray(bank(), image.dtype), precision="highest")
    reach = len(bank()[0]) // 2

    def along(side: int) -> Array:
        """``[side, side]``: the filter along an axis as a matrix."""
        places = jnp.arange(side)[:, None] + jnp.arange(-reach, reach + 1)
        at = jax.nn.one_hot(reflected(places, side), side, dtype=image.dtype)
        return jnp.einsum("k,ikj->ij", taps, at, precision="highest")

    rows, columns = along(image.shape[0]), along(image.shape[1])
    return jnp.einsum("ir,jc,rcz->ijz", rows, columns, image, precision="highest")


@cache
def bank() -> tuple[tuple[float, ...], ...]:
    """Return the four bands' filters, 43 taps each, from the lowest frequencies up; their sum leaves all as it is.

    With z the delay, L(z) = S(z) S(1/z) / 2 and H(z) = S(-z) S(-1/z) / 2, S being sym2: L + H = 1. Three times the
    bands so far are stretched to half their frequencies and low-passed by L, and H becomes the next band.
    """
    low = [value / 2 for value in _convolved(_SYM2, _SYM2[::-1])]
    odd = [value * (-1) ** n for n, value in enumerate(_SYM2)]
    high = [value / 2 for value in _convolved(odd, odd[::-1])]
    rows: list[list[float]] = [[1.0], [0.0], [0.0], [0.0]]
    for level in (1, 2, 3):
        rows = [_convolved([tap for x in row for tap in (x, 0.0)][:-1], low) for row in rows]
        begin = (len(rows[0]) - len(high)) // 2
        rows[level] = [
            x + (high[n - begin] if begin <= n < begin + len(high) else 0) for n, x in enumerate(rows[level])
        ]
    return tuple(map(tuple, rows))


def _convolved(a: Sequence[float], b: Sequence[float]) -> list[float]:
    out = [0.0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] += x * y
    return out


def _cut(image: Array, draws: Draws) -> Array:
    height, width, _ = image.shape
    inside = [
        jnp.abs((jnp.arange(side, dtype=image.dtype) + 0.5) / side - draws.centre[axis]) < _CUT / 2
        for axis, side in ((1, height), (0, width))
    ]
    return jnp.where((inside[0][:, None] & inside[1])[..., None], 0, image)


@dataclasses.dataclass(frozen=True)
class Ada:
    """The augmentation ``ada`` of `gan_jax.core.augment`.

    Attributes:
      transforms: that may happen, by the names of `GROUPS`.
      alpha: as of `transformed`.
    """

    transforms: tuple[str, ...]
    alpha: str = "none"

    def apply(self, image: Array, key: Array, numbers: Mapping[str, Any]) -> Array:
        """Return the image ``[H, W, C]``, transformed by ``numbers``: ``p``, and by ``ada`` a factor of it a group."""
        draws, own = draw(key, self.chances(numbers), image), jax.random.fold_in(key, 2)
        return transformed(image, draws, own, self.transforms, self.alpha)

    def chances(self, numbers: Mapping[str, Any]) -> dict[str, Array]:
        """Return the chance of each transform."""
        return {
            name: jnp.clip(numbers["p"] * numbers["ada"][group], 0, 1)
            for group, names in GROUPS.items()
            for name in names
            if name in self.transforms
        }
