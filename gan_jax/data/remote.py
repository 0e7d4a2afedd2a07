"""Pictures that lie elsewhere, as in a bucket: ``gs://``, ``s3://`` or whatever fsspec has a file system for.

fsspec comes with etils, which grain and TFDS bring; the packages that speak to a store are the user's own to install.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np

from gan_jax.data.found import ENDINGS, Found, Image, Names, sort_out, too_large
from gan_jax.data.ranges import Ranges
from gan_jax.util import progress
from gan_jax.util.errors import UserError, clipped, printable
from gan_jax.util.named import one_line

_URL = re.compile(r"[a-z][a-z0-9+]*://.+")
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "http": "aiohttp", "https": "aiohttp"}


def is_url(text: str) -> bool:
    """Return whether ``data.dir`` names a place elsewhere."""
    return _URL.fullmatch(text) is not None


def look(url: str) -> Found:
    """Return all files below ``url``.

    Raises:
      UserError: it can't be reached, or the package for it isn't installed.
    """
    system, place = _system(url)
    try:
        with progress.elapsed(f"listing the files in {url}"):
            files = system.find(place, detail=True)
    except Exception as error:  # the network, a store's own errors
        raise _unreachable(url, error) from error
    images = []
    for path, about in files.items():
        below = path.removeprefix(place).strip("/")
        images.append((below, int(about.get("size") or 0), _stamp(about)))
    found = Found("the place", printable(place.rpartition("/")[2]), url, lambda some: Files(url, some))
    sort_out(found, images)
    others = {image[0]: image for image in images if not image[0].lower().endswith(ENDINGS)}
    found.beside = lambda name: Files(url, [others[name]])(np.zeros(1, np.int64))[0] if name in others else None
    return found


def opened(url: str) -> Ranges:
    """Return the file ``url``, whose parts are fetched as they are asked for.

    Raises:
      UserError: it isn't there, can't be reached, or has no parts that can be asked for.
    """
    system, place = _system(url)
    lacking = UserError(
        f"data.dir: {url!r} is read in parts, and whoever has it gives it only as a whole: copy it to this machine"
    )
    try:
        about = system.info(place)
    except FileNotFoundError as error:
        raise UserError(f"data.dir: {url!r} is not there") from error
    except Exception as error:  # the network, a store's own errors
        raise _unreachable(url, error) from error
    if not isinstance(about.get("size"), int):
        raise lacking
    whole: int = about["size"]

    def read(at: int, size: int) -> bytes:
        end = min(at + size, whole)
        if at >= end:
            return b""
        try:
            content: bytes = system.cat_file(place, start=at, end=end)
        except Exception as error:
            raise _unreachable(url, error) from error
        if len(content) > end - at:
            raise lacking
        return content

    return Ranges(read, whole, _stamp(about))


class Files:
    """Reads files elsewhere by their numbers.

    Args:
      url: of the folder.
      images: what is read.
    """

    def __init__(self, url: str, images: Sequence[Image]) -> None:
        self._url, self._names = url, Names(name for name, *_ in images)
        self._sizes = np.array([size for _, size, _ in images], np.int64)

    def __call__(self, numbers: np.ndarray) -> list[bytes | str]:
        """Return each file's bytes, or why they can't be had."""
        return [self._read(int(number)) for number in numbers]

    def __reduce__(self) -> tuple[object, ...]:
        return _files, (self._url, self._names, self._sizes)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return _system(self._url)

    def _read(self, number: int) -> bytes | str:
        if reason := too_large(self._sizes[number]):
            return reason
        system, place = self._place
        try:
            content: bytes = system.cat_file(f"{place}/{self._names[number]}")
            return content
        except FileNotFoundError:
            return "it is gone"
        except Exception as error:  # the network: what is there must not be taken for unreadable, and left out
            raise _unreachable(self._url, error) from error


def _files(url: str, names: Names, sizes: np.ndarray) -> Files:
    files = Files(url, ())
    files._names, files._sizes = names, sizes
    return files


def _system(url: str) -> tuple[Any, str]:
    """Return the file system that has ``url``, and the path there."""
    import fsspec

    kind = url.partition("://")[0]
    try:
        system, place = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        package = _PACKAGES.get(kind)
        do = f"pip install {package}" if package else "copy the pictures into a folder"
        raise UserError(f"data.dir: {url!r} can't be reached ({_said(error)}): {do}") from error
    except Exception as error:  # a store's own
        raise _unreachable(url, error) from error
    return system, place.rstrip("/")


def _unreachable(url: str, error: Exception) -> UserError:
    return UserError(f"data.dir: cannot read {url!r} ({_said(error)}): check the address, the network and your rights")


def _said(error: Exception) -> str:
    return clipped(f"{type(error).__name__}: {one_line(error)}", 300)


def _stamp(about: dict[str, Any]) -> int:
    """Return what changes with a file's content, as far as its store tells."""
    told = next((about[key] for key in ("ETag", "etag", "crc32c", "md5Hash", "mtime", "created") if key in about), "")
    return crc32(str(told).encode())
