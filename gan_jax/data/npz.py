"""Arrays in a ``.npz`` file, or images alone in a ``.npy`` file."""

import dataclasses
import math
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_jax.data.images import Decoded, Images, Rows, Stored, fits
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source, check_images, check_labels, one_hot_rows
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed, printable

_NAMED = 10  # arrays in a message
_CLASSES = "classes"


def place(options: Options) -> Path:
    """Return the file that ``options.dir`` names; raise `UserError` if it isn't there."""
    if not options.dir:
        raise UserError("the npz source needs data.dir, the .npz or .npy file")
    if options.test_dir:
        _file(options.test_dir, "data.test_dir")
    return _file(options.dir, "data.dir")


def _file(text: str, key: str) -> Path:
    path = named.path(text, key)
    if not path.is_file():
        other = "is a folder, not a file" if path.is_dir() else "is no regular file"
        wrong = other if path.exists() else "is not there"
        raise UserError(f"{key}: {text!r} {wrong}; the npz source needs an .npz or .npy file")
    return path


def find(options: Options) -> Source:
    """Find the arrays of the file ``options.dir``: ``images``, ``[N, H, W]`` or ``[N, H, W, C]``, and ``labels``.

    Images are uint8 or uint16, labels ``[N]``, ``[N, 1]`` or one-hot ``[N, K]``; ``classes``, strings ``[K]``, are the
    names of the classes.
    ``options.image_key`` and ``label_key`` give other names. ``test_images`` and ``test_labels``, if they are there,
    are the test part, or the images of the file ``options.test_dir`` are. What `numpy.savez` wrote is read from its
    place in the file as it is needed, what `numpy.savez_compressed` wrote is loaded. Nothing is unpickled. A file that
    `numpy.save` wrote, ``.npy``, is one array of images.

    Raises:
      UserError: there is no such file, it is damaged, or its arrays are not like this.
    """
    source = _read(place(options), options)
    if not options.test_dir:
        return source
    if source.test:
        raise UserError(
            f"data.test_dir is {options.test_dir!r}, but {options.dir!r} has test images of its own: leave it empty"
        )
    path = _file(options.test_dir, "data.test_dir")
    if path.samefile(place(options)):
        raise UserError(f"data.test_dir is data.dir itself, {options.dir!r}: give a file of other images")
    other = _read(path, options)
    if (source.train.labels is None) != (other.train.labels is None):
        raise UserError(f"one of {options.dir!r} and {options.test_dir!r} has labels: add them to both, or to neither")
    if source.classes and other.classes and source.classes != other.classes:
        raise UserError(f"{options.dir!r} and {options.test_dir!r} name other {_CLASSES}: give both the same")
    return dataclasses.replace(source, test=other.train, left_out=(*source.left_out, *other.left_out))


def _read(path: Path, options: Options) -> Source:
    """Read what one file has."""
    image_key, label_key = options.image_key or "images", options.label_key or "labels"
    try:
        if path.suffix.lower() == ".npy":
            return Source(f"npz:{path.stem}", _bare(path, options), None)
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            if image_key not in keys:
                raise UserError(f"{path} has no array {image_key!r}, but {_keys(keys) or 'nothing'}")
            if options.label_key and options.label_key not in keys:
                raise UserError(f"{path} has no array {label_key!r}, but {_keys(keys)}")
            train, test = _part(archive, image_key, label_key, keys, options), None
            if f"test_{image_key}" in keys:
                if label_key in keys and f"test_{label_key}" not in keys:
                    raise UserError(
                        f"{path} has {label_key!r}, but no 'test_{label_key}' beside 'test_{image_key}': add them"
                    )
                test = _part(archive, f"test_{image_key}", f"test_{label_key}", keys, options)
            classes, left_out = _names(archive, keys) if label_key in keys else ((), ())
    except UserError:
        raise
    except Exception as error:  # of damaged bytes, the decoders raise anything
        reason = clipped(" ".join(str(error).split()), 300)
        raise UserError(f"cannot read {path} ({reason}): it must be a file of numpy.savez or numpy.save") from error
    return Source(f"npz:{path.stem}", train, test, classes, left_out)


