"""WebDataset's shards: tars whose files ``KEY.jpg``, ``KEY.cls`` and ``KEY.json`` are one example, read in place.

https://github.com/webdataset/webdataset has the format: a key is a file's path up to the first dot of its name.
"""

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gan_jax.data import tars
from gan_jax.data.archive import Archive, inner, visible
from gan_jax.data.folder import part_of, split
from gan_jax.data.found import ENDINGS, Found, Image, sort_out, suffix
from gan_jax.data.options import Options
from gan_jax.data.parts import Source
from gan_jax.data.ranges import opened
from gan_jax.util import named, progress
from gan_jax.util.errors import UserError, clipped, listed, printable

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 100_000  # shards
_LOOKED_AT = 100  # files of a tar, to see whether it is a shard
_LABELS = (".cls", ".json")
_LONGEST = 2**20  # bytes of a label's file
_AT_ONCE = 1000  # of these


def paths(text: str) -> list[Path]:
    """Find the shards that ``data.dir`` names: by a pattern, as a folder of them, or one; none if it is none.

    Raises:
      UserError: a shard of a pattern isn't there.
    """
    if _RANGE.search(text):
        return [_there(named.path(one, "data.dir"), text) for one in _spelt_out(text)]
    place = named.path(text, "data.dir")
    if place.is_dir():
        return _tars_alone(place)
    return [place] if place.is_file() and _is_shard(place) else []


def check_address(url: str, found: Found | None = None) -> None:
    """Raise `UserError` if ``url`` names shards elsewhere, or they are what was ``found`` there."""
    inside = found is not None and (found.endings[".cls"] or (found.endings[".tar"] and not found.images))
    if inside or _RANGE.search(url):
        raise UserError(
            f"data.dir: WebDataset's shards, as at {url!r}, are not read from elsewhere: copy them to this machine, or "
            "put the pictures there into a zip, or a tar with folders for classes"
        )


def find(shards: Sequence[Path], options: Options) -> Source:
    """Return the images of ``shards``, in the order of the shards' names and of their own.

    A label is the whole number in ``KEY.cls``, or under ``label`` in ``KEY.json``. Shards whose names, but for their
    numbers, or whose folders are ``train`` and ``test`` (or ``val``) are the parts.

    Raises:
      UserError: one can't be read, none holds an image, or only some have labels.
    """
    archive = Archive()
    base = shards[0].parent
    for shard in shards:
        archive.add(shard, f"{_below(shard, options.dir)}/")
    name = printable(base.resolve().name if len(shards) > 1 else shards[0].name)
    found = Found("the shards", name, archive.identity, archive.reader, special=visible(archive.special))
    sides = [image for image in archive.images if image[0].lower().endswith(_LABELS)]
    sort_out(found, archive.images)
    for label in _LABELS:
        found.endings.pop(label, None)
    found.images = [image for image in found.images if _field(image[0]) in ENDINGS]
    found.images.sort()
    if not found.images:
        also = "".join(f"; left out are {line}" for line in found.left_out())
        raise UserError(f"data.dir: the shards {options.dir!r} have no files as KEY.jpg, KEY.png or KEY.webp{also}")
    labels = _labels(archive, found.images, sides, options) if sides else None
    if options.labels and labels is None:
        raise UserError(f"data.labels: {options.dir!r} has no files KEY.cls: add them, or set data.labels=False")
    groups = np.array([_group(image[0]) for image in found.images])
    train, test, left_out = split(Counter(groups.tolist()))
    parts = [np.flatnonzero(groups == part) for part in (train, test) if part] or [np.arange(len(groups))]
    ready = [
        part_of(found, [found.images[n] for n in numbers], None if labels is None else labels[numbers], options)
        for numbers in parts
    ]
    return Source(f"shards:{name}", ready[0], ready[1] if test else None, (), (*left_out, *found.left_out()))


def _labels(archive: Archive, images: Sequence[Image], sides: Sequence[Image], options: Options) -> np.ndarray | None:
    """Return the label of each image, int64; None if no file tells one."""
    known: dict[str, int] = {}
    with progress.bar(total=len(sides), desc="reading labels", unit="label", delay=1, leave=False) as bar:
        ordered = sorted(sides, key=lambda image: (not image[0].endswith(".json"), image[2]))  # .cls has the last word
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            sized = [image for image in some if image[1] <= _LONGEST]
            for (name, *_), content in zip(sized, archive.reader(sized)(np.arange(len(sized))), strict=True):
                label = _label(name, content)
                if label is not None:
                    known[_key(name)] = label
            bar.update(len(some))
    if not known:
        return None
    lacking = [name for name, *_ in images if _key(name) not in known]
    if lacking and options.labels:
        names = listed((repr(printable(name)) for name in lacking), 5)
        raise UserError(f"data.labels: {len(lacking):,} of {len(images):,} images have no KEY.cls: {names}; add them")
    return None if lacking else np.array([known[_key(name)] for name, *_ in images], np.int64)


