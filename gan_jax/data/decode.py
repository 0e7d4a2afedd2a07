"""One image of any kind -> uint8 ``[size, size, channels]``."""

import io
import warnings

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from gan_jax.data.options import Options

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")

# What Pillow only warns of (an image of 90 million pixels or more) is unreadable here.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class UnreadableImageError(Exception):
    """Bytes that are no image, or an image that can't be brought to the shape asked for. Its text says why."""


def decode(data: bytes, options: Options) -> np.ndarray:
    """A file's bytes -> uint8 ``[size, size, channels]``.

    Turned as its EXIF says; transparency, of RGBA, grey or palette images, shows ``options.background``; 16 bits become
    8; CMYK becomes RGB, and colour grey by ITU-R 601 if ``options.channels`` is 1. Animations are their first frame.

    Raises:
      UnreadableImageError: anything wrong with the bytes.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.load()
            return fit_image(ImageOps.exif_transpose(image), options)
    except UnreadableImageError:
        raise
    except Exception as error:  # of damaged bytes, Pillow's decoders raise anything
        reason = "not a PNG, JPEG, WebP or BMP image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise UnreadableImageError(reason or type(error).__name__) from error


def fit_array(image: np.ndarray, options: Options) -> np.ndarray:
    """uint8 ``[H, W]`` or ``[H, W, 1, 3 or 4]`` -> uint8 ``[size, size, channels]``.

    Raises:
      UnreadableImageError: its shape is another, and ``options.fit`` is none.
    """
    if image.shape == options.image_shape:
        return image
    return fit_image(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), options)


def fit_image(image: Image.Image, options: Options) -> np.ndarray:
    """Any image of Pillow's -> uint8 ``[size, size, channels]``, resized by its antialiased Lanczos filter.

    Raises:
      UnreadableImageError: its shape is another, and ``options.fit`` is none.
    """
    image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, ImageColor.getrgb(options.background))
        image = Image.alpha_composite(behind, image)
    image = image.convert({1: "L", 3: "RGB"}[options.channels])
    size = (options.image_size, options.image_size)
    if image.size != size:
        if options.fit == "none":
            raise UnreadableImageError(f"it is {image.width}x{image.height}, not {size[0]}x{size[1]}")
        if options.fit == "crop":
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(options.image_shape)


def _to_8_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):  # I;16 and its like; I where a release of Pillow has no better
        return image
    wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
