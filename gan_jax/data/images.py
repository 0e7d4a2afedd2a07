"""Collections of images, wherever their bytes lie: each is asked for many images at once, by their numbers."""

import math
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gan_jax.core.pixels import WHITE
from gan_jax.data.decode import UnreadableImageError, decode, fit_array
from gan_jax.data.options import Options
from gan_jax.util.errors import UserError


class Images(Protocol):
    """Images of one shape, uint8 or uint16; NumPy's arrays are such collections too, and all can be sent to worker
    processes. Collections of uint16 have that as their ``dtype``; see `dtype_of`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        """``[n, H, W, C]`` of the images ``numbers`` ``[n]``."""


def dtype_of(images: Images) -> np.dtype:
    """Return the type of images, uint8 if they don't say."""
    return np.dtype(getattr(images, "dtype", np.uint8))


def megabytes(images: Images) -> float:
    """Return the size of images as whole numbers, in units of 2^20 bytes."""
    return math.prod(images.shape) * dtype_of(images).itemsize / 2**20


def fits(images: Images, options: Options) -> bool:
    """Return whether images are what is asked for, as they are; else `Decoded` makes them so."""
    pixels = options.pixels
    windowed = pixels.bits == 16 and (pixels.low, pixels.high) != (0, WHITE)
    return images.shape[1:] == options.image_shape and dtype_of(images) == pixels.dtype and not windowed


Item = bytes | np.ndarray | str


class Decoded:
    """Images that are decoded each time that they are read.

    Args:
      read: ``read(numbers)`` gives those items: a file's bytes each, or an array ``[H, W, C]``, or the reason
        (str) why there is none.
      names: of each item, for people.
      options: what shape they get.
    """

    def __init__(self, read: Callable[[np.ndarray], Sequence[Item]], names: Sequence[str], options: Options) -> None:
        self._read, self._names, self._options = read, names, options
        self._chosen = np.arange(len(names))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return len(self), *self._options.image_shape

    @property
    def dtype(self) -> np.dtype:
        """Of the images."""
        return np.dtype(self._options.pixels.dtype)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        out = np.empty((len(numbers), *self._options.image_shape), self.dtype)
        for i, image in enumerate(self.attempt(numbers)):
            if isinstance(image, str):
                raise UserError(f"cannot read {image}")
            out[i] = image
        return out

    def attempt(self, numbers: np.ndarray) -> list[np.ndarray | str]:
        """Each of the images ``numbers``, or where it is unreadable its name and the reason."""
        chosen = self._chosen[numbers]
        return [self._one(item, self._names[i]) for item, i in zip(self._read(chosen), chosen, strict=True)]

    def subset(self, numbers: np.ndarray) -> "Decoded":
        """Return the images ``numbers`` alone."""
        part = Decoded(self._read, self._names, self._options)
        part._chosen = self._chosen[numbers]
        return part

    def _one(self, item: Item, name: str) -> np.ndarray | str:
        try:
            if isinstance(item, str):
                raise UnreadableImageError(item)
            return decode(item, self._options) if isinstance(item, bytes) else fit_array(item, self._options)
        except UnreadableImageError as error:
            return " ".join(f"{name} ({error})".split())


class Rows:
    """The single images of a collection, for `Decoded` to bring to another shape."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __call__(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Each of the images ``numbers``."""
        return list(self._images[numbers])


class Stored:
    """Images that lie in a file one after the other: only those asked for are read.

    By ``pread`` and not through a memory map, whose pages would count as memory of a process that streams for long.

    Args:
      path: the file.
      shape: (N, H, W, C) of what lies there.
      offset: bytes before the first image.
      chosen: numbers of the images to be had; all if None.
      dtype: of their numbers: uint8 or uint16.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        offset: int = 0,
        chosen: np.ndarray | None = None,
        dtype: Any = np.uint8,
    ) -> None:
        self._path, self._stored, self._offset, self.dtype = path, shape, offset, np.dtype(dtype)
        self._chosen = np.arange(shape[0]) if chosen is None else chosen
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return len(self), *self._stored[1:]

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        out = np.empty((len(numbers), *self._stored[1:]), self.dtype)
        numbers_each = math.prod(self._stored[1:])
        size = numbers_each * self.dtype.itemsize
        for row, number in zip(out.reshape(len(out), numbers_each).view(np.uint8), self._chosen[numbers], strict=True):
            if os.preadv(self._file, [row.data], self._offset + int(number) * size) != size:
                raise UserError(f"{self._path} is shorter than it was: delete it, or restore it, and start again")
        return out

    def subset(self, numbers: np.ndarray) -> "Stored":
        """Return the images ``numbers`` alone."""
        return Stored(self._path, self._stored, self._offset, self._chosen[numbers], self.dtype)

    def __reduce__(self) -> tuple[object, ...]:
        return Stored, (self._path, self._stored, self._offset, self._chosen, self.dtype)
