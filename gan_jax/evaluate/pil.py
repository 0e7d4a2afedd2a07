"""Resizing as Pillow does, on the device: where images shrink, by a filter that is as wide as a new pixel."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Filter(NamedTuple):
    """What a new pixel takes of old ones.

    Attributes:
      kernel: of the distance.
      support: pixels to each side that it sees.
    """

    kernel: Callable[[np.ndarray], np.ndarray]
    support: float


BICUBIC = Filter(lambda x: cubic(x, -0.5), 2.0)
BILINEAR = Filter(lambda x: np.maximum(1 - np.abs(x), 0), 1.0)


def resize(images: Array, side: int) -> Array:
    """Floats ``[B, H, W, C]`` -> ``[B, side, side, C]``, as Pillow resizes each channel of mode 'F', bicubic."""
    return _columns(_rows(images, side, BICUBIC), side, BICUBIC)


def resize_uint8(images: Array, sides: tuple[int, int], by: Filter = BICUBIC) -> Array:
    """Floats ``[B, H, W, C]`` that are whole, 0 to 255, to ``sides`` (height, width), as Pillow resizes those: whole
    after each of two passes, rows first. (Pillow 13 takes columns first of some images that aren't square.)"""
    height, width = sides
    return _whole(_columns(_whole(_rows(images, width, by)), height, by))


def shorter(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the sides to which torchvision's ``Resize(side)`` brings an image: the shorter one is ``side``."""
    least = min(height, width)
    return side * height // least, side * width // least


def _rows(images: Array, side: int, by: Filter) -> Array:
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("bhwc,xw->bhxc", images, weights(images.shape[2], side, by), precision=exact)


def _columns(images: Array, side: int, by: Filter) -> Array:
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("bhxc,yh->byxc", images, weights(images.shape[1], side, by), precision=exact)


def _whole(x: Array) -> Array:
    return jnp.clip(jnp.floor(x + 0.5), 0, 255)


def weights(size: int, side: int, by: Filter = BICUBIC) -> np.ndarray:
    """Return what each of ``side`` new pixels takes of ``size`` old ones: float32 ``[side, size]``, rows of sum 1."""
    scale = size / side
    wide = max(scale, 1.0)
    centre = (np.arange(side) + 0.5) * scale
    low = np.maximum((centre - by.support * wide + 0.5).astype(int), 0)
    high = np.minimum((centre + by.support * wide + 0.5).astype(int), size)
    pixels = np.arange(size)
    seen = (pixels >= low[:, None]) & (pixels < high[:, None])
    found = np.where(seen, by.kernel((pixels + 0.5 - centre[:, None]) / wide), 0)
    matrix: np.ndarray = (found / found.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Return the kernel of Keys 1981 (eq. 4): 1 at 0, 0 at other whole numbers and from 2 on."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
