"""Any image file becomes uint8 of one shape."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import decode as decoding
from gan_jax.data.decode import UnreadableImageError, decode, fit_array
from gan_jax.data.options import Options
from tests.helpers import data_options


def options(size: int = 4, channels: int = 3, **others: Any) -> Options:
    return data_options(image_size=size, channels=channels, **others)


def saved(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# How to save without loss, and with EXIF.
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "GIF": {},
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_of_lossless_files_are_left_alone(kind: str) -> None:
    pixels = noise(4, 4, 3)
    data = saved(Image.fromarray(pixels), kind, **LOSSLESS[kind])
    np.testing.assert_allclose(decode(data, options()).astype(int), pixels, atol=2 if kind == "AVIF" else 0)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4"])
def test_scanned_pages_are_their_first_whatever_packs_them(compression: str) -> None:
    pages = [Image.fromarray(noise(8, 8) + grey) for grey in (0, 100)]
    pages = [page.convert("1") for page in pages] if compression == "group4" else pages
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression)
    np.testing.assert_array_equal(decode(data, options(8, 1))[..., 0], np.asarray(pages[0].convert("L")))
    wide = noise(8, 8).astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(saved(Image.fromarray(wide), "TIFF"), options(8, 1))[..., 0], wide // 257)


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


# EXIF's orientations: what is done to the pixels to show them upright (CIPA DC-008, 4.6.5, Orientation).
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


def exif_of(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    exif[0x010F] = "somebody"
    return exif


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "JPEG", "TIFF", "tiff_lzw"])
def test_images_are_turned_as_their_exif_says(kind: str, turn: int) -> None:
    pixels = np.kron(noise(2, 2, 3), np.ones((8, 8, 1), np.uint8))
    how = LOSSLESS.get(kind, {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"compression": kind})
    data = saved(Image.fromarray(pixels), "TIFF" if kind == "tiff_lzw" else kind, exif=exif_of(turn), **how)
    loss = 4 if kind in ("JPEG", "AVIF") else 0
    np.testing.assert_allclose(decode(data, options(16)).astype(int), TURNS[turn](pixels), atol=loss)


def test_orientations_are_read_wherever_programs_write_them() -> None:
    pixels = noise(4, 4, 3)
    plain = saved(Image.fromarray(pixels))
    block = exif_of(6).tobytes()
    hexadecimal = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    xmp = b'<x xmlns="http://ns.adobe.com/"><y tiff:Orientation="6"/></x>'
    for kind, content in {
        b"eXIf": block.removeprefix(b"Exif\0\0"),
        b"tEXt": b"Raw profile type exif\0" + hexadecimal,
        b"zTXt": b"Raw profile type exif\0\0" + zlib.compress(hexadecimal),
        b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0" + xmp,
    }.items():
        data = plain[:33] + chunk(kind, content) + plain[33:]
        np.testing.assert_array_equal(decode(data, options()), np.rot90(pixels, -1), kind.decode())
    jpeg = saved(Image.fromarray(np.kron(noise(2, 2, 3), np.ones((8, 8, 1), np.uint8))), "JPEG", xmp=xmp)
    assert (
        decode(jpeg, options(16)).tobytes()
        == np.rot90(decode(jpeg.replace(b"tiff:", b"tyff:"), options(16)), -1).tobytes()
    )


@pytest.mark.parametrize(("kind", "count"), [("PNG", 500), ("JPEG", 500), ("WEBP", 500), ("TIFF", 100), ("AVIF", 100)])
def test_no_exif_loses_a_picture(kind: str, count: int) -> None:
    """Blocks with a few changed bytes, and what isn't one."""
    pixels = np.kron(noise(2, 2, 3), np.ones((8, 8, 1), np.uint8))
    rng, block = np.random.default_rng(0), exif_of(1).tobytes()
    data = saved(Image.fromarray(pixels), kind, exif=block, **LOSSLESS.get(kind, {"quality": 100, "subsampling": 0}))
    upright = decode(data, options(16)).astype(int)
    turned = [turn(upright) for turn in TURNS.values()]
    if kind == "TIFF":  # the type, count and place of the maker's name
        at, size = data.index(struct.pack("<HHI", 271, 2, 9)) + 2, 10
    else:
        (at,) = (found.start() for found in re.finditer(rb"II\*\0|MM\0\*", data))
        size = 8 + 2 + 12 + 4 + 9
    for number in range(count):
        changed = bytearray(data)
        if number == 0 and kind != "TIFF":
            changed[at : at + 8] = b"nonsense"
        for place in rng.integers(0, size, rng.integers(1, 6)):
            changed[at + place] = rng.integers(0, 256)
        out = decode(bytes(changed), options(16)).astype(int)
        assert any(np.array_equal(out, one) for one in turned)


def test_metadata_of_any_kind_lose_no_picture() -> None:
    pixels, rng = noise(4, 4, 3), np.random.default_rng(0)
    plain = saved(Image.fromarray(pixels))
    for kind in (b"iCCP", b"pHYs", b"gAMA", b"cHRM", b"tIME", b"iTXt", b"zTXt", b"tEXt", b"acTL", b"fcTL", b"bKGD"):
        for content in (b"", b"nonsense", rng.bytes(300), bytes(2_000_000)):
            data = plain[:33] + chunk(kind, content) + plain[33:]
            np.testing.assert_array_equal(decode(data, options()), pixels)
    jpeg = saved(Image.fromarray(pixels), "JPEG")
    for marker in (*range(0xE1, 0xEE), 0xFE):
        for content in (
            b"",
            b"MPF\0nonsense",
            b"ICC_PROFILE\0nonsense",
            b"Photoshop 3.0\0" + rng.bytes(99),
            rng.bytes(9),
        ):
            segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content
            np.testing.assert_array_equal(decode(jpeg[:2] + segment + jpeg[2:], options()), decode(jpeg, options()))


