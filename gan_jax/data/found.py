"""What lies where pictures are looked for, be it a folder, an archive or a bucket: one face for all of them."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from gan_jax.util.errors import clipped, listed, printable

ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".avif", ".heic", ".heif"),
)
CACHE = "data_cache"  # beside workdirs
# What of a workdir are, or have in them, pictures.
DRAWN = ("samples", "reconstructions", "neighbours", "samples.png", "interpolations.png", "training.gif")
LISTED = 10  # of what was left out
_BEGUN, _LOGGED = {"config.json", "checkpoints"}, {"config.json", "samples", "checkpoints"}
MARKS = {*_BEGUN, *_LOGGED, "metrics.jsonl"}  # names by which a workdir is known

# A file's bytes by its path below the place, or why they can't be had; None: it isn't there.
Beside = Callable[[str], bytes | str | None]
Image = tuple[str, int, int]  # its path below the place, its size, and when it was changed or where it lies
Read = Callable[[np.ndarray], Sequence[bytes | str]]  # each file's bytes, or why they can't be had, by its number


# Bytes of a picture's file; Pillow refuses more than 90 million pixels, and most pictures are packed.
LARGEST = 2**28


class Names(Sequence[str]):
    """Many texts in one piece of memory: as long as they are, and 8 bytes more, where a list takes 60."""

    def __init__(self, names: Iterable[str]) -> None:
        coded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._ends = np.cumsum([0, *map(len, coded)])
        self._text = b"".join(coded)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int, /) -> str:  # type: ignore[override]  # no slices
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._text[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogateescape")


@dataclasses.dataclass
class Found:
    """What lies in a place.

    Attributes:
      what: the place is, in two words.
      name: of the place, for people.
      identity: of the place; each image's tells the rest.
      reader: ``reader(images)`` gives what reads these, by their numbers.
      images: the files of images.
      endings: those of other files, counted.
      special: what isn't a file.
      own: folders and files that belong to runs.
      notes: what else is to be said, a line each.
      beside: ``beside(name)`` reads another file there, as one of labels.
      around: what paths in such a file may begin with, and those of ``images`` don't: a folder around everything.
    """

    what: str
    name: str
    identity: str
    reader: Callable[[Sequence[Image]], Read]
    images: list[Image] = dataclasses.field(default_factory=list)
    endings: Counter[str] = dataclasses.field(default_factory=Counter)
    special: list[str] = dataclasses.field(default_factory=list)
    own: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    beside: Beside = dataclasses.field(default=lambda name: None)
    around: str = ""

    def left_out(self) -> list[str]:
        """Say so in words, a line each."""
        kinds = [f"{count:,} {clipped(printable(ending), 20)}" for ending, count in self.endings.most_common()]
        lines = [f"files of other endings: {listed(kinds, LISTED)}"] if kinds else []
        names = [repr(name) for name in sorted(self.special)]
        lines += [f"what is no regular file: {listed(names, LISTED)}"] if names else []
        own = [printable(name) for name in sorted(self.own)]
        return [*lines, *([f"pictures of runs: {listed(own, LISTED)}"] if own else []), *self.notes]


def is_run(names: Collection[str]) -> bool:
    """Return whether a folder of these ``names`` is the workdir of a run (`gan_jax.runs.workdir`)."""
    return _BEGUN.issubset(names) or ("metrics.jsonl" in names and not _LOGGED.isdisjoint(names))


def sort_out(found: Found, images: Sequence[Image], folders: Iterable[str] = ()) -> None:
    """Take those of ``images`` (any files, in fact) into ``found`` that a folder of them would give.

    Hidden files and what runs wrote are left out, other endings counted.

    Args:
      found: gets them.
      images: all files there are; of several with one path the last counts, as it would if they were unpacked.
      folders: those that are told of by themselves, however empty.
    """
    last = {image[0]: image for image in images}
    if len(last) < len(images):
        found.notes.append(f"files whose path another one has, too: {len(images) - len(last):,}")
    marks: dict[str, set[str]] = {}
    for path in (*last, *folders):
        if not MARKS.isdisjoint(parts := path.split("/")):
            for depth, part in enumerate(parts):
                if part in MARKS:
                    marks.setdefault("/".join(parts[:depth]), set()).add(part)
    runs = {place for place, names in marks.items() if is_run(names)}
    for path, image in last.items():
        parts = path.split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if (owner := _of_run(parts, runs)) is not None:
            if owner not in found.own:
                found.own.append(owner)
        elif path.lower().endswith(ENDINGS):
            found.images.append(image)
        else:
            found.endings[suffix(parts[-1])] += 1


def too_large(size: int) -> str:
    """Return why a picture's file of ``size`` bytes isn't read; nothing if it is."""
    return f"its file has {size:,} bytes, and may have {LARGEST:,}" if size > LARGEST else ""


def suffix(name: str) -> str:
    """Return the ending of a file's name, as they are counted."""
    stem, dot, ending = name.rpartition(".")
    return f".{ending}".lower() if stem and dot and ending else "none"


def _of_run(parts: Sequence[str], runs: Collection[str]) -> str | None:
    """Return the outermost folder or file on a path that belongs to a run; None if none does."""
    if CACHE in parts:
        return "/".join(parts[: parts.index(CACHE) + 1])
    if not runs:
        return None
    places = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    inner = next((place for place in places if place in runs), None)
    own = "" in runs and parts[0] in DRAWN
    return parts[0] if own else inner
