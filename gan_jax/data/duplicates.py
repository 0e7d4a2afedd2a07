"""Train images that are nearly the same as held-out ones: recompressed, resized, or the next picture of a film.

What is said of held-out images then flatters a GAN that copies. Images are compared by the means of their cells in a
grid of 16x16, in which compression leaves no trace, and digits, however alike, differ: of all channels, at 8 bits.
"""

import hashlib
import json
import math
from collections.abc import Iterator

import numpy as np

from gan_jax.data.cache import Cache
from gan_jax.data.images import Decoded, Images, megabytes
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source
from gan_jax.util import progress
from gan_jax.util.errors import clipped, printable

_GRID = 16  # cells a side
_LEVELS = 6.0  # of 255: what the cells of two such images differ by at most, as a root of the mean square
_SHARE = 0.1  # of a held-out image's standard deviation over its cells: the same; of pale images it is the lower bound
_SAMPLED = 64  # pixels a side that are looked at, at the most
_MOST_PAIRS, _MOST_MB = 2e9, 4096.0  # a minute, or so, of one core
_SLICE = 1000  # images read at a time
_TILE = 500  # held-out images that as many train images are compared with at a time
_ATTEMPTS = 8  # at a pair, of each train image in a tile
_SLACK = 8.0  # of a squared distance that is computed from products in float32


def told(train: Part, test: Part, source: Source, options: Options, cache: Cache) -> tuple[list[str], list[str]]:
    """Return a warning if some of ``train`` are nearly in ``test`` too; and why it wasn't looked, if it wasn't.

    Args:
      train, test: ready to be read.
      source: that they are from.
      options: see there.
      cache: keeps what was found in data that has an identity.
    """
    if options.source == "embedded" or not len(test.images) or not len(train.images):
        return [], []  # those were looked at once and for all, by a test
    if why := _too_much(train.images, test.images):
        return [], [f"the search for held-out images that are nearly in the train images, too: {why}"]
    identity = [part.identity for part in (source.train, source.test) if part]
    if all(identity):
        names = ("\n".join(map(str, part.named())) for part in (train, test))
        which = [hashlib.blake2b(text.encode(errors="surrogateescape")).hexdigest() for text in names]
        look = [options.image_shape, options.fit, options.background, _GRID, _LEVELS, _SHARE, *options.beyond]
        found = cache.array(
            json.dumps([identity, which, look]), lambda: near(train.images, test.images), "near-duplicates are"
        )
    else:
        found = near(train.images, test.images)
    count, first, other = map(int, found)
    if not count:
        return [], []
    pair = " and the held-out ".join(_name(part.named()[number]) for part, number in ((train, first), (test, other)))
    return [
        f"{count:,} of the {len(train.images):,} train images of {source.name} are nearly the same as held-out ones, "
        f"as {pair}: what is said of held-out images flatters then; remove one of each pair, or hold such images out "
        "together, by data.test_list"
    ], []


def near(train: Images, test: Images) -> np.ndarray:
    """Return how many train images are nearly a held-out one, and the numbers of the first such pair: int64 ``[3]``."""
    channels = train.shape[3]
    held = np.concatenate(list(_all_cells(test)))
    spread = np.sqrt(held.reshape(len(held), -1, channels).var(1).mean(1))
    limit = np.square(np.minimum(_LEVELS, _SHARE * spread))
    coarse = _coarse(held, channels)
    # |a - b|^2 <= bound is a product of a and b, with two further columns each: most pairs fall at it.
    bound = limit * coarse.shape[1] + _SLACK
    known = np.column_stack([coarse, np.ones(len(coarse)), (bound - np.square(coarse).sum(1)) / 2]).astype(np.float32)
    count, done, pair = 0, 0, (-1, -1)
    with progress.bar(total=len(train), desc="looking for near-duplicates", unit="image", delay=1, leave=False) as bar:
        for cells in _all_cells(train):
            own = _coarse(cells, channels)
            asked = np.column_stack([own, -np.square(own).sum(1) / 2, np.ones(len(own))]).astype(np.float32)
            match = _matches(cells, asked, held, known, limit)
            hits = np.flatnonzero(match >= 0)
            if len(hits) and not count:
                pair = done + int(hits[0]), int(match[hits[0]])
            count, done = count + len(hits), done + len(cells)
            bar.update(len(cells))
    return np.array([count, *pair], np.int64)


def _matches(
    cells: np.ndarray, asked: np.ndarray, held: np.ndarray, known: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """Of each image the number of a held-out one that is nearly the same; -1: there is none."""
    match = np.full(len(cells), -1, np.int64)
    for start in range(0, len(held), _TILE):
        likely = asked @ known[start : start + _TILE].T >= 0
        if not likely.any():
            continue
        for _ in range(_ATTEMPTS):
            rows = np.flatnonzero(likely.any(1) & (match < 0))
            if not len(rows):
                break
            columns = likely[rows].argmax(1)
            differing = cells[rows].astype(np.float32) - held[start + columns]
            same = np.square(differing).mean(1) <= limit[start + columns]
            match[rows[same]] = start + columns[same]
            likely[rows, columns] = False
    return match


def _all_cells(images: Images, size: int = _SLICE) -> Iterator[np.ndarray]:
    """Yield the cells of all ``images``, of ``size`` images at a time."""
    for start in range(0, len(images), size):
        yield _cells(images[np.arange(start, min(start + size, len(images)))])


def _cells(images: np.ndarray) -> np.ndarray:
    """Means of the cells: ``[n, H, W, C]`` -> uint8 ``[n, cells * cells * C]``. Cells may share a row of pixels."""
    step, found = max(1, images.shape[1] // _SAMPLED), images
    found = found[:, ::step, ::step]
    if found.dtype == np.uint16:
        found = ((found.astype(np.uint32) + 128) // 257).astype(np.uint8)
    for axis in (1, 2):
        side = found.shape[axis]
        cells = _GRID if side >= _GRID else max(side - side % 2, 1)
        first, wide = np.arange(cells) * side // cells, -(-side // cells)
        total = np.take(found, first, axis).astype(np.uint16)
        for offset in range(1, wide):
            total += np.take(found, first + offset, axis)
        found = ((total + wide // 2) // wide).astype(np.uint8)
    return found.reshape(len(images), -1)


def _coarse(cells: np.ndarray, channels: int) -> np.ndarray:
    """Means over four cells and the channels, about 0: float32 ``[n, K]``, in which images are as near, or nearer."""
    side = math.isqrt(cells.shape[1] // channels)
    four = min(side, 2)
    squares = cells.reshape(len(cells), side // four, four, side // four, four * channels).astype(np.float32)
    found: np.ndarray = squares.mean((2, 4)).reshape(len(cells), -1) - 128
    return found


def _too_much(train: Images, test: Images) -> str:
    """Why it would take too long to compare them; nothing if it wouldn't."""
    size = megabytes(train)
    if isinstance(train, Decoded) or isinstance(test, Decoded):
        return "they are decoded anew each time that they are read, beyond data.cache_budget_mb"
    if size > _MOST_MB:
        return f"they have {size:,.0f} MB, and it reads {_MOST_MB:,.0f} MB at the most"
    if len(train) * len(test) > _MOST_PAIRS:
        return f"{len(train):,} and {len(test):,} images are more pairs than {_MOST_PAIRS:,.0f}"
    return ""


def _name(name: object) -> str:
    return clipped(printable(name)) if isinstance(name, str) else f"number {name:,}"
