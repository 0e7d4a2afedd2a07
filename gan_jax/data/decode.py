"""One image of any kind -> uint8 ``[H, W, channels]``, of the height and width that are asked for."""

import importlib.util
import io
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from PIL import Image, ImageColor, UnidentifiedImageError, features

from gan_jax.data import metadata
from gan_jax.data.options import Options

KINDS = "PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # how files begin that need a package
_AVIF = (b"avif", b"avis")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow only warns of (an image of 90 million pixels or more) is unreadable here; metadata are nobody's matter.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


class UnreadableImageError(Exception):
    """Bytes that are no image, or an image that can't be brought to the shape asked for. Its text says why."""


def decode(data: bytes, options: Options) -> np.ndarray:
    """Return A file's bytes -> uint8 ``[H, W, channels]``.

    Turned as its EXIF says; transparency, of RGBA, grey or palette images, shows ``options.background``; 16 bits become
    8; CMYK becomes RGB, and colour grey by ITU-R 601 if ``options.channels`` is 1. Animations are their first frame,
    and files of several pages their first page.

    Raises:
      UnreadableImageError: anything wrong with the bytes.
    """
    try:
        bare, turn = metadata.split(data)
        with Image.open(io.BytesIO(bare), formats=_formats(bare)) as image:
            image.load()
            if image.format == "AVIF":  # Pillow writes down what the file's own turns come to
                turn = metadata.orientation(image.info.get("exif", b""))
            return fit_image(image.transpose(_TURNS[turn]) if turn in _TURNS else image, options)
    except UnreadableImageError:
        raise
    except Exception as error:  # of damaged bytes, Pillow's decoders raise anything
        reason = f"not a {KINDS} image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise UnreadableImageError(reason or type(error).__name__) from error


def decoders() -> list[str]:
    """Return what decodes, with versions: other ones may give other pixels, or read what was unreadable."""
    try:
        heif = version("pillow-heif")
    except PackageNotFoundError:
        heif = ""
    return [version("pillow"), str(features.check("avif")), heif]


def _formats(data: bytes) -> tuple[str, ...]:
    """Names of Pillow's formats that ``data`` may be of.

    Raises:
      UnreadableImageError: it is of a kind that nothing here can read.
    """
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    inside = data[8 : 8 + 4 * 16] if brand in (b"mif1", b"msf1") else brand  # these name theirs behind
    if any(name in inside for name in _AVIF):
        if not features.check("avif"):
            raise UnreadableImageError("AVIF needs Pillow 11.3 or newer: pip install -U pillow")
        return ("AVIF",)
    if brand in _HEIC:
        if not _heif():
            raise UnreadableImageError("HEIC needs the package pillow-heif: pip install -e '.[heic]'")
        return ("HEIF",)
    return _FORMATS


@cache
def _heif() -> bool:
    """Teach Pillow to read HEIC, if the package for it is installed; say whether."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def fit_array(image: np.ndarray, options: Options) -> np.ndarray:
    """uint8 ``[H, W]`` or ``[H, W, 1, 3 or 4]`` -> uint8 ``[H, W, channels]``.

    Raises:
      UnreadableImageError: its shape is another, and ``options.fit`` is none.
    """
    if image.shape == options.image_shape:
        return image
    return fit_image(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), options)


def fit_image(image: Image.Image, options: Options) -> np.ndarray:
    """Any image of Pillow's -> uint8 ``[H, W, channels]``, resized by its antialiased Lanczos filter.

    Raises:
      UnreadableImageError: its shape is another, and ``options.fit`` is none; or its pixels are fractions.
    """
    if image.mode == "F":  # nobody knows what their white is
        raise UnreadableImageError("its pixels are floating-point numbers: save it with 8 or 16 bits")
    image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, ImageColor.getrgb(options.background))
        image = Image.alpha_composite(behind, image)
    image = image.convert({1: "L", 3: "RGB"}[options.channels])
    height, width, _ = options.image_shape
    size = (width, height)
    if image.size != size:
        if options.fit == "none":
            raise UnreadableImageError(f"it is {image.height}x{image.width}, not {height}x{width}")
        if options.fit == "crop":
            image = _cropped(image, size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(options.image_shape)


def _cropped(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the largest centred part of the proportions of ``size``, (width, height), rounded to pixels."""
    width = min(image.width, max(1, round(image.height * size[0] / size[1])))
    height = min(image.height, max(1, round(image.width * size[1] / size[0])))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _to_8_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):  # I;16 and its like; I where a release of Pillow has no better
        return image
    wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
