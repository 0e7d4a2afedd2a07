"""Data that needs no download, because it comes with this package or another, or is drawn."""

import io
import lzma
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from gan_jax.data import earth, shapes
from gan_jax.data.images import Decoded, Rows, fits
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source
from gan_jax.util.errors import UserError, unknown_name

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_DIGITS = Path(__file__).with_name("mnist5k.npy.xz")
_TEST_PER_CLASS = 50
_SHAPES = 4500, 5000  # numbers of the first test image and of the first that is none


def find(options: Options) -> Source:
    """Find the set ``options.name``: ``mnist5k`` (the default), ``shapes32``, ``earth32`` or another of `SETS`.

    Raises:
      UserError: there is no such set, its package is missing, or ``options.dir`` is given.
    """
    name = options.name or "mnist5k"
    if name not in SETS:
        raise unknown_name("data.name of the embedded source", name, SETS)
    if options.dir:
        raise UserError(
            f"data.dir is {options.dir!r}, but the embedded source reads no directory: leave data.dir empty"
        )
    make, classes = SETS[name]
    train_images, train_labels, test_images, test_labels = make()
    return Source(
        f"embedded:{name}",
        _part(train_images, train_labels, f"{name}, train", options),
        _part(test_images, test_labels, f"{name}, test", options),
        classes,
    )


def mnist5k() -> Split:
    """Return the 5,000 MNIST digits that come with the package, 500 a class, 28x28x1.

    Split once and for all: the first 450 of each class in the file's order train, the last 50 test. The file has an
    array uint8 ``[5000, 785]``: 784 grey levels and the class (``benchmarks/mnist5k_file.py`` made it).

    Returns:
      Train images uint8 ``[4500, 28, 28, 1]``, their labels int32 ``[4500]``, test images ``[500, 28, 28, 1]``, labels.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        rows = np.load(io.BytesIO(lzma.decompress(_DIGITS.read_bytes())), allow_pickle=False)
        if (rows.shape, rows.dtype) != ((5000, 785), np.uint8):
            raise ValueError(f"{_DIGITS.name} holds an array {rows.dtype} {rows.shape}, not uint8 (5000, 785)")
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise UserError(f"cannot read the embedded digits: {error}; install gan_jax again") from error
    images, labels = rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1].astype(np.int32)
    test = np.concatenate([np.flatnonzero(labels == digit)[-_TEST_PER_CLASS:] for digit in range(10)])
    train = np.setdiff1d(np.arange(len(labels)), test)
    return images[train], labels[train], images[test], labels[test]


def coloured_shapes(size: int) -> Split:
    """5,000 images of `gan_jax.data.shapes`, uint8 ``[N, size, size, 3]``; the first 4,500 train, the last 500 test."""
    test, end = _SHAPES
    return *shapes.draw(size, 0, test), *shapes.draw(size, test, end)


# What makes a set, and the names of its classes; the digits' are their numbers.
SETS: dict[str, tuple[Callable[[], Split], tuple[str, ...]]] = {
    "mnist5k": (mnist5k, ()),
    **{f"shapes{side}": (partial(coloured_shapes, side), shapes.KINDS) for side in (32, 64)},
    **{f"earth{side}": (partial(earth.tiles, side), earth.BANDS) for side in (32, 64, 128)},
}


def _part(images: np.ndarray, labels: np.ndarray, name: str, options: Options) -> Part:
    if fits(images, options):
        return Part(images, labels)
    names = [f"{name}[{number}]" for number in range(len(images))]
    return Part(Decoded(Rows(images), names, options), labels, name)
