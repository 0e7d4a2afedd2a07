"""Packs a data set, whatever its source, into shards that are read as fast as they lie there: ``--mode=prepare``."""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import gan_jax
from gan_jax.core.pixels import USUAL, Pixels
from gan_jax.data.dataset import Dataset
from gan_jax.data.images import Images, dtype_of
from gan_jax.data.packed import ABOUT, FORM, LABELS, PARTS, Shards, opened, pixels_of
from gan_jax.util import named, progress
from gan_jax.util.errors import UserError
from gan_jax.util.files import read_json, write_arrays, write_json

_BEGUN = "packing.json"  # what is being packed, until it is
_SHARD, _MOST = 2**28, 256  # bytes of pixels in a shard, and how many shards a part may have: each is a file held open
_WRITER = "group_size:1,zstd:3"  # each record by itself, for whoever reads in another order
_SLICE = 64  # images that are read at a time


def pack(
    dataset: Dataset,
    folder: Path,
    made: Mapping[str, Any],
    *,
    pixels: Pixels = USUAL,
    shard_bytes: int = _SHARD,
) -> bool:
    """Write ``dataset`` into ``folder``; whoever does it again after a fault goes on, shard by shard.

    Args:
      dataset: its parts are packed as they are split.
      folder: new, empty, or with what an earlier call for the same data left.
      made: how its images were made, for ``packed.json``.
      pixels: what the numbers of its images are.
      shard_bytes: of pixels, that a shard holds at least.

    Returns:
      Whether anything was written: False where the same set lies there already.

    Raises:
      UserError: something else lies there, or it can't be written.
    """
    sizes = {part: _sizes(getattr(dataset, f"{part}_images"), shard_bytes) for part in PARTS}
    known = {"form": FORM, "shape": list(dataset.image_shape), "digest": dataset.digest, "of": sizes}
    known |= {"test_digest": dataset.test_digest, "classes": list(dataset.names)}
    known |= {} if pixels == USUAL else {"pixels": dataclasses.asdict(pixels)}
    known |= {"condition": dataset.condition} if dataset.condition else {}
    try:
        if _claim(folder, known):
            return False
        labels = (dataset.train_labels, dataset.test_labels)
        write_arrays(folder / LABELS, dict(zip(PARTS, labels, strict=True)))
        shards = {}
        count = sum(map(sum, sizes.values()))
        with progress.bar(total=count, desc=f"packing {dataset.name}", unit="image", delay=1, leave=False) as bar:
            for part in PARTS:
                place = Shards(folder, part, tuple(sizes[part]))
                shards[part] = _write(getattr(dataset, f"{part}_images"), place, bar)
        about = {key: value for key, value in known.items() if key != "of"}
        counts = {part: len(getattr(dataset, f"{part}_images")) for part in PARTS}
        told = {"source": dataset.name, "made": {"gan_jax": gan_jax.__version__, **made}}
        write_json(folder / ABOUT, {**about, **counts, "shards": shards, **told})
        (folder / _BEGUN).unlink()
    except (OSError, RuntimeError) as error:  # the latter of array_record's writer
        reason = named.one_line(error) if isinstance(error, RuntimeError) else error.strerror or error
        raise UserError(f"--out: cannot write to {str(folder)!r}: {reason}; the same command goes on") from error
    return True


def _claim(folder: Path, known: Mapping[str, Any]) -> bool:
    """Make the ``folder``, or find there what can be gone on with; return whether that is whole already."""
    folder.mkdir(parents=True, exist_ok=True)
    whole, begun = read_json(folder / ABOUT), read_json(folder / _BEGUN)
    if isinstance(whole, dict) and whole.get("form") == FORM:
        same = all(whole.get(key) == value for key, value in known.items() if key != "of")
        if not same or pixels_of(whole) != pixels_of(known):
            raise UserError(f"--out={folder} holds another packed set, of {whole.get('source')}: give another folder")
        return True
    if begun != known:
        if any(folder.iterdir()):
            what = "what was begun of another set" if begun else "something else"
            raise UserError(f"--out={folder} holds {what}: give a new or an empty folder")
        write_json(folder / _BEGUN, known)
    return False


def _sizes(images: Images, shard_bytes: int) -> list[int]:
    """Return how many images each shard gets."""
    count, each = len(images), math.prod(images.shape[1:]) * dtype_of(images).itemsize
    a_shard = max(1, shard_bytes // each, -(-count // _MOST))
    return [min(a_shard, count - start) for start in range(0, count, a_shard)]


def _write(images: Images, shards: Shards, bar: Any) -> list[tuple[int, int]]:
    """Write the shards of a part that aren't there yet; return each one's number of images and of bytes."""
    from array_record.python.array_record_module import ArrayRecordWriter

    start, written = 0, []
    for path, count in zip(shards.paths, shards.counts, strict=True):
        if not (path.exists() and opened(path).num_records() == count):
            partial = path.with_name(f".{path.name}.partial")
            writer = ArrayRecordWriter(str(partial), _WRITER)
            for first in range(start, start + count, _SLICE):
                some = images[np.arange(first, min(first + _SLICE, start + count))]
                for image in some:
                    writer.write(np.ascontiguousarray(image).tobytes())
                bar.update(len(some))
            writer.close()
            if opened(partial).num_records() != count:
                raise OSError(f"{path.name} wasn't written whole")
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        else:
            bar.update(count)
        written.append((count, path.stat().st_size))
        start += count
    return written
