"""Data sets as ``--mode=prepare`` packs them: images of one shape in array_record shards, and what is known of them.

A record is the pixels of one image, as they are, and the shards are packed by zstd. On two cores a 64x64 picture of the
Earth takes 8.7 KB and .05 ms to read so, 12.4 KB and .05 ms unpacked, and 6.2 KB and 1.1 ms as a PNG; a 128x128 one
31 KB and .5 ms, 49 KB and .3 ms, and 22 KB and 2 ms. PNG saves a quarter of the disk, and its decoding is what a packed
set is there to spare. Labels lie beside the shards, so that no image is read for them.

``packed.json``, written last, says that the set is whole.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from gan_jax.core.pixels import USUAL, Pixels
from gan_jax.data.images import Decoded, Rows
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source, check_labels
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed, printable
from gan_jax.util.files import read_arrays, read_json

ABOUT, LABELS, FORM = "packed.json", "labels.npz", 1
PARTS = ("train", "test")
# Of a reader that is asked for single records: it reads nothing ahead, and keeps a small buffer for each shard.
_READER, _BUFFER = "readahead_buffer_size:0,max_parallelism:0", 2**16


@dataclasses.dataclass(frozen=True)
class Shards:
    """Where the images of one part are, and how many in each shard.

    Attributes:
      folder: of the packed set.
      part: ``train`` or ``test``.
      counts: of each shard.
    """

    folder: Path
    part: str
    counts: tuple[int, ...]

    @property
    def paths(self) -> list[Path]:
        """Return the shards' files."""
        total = len(self.counts)
        return [self.folder / f"{self.part}-{number:05d}-of-{total:05d}.array_record" for number in range(total)]


class Records:
    """Images in shards, any of them read by its number; readers are opened when they are needed, and shared by threads.

    Args:
      shards: where they are.
      shape: (height, width, channels) of each.
      dtype: of their numbers: uint8 or uint16.
    """

    def __init__(self, shards: Shards, shape: Sequence[int], dtype: Any = np.uint8) -> None:
        self._shards, self._image, self.dtype = shards, tuple(shape), np.dtype(dtype)
        self._starts = np.cumsum([0, *shards.counts])
        self._open()

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, H, W, C)."""
        return len(self), *self._image

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        out = np.empty((len(numbers), *self._image), self.dtype)
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        for shard in np.unique(shards):
            own = np.flatnonzero(shards == shard)
            records = self._read(int(shard), numbers[own] - self._starts[shard])
            for i, record in zip(own, records, strict=True):
                out[i] = np.frombuffer(record, self.dtype).reshape(self._image)
        return out

    def __reduce__(self) -> tuple[object, ...]:
        return Records, (self._shards, self._image, self.dtype)

    def _open(self) -> None:
        self._readers: dict[int, Any] = {}
        self._lock = Lock()

    def _read(self, shard: int, numbers: np.ndarray) -> list[bytes]:
        path = self._shards.paths[shard]
        try:
            with self._lock:
                reader = self._readers.get(shard) or opened(path)
                self._readers[shard] = reader
            records: list[bytes] = reader.read(numbers.tolist())
        except Exception as error:  # of damaged files, the reader raises anything
            raise _damaged(path, str(error)) from error
        if any(len(record) != math.prod(self._image) * self.dtype.itemsize for record in records):
            raise _damaged(path, "a record isn't an image")
        return records


def opened(path: Path) -> Any:
    """Return a reader of a shard's records, in any order."""
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(str(path), _READER, file_reader_buffer_size=_BUFFER)


def place(options: Options) -> Path:
    """Return the folder that ``options.dir`` names; raise `UserError` if it isn't there."""
    if not options.dir:
        raise UserError("the packed source needs data.dir, the folder that --mode=prepare wrote")
    folder = named.path(options.dir, "data.dir")
    if not (folder / ABOUT).is_file():
        wrong = f"has no {ABOUT}: it wasn't packed to its end" if folder.is_dir() else "is not a folder that is there"
        raise UserError(f"data.dir: {options.dir!r} {wrong}; --mode=prepare --out={options.dir} writes such")
    return folder


