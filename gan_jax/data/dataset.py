"""Data sets: images of one shape, from any source, in memory or streamed, and the order of training."""

import dataclasses
import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.data import duplicates, embedded, held_out, npz, own, packed, pictures, tfds
from gan_jax.data.cache import Cache, Unreadable
from gan_jax.data.images import Decoded, Images, megabytes
from gan_jax.data.options import Options
from gan_jax.data.order import shuffled
from gan_jax.data.parts import Part, Source, check_channels
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed, printable, unknown_name

SOURCES: dict[str, Callable[[Options, Cache], Source]] = {
    "embedded": lambda options, _: embedded.find(options),
    "folder": lambda options, _: pictures.find(options),
    "npz": lambda options, _: npz.find(options),
    "packed": lambda options, _: packed.find(options),
    "tfds": tfds.find,
}
_NAMELESS = ("folder", "npz", "packed")
_NAMED_IN_WARNING = 5
_NAMED_CLASSES = 12
_MIXED = 2  # the epoch whose order mixes vectors; those of 0 and 1 are others'
_FEWEST_VECTORS, _NUMBERS = 100, 50_000  # that a run keeps, to draw from
_LOOKED_AT = 16  # images, for whether they are nearly black
_MOST_CLASSES = 100_000  # networks have a row of weights for each


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images of one shape and their classes.

    Attributes:
      name: what it is, for people.
      train_images, test_images: uint8 or uint16 ``[N, H, W, C]``, indexed by arrays of numbers; NumPy arrays, or files
        behind the same face (`gan_jax.data.images`). The test images are never trained on; there may be none.
      train_labels, test_labels: int32 ``[N]``, from 0 to ``classes - 1``; all 0 where there are no labels; or vectors,
        conditions, float32 ``[N, K]``.
      classes: number of classes that there are images of; 0 without labels.
      names: those of the classes, by label; if empty, their numbers are.
      left_out: what lay beside the images and isn't read, in words.
      warnings: what the user should know, a line each.
    """

    name: str
    train_images: Images
    train_labels: np.ndarray
    test_images: Images
    test_labels: np.ndarray
    classes: int
    names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels

    @cached_property
    def digest(self) -> str:
        """A hash of the train images and all labels; of sets beyond 1 GB, of 1,000 images spread over them."""
        hashed = _hashed(self.train_images, f"{self.train_images.shape} {self.classes}")
        for labels in (self.train_labels, self.test_labels):
            hashed.update(labels.tobytes())
        return hashed.hexdigest()

    @cached_property
    def test_digest(self) -> str:
        """A hash of the test images, as `digest` is one of the train images: no training depends on them."""
        return _hashed(self.test_images, str(self.test_images.shape)).hexdigest()

    @property
    def megabytes(self) -> float:
        """Size of the train images as whole numbers, in units of 2^20 bytes."""
        return megabytes(self.train_images)

    @property
    def condition(self) -> int:
        """Numbers in the vector that each image has for a label; 0: labels are classes."""
        return self.train_labels.shape[1] if self.train_labels.ndim > 1 else 0

    @property
    def conditions(self) -> list[list[float]]:
        """Vectors of the train images, in an order that mixes them: all, or some where they are many."""
        if not self.condition:
            return []
        most = max(_FEWEST_VECTORS, _NUMBERS // self.condition)
        found: list[list[float]] = self.train_labels[shuffled(len(self.train_labels), _MIXED)[:most]].tolist()
        return found

    @property
    def class_counts(self) -> list[dict[str, Any]]:
        """Of each class, by label: ``name``, and how many images there are to ``train`` and to ``test`` on."""
        if not self.classes:
            return []
        names = self.names or [str(label) for label in range(self.classes)]
        counts = (np.bincount(labels, minlength=self.classes) for labels in (self.train_labels, self.test_labels))
        columns = zip(names, *counts, strict=False)  # all labels are 0 without classes
        return [{"name": name, "train": int(train), "test": int(test)} for name, train, test in columns]

    @property
    def description(self) -> dict[str, str]:
        """What was found besides the images, in words, by what it is."""
        found = {}
        if self.classes:
            classes = [f"{one['name']} {one['train'] + one['test']:,}" for one in self.class_counts]
            found["classes"] = f"{self.classes:,} classes: {listed(classes, _NAMED_CLASSES)}"
        if self.condition and len(self.train_labels):
            ends = zip(self.train_labels.min(0), self.train_labels.max(0), strict=True)
            spans = [f"{low:.3g} to {high:.3g}" for low, high in ends]
            found["conditions"] = f"{self.condition:,} numbers an image: {listed(spans, _NAMED_CLASSES)}"
        if self.left_out:
            found["left out"] = "; ".join(self.left_out)
        return found


def _hashed(images: Images, what: str) -> "hashlib.blake2b":
    hashed, count = hashlib.blake2b(what.encode(), digest_size=12), len(images)
    numbers = np.arange(count) if megabytes(images) <= 1024 else np.linspace(0, count - 1, 1000).astype(int)
    for start in range(0, len(numbers), 1000):
        hashed.update(images[numbers[start : start + 1000]].tobytes())
    return hashed


def check_place(options: Options) -> None:
    """Raise `UserError` if ``options.dir`` isn't there, where it must be."""
    if options.source in _NAMELESS:
        {"folder": pictures.check, "npz": npz.place, "packed": packed.place}[options.source](options)