def _label(name: str, content: bytes | str) -> int | None:
    """Return what the file ``name`` tells; None for a KEY.json without a label."""
    try:
        if isinstance(content, str):
            raise ValueError(content)
        if name.lower().endswith(".cls"):
            found = int(content.decode())
        else:
            told = json.loads(content)
            if not isinstance(told, dict) or "label" not in told:
                return None
            found = told["label"]
            if isinstance(found, bool) or not isinstance(found, int):
                raise ValueError(f"its label is {found!r}")
        if not 0 <= found < 2**63:
            raise ValueError(f"its label is {found}")
        return found
    except (ValueError, RecursionError) as error:
        reason = clipped(" ".join(str(error).split()))
        raise UserError(f"data.dir: {name!r} must have a whole number from 0 up as its label: {reason}") from error


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _field(name: str) -> str:
    """Return what of its example a file is: all behind the first dot of its name."""
    return f".{name.rpartition('/')[2].partition('.')[2]}".lower()


def _group(name: str) -> str:
    """Return the part of an image's shard: ``train`` of ``train-000001.tar`` and of ``train/000001.tar``."""
    shard = name[: name.lower().index(".tar/")]
    folder, _, file = shard.rpartition("/")
    return folder.partition("/")[0] or re.sub(r"[-_.]?\d*$", "", file)


def _below(shard: Path, text: str) -> str:
    """Return a shard's path, for names of images: below the folder that ``data.dir`` names, or its own name."""
    place = named.path(text, "data.dir")
    return shard.relative_to(place).as_posix() if place.is_dir() else shard.name


def _spelt_out(text: str) -> Iterator[str]:
    """Return the texts that one with ``{000..009}`` stands for, as shells have them."""
    pieces = _RANGE.split(text)
    ranges = []
    for first, last in zip(pieces[1::3], pieces[2::3], strict=True):
        width = len(first) if len(first) == len(last) or first.startswith("0") else 1
        if len(last) > 9 or not int(first) <= int(last):
            raise UserError(f"data.dir: in {text!r} the numbers must go up, as in {{000..009}}")
        ranges.append([f"{number:0{width}}" for number in range(int(first), min(int(last), int(first) + _MOST) + 1)])
    count = np.prod([len(numbers) for numbers in ranges], dtype=float)
    if count > _MOST:
        raise UserError(f"data.dir: {text!r} names {count:,.0f} shards, and there may be {_MOST:,}")
    for numbers in itertools.product(*ranges):
        between = itertools.zip_longest(pieces[::3], numbers, fillvalue="")
        yield "".join(itertools.chain.from_iterable(between))


def _there(shard: Path, text: str) -> Path:
    if not shard.is_file():
        raise UserError(f"data.dir: {str(shard)!r}, one of {text!r}, is not there: restore it, or give fewer")
    return shard


def _tars_alone(folder: Path) -> list[Path]:
    """Return the tars in ``folder`` and one below, if it holds some and no image; links may lead out, and are none."""
    found: list[Path] = []
    below = [folder]
    try:
        for _ in range(2):
            places, below = below, []
            for place in places:
                with os.scandir(place) as entries:
                    for entry in entries:
                        if entry.name.lower().endswith(ENDINGS):
                            return []  # at the first one, as there may be millions
                        if entry.name[0] != "." and entry.is_dir(follow_symlinks=False):
                            below.append(Path(entry))
                        elif entry.name[0] != "." and suffix(entry.name) == ".tar":
                            found += [Path(entry)] if entry.is_file(follow_symlinks=False) else []
    except OSError:
        return []  # as whoever walks through it says
    return sorted(found)


def _is_shard(place: Path) -> bool:
    """Return whether a file is a tar that has labels among its first files, as shards do."""
    try:
        with opened(place) as file:
            first = itertools.islice(tars.members(file), _LOOKED_AT)
            return any(_field(inner(member.name)) == ".cls" for member in first)
    except (OSError, ValueError):
        return False
