"""The list of files in a tar, read header by header, and where each of them lies."""

from collections.abc import Iterator
from typing import NamedTuple

from gan_jax.data.ranges import Ranges

_BLOCK = 512
_MOST = 2**20  # bytes of a header of text, such as a long name
_PAX, _PAX_ALL, _LONG_NAME, _LONG_LINK = (b"x", b"X"), b"g", b"L", b"K"
_SPARSE = b"S"
_KINDS = {b"0": "file", b"\0": "file", b"7": "file", b"1": "link", b"5": "folder"}
_WITHOUT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders and pipes have no bytes behind their header
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}


class Member(NamedTuple):
    """A file in a tar: its path there, where its bytes are and how many, and what it is.

    ``kind`` is ``file``, ``folder``, ``link`` (``target`` is a path of a file before it), or ``other``.
    """

    name: str
    at: int
    size: int
    kind: str
    target: str = ""


def packed_by(head: bytes) -> str:
    """Return what a file that begins like this is compressed by, or nothing."""
    return next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), "")


def members(file: Ranges) -> Iterator[Member]:
    """Return all that a tar holds, in its order.

    Raises:
      ValueError: it is no whole tar, in words.
    """
    whole, at = file.size, 0
    told: dict[str, str] = {}  # of the next file, by the headers before its own
    while True:
        block = file.read(at, _BLOCK)
        if len(block) < _BLOCK:
            raise ValueError("it has no end: is it whole?" if at else "it is no tar")
        if not block.strip(b"\0"):
            return
        if not _is_header(block):
            raise ValueError(f"its header at byte {at:,} is damaged" if at else "it is no tar")
        at += _BLOCK
        flag, own = block[156:157], _digits(block[124:136])
        if flag in (*_PAX, _PAX_ALL, _LONG_NAME, _LONG_LINK):
            if not 0 <= own <= _MOST:
                raise ValueError(f"its header at byte {at - _BLOCK:,} is {own:,} bytes long")
            told |= _told(flag, file.read(at, own))
            at += -(-own // _BLOCK) * _BLOCK
            continue
        size = _number(told.get("size", ""), own)
        after = at + -(-size // _BLOCK) * _BLOCK
        name = told.get("path") or _name(block)
        if flag == _SPARSE:
            extended = block[482]
            while extended:
                after, extended = after + _BLOCK, file.read(at, _BLOCK)[504:505] not in (b"", b"\0")
                at += _BLOCK
        kind = "other" if told.get("sparse") else _KINDS.get(flag, "other")
        kind = "folder" if flag == b"\0" and name.endswith("/") else kind  # as the oldest tars have them
        has_bytes = flag not in _WITHOUT
        after = after if has_bytes else at
        if after > -(-whole // _BLOCK) * _BLOCK or (has_bytes and at + size > whole):
            raise ValueError(f"it ends within {name!r}: is it whole?")
        yield Member(name, at, size, kind, told.get("linkpath") or _text(block[157:257]))
        at, told = after, {}


def _is_header(block: bytes) -> bool:
    """Return whether its checksum is right, of bytes with a sign or, as some have written it, without."""
    told = _digits(block[148:156])
    summed = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if told == summed:
        return True
    negative = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in block[148:156])
    return told == summed - 256 * negative


def _digits(field: bytes) -> int:
    """Return a number in a header: of octal digits, or, where these have no room, of bytes; -1 if it is none."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    text = field.partition(b"\0")[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        return -1


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _name(block: bytes) -> str:
    """Return the name in a header, which POSIX's form may have in two pieces."""
    before = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{before}/{_text(block[:100])}" if before else _text(block[:100])


def _number(text: str, otherwise: int) -> int:
    """Return the size that a header of text tells, or that of the header proper."""
    value = int(text) if text.isascii() and text.isdecimal() else otherwise
    if value < 0:
        raise ValueError("a file in it has a size below 0")
    return value


def _told(kind: bytes, text: bytes) -> dict[str, str]:
    """Read what a header of text tells of the next file: path, size, where it leads, whether it has holes."""
    if kind == _PAX_ALL:
        return {}
    if kind not in _PAX:
        return {"path" if kind == _LONG_NAME else "linkpath": text.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found = {}
    while text:
        length, _, rest = text.partition(b" ")
        size = int(length) if length.isdigit() else 0
        if size <= len(length) + 1 or size > len(text):
            raise ValueError("a header of text in it is damaged")
        key, _, value = rest[: size - len(length) - 2].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        text = text[size:]
    sparse = {"sparse": "1"} if any(key.startswith("GNU.sparse") for key in found) else {}
    return {key: found[key] for key in ("path", "size", "linkpath") if key in found} | sparse
