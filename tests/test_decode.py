"""Any image file becomes uint8 of one shape."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax.data.decode import UnreadableImageError, decode, fit_array
from gan_jax.data.options import Options
from tests.conftest import data_options


def options(size: int = 4, channels: int = 3, **others: Any) -> Options:
    return data_options(image_size=size, channels=channels, **others)


def saved(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_pixels_of_lossless_files_are_left_alone(kind: str) -> None:
    pixels = noise(4, 4, 3)
    data = saved(Image.fromarray(pixels), kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(decode(data, options()), pixels)


def test_jpeg_is_read_up_to_its_loss() -> None:
    pixels = np.tile(np.linspace(0, 255, 16).astype(np.uint8)[:, None, None], (1, 16, 3))
    data = saved(Image.fromarray(pixels), "JPEG", quality=95)
    np.testing.assert_allclose(decode(data, options(16)).astype(int), pixels, atol=6)


def test_grey_becomes_rgb_and_rgb_grey_by_itu_601() -> None:
    grey = noise(4, 4)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(grey)), options()), np.repeat(grey[..., None], 3, -1))
    rgb = noise(4, 4, 3)
    out = decode(saved(Image.fromarray(rgb)), options(channels=1))
    assert out.shape == (4, 4, 1)
    np.testing.assert_allclose(out[..., 0], rgb @ [0.299, 0.587, 0.114], atol=1)


def test_transparency_shows_the_background() -> None:
    rgba = noise(4, 4, 4)
    alpha = rgba[..., 3:] / 255
    for background, rgb in (("white", (255, 255, 255)), ("#204060", (32, 64, 96))):
        out = decode(saved(Image.fromarray(rgba)), options(background=background))
        np.testing.assert_allclose(out, alpha * rgba[..., :3] + (1 - alpha) * rgb, atol=1)
    grey = noise(4, 4, 2)  # grey and alpha
    out = decode(saved(_la(grey)), options(channels=1))
    alpha = grey[..., 1:] / 255
    np.testing.assert_allclose(out, alpha * grey[..., :1] + (1 - alpha) * 255, atol=1)


def _la(pixels: np.ndarray) -> Image.Image:
    bands = [Image.fromarray(np.ascontiguousarray(pixels[..., i])) for i in range(2)]
    return Image.merge("LA", bands)


def test_palettes_are_looked_up_transparent_entries_included() -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8)).convert("P")
    image.frombytes(bytes([0, 1, 2, 3]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    expected = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]])
    np.testing.assert_array_equal(decode(saved(image), options(2)), expected)
    expected[0, 1] = 255  # the second entry is transparent now, and the background white
    np.testing.assert_array_equal(decode(saved(image, transparency=1), options(2)), expected)
    expected[0, 0] = 0.5 * expected[0, 0] + 0.5 * 255
    out = decode(saved(image, transparency=bytes([128, 0, 255, 255])), options(2))
    np.testing.assert_allclose(out, expected, atol=2)


def test_sixteen_bits_become_eight() -> None:
    wide = np.array([[0, 128, 129], [257, 32896, 65535], [40000, 65406, 65407]], np.uint16)
    out = decode(saved(Image.fromarray(wide)), options(3, 1))
    np.testing.assert_array_equal(out[..., 0], np.floor(wide / 257 + 0.5))


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    out = decode(saved(cmyk, "JPEG", quality=100), options())
    np.testing.assert_allclose(out[0, 0].astype(int), (0, 255, 255), atol=3)


def test_the_first_picture_of_a_phones_jpeg_with_two_is_taken() -> None:
    one, two = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    data = saved(one, "MPO", save_all=True, append_images=[two])
    np.testing.assert_allclose(decode(data, options(8))[0, 0].astype(int), (255, 0, 0), atol=3)


def test_images_are_turned_as_their_exif_says() -> None:
    pixels = noise(4, 4, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    out = decode(saved(Image.fromarray(pixels), exif=exif), options())
    np.testing.assert_array_equal(out, np.rot90(pixels, -1))


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(decode(data, options())[0, 0], (255, 0, 0))


def test_crop_takes_the_centred_square_and_resize_all() -> None:
    pixels = noise(8, 16, 3)
    data = saved(Image.fromarray(pixels))
    square = Image.fromarray(pixels[:, 4:12])
    np.testing.assert_array_equal(decode(data, options(8)), pixels[:, 4:12])
    lanczos = Image.Resampling.LANCZOS
    np.testing.assert_array_equal(decode(data, options(4)), np.asarray(square.resize((4, 4), lanczos)))
    squeezed = np.asarray(Image.fromarray(pixels).resize((4, 4), lanczos))
    np.testing.assert_array_equal(decode(data, options(4, fit="resize")), squeezed)
    with pytest.raises(UnreadableImageError, match="it is 16x8, not 4x4"):
        decode(data, options(4, fit="none"))


def test_making_small_doesnt_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    out = decode(saved(Image.fromarray(stripes)), options(8, 1))
    assert 120 <= out.min() <= out.max() <= 135


def test_arrays_are_brought_to_shape_like_files() -> None:
    for pixels in (noise(6, 8), noise(6, 8, 1), noise(6, 8, 3), noise(6, 8, 4)):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        np.testing.assert_array_equal(fit_array(pixels, options()), decode(saved(image), options()))
    same = noise(4, 4, 3)
    assert fit_array(same, options()) is same


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 50,000 x 50,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


GOOD = saved(Image.fromarray(noise(32, 32, 3)))
BAD = {
    "empty": b"",
    "text": b"<html>not found</html>",
    "cut short": GOOD[: len(GOOD) // 2],
    "a wrong checksum": GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:],
    "a bomb": bomb(),
    "a GIF": saved(Image.new("L", (4, 4)), "GIF"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_image_says_so(kind: str) -> None:
    with pytest.raises(UnreadableImageError, match=r"."):
        decode(BAD[kind], options())