def alone(options: Options, source: str, place: Path) -> Options:
    """Return ``options`` that bring all images of ``place`` to the same shape: without labels, none held out."""
    texts = dict.fromkeys(("name", "image_key", "label_key", "test_dir", "test_list", "fold"), "")
    told: dict[str, Any] = {**texts, "source": source, "dir": str(place), "alpha": options.pixels.alpha, "condition": 0}
    return dataclasses.replace(options, **told, labels=False, test_fraction=0.0)


def load(options: Options, cache: Path | None, reading: bool = False) -> Dataset:
    """Load the data set that ``options`` describe; what must be decoded for it is kept in the directory ``cache``.

    Where that can't be written, it is an error, or with ``reading`` a warning.

    Raises:
      UserError: the source or name is unknown, its data is missing or unlike what is asked for, or (with
        ``options.strict``) an image is unreadable.
    """
    users = named.is_function(options.source)
    if options.source not in SOURCES and not users:
        raise unknown_name("data.source", options.source, SOURCES)
    if options.source in _NAMELESS and options.name:
        raise UserError(
            f"data.name is {options.name!r}, but the {options.source} source is told by data.dir alone: leave it empty"
        )
    held_out.check(options)
    check_channels(options)
    kept = Cache(cache if options.cache_budget_mb else None, reading)
    source = own.find(options) if users else SOURCES[options.source](options, kept)
    if source.test and options.fold:
        raise UserError(f"data.fold is {options.fold}, but {source.name} has test images of its own: leave it empty")
    parts = [part for part in (source.train, source.test) if part]
    ready = [_ready(part, options, kept, source.name) for part in parts]
    lost, count = [reason for _, reasons in ready for reason in reasons], sum(len(part.images) for part in parts)
    which = f"{len(lost):,} of the {count:,} images of {source.name}"
    if lost and options.fit == "none":
        raise UserError(f"{which} can't be used: {_named(lost)}; set data.image_size, or data.fit to crop or resize")
    if lost and options.strict:
        raise UserError(f"{which} can't be used: {_named(lost)}; mend or remove, or set data.strict=False")
    if len(lost) == count:
        raise UserError(f"{which} can't be used: {_named(lost)}" if lost else f"{source.name} has no images")
    train, *rest = [part for part, _ in ready]
    # Held out of the readable ones, so that to remove the others changes nothing.
    train, test = (train, *rest) if rest else held_out.split(train, options, source.name)
    if not len(train.images):
        raise UserError(f"{source.name} has no images to train on, only to test on: hold out fewer")
    if options.labels and train.labels is None:
        raise UserError(f"{source.name} has no labels, and this run needs them (data.labels=True)")
    labels, names = _vectors([train, test], source, options) if options.condition else _numbered([train, test], source)
    warnings = [f"{which} left out: {_named(lost)}"] if lost else []
    leaks, unsearched = duplicates.told(train, test, source, options, kept)
    unseen = [names[label] for label in np.setdiff1d(labels[1], labels[0])] if names else []
    if unseen:
        warnings.append(f"{source.name} has no image to train on of {listed(unseen)}, only some to test on")
    return Dataset(
        *(printable(source.name), train.images, labels[0], test.images, labels[1]),
        classes=len(names),
        names=names,
        left_out=(*source.left_out, *unsearched),
        warnings=(*warnings, *leaks, *_dark(train.images, options, source.name)),
    )


