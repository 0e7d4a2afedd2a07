"""The scales of images, whole numbers of 8 or 16 bits in files and data sets and [-1, 1] in networks; their channels.

`Pixels` says what the numbers of a run's images are, and how people, and networks of three channels, see them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

WHITE = 65535  # of 16 bits
_SQUARES = 8  # of the chequerboard along the shorter side
_DARK, _LIGHT = 102, 153  # its greys
_LUMPS = (1, 3)  # channels that are seen as they are: grey and RGB


def to_float(images: Any, dtype: Any) -> jax.Array:
    """Whole numbers, uint8 or uint16, -> [-1, 1]. Floats from 0 to 255 are taken as those of 8 bits."""
    images = jnp.asarray(images)
    half = WHITE / 2 if images.dtype == jnp.uint16 else 127.5
    scaled: jax.Array = images.astype(dtype) / half - 1
    return scaled


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What the numbers of images are.

    Attributes:
      bits: 8 (uint8) or 16 (uint16).
      alpha: what the fourth of four channels is to the colours before it: ``premultiplied`` (they are multiplied by
        it), ``straight`` (they are not) or ``none`` (it is a channel like others, or there aren't four).
      low, high: the greys of 16-bit images that are black and white.
    """

    bits: int = 8
    alpha: str = "none"
    low: int = 0
    high: int = WHITE

    @property
    def dtype(self) -> str:
        """Of images in memory."""
        return f"uint{self.bits}"

    @property
    def top(self) -> int:
        """White."""
        return WHITE if self.bits == 16 else 255

    def whole(self, images: Any) -> jax.Array:
        """[-1, 1] -> whole numbers of ``bits``, rounded; what lies outside is cut off."""
        scaled = (images.astype(jnp.float32) + 1) * (self.top / 2)
        return jnp.round(jnp.clip(scaled, 0, self.top)).astype(self.dtype)

    def windowed(self, greys: Any) -> Any:
        """Greys of 16-bit images, a NumPy array, -> whole numbers of ``bits``: black at ``low``, white at ``high``."""
        span = self.high - self.low
        inside = greys.astype("int64").clip(self.low, self.high) - self.low
        return ((2 * self.top * inside + span) // (2 * span)).astype(self.dtype)

    def greys(self, images: Any) -> Any:
        """Undo `windowed`, of 16 bits: uint16 as files of the data have them; 8 bits are returned as they are."""
        if self.bits == 8:
            return images
        span = self.high - self.low
        return (self.low + (2 * span * images.astype("int64") + WHITE) // (2 * WHITE)).astype(self.dtype)

    def own(self, images: Any) -> Any:
        """Return the user's NumPy array as images of the data are: uint16 through the window, others as they are."""
        return self.windowed(images) if images.dtype == "uint16" else images

    def seen(self, images: Any, background: Any) -> Any:
        """Return what three channels of 8 bits show of images ``[..., H, W, C]``.

        Transparent ones over ``background``, of others than grey and RGB the first three channels, of two the first and
        twice the second. Of whole numbers uint8; of floats from 0 to 255 floats, by which it can be differentiated.
        """
        images = jnp.asarray(images)
        if images.dtype == jnp.uint16:
            images = ((images.astype(jnp.uint32) + 128) // 257).astype(jnp.uint8)
        channels = images.shape[-1]
        if self.alpha != "none":
            return _over(images, self.alpha, background)
        return images if channels in _LUMPS else images[..., jnp.minimum(jnp.arange(3), channels - 1)]

    def shown(self, images: Any) -> Any:
        """Return images for people, a NumPy array uint8 ``[..., H, W, 1 or 3]``: see `seen`; over a chequerboard."""
        height, width, channels = images.shape[-3:]
        plain = channels in _LUMPS and images.dtype == "uint8"
        return jax.device_get(images if plain else self.seen(images, chequerboard(height, width)))

    def straight(self, images: Any) -> Any:
        """Return transparent images as PNGs have them, colours not multiplied by alpha; none where nothing shows."""
        if self.alpha != "premultiplied":
            return images
        wide = images.astype("int64")
        alpha = wide[..., 3:]
        colours = ((2 * self.top * wide[..., :3] + alpha) // (2 * alpha + 2 * (alpha == 0))).clip(0, self.top)
        out = images.copy()
        out[..., :3] = colours * (alpha > 0)
        return out


USUAL = Pixels()


def chequerboard(height: int, width: int) -> jax.Array:
    """Two greys ``[height, width, 1]``, from 0 to 255, in squares of an eighth of the shorter side, or nearly."""
    side = max(1, round(min(height, width) / _SQUARES))
    odd = (jnp.arange(height)[:, None] // side + jnp.arange(width) // side) % 2
    return jnp.where(odd, _DARK, _LIGHT)[..., None]


def _over(images: Any, alpha: str, background: Any) -> Any:
    """Return RGB of RGBA ``[..., 4]`` from 0 to 255 over ``background``, of the same type."""
    whole = jnp.issubdtype(images.dtype, jnp.integer)
    wide = images.astype(jnp.float32) if whole else images
    share = wide[..., 3:] / 255
    colours = wide[..., :3] * (share if alpha == "straight" else 1)
    found = jnp.clip(colours + (1 - share) * jnp.asarray(background), 0, 255)
    return jnp.round(found).astype(images.dtype) if whole else found
