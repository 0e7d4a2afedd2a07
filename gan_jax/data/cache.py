"""What was decoded is kept on disk, so that a second start is instant; and the one pass that decodes it."""

import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gan_jax.data.decode import decoders
from gan_jax.data.images import Decoded, Images, Stored, megabytes
from gan_jax.data.options import Options
from gan_jax.util import progress
from gan_jax.util.errors import UserError
from gan_jax.util.files import read_regular, refusal, write_atomically

_RECIPE = [2, *decoders()]  # the number goes up when `gan_jax.data.decode` gives other pixels
_SLICE = 32  # images that a thread decodes at a time

Unreadable = dict[int, str]  # an image's number: its name and the reason


class Cache:
    """A directory of decoded images and labels, under keys that change with their content and settings.

    ``KEY.u8`` are images one after the other, ``KEY.json``, written last, counts them and names the unreadable ones,
    ``KEY.npy`` are labels. Whatever is missing or of the wrong size is made anew, so any of it may be deleted. Without
    a directory (None) nothing is kept. ``reading`` says that for want of a directory that can be written nothing is
    kept either, with a warning.
    """

    def __init__(self, directory: Path | None, reading: bool = False) -> None:
        self.directory, self._reading = directory, reading

    def images(self, images: Decoded, identity: str, options: Options, what: str) -> tuple[Images, Unreadable]:
        """All readable ones of ``images``, in their order, each decoded once to find out which they are.

        They are kept on disk if they fit ``options.cache_budget_mb``, else in memory if they fit
        ``options.device_budget_mb``, else nowhere: then each is decoded again whenever it is read.

        Args:
          images: what to decode.
          identity: changes when their content does.
          options: what shape they get, and the budgets.
          what: ``images`` in words, for the progress bar.

        Returns:
          The readable images, and what is wrong with the others.

        Raises:
          UserError: the cache can't be written.
        """
        shape = options.image_shape
        dtype, size = images.dtype, megabytes(images)
        on_disk = self.directory is not None and size <= options.cache_budget_mb
        if not on_disk and size <= options.device_budget_mb:
            memory = io.BytesIO()
            unreadable = _decode_all(images, memory, what)
            return np.frombuffer(memory.getbuffer(), dtype).reshape(-1, *shape), unreadable
        if self.directory is None:
            unreadable = _decode_all(images, None, what)
            return images.subset(np.setdiff1d(np.arange(len(images)), list(unreadable))), unreadable

        key = _key(_RECIPE, identity, shape, options.fit, options.background, on_disk, *options.beyond)
        pixels, report = self.directory / f"{key}.u8", self.directory / f"{key}.json"
        found = _read_report(report, pixels if on_disk else None, len(images), math.prod(shape) * dtype.itemsize)
        if found is None and self._keeps_nothing(f"the decoded images of {what} are"):
            return Cache(None).images(images, identity, options, what)
        with self._one_line_errors():
            unreadable = _make(images, pixels if on_disk else None, report, what) if found is None else found
        readable = np.setdiff1d(np.arange(len(images)), list(unreadable))
        if on_disk and len(readable):
            return Stored(pixels, (len(readable), *shape), dtype=dtype), unreadable
        return images.subset(readable), unreadable

    def array(self, identity: str, make: Callable[[], np.ndarray], what: str = "labels are") -> np.ndarray:
        """Return what ``make`` gives, made only once for each ``identity``; ``what`` it is, with a verb.

        Raises:
          UserError: the cache can't be written.
        """
        if self.directory is None:
            return make()
        path = self.directory / f"{_key(identity)}.npy"
        try:
            known: np.ndarray = np.load(io.BytesIO(read_regular(path)), allow_pickle=False)
            return known
        except (OSError, ValueError, EOFError):
            made = make()
        if self._keeps_nothing(what):
            return made
        with self._one_line_errors():
            write_atomically(path, lambda file: np.save(file, made, allow_pickle=False))
        return made

    def _keeps_nothing(self, what: str) -> bool:
        """Whether it is for reading, and can't be written, which is said of ``what`` is (or are) lost."""
        if not (self._reading and self.directory is not None and (reason := refusal(self.directory))):
            return False
        print(f"warning: cannot write to {self.directory} ({reason}): {what} not kept", file=sys.stderr)
        return True

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write to {self.directory}, where decoded images are kept, beside the workdir: "
                f"{error.strerror or error}; give another --workdir"
            ) from error


def _key(*settings: Any) -> str:
    return hashlib.blake2b(json.dumps(settings).encode(), digest_size=12).hexdigest()


def _make(images: Decoded, pixels: Path | None, report: Path, what: str) -> Unreadable:
    """Write both files of a set of images, that of pixels if it has a path."""
    if pixels is None:
        unreadable = _decode_all(images, None, what)
    else:
        unreadable = write_atomically(pixels, lambda file: _decode_all(images, file, what))
    text = json.dumps({"images": len(images), "unreadable": unreadable}, indent=1)
    write_atomically(report, lambda file: file.write(text.encode()))
    return unreadable


def _read_report(report: Path, pixels: Path | None, count: int, size: int) -> Unreadable | None:
    """Return what an earlier pass found, if it ended and its files are whole; ``size`` is an image's in bytes."""
    try:
        found = json.loads(read_regular(report))
        unreadable = {int(number): str(reason) for number, reason in found["unreadable"].items()}
        whole = (count - len(unreadable)) * size
        if found["images"] == count and (pixels is None or pixels.stat().st_size == whole):
            return unreadable
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _decode_all(images: Decoded, file: BinaryIO | None, what: str) -> Unreadable:
    """Decode ``images`` on all cores, and write the readable ones to ``file``, one after the other."""
    unreadable: Unreadable = {}
    threads = os.cpu_count() or 1
    slices = [np.arange(i, min(i + _SLICE, len(images))) for i in range(0, len(images), _SLICE)]
    with (
        ThreadPoolExecutor(threads) as pool,
        progress.bar(total=len(images), desc=f"decoding {what}", unit="image", delay=1, leave=False) as bar,
    ):
        for start in range(0, len(slices), 4 * threads):  # so that what waits to be written stays small
            some = slices[start : start + 4 * threads]
            for numbers, results in zip(some, pool.map(images.attempt, some), strict=True):
                for number, image in zip(numbers, results, strict=True):
                    if isinstance(image, str):
                        unreadable[int(number)] = image
                    elif file is not None:
                        file.write(image.tobytes())
                bar.update(len(numbers))
    return unreadable