def _names(archive: zipfile.ZipFile, keys: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read what the array of names says, by label; and what of it isn't read."""
    if _CLASSES not in keys:
        return (), ()
    try:
        found = _load(archive, _CLASSES)
    except ValueError as error:
        raise UserError(f"{archive.filename}, {_CLASSES}: {error}: save the names as np.array(names, str)") from error
    if found.dtype.kind not in "US" or found.ndim != 1:
        return (), (f"the array {_CLASSES!r}, {found.dtype} {list(found.shape)}: names of classes are strings [K]",)
    names = [printable(name.decode(errors="replace") if isinstance(name, bytes) else name) for name in found.tolist()]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        several = listed(map(repr, twice), _NAMED)
        raise UserError(f"{archive.filename}, {_CLASSES}: {several} more than once: give each class its own name")
    return tuple(map(clipped, names)), ()


def _keys(keys: list[str]) -> str:
    return listed(map(repr, keys), _NAMED)


def _bare(path: Path, options: Options) -> Part:
    """Return the images of a ``.npy`` file."""
    for key in ("image_key", "label_key"):
        if told := getattr(options, key):
            raise UserError(f"data.{key} is {told!r}, and {path} has one array without a name: leave it empty")
    with path.open("rb") as file:
        header = _header(file, str(path), options)
    size = path.stat().st_size
    if header.bytes != size - header.start:
        raise ValueError(f"it should have {header.bytes:,} bytes of images and has {size - header.start:,}")
    if header.readable:
        return _ready(Stored(path, header.shape, header.start, dtype=header.dtype), None, path, "images", options)
    array = np.load(path, allow_pickle=False)
    return _ready(_native(array).reshape(header.shape), None, path, "images", options)


def _part(archive: zipfile.ZipFile, image_key: str, label_key: str, keys: list[str], options: Options) -> Part:
    path = Path(str(archive.filename))
    images = _images(archive, image_key, options)
    labels = None
    if label_key in keys:
        found = _load(archive, label_key)
        if not _unasked(found, options):
            labels = check_labels(found, len(images), f"{path}, {label_key}", options.condition)
    return _ready(images, labels, path, image_key, options)


def _unasked(labels: np.ndarray, options: Options) -> bool:
    """Return whether labels are vectors, and no classes, of which nobody wants to know."""
    several = labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf"
    return several and not (options.labels or options.condition or one_hot_rows(labels).all())


def _ready(images: Images, labels: np.ndarray | None, path: Path, key: str, options: Options) -> Part:
    """Return the images of a file as a part, to be brought to another shape or type if need be."""
    if fits(images, options):
        return Part(images, labels)
    status = path.stat()
    names = [f"{path.name}, {key}[{i}]" for i in range(len(images))]
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{key}"
    return Part(Decoded(Rows(images), names, options), labels, identity)


class _Header(NamedTuple):
    """What stands before the numbers of an array of images.

    Attributes:
      shape: ``[N, H, W, C]``.
      dtype: uint8 or uint16.
      readable: whether images lie one after the other, as this machine has them.
      start: bytes before the first.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    readable: bool
    start: int

    @property
    def bytes(self) -> int:
        """Return how many follow."""
        return math.prod(self.shape) * self.dtype.itemsize


def _header(file: Any, where: str, options: Options) -> _Header:
    """Read what stands before an array; raise `UserError` if it is none of images."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    check_images(dtype, shape, where, options)
    whole = (*shape, 1) if len(shape) == 3 else shape
    return _Header(whole, dtype, not fortran and 0 not in whole and dtype.isnative, file.tell())


def _images(archive: zipfile.ZipFile, key: str, options: Options) -> Images:
    """Return the array ``key``, left in the file where it isn't compressed."""
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as member:
        header = _header(member, f"{archive.filename}, {key}", options)
    if header.bytes != info.file_size - header.start:
        raise ValueError(f"{key} should have {header.bytes:,} bytes and has {info.file_size - header.start:,}")
    if info.compress_type != zipfile.ZIP_STORED or not header.readable:
        return _native(_load(archive, key)).reshape(header.shape)
    with open(str(archive.filename), "rb") as file:
        file.seek(info.header_offset + 26)  # the lengths of the name and of the extra field, before both
        name, extra = np.frombuffer(file.read(4), "<u2")
    start = info.header_offset + 30 + int(name) + int(extra) + header.start
    return Stored(Path(str(archive.filename)), header.shape, start, dtype=header.dtype)


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _load(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if archive.getinfo(f"{key}.npy").file_size > memory:
        raise ValueError(f"{key} is larger than this machine's memory: save it by numpy.savez, uncompressed")
    with archive.open(f"{key}.npy") as member:
        array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
        return array
