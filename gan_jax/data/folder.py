"""A folder of image files, nested or flat."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan_jax.data.images import Decoded
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source
from gan_jax.errors import UserError

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def find(options: Options) -> Source:
    """The images in ``options.dir`` and the folders below it, in the order of their paths.

    With ``options.labels`` the first folder on an image's path is its class, in alphabetical order; else there are no
    labels. Hidden files and folders are left out; links are followed, but no folder is read twice.

    Raises:
      UserError: there is no such folder, or no image in it; or labels are wanted and an image lies in no subfolder; or
        a link leads out of the folder, without ``options.follow_links``.
    """
    if not options.dir:
        raise UserError("the folder source needs data.dir, the folder of images")
    folder = Path(options.dir).expanduser()
    if not folder.is_dir():
        wrong = "is a file, not a folder" if folder.exists() else "is not there"
        raise UserError(f"data.dir: {options.dir!r} {wrong}; the folder source needs a folder of images")
    found = sorted(_walk(folder, options.follow_links))
    if not found:
        raise UserError(f"data.dir: no file in the folder {options.dir!r} ends in {', '.join(_ENDINGS)}")
    names = [name for name, *_ in found]
    identity = "\n".join([str(folder.resolve()), *("|".join(map(str, file)) for file in found)])
    labels = _classes(names, options.dir) if options.labels else None
    whole = Part(Decoded(_Files(folder, names), names, options), labels, identity)
    return Source(f"folder:{folder.resolve().name}", whole, None)


class _Files:
    """Reads files by their numbers."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names

    def __call__(self, numbers: np.ndarray) -> list[bytes | str]:
        return [self._read(self._folder / self._names[number]) for number in numbers]

    @staticmethod
    def _read(path: Path) -> bytes | str:
        try:
            return path.read_bytes()
        except OSError as error:
            return error.strerror or str(error)


def _walk(folder: Path, anywhere: bool) -> list[tuple[str, int, int]]:
    """(path below ``folder``, size, time of change) of every image file; links may lead ``anywhere``, or not out."""
    found, seen, inside = [], set(), folder.resolve()

    def follow(link: Path) -> None:
        end = Path(os.path.realpath(link))
        if not anywhere and not end.is_relative_to(inside):
            name = link.relative_to(folder).as_posix()
            raise UserError(
                f"data.dir: {name!r} in {str(folder)!r} is a link that leads out of it, to {str(end)!r}: "
                "if you trust whoever made it, set data.follow_links=True"
            )

    for path, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        if os.path.realpath(path) in seen:  # links may make a circle
            folders.clear()
            continue
        seen.add(os.path.realpath(path))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if os.path.islink(os.path.join(path, name)):
                follow(Path(path, name))
        for name in files:
            if name.lower().endswith(_ENDINGS) and not name.startswith("."):
                file = Path(path, name)
                status = file.lstat()
                if stat.S_ISLNK(status.st_mode):
                    follow(file)
                    status = file.stat() if file.exists() else status  # one that leads nowhere is unreadable
                found.append((file.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    return found


def _refuse(error: OSError) -> None:
    raise UserError(f"data.dir: cannot read the folder {error.filename!r}: {error.strerror}")


def _classes(names: Sequence[str], folder: str) -> np.ndarray:
    for name in names:
        if "/" not in name:
            raise UserError(
                f"data.labels: {name!r} lies in no subfolder of {folder!r}, and subfolders are the classes: "
                "move it into one, or, for a GAN without classes, set data.labels=False"
            )
    kinds = [name.partition("/")[0] for name in names]
    return np.unique(kinds, return_inverse=True)[1].astype(np.int32)
