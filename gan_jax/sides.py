"""Height and width of images, as configs and command lines have them.

A config has two whole numbers: ``data.image_size``, and ``data.image_width``, which is 0 where images are square. Where
overrides have the first as text, ``64x96`` (height x width), it stands for both.
"""

import re
from collections.abc import Mapping
from typing import Any

from gan_jax.util.errors import UserError, clipped

KEY, WIDTH = "data.image_size", "data.image_width"
_TEXT = re.compile(r"([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?", re.ASCII)


def read(text: str) -> tuple[int, int]:
    """Return height and width of ``64``, or of ``64x96``.

    Raises:
      UserError: it is neither.
    """
    if (found := _TEXT.fullmatch(text)) is None:
        raise UserError(
            f"{clipped(repr(text))} is no size of images: give a side in pixels, 64, or height x width, 64x96"
        )
    return int(found[1]), int(found[2] or found[1])


def keys_of(height: int, width: int) -> dict[str, int]:
    """Return both keys of a config, by their dotted names."""
    return {KEY: height, WIDTH: 0 if width == height else width}


def spread(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``overrides``, by dotted keys, with both keys where ``data.image_size`` is text.

    Raises:
      UserError: see `read`.
    """
    given = overrides.get(KEY)
    if not isinstance(given, str):
        return dict(overrides)
    return {key: value for key, value in overrides.items() if key != KEY} | keys_of(*read(given))


def of(data: Any) -> tuple[int, int]:
    """Return height and width of images by ``config.data``, or by what else has its keys."""
    return data.image_size, data.image_width or data.image_size


def shorter(data: Any) -> int:
    """Return the shorter side of images by ``config.data``: what networks and their numbers go by."""
    return min(of(data))


def named(data: Any) -> str:
    """Return height and width in words: ``64x96``."""
    height, width = of(data)
    return f"{height}x{width}"
