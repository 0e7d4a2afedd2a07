"""Writing files so that nobody ever reads half of one."""

import errno
import json
import os
import secrets
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

T = TypeVar("T")
PATIENCE = 300.0  # seconds for which a write that fails is tried again


def write_atomically(path: Path, write: Callable[[BinaryIO], T], sync: bool = False) -> T:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: readers see the old or the new, whole.

    With ``sync`` this holds even where the machine dies. Return what ``write`` returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process' number, which one on another host or in another container may have, too.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as file:
            result = write(file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return result


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read, and nothing else: a named pipe would wait for a writer for ever, a device do anything.

    Raises:
      OSError: there is none, it can't be read, or it is a pipe, a socket, a device or a folder.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(file, "rb")


def read_regular(path: Path) -> bytes:
    """All bytes of a file; see `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def refusal(directory: Path) -> str:
    """Why nothing can be written to ``directory``, which is made if need be; nothing if it can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def keep(write: Callable[[], T], what: str, hint: str = "") -> T | None:
    """Return what ``write`` returns, or None where it can't write.

    Then a warning says that ``what`` isn't kept, with a ``hint``.
    """
    try:
        return write()
    except OSError as error:
        print(f"warning: cannot keep {what} ({error.strerror or error}){hint}", file=sys.stderr)
        return None


def insist(write: Callable[[], object], what: str, hurried: Callable[[], object]) -> OSError | None:
    """Call ``write`` until it succeeds, for `PATIENCE` seconds (a disk is full, or away), and say so.

    Args:
      write: may be called again after an OSError.
      what: it writes, in words.
      hurried: whether there is no time for another attempt.

    Returns:
      None, or the last error.
    """
    begin, said = time.monotonic(), False
    while True:
        try:
            write()
            if said:
                print(f"{what}: written after {time.monotonic() - begin:.0f} s", file=sys.stderr)
            return None
        except OSError as error:
            if time.monotonic() - begin >= PATIENCE or hurried():
                return error
            if not said:
                reason = error.strerror or error
                text = f"warning: cannot write {what}: {reason}; training waits, and tries again for {PATIENCE:.0f} s"
                print(f"\n{text}", file=sys.stderr)
            said = True
            time.sleep(min(1.0, PATIENCE / 10))


class Appended:
    """A file that only grows: what is added gets there once, in its order, however often the disk refuses it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+", buffering=0)
        self._waiting = b""

    def add(self, data: bytes) -> None:
        """Take ``data`` for the next `flush`."""
        self._waiting += data

    def flush(self) -> None:
        """Write what waits; raise an OSError if it can't, after which it may be called again."""
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def sync(self) -> None:
        """Wait until all lies on the disk."""
        self.flush()
        os.fsync(self._file.fileno())

    @property
    def gone(self) -> bool:
        """Whether the file was removed meanwhile."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def content(self) -> bytes:
        """All that was added, by this process or before, as far as it can be read."""
        try:
            return os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0) + self._waiting
        except OSError:
            return self._waiting

    def close(self) -> None:
        """Without a last attempt at what waits."""
        self._file.close()


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to a file ``.npz``."""
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def write_images(
    path: Path,
    shape: Sequence[int],
    batches: Iterable[np.ndarray],
    arrays: Mapping[str, np.ndarray],
    dtype: str = "uint8",
) -> None:
    """Write images ``[N, H, W, C]``, from their batches, under ``images`` to a file ``.npz``, and other arrays.

    Args:
      path: the file.
      shape: of all images.
      batches: of them; no more than one is in memory.
      arrays: by name.
      dtype: of the images: uint8 or uint16.
    """

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            with archive.open("images.npy", "w", force_zip64=True) as entry:
                header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
                np.lib.format.write_array_header_1_0(entry, header)
                for batch in batches:
                    entry.write(np.ascontiguousarray(batch, dtype).tobytes())
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)

    write_atomically(path, write)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Return what `write_arrays` wrote, or None if the file isn't there or is damaged."""
    try:
        with open_regular(path) as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # of damaged bytes, the decoders raise anything
        return None


def read_json(path: Path) -> Any:
    """Return what lies in ``path``, or None if it isn't there or can't be read."""
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Replace ``path`` in one step."""
    text = json.dumps(value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()), sync=True)
