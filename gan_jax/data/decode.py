"""One image of any kind -> uint8 or uint16 ``[H, W, channels]``, of the height and width that are asked for.

Grey and RGB of 8 bits are Pillow's to resize; all others are resized channel by channel, as floats.
"""

import importlib.util
import io
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from PIL import Image, ImageColor, UnidentifiedImageError, features

from gan_jax.core.pixels import WHITE, Pixels
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

_FILTER = Image.Resampling.LANCZOS
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of pictures, by the number of channels
_NUMBERS = "1, 3 or 4"
_LUMA = np.array([0.299, 0.587, 0.114])  # of RGB: grey by ITU-R 601

# What Pillow only warns of (an image of 90 million pixels or more) is unreadable here; metadata are nobody's matter.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


class UnreadableImageError(Exception):
    """Bytes that are no image, or an image that can't be brought to the shape asked for. Its text says why."""


def decode(data: bytes, options: Options) -> np.ndarray:
    """Return A file's bytes -> ``[H, W, channels]``, uint8 or uint16 as ``options.bits`` says.

    Turned as its EXIF says; transparency, of RGBA, grey or palette images, shows ``options.background``, or is kept if
    ``options.channels`` is 4; 16 bits become 8, or 8 bits 16; CMYK becomes RGB, and colour grey by ITU-R 601 if
    ``options.channels`` is 1. Animations are their first frame, and files of several pages their first page.

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
    """uint8 or uint16 ``[H, W]`` or ``[H, W, C]`` -> ``[H, W, channels]``, uint8 or uint16 as ``options.bits`` says.

    With as many channels as are asked for they are taken as they are; else 1, 3 and 4 are grey, RGB and RGBA.

    Raises:
      UnreadableImageError: its shape is another, and ``options.fit`` is none.
    """
    if image.ndim == 2:
        image = image[..., None]
    pixels = options.pixels
    if image.shape == options.image_shape and image.dtype == pixels.dtype == "uint8":
        return image
    if image.dtype == "uint16":
        image = pixels.windowed(image)
    channels = image.shape[-1]
    if channels != options.channels and not {channels, options.channels} <= set(_MODES):
        raise UnreadableImageError(f"it has {channels} channels, not {options.channels}")
    if image.dtype == "uint8" and channels in _MODES and not channels == options.channels == 4:
        return fit_image(Image.fromarray(image[..., 0] if channels == 1 else image), options)
    if image.dtype != pixels.dtype:
        image = image.astype(np.uint16) * 257
    return _fitted(image if channels == options.channels else _with_channels(image, options), options)


def fit_image(image: Image.Image, options: Options) -> np.ndarray:
    """Any image of Pillow's -> ``[H, W, channels]``, resized by its antialiased Lanczos filter.

    Raises:
      UnreadableImageError: its shape is another, and ``options.fit`` is none; or its pixels are fractions.
    """
    if image.mode == "F":  # nobody knows what their white is
        raise UnreadableImageError("its pixels are floating-point numbers: save it with 8 or 16 bits")
    if options.channels not in _MODES:
        raise UnreadableImageError(f"a picture has {_NUMBERS} channels, not {options.channels}")
    pixels = options.pixels
    if image.mode.startswith("I"):  # I;16 and its like; I where a release of Pillow has no better
        greys = pixels.windowed(np.asarray(image))
        if pixels.bits == 16:
            return _fitted(_with_channels(greys[..., None], options), options)
        image = Image.fromarray(greys)
    if options.channels == 4:
        image = image.convert("RGBA")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, ImageColor.getrgb(options.background))
        image = Image.alpha_composite(behind, image)
    image = image.convert(_MODES[options.channels])
    if pixels.bits == 16 or options.channels == 4:
        array = np.asarray(image).reshape(image.height, image.width, options.channels)
        array = array if pixels.bits == 8 else array.astype(np.uint16) * 257
        return _fitted(_multiplied(array, pixels), options)
    height, width, _ = options.image_shape
    size = (width, height)
    if image.size != size:
        _check_size(image.size, options)
        if options.fit == "crop":
            image = image.crop(_centred(image.size, size))
        image = image.resize(size, _FILTER)
    return np.asarray(image).reshape(options.image_shape)


def _check_size(size: tuple[int, int], options: Options) -> None:
    if options.fit == "none":
        height, width, _ = options.image_shape
        raise UnreadableImageError(f"it is {size[1]}x{size[0]}, not {height}x{width}")


def _centred(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return where the largest centred part of the proportions of ``wanted``, (width, height), is, to whole pixels."""
    width = min(size[0], max(1, round(size[1] * wanted[0] / wanted[1])))
    height = min(size[1], max(1, round(size[0] * wanted[1] / wanted[0])))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _with_channels(image: np.ndarray, options: Options) -> np.ndarray:
    """Return ``[H, W, 1, 3 or 4]`` of 16 bits with the channels that are asked for; see `decode`."""
    wanted = options.channels
    if image.shape[-1] == 4:  # its alpha is lost, so something must show
        share = image[..., 3:] / WHITE
        behind = 257.0 * np.array(ImageColor.getrgb(options.background)[:3])
        image = np.rint(share * image[..., :3] + (1 - share) * behind).astype(np.uint16)
    if wanted == 1 and image.shape[-1] == 3:
        grey: np.ndarray = np.rint(image @ _LUMA)[..., None].astype(np.uint16)
        return grey
    image = np.repeat(image, 3, -1) if image.shape[-1] == 1 and wanted > 1 else image
    if wanted == 4:
        image = np.concatenate([image, np.full_like(image[..., :1], WHITE)], -1)
    return image


def _multiplied(image: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Return an image as PNGs have them in the form of alpha that is asked for."""
    if pixels.alpha != "premultiplied":
        return image
    wide = image.astype(np.int64)
    alpha = wide[..., 3:]
    colours = (wide[..., :3] * alpha + pixels.top // 2) // pixels.top
    return np.concatenate([colours, alpha], -1).astype(image.dtype)


def _fitted(image: np.ndarray, options: Options) -> np.ndarray:
    """``[H, W, channels]`` of the right type and form -> the height and width that are asked for."""
    height, width, channels = options.image_shape
    size, pixels = (image.shape[1], image.shape[0]), options.pixels
    if size == (width, height):
        return image
    _check_size(size, options)
    if options.fit == "crop":
        left, top, right, bottom = _centred(size, (width, height))
        image = image[top:bottom, left:right]
    wide = image.astype(np.float32)
    if pixels.alpha == "straight":  # so that hidden colours don't bleed into those that show
        wide[..., :3] *= wide[..., 3:] / pixels.top
    bands = [Image.fromarray(np.ascontiguousarray(wide[..., i])) for i in range(channels)]
    out = np.stack([np.asarray(band.resize((width, height), _FILTER)) for band in bands], -1)
    if pixels.alpha == "straight":
        out[..., :3] *= pixels.top / np.maximum(out[..., 3:], 0.5)
    if pixels.alpha == "premultiplied":  # as no colour is brighter than its alpha
        out[..., :3] = np.minimum(out[..., :3], out[..., 3:])
    whole: np.ndarray = np.rint(np.clip(out, 0, pixels.top)).astype(image.dtype)
    return whole