def find(options: Options) -> Source:
    """Return the data set that was packed into ``options.dir``, split as it was.

    Its images have one side, and are made smaller where ``options.image_size`` is, as those of other sources are.

    Raises:
      UserError: there is none, it is damaged, or its images are smaller than is asked for, or of other channels.
    """
    folder = place(options)
    about = told(folder)
    shape, wanted = tuple(about["shape"]), options.image_shape
    if shape[2] != wanted[2] or shape[0] < wanted[0]:
        sides = " and ".join("x".join(map(str, one)) for one in (shape, wanted))
        raise UserError(
            f"data.dir: the images packed in {options.dir!r} are {sides.replace(' and ', ', and this run wants ')}: "
            "set data.image_size and data.channels to theirs, or prepare the set anew with these"
        )
    packed = Pixels(**pixels_of(about))
    if packed != options.pixels:
        keys = [f"data.{key}={value}" for key, value in keys_of(packed).items()]
        raise UserError(
            f"data.dir: the images packed in {options.dir!r} are of other bits, alpha or range than this run's: "
            f"set {listed(keys)}, or prepare the set anew"
        )
    arrays = read_arrays(folder / LABELS) or {}
    parts = [_part(folder, part, about, arrays, options) for part in PARTS]
    classes = tuple(printable(str(name)) for name in about["classes"])
    return Source(f"packed:{printable(folder.resolve().name)}", parts[0], parts[1], classes)


def pixels_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Pixels` as ``packed.json`` has them; sets of 8 bits without alpha say nothing of it."""
    found: dict[str, Any] = dataclasses.asdict(USUAL) | about.get("pixels", {})
    return found


def keys_of(pixels: Pixels) -> dict[str, Any]:
    """Return the keys of ``data`` that stand for ``pixels``."""
    whole = (pixels.low, pixels.high) == (USUAL.low, USUAL.high)
    return {
        "bits": pixels.bits,
        "alpha": pixels.alpha,
        "range": "''" if whole else f"{pixels.low},{pixels.high}",
    }


def told(folder: Path) -> dict[str, Any]:
    """Return what ``packed.json`` says, once it is known to be such.

    Raises:
      UserError: it is damaged, of another version, or a shard that it tells of is missing or cut.
    """
    about, where = read_json(folder / ABOUT), f"data.dir: {str(folder / ABOUT)!r}"
    try:
        form, shape, classes = about["form"], about["shape"], about["classes"]
        shards = {part: about["shards"][part] for part in PARTS}
        sizes = [*shape, *(number for part in PARTS for shard in shards[part] for number in shard)]
        whole = len(shape) == 3 and isinstance(classes, list) and all(type(size) is int and size > 0 for size in sizes)
        whole = whole and pixels_of(about).keys() == pixels_of({}).keys()
        whole = whole and all(len(shard) == 2 for part in PARTS for shard in shards[part])
    except (KeyError, TypeError):
        whole, form = False, None
    if not whole:
        raise UserError(f"{where} is damaged: prepare the set anew, into another folder")
    if form != FORM:
        raise UserError(f"{where} is of version {form!r}, and this program reads {FORM}: prepare the set anew")
    for part in PARTS:
        counts = tuple(count for count, _ in shards[part])
        for path, (_, size) in zip(Shards(folder, part, counts).paths, shards[part], strict=True):
            if not path.is_file() or path.stat().st_size != size:
                wrong = "has another size than when it was written" if path.is_file() else "is missing"
                raise UserError(f"data.dir: the shard {str(path)!r} {wrong}: restore it, or prepare the set anew")
    found: dict[str, Any] = about
    return found


def _part(folder: Path, part: str, about: dict[str, Any], arrays: dict[str, np.ndarray], options: Options) -> Part:
    counts = tuple(count for count, _ in about["shards"][part])
    labels = None
    vectors = about.get("condition", 0)
    if options.labels and vectors != options.condition:
        raise UserError(
            f"data.dir: the labels packed in {options.dir!r} are "
            + (f"vectors of {vectors} numbers" if vectors else "classes")
            + f", and data.condition is {options.condition}: set it to {vectors}"
        )
    if about["classes"] or vectors:
        if part not in arrays:
            raise UserError(f"data.dir: {str(folder / LABELS)!r} is missing or damaged: prepare the set anew")
        labels = check_labels(arrays[part], sum(counts), f"{folder / LABELS}, {part}", vectors)
    images = Records(Shards(folder, part, counts), about["shape"], options.pixels.dtype)
    if images.shape[1:] == options.image_shape or not counts:
        return Part(images, labels)
    names = [f"{folder.name}, {part}[{number}]" for number in range(len(images))]
    windowed = dataclasses.replace(options, range="")  # as they were when they were packed
    return Part(Decoded(Rows(images), names, windowed), labels, f"{folder.resolve()} {about['digest']} {part}")


def _damaged(path: Path, reason: str) -> UserError:
    first = next(iter(reason.splitlines()), "")[:300]
    return UserError(f"cannot read {str(path)!r} ({first}): restore it, or prepare the set anew")