def _vectors(parts: list[Part], source: Source, options: Options) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Return vectors float32 ``[N, K]`` of both parts, and no names of classes."""
    found, shape = [], (options.condition,)
    for part in parts:
        labels = np.zeros((0, *shape), np.float32) if part.labels is None and not len(part.images) else part.labels
        if labels is None or labels.shape[1:] != shape or labels.dtype != np.float32 or not np.isfinite(labels).all():
            told = "no labels" if labels is None else f"labels {labels.dtype} {list(labels.shape)}"
            raise UserError(
                f"data.condition is {options.condition}, and {source.name} has {told}, not finite float32 "
                f"[N, {options.condition}]: give such, or set data.condition=0"
            )
        found.append(labels)
    return found, ()


def _dark(images: Images, options: Options, what: str) -> list[str]:
    """Say that images, maybe of 12 bits in 16, are nearly black, where the window of greys wasn't set."""
    if options.range or not (options.bits == 16 or options.of_arrays):
        return []
    some = images[np.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).astype(int)]
    brightest, white = int(some.max()), int(np.iinfo(some.dtype).max)
    if brightest > white // 8:
        return []
    found = f"the brightest of {len(some)} images of {what} is {brightest:,} of {white:,}"
    return [f"{found}: if its numbers go less far than 16 bits, set data.range, e.g. to 0,4095"]


def _numbered(parts: list[Part], source: Source) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels int32 ``[N]`` of both parts, counted from 0 without a gap, and the classes' names by them."""
    if any(part.labels is None for part in parts):
        return [np.zeros(len(part.images), np.int32) for part in parts], ()
    found = np.unique(np.concatenate([part.labels for part in parts if part.labels is not None]))
    if len(found) > _MOST_CLASSES:
        raise UserError(f"{source.name} has {len(found):,} classes, and there may be {_MOST_CLASSES:,}")
    names = tuple(source.classes[label] if label < len(source.classes) else str(label) for label in found)
    return [np.searchsorted(found, part.labels).astype(np.int32) for part in parts if part.labels is not None], names


def _ready(part: Part, options: Options, cache: Cache, what: str) -> tuple[Part, list[str]]:
    """Return the part with its images decoded, or ready to be, and what was wrong with those left out."""
    if not len(part.images):
        return dataclasses.replace(part, images=np.zeros((0, *options.image_shape), options.pixels.dtype)), []
    if not isinstance(part.images, Decoded):
        return part, []
    lost: Unreadable
    images, lost = cache.images(part.images, part.identity, options, what)
    kept = np.setdiff1d(np.arange(len(part.images)), list(lost))
    labels = None if part.labels is None else part.labels[kept]
    return Part(images, labels, names=part.named()[kept]), list(lost.values())


def _named(lost: list[str]) -> str:
    return listed(map(printable, lost), _NAMED_IN_WARNING, "; ", long=300)
