"""What a picture's file says beside its pixels. It is taken out before anything is decoded: only the orientation
matters, and nothing wrong with the rest loses a picture."""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Literal

_ORIENTATION = 0x0112  # the tag of EXIF and of TIFF
_SIZES = {1: 1, 3: 2, 4: 4}  # bytes of TIFF's types of whole numbers
_MOST = 2**20  # bytes of metadata that are looked into
_JPEG = (*range(0xE1, 0xEE), 0xEF, 0xFE)  # APP1 to APP13, APP15 and comments; APP0 and APP14 say how colours are coded
_WEBP = (b"EXIF", b"XMP ", b"ICCP")
_WEBP_FLAGS = 0b101100  # that a file has those
# Of TIFF: texts, XMP, IPTC, Photoshop's, ICC's, and the directories of EXIF, of GPS and of interoperability.
_TIFF = (269, 270, 271, 272, 305, 306, 315, 316, 700, 33432, 33723, 34377, 34675, 34665, 34853, 40965)
_UNUSED = 65535, 1, 1, 0  # an entry of a TIFF's directory that nobody reads: tag, type, count, value
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{7,9})Exif", re.DOTALL)  # in the list of what an AVIF or HEIC file holds
_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
_RAW_PROFILE = b"Raw profile type exif\0"  # EXIF as ImageMagick writes it into PNG: as text, in hexadecimal digits

Order = Literal["little", "big"]
Span = tuple[int, int, bytes]  # where a piece of metadata begins and ends in its file, and what it holds


def split(data: bytes) -> tuple[bytes, int]:
    """Return a picture without its metadata, and how they say that it is to be turned.

    Args:
      data: the bytes of a file. From kinds other than PNG, JPEG, WebP, TIFF, AVIF and HEIC nothing is taken.

    Returns:
      The file without metadata, and EXIF's orientation, from 1 (as it lies) to 8. What can't be understood stays where
      it is, or says 1. TIFF, AVIF and HEIC are turned by who decodes them, and say 1.
    """
    spans: list[Span] = []
    if data.startswith(b"\xff\xd8"):
        spans = list(_jpeg(data))
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        spans = list(_png(data))
    elif data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8X" and len(data) > 20:
        spans = list(_webp(data))
    elif data.startswith((b"II*\0", b"MM\0*")):
        return _without_tags(data), 1
    elif data[4:8] == b"ftyp":
        return _EXIF_ITEM.sub(rb"\1none", data[:_MOST]) + data[_MOST:], 1
    found = (orientation(content) or _of_xmp(content) for *_, content in spans)
    return _without(data, spans), next((turn for turn in found if turn), 1)


def orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, from 1 to 8; 0 if there is none."""
    tiff = exif.removeprefix(b"Exif\0\0")
    for at, tag, order in _entries(tiff):
        size = _SIZES.get(int.from_bytes(tiff[at + 2 : at + 4], order), 0)
        value = int.from_bytes(tiff[at + 8 : at + 8 + size], order)
        if tag == _ORIENTATION and 1 <= value <= 8:
            return value
    return 0


def _entries(tiff: bytes) -> Iterator[tuple[int, int, Order]]:
    """Place, tag and byte order of each entry of a TIFF's first directory, as far as there is one."""
    orders: dict[bytes, Order] = {b"II*\0": "little", b"MM\0*": "big"}
    if order := orders.get(tiff[:4]):
        start = int.from_bytes(tiff[4:8], order)
        end = start + 2 + 12 * int.from_bytes(tiff[start : start + 2], order)
        for at in range(start + 2, min(end, len(tiff)) - 11, 12):
            yield at, int.from_bytes(tiff[at : at + 2], order), order


def _without(data: bytes, spans: Iterable[Span]) -> bytes:
    """Return ``data`` but for the ``spans``."""
    kept, at = [], 0
    for start, end, _ in spans:
        kept.append(data[at:start])
        at = end
    out = b"".join([*kept, data[at:]])
    if at and data.startswith(b"RIFF"):  # WebP says its size and what it holds
        return out[:4] + struct.pack("<I", len(out) - 8) + out[8:20] + bytes([out[20] & ~_WEBP_FLAGS]) + out[21:]
    return out


def _without_tags(tiff: bytes) -> bytes:
    """Return a TIFF whose entries of metadata say nothing."""
    out = bytearray(tiff)
    for at, tag, order in _entries(tiff):
        if tag in _TIFF:
            struct.pack_into("<HHII" if order == "little" else ">HHII", out, at, *_UNUSED)
    return bytes(out)


def _jpeg(data: bytes) -> Iterator[Span]:
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        kind, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xFF:  # fills
            at += 1
            continue
        if kind == 0xDA or size < 2:  # what follows is pixels, or nonsense
            return
        if kind in _JPEG:
            yield at, at + 2 + size, data[at + 4 : at + 2 + size]
        at += 2 + size


def _png(data: bytes) -> Iterator[Span]:
    at = 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        content = data[at + 8 : at + 8 + size]
        if kind[0] & 32 and kind != b"tRNS":  # decoders may leave out what a small letter begins
            yield at, at + 12 + size, _raw_profile(kind, content) if _RAW_PROFILE in content[:30] else content
        at += 12 + size


def _raw_profile(kind: bytes, content: bytes) -> bytes:
    """Return the EXIF block that a PNG's chunk of text writes out, empty if it doesn't."""
    text = content.removeprefix(_RAW_PROFILE)
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MOST)
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode())
    except (zlib.error, ValueError):
        return b""


def _webp(data: bytes) -> Iterator[Span]:
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if kind in _WEBP:
            yield at, end, data[at + 8 : at + 8 + size]
        at = end


def _of_xmp(content: bytes) -> int:
    found = _XMP.search(content, 0, _MOST) if b"adobe" in content[:_MOST] else None
    return int(found[1]) if found else 0
