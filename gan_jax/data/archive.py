"""Pictures in a zip or tar, read where they lie: nothing is unpacked, and any of them is had by its number."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from gan_jax.data import ranges, remote, tars, zips
from gan_jax.data.found import ENDINGS as PICTURES
from gan_jax.data.found import Found, Image, sort_out, too_large
from gan_jax.data.labels import FILES
from gan_jax.data.ranges import Ranges
from gan_jax.util import progress
from gan_jax.util.errors import UserError, clipped

Place = Path | str  # of an archive: a path, or its address elsewhere
_IN_TAR = -1  # where a zip's members have the way they are compressed
# Where members lie, 36 bytes each: the archive's number, the place and size there, and unpacked, checksum, compression.
_COLUMNS = {"file": "I", "at": "q", "packed": "q", "size": "q", "crc": "I", "way": "i"}  # as `array.array` has them
_ENTRY = np.dtype([(name, f"={code}") for name, code in _COLUMNS.items()])
ENDINGS = (".zip", ".tar")
_OTHERS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4", ".tar.z", ".rar", ".7z")


class Archive:
    """One or several archives of one kind, and where each of their members is.

    Attributes:
      images: path, size and number of each file, of all archives.
      special: paths of what isn't a file.
      folders: paths of those that are told of by themselves.
    """

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.special: list[str] = []
        self.folders: list[str] = []
        self._columns = {name: array(code) for name, code in _COLUMNS.items()}
        self._paths: list[Place] = []
        self._stamps: list[tuple[int, int]] = []

    @property
    def identity(self) -> str:
        """Return where they lie, how large they are and when they were changed."""
        told = zip(self._paths, self._stamps, strict=True)
        return "\n".join(
            f"{path.resolve() if isinstance(path, Path) else path}|{size}|{changed}" for path, (size, changed) in told
        )

    def add(self, path: Place, prefix: str = "") -> None:
        """Take in what ``path`` holds, under names that begin with ``prefix``.

        Raises:
          UserError: it can't be read, is damaged or encrypted, or is compressed as a whole.
        """
        try:
            with _opened(path) as file, progress.elapsed(f"reading the list of files in {_name(path)}"):
                self._paths.append(path)
                self._stamps.append((file.size, file.changed))
                (self._zip if is_zip(file, _name(path)) else self._tar)(file, prefix)
        except OSError as error:
            raise UserError(f"data.dir: cannot read {str(path)!r}: {error.strerror or error}") from error
        except (ValueError, OverflowError, MemoryError) as error:
            reason = clipped(str(error), 300)
            raise UserError(f"data.dir: {str(path)!r} is no zip or tar that can be read: {reason}") from error

    def reader(self, images: Sequence[Image]) -> "Members":
        """Return what reads these ``images``."""
        entries = np.empty(len(self._columns["at"]), _ENTRY)
        for name, column in self._columns.items():
            entries[name] = column
        return Members(self._paths, self._stamps, entries[[number for *_, number in images]])

    def read(self, image: Image) -> bytes | str:
        """Return one file's bytes, or why they can't be had."""
        return self.reader([image])(np.zeros(1, np.int64))[0]

    def _zip(self, file: Ranges, prefix: str) -> None:
        for member in zips.members(file):
            name = prefix + inner(member.name)
            if member.link:
                self.special.append(name)
            elif member.name.endswith("/"):
                self.folders.append(name)
            else:
                self._add(name, member.at, member.packed, member.size, member.crc, member.method)

    def _tar(self, file: Ranges, prefix: str) -> None:
        kind = tars.packed_by(file.read(0, 8))
        if kind:
            raise ValueError(
                f"it is compressed by {kind}, and no file in it can be had before all that lie before it: "
                "unpack it and give the folder, or give a zip or an uncompressed .tar"
            )
        linked = []
        for member in tars.members(file if isinstance(self._paths[-1], Path) else file.ahead()):
            name = prefix + inner(member.name)
            if member.kind == "file":
                self._add(name, member.at, member.size, member.size, 0, _IN_TAR)
            elif member.kind == "folder":
                self.folders.append(name)
            elif member.kind == "link":
                linked.append((name, prefix + inner(member.target)))
            else:
                self.special.append(name)
        where = {name: number for name, _, number in self.images} if linked else {}
        for name, target in linked:
            if target in where:
                at, size = (self._columns[column][where[target]] for column in ("at", "size"))
                self._add(name, at, size, size, 0, _IN_TAR)
            else:
                self.special.append(name)

    def _add(self, name: str, *where: int) -> None:
        self.images.append((name, where[2], len(self._columns["at"])))
        for column, value in zip(self._columns.values(), (len(self._paths) - 1, *where), strict=True):
            column.append(value)


class Members:
    """Reads members of archives by their numbers.

    Each call opens the archives that it needs and closes them again, so threads and processes share nothing.

    Args:
      paths: of the archives.
      stamps: size and time of change of each.
      entries: `_ENTRY` of each member.
    """

    def __init__(self, paths: Sequence[Place], stamps: Sequence[tuple[int, int]], entries: np.ndarray) -> None:
        self._paths, self._stamps, self._entries = paths, stamps, entries

    def __call__(self, numbers: np.ndarray) -> list[bytes | str]:
        """Return each file's bytes, or why they can't be had."""
        entries = self._entries[numbers]
        out: list[bytes | str] = [""] * len(entries)
        for archive in np.unique(entries["file"]):
            own = np.flatnonzero(entries["file"] == archive)
            try:
                contents = list(self._of_one(self._paths[archive], self._stamps[archive], entries[own]))
            except OSError as error:
                contents = [f"{_name(self._paths[archive])}: {error.strerror or error}"] * len(own)
            for i, content in zip(own, contents, strict=True):
                out[i] = content
        return out

    @staticmethod
    def _of_one(path: Place, stamp: tuple[int, int], entries: np.ndarray) -> Iterator[bytes | str]:
        with _opened(path) as file:
            changed = (file.size, file.changed) != stamp
            for _, at, packed, size, crc, way in entries.tolist():
                if changed:
                    yield f"{_name(path)} is not what it was at the start"
                elif reason := too_large(max(size, packed)):
                    yield reason
                elif way == _IN_TAR:
                    yield file.read(at, size)
                else:
                    yield zips.content(file, (at, packed, size, crc, way))


def look(path: Place, label_key: str = "") -> Found:
    """Return what of the archive ``path`` a folder would give into which it were unpacked.

    Raises:
      UserError: see `Archive.add`.
    """
    archive = Archive()
    archive.add(path)
    reader: Callable[[Sequence[Image]], Members] = partial(Archive.reader, archive)
    found = Found("the archive", _name(path), archive.identity, reader, special=visible(archive.special))
    sort_out(found, archive.images, archive.folders)
    others = {image[0]: image for image in archive.images if not image[0].lower().endswith(PICTURES)}
    tops = {f"{name.partition('/')[0]}/" for name, *_ in found.images if "/" in name}
    top = tops.pop() if len(tops) == 1 else ""
    deep = all(name.count("/") > 1 for name, *_ in found.images)
    labelled = any(f"{top}{name}" in others for name in (label_key or FILES[0], *FILES[1:]))
    if top and (deep or labelled) and all(name.startswith(top) for name, *_ in found.images):
        found.around = top  # `zip -r pictures.zip pictures` has a folder around all of it
        found.images = [(name.removeprefix(top), *rest) for name, *rest in found.images]  # type: ignore[misc]
    found.beside = lambda name: _content(archive, others.get(f"{found.around}{name}") or others.get(name))
    return found


def _content(archive: Archive, image: Image | None) -> bytes | str | None:
    return None if image is None else archive.read(image)


def visible(names: Sequence[str]) -> list[str]:
    """Return those of ``names`` that aren't hidden."""
    return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]


def inner(name: str) -> str:
    """Return a member's path below the archive's own folder, wherever it says that it wants to be unpacked to."""
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def _opened(path: Place) -> AbstractContextManager[Ranges]:
    return ranges.opened(path) if isinstance(path, Path) else nullcontext(remote.opened(path))


def _name(path: Place) -> str:
    return path.name if isinstance(path, Path) else path.rpartition("/")[2]


def is_zip(file: Ranges, name: str) -> bool:
    """Tell whether an open archive is a zip: it begins as one, or is named so, as behind a program."""
    head = file.read(0, 4)
    return head in (b"PK\3\4", b"PK\5\6", b"PK\7\10") or name.lower().endswith(".zip")


def is_named_so(name: str) -> bool:
    """Return whether a file of this ``name`` is an archive, or one that only lacks being unpacked."""
    return name.lower().endswith((*ENDINGS, *_OTHERS))
