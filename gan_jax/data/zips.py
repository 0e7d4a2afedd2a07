"""The list of files in a zip, read without an object for each, and one file of it at a time."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from gan_jax.data.ranges import Ranges

_END, _END64, _WHERE64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"  # the end of the list; its larger form, and where that is
_MEMBER, _HERE = b"PK\1\2", b"PK\3\4"  # a file in the list, and where it lies
_MEMBER_FORM = struct.Struct("<4s4B4HL2L5H2L")
_ROOM = 512  # bytes that are read beyond a file's header and content, for its name and extra field there
_COMMENT = 2**16  # the longest that may stand behind the end
_FULL32, _FULL16 = 2**32 - 1, 2**16 - 1  # stand where a number has no room, and is in the extra field
_LINK, _KIND = 0o120000, 0o170000  # of a Unix mode
_LOCKED, _UTF8 = 0x41, 0x800  # flags: encrypted; how the name is coded
STORED, DEFLATED = 0, 8
METHODS = {STORED: "", DEFLATED: "", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz", 99: "AES"}


class Member(NamedTuple):
    """A file in a zip: its path there, where its header is, its size there and unpacked, and how to unpack it."""

    name: str
    at: int
    packed: int
    size: int
    crc: int
    method: int
    link: bool


def members(file: Ranges) -> Iterator[Member]:
    """Return all files and folders (their names end in a slash) in the list of a zip, in its order.

    Raises:
      ValueError: it is no whole zip, or encrypted, in words.
    """
    start, size, shift, count = _list(file)
    table, at, seen = file.read(start, size), 0, 0
    while at < len(table):
        if len(table) - at < _MEMBER_FORM.size or table[at : at + 4] != _MEMBER:
            raise ValueError("its list of files is damaged")
        values = _MEMBER_FORM.unpack_from(table, at)
        system, flags, method, crc, packed, full = (values[i] for i in (2, 5, 6, 9, 10, 11))
        name_length, extra_length, comment_length, mode, where = (values[i] for i in (12, 13, 14, 17, 18))
        at += _MEMBER_FORM.size
        name, extra = table[at : at + name_length], table[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        full, packed, where = _larger(extra, [full, packed, where])
        seen += 1
        path = _text(name, flags)
        if flags & _LOCKED and full:
            raise ValueError(f"{path!r} in it is encrypted: unpack it, or zip it without a password")
        path = path.replace("\\", "/") if system == 0 and "/" not in path else path  # some of Windows' own do so
        yield Member(path, where + shift, packed, full, crc, method, mode >> 16 & _KIND == _LINK)
    if at != len(table) or seen != count:
        raise ValueError(f"its list has {seen:,} of {count:,} files")


def content(file: Ranges, where: tuple[int, int, int, int, int]) -> bytes | str:
    """Return a file of the open zip ``file``, unpacked; or why there is none.

    Args:
      file: see above.
      where: its header is, its packed size, its size, its checksum, and how it is compressed, as `Member` has them.
    """
    at, packed, size, crc, method = where
    head = file.read(at, 30 + _ROOM + packed)
    if len(head) < 30 or head[:4] != _HERE:
        return "it isn't where the zip's list says"
    begin = 30 + sum(struct.unpack_from("<2H", head, 26))  # the lengths of the name and of the extra field
    data = head[begin : begin + packed] if begin <= 30 + _ROOM else file.read(at + begin, packed)
    if method == DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)  # never more, whatever it holds
        except zlib.error as error:
            return f"damaged in the zip: {error}"
    elif method != STORED:
        return f"compressed by {METHODS.get(method) or f'method {method}'}: zip it with deflate, or store it"
    return data if len(data) == size and zlib.crc32(data) == crc else "damaged in the zip: its checksum is another"


def _list(file: Ranges) -> tuple[int, int, int, int]:
    """Find where a zip's list begins, its bytes, how far all is behind where it should be, how many files it has."""
    tail_at = max(0, file.size - 22 - _COMMENT)
    tail = file.read(tail_at, file.size - tail_at)
    found = tail.rfind(_END)
    while (
        found > 0 and int.from_bytes(tail[found + 20 : found + 22], "little") != len(tail) - found - 22
    ):  # a comment's
        found = tail.rfind(_END, 0, found)
    if found < 0 or len(tail) - found < 22:
        raise ValueError("it has no list of files at its end: it is no zip, or not whole")
    disk, count, size, start = struct.unpack_from("<4x2xH2xHLL", tail, found)
    end = tail_at + found
    if _FULL16 in (disk, count) or _FULL32 in (size, start):
        large = file.read(max(0, end - 20 - 56), 76)
        if large[:4] == _END64 and large[56:60] == _WHERE64:
            disk, count, size, start = struct.unpack_from("<16xL12xQQQ", large)
            end -= 76
    shift = end - size - start
    if disk:
        raise ValueError("it is one of several parts: join them")
    if shift < 0:
        raise ValueError("its list of files is not where it should be: is it whole?")
    return start + shift, size, shift, count


def _larger(extra: bytes, values: list[int]) -> list[int]:
    """Return size, packed size and place of a file, from the extra field where they have no room else."""
    while len(extra) >= 4 and _FULL32 in values:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            room = iter(struct.unpack(f"<{length // 8}Q", extra[4 : 4 + length // 8 * 8].ljust(length // 8 * 8, b"\0")))
            return [next(room, value) if value == _FULL32 else value for value in values]
        extra = extra[4 + length :]
    return values


def _text(name: bytes, flags: int) -> str:
    """Return a file's name: UTF-8, as it may say or not, else the code page that zips began with."""
    if flags & _UTF8:
        return name.decode("utf-8", "surrogateescape")
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("cp437")
