"""What networks of three channels and 8 bits see of images that have others."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from PIL import ImageColor

from gan_jax.core.pixels import Pixels
from gan_jax.data import Options

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Seen:
    """Images as networks of three channels see them; see `gan_jax.core.pixels.Pixels.seen`.

    Attributes:
      pixels: what the images' numbers are.
      background: that shows through transparent ones, RGB from 0 to 255.
      suffix: of names of features, which says so: ``:over-white``, ``:channels1-3``, ``:8bit``.
    """

    pixels: Pixels
    background: tuple[int, ...]
    suffix: str

    def __call__(self, images: Array) -> Array:
        """Return ``[n, H, W, 1 or 3]`` of ``[n, H, W, C]``: uint8 of whole numbers, else floats from 0 to 255."""
        found: Array = self.pixels.seen(images, self.background)
        return found


@dataclasses.dataclass(frozen=True)
class Through:
    """``apply(variables, seen(images), ...)``; two of the same are equal, and compile once."""

    apply: Callable[..., Any]
    seen: Seen

    def __call__(self, variables: Any, *images: Array) -> Any:
        """Return what ``apply`` makes of it."""
        return self.apply(variables, *map(self.seen, images))


def of(options: Options) -> Seen | None:
    """Return what is seen of images by ``options``; None of grey and RGB of 8 bits, which are seen as they are."""
    pixels, channels, suffix = options.pixels, options.channels, ""
    background = ImageColor.getrgb(options.background)[:3]
    if pixels.alpha != "none":
        named = options.background.lower()
        suffix = f":over-{named if named.isalpha() else bytes(background).hex()}"
    elif channels not in (1, 3):
        suffix = ":channels1,2,2" if channels == 2 else ":channels1-3"
    suffix += ":8bit" if pixels.bits == 16 else ""
    return Seen(pixels, background, suffix) if suffix else None


def through(apply: Callable[..., Any], seen: Seen | None) -> Callable[..., Any]:
    """Return ``apply`` of what is seen."""
    return Through(apply, seen) if seen else apply


def suffix(seen: Seen | None) -> str:
    """Return what stands behind the name of features."""
    return seen.suffix if seen else ""
