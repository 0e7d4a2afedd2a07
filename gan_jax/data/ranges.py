"""A file of which any part is read by itself, be it on this machine or, as `gan_jax.data.remote` has it, elsewhere."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_jax.util.files import open_regular

_AHEAD = 2**20  # bytes that take about as long to come from elsewhere as to ask for them does


@dataclasses.dataclass(frozen=True)
class Ranges:
    """A file of which any part is read by itself.

    Attributes:
      read: ``read(at, size)`` gives so many bytes from that one on, or fewer where the file ends.
      size: in bytes.
      changed: when it was, or another number that changes with its content.
    """

    read: Callable[[int, int], bytes]
    size: int
    changed: int

    def ahead(self) -> "Ranges":
        """Return the same file for who reads it from its start to its end, and asks for little at a time."""
        held: tuple[int, bytes] = (0, b"")

        def read(at: int, size: int) -> bytes:
            nonlocal held
            start, some = held
            if not start <= at <= at + size <= start + len(some):
                start, some = held = at, self.read(at, max(size, _AHEAD))
            return some[at - start : at - start + size]

        return dataclasses.replace(self, read=read)


@contextmanager
def opened(path: Path) -> Iterator[Ranges]:
    """Open a regular file of this machine.

    Raises:
      OSError: it can't be read.
    """
    with open_regular(path) as file:
        number = file.fileno()
        status = os.fstat(number)
        yield Ranges(lambda at, size: os.pread(number, size, at), status.st_size, status.st_mtime_ns)
