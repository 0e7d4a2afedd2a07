"""Six kinds of coloured shapes, drawn by a formula: RGB images with labels that need no file at all.

Image ``i`` shows shape ``i mod 6`` of `KINDS`. With u_k(i) uniform in [0, 1), a hash of (i, k), in a square of
coordinates -1 to 1 (x to the right, y down):

- its centre lies at (.5 u_0 - .25, .5 u_1 - .25), its radius r is .4 + .25 u_2, it is turned by (u_3 - .5) pi / 4;
- a pixel's share of it is ``clip(1/2 - d size / 2, 0, 1)``, with d the distance from the pixel's centre to the shape's
  edge, negative inside;
- its colour has hue u_4, saturation .6 + .4 u_5, value .7 + .3 u_6; the background hue u_7, saturation .4, value
  .1 + .2 u_8.
"""

from typing import Any

import numpy as np

from gan_jax.data.order import mix

KINDS = ("disc", "ring", "triangle", "square", "star", "cross")
_SLICE = 500  # images drawn at a time


def draw(size: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[stop - start, size, size, 3]`` number ``start`` to ``stop``, and their labels int32."""
    numbers = np.arange(start, stop)
    images = [_draw(size, numbers[i : i + _SLICE]) for i in range(0, len(numbers), _SLICE)]
    return np.concatenate(images), (numbers % len(KINDS)).astype(np.int32)


def _draw(size: int, numbers: np.ndarray) -> Any:
    u = _uniform(numbers, 9)[..., None, None]
    axis = (np.arange(size) * 2 + 1) / size - 1
    x, y = axis - (0.5 * u[0] - 0.25), axis[:, None] - (0.5 * u[1] - 0.25)
    turn = (u[3] - 0.5) * np.pi / 4
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    distance = np.empty((len(numbers), size, size))
    for kind, name in enumerate(KINDS):
        chosen = numbers % len(KINDS) == kind
        distance[chosen] = _DISTANCES[name](x[chosen], y[chosen], (0.4 + 0.25 * u[2])[chosen])
    share: np.ndarray = np.clip(0.5 - distance * size / 2, 0, 1)[..., None]
    shape = _rgb(u[4], 0.6 + 0.4 * u[5], 0.7 + 0.3 * u[6])
    background = _rgb(u[7], 0.4, 0.1 + 0.2 * u[8])
    return np.round(255 * (share * shape + (1 - share) * background)).astype(np.uint8)


def _uniform(numbers: np.ndarray, count: int) -> np.ndarray:
    """``[count, n]``: u_k of each image."""
    with np.errstate(over="ignore"):  # uint32 is meant to wrap
        k = np.arange(count, dtype=np.uint32)[:, None]
        hashed = mix(mix(numbers.astype(np.uint32)) + k * np.uint32(0x9E3779B9))
    uniform: np.ndarray = hashed / 2**32
    return uniform


def _polygon(x: np.ndarray, y: np.ndarray, r: np.ndarray, sides: int, apothem: float) -> Any:
    """Return a regular polygon with a corner on top; its sides lie ``apothem * r`` from its centre."""
    angles = -np.pi / 2 + np.pi / sides + 2 * np.pi * np.arange(sides) / sides
    return np.max([np.cos(a) * x + np.sin(a) * y for a in angles], axis=0) - apothem * r


def _star(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> Any:
    """Five points at radius 1.2 r, the corners between them at .48 r."""
    angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)  # from the nearest point
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    corner = 0.4 * np.cos(np.pi / 5), 0.4 * np.sin(np.pi / 5)  # of the points' radius
    normal = np.array([corner[1], 1 - corner[0]]) / np.hypot(corner[1], 1 - corner[0])
    return (along - 1.2 * r) * normal[0] + across * normal[1]


def _box(x: np.ndarray, y: np.ndarray, width: np.ndarray, height: np.ndarray) -> Any:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


_DISTANCES = {
    "disc": lambda x, y, r: np.hypot(x, y) - r,
    "ring": lambda x, y, r: np.abs(np.hypot(x, y) - 0.8 * r) - 0.25 * r,
    "triangle": lambda x, y, r: _polygon(x, y, r, 3, 0.6),
    "square": lambda x, y, r: _box(x, y, 0.85 * r, 0.85 * r),
    "star": _star,
    "cross": lambda x, y, r: np.minimum(_box(x, y, 1.1 * r, 0.35 * r), _box(x, y, 0.35 * r, 1.1 * r)),
}


def _rgb(hue: np.ndarray, saturation: np.ndarray | float, value: np.ndarray) -> np.ndarray:
    """``[n, 1, 1, 3]`` of hue, saturation and value in [0, 1]."""
    channels = []
    for n in (5, 3, 1):
        k = (n + hue * 6) % 6
        channels.append(value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1))
    return np.stack(channels, axis=-1)