def test_heic_is_read_where_its_package_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="not installed: pip install -e '.[heic]'")
    pillow_heif.register_heif_opener()
    pixels = np.kron(noise(2, 2, 3), np.ones((32, 32, 1), np.uint8))
    for turn, upright in TURNS.items():
        data = saved(Image.fromarray(pixels), "HEIF", quality=95, exif=exif_of(turn).tobytes())
        np.testing.assert_allclose(decode(data, options(64)).astype(int), upright(pixels), atol=8)
        at = max(data.find(b"II*\0"), data.find(b"MM\0*"))
        broken = data[:at] + b"nonsense" + data[at + 8 :]
        np.testing.assert_allclose(decode(broken, options(64)).astype(int), upright(pixels), atol=8)
    at = data.find(b"ispe") + 8
    with pytest.raises(UnreadableImageError, match="exceeds limit"):
        decode(data[:at] + struct.pack(">II", 10_000, 10_000) + data[at + 8 :], options())


def test_what_a_package_is_missing_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_heif", lambda: False)
    for brand in (b"heic", b"mif1"):
        with pytest.raises(
            UnreadableImageError, match=r"HEIC needs the package pillow-heif: pip install -e '.\[heic\]'"
        ):
            decode(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic", options())
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    for start in (b"avif\0\0\0\0", b"mif1\0\0\0\0avif"):
        with pytest.raises(UnreadableImageError, match=r"AVIF needs Pillow 11.3 or newer"):
            decode(b"\0\0\0\x18ftyp" + start, options())


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("WEBP", "GIF", "AVIF", "PNG"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **LOSSLESS[kind])
        np.testing.assert_allclose(decode(data, options())[0, 0].astype(int), (255, 0, 0), atol=2)
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.frombytes(bytes([0, 1, 1, 0]))
    data = saved(image, "GIF", transparency=1)
    np.testing.assert_array_equal(decode(data, options(2))[0], [[255, 0, 0], [255, 255, 255]])


def test_crop_takes_the_centred_square_and_resize_all() -> None:
    pixels = noise(8, 16, 3)
    data = saved(Image.fromarray(pixels))
    square = Image.fromarray(pixels[:, 4:12])
    np.testing.assert_array_equal(decode(data, options(8)), pixels[:, 4:12])
    lanczos = Image.Resampling.LANCZOS
    np.testing.assert_array_equal(decode(data, options(4)), np.asarray(square.resize((4, 4), lanczos)))
    squeezed = np.asarray(Image.fromarray(pixels).resize((4, 4), lanczos))
    np.testing.assert_array_equal(decode(data, options(4, fit="resize")), squeezed)
    with pytest.raises(UnreadableImageError, match="it is 8x16, not 4x4"):
        decode(data, options(4, fit="none"))


def test_crop_takes_the_centred_part_of_the_proportions_asked_for() -> None:
    pixels = noise(8, 16, 3)
    data = saved(Image.fromarray(pixels))
    for (height, width), part in (
        ((8, 12), pixels[:, 2:14]),  # too wide
        ((4, 16), pixels[2:6]),  # too high
        ((8, 4), pixels[:, 6:10]),
        ((2, 3), pixels[:, 2:14]),
    ):
        desired = Image.fromarray(part).resize((width, height), Image.Resampling.LANCZOS)
        own = options(height, image_width=width)
        assert own.image_shape == (height, width, 3)
        np.testing.assert_array_equal(decode(data, own), np.asarray(desired))
    squeezed = Image.fromarray(pixels).resize((6, 4), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(decode(data, options(4, image_width=6, fit="resize")), np.asarray(squeezed))
    with pytest.raises(UnreadableImageError, match="it is 8x16, not 16x8"):
        decode(data, options(16, image_width=8, fit="none"))
    np.testing.assert_array_equal(decode(data, options(8, image_width=16, fit="none")), pixels)
    assert decode(saved(Image.fromarray(noise(1, 300, 3))), options(8, image_width=4)).shape == (8, 4, 3)


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


def chunk(kind: bytes, data: bytes) -> bytes:
    """A piece of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 50,000 x 50,000."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


GOOD = saved(Image.fromarray(noise(32, 32, 3)))
BAD = {
    "empty": b"",
    "text": b"<html>not found</html>",
    "cut short": GOOD[: len(GOOD) // 2],
    "a wrong checksum": GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:],
    "a bomb": bomb(),
    "a kind that isn't read": saved(Image.new("L", (4, 4)), "PCX"),
    "a GIF cut short": saved(Image.fromarray(noise(32, 32)), "GIF")[:300],
    "a TIFF cut short": saved(Image.fromarray(noise(32, 32)), "TIFF")[:500],
    "an AVIF cut short": saved(Image.fromarray(noise(32, 32, 3)), "AVIF")[:300],
    "a TIFF of fractions": saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_image_says_so(kind: str) -> None:
    with pytest.raises(UnreadableImageError, match=r"."):
        decode(BAD[kind], options())
