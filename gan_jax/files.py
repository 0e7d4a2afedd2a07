"""Writing files so that nobody ever reads half of one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")


def write_atomically(path: Path, write: Callable[[BinaryIO], T]) -> T:
    """Lets ``write`` fill a temporary file beside ``path``, then renames it: readers see the old or the new, whole.

    Returns what ``write`` returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            result = write(file)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return result
