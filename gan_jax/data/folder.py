"""A folder of image files, nested or flat."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from gan_jax.data import held_out, labels
from gan_jax.data.found import CACHE, DRAWN, ENDINGS, LISTED, Found, Image, Names, is_run, suffix
from gan_jax.data.images import Decoded
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed, printable
from gan_jax.util.files import read_regular

# Names of folders that are a split of the images, not classes; of several to test on, the first there is.
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
_MOST_NAMED = 200_000  # images whose names are kept as objects, for messages


def place(options: Options) -> Path:
    """Return the folder that ``options.dir`` names; raise `UserError` if it isn't there."""
    if not options.dir:
        raise UserError("the folder source needs data.dir, the folder of images")
    if options.test_list and not (path := named.path(options.test_list, "data.test_list")).is_file():
        wrong = "is no file" if path.exists() else "is not there"
        raise UserError(f"data.test_list: {options.test_list!r} {wrong}; it must be a text file with a path a line")
    _test_place(options)
    return _folder(options.dir, "data.dir")


def _folder(text: str, key: str) -> Path:
    folder = named.path(text, key)
    if not folder.is_dir():
        wrong = "is a file, not a folder" if folder.exists() else "is not there"
        raise UserError(f"{key}: {text!r} {wrong}; the folder source needs a folder of images, or a zip or tar")
    return folder


def _test_place(options: Options) -> Path | None:
    """Return the folder that ``options.test_dir`` names; it may lie in that of the images, and not around it."""
    if not options.test_dir:
        return None
    folder, whole = _folder(options.test_dir, "data.test_dir"), _folder(options.dir, "data.dir")
    if whole.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"data.test_dir: {options.test_dir!r} has all images of data.dir={options.dir} in it, which would be "
            "trained on and tested on: give a folder of other images"
        )
    return folder


def find(options: Options) -> Source:
    """Find the images in ``options.dir`` and the folders below it, and those of ``options.test_dir``, as `source` does.

    Raises:
      UserError: there is no such folder; or a link leads out of it, without ``options.follow_links``; or see `source`.
    """
    folder, apart = place(options), _test_place(options)
    found = _walk(folder, "data.dir", options.follow_links, apart)
    other = None if apart is None else _walk(apart, "data.test_dir", options.follow_links, None)
    return source(found, options, other)


def source(found: Found, options: Options, other: Found | None = None) -> Source:
    """Return the images that were ``found`` in ``options.dir``, in the order of their paths.

    With ``options.labels`` a file of labels beside them (`gan_jax.data.labels`) says the class of each image; where
    there is none, the first folder on its path is its class. Classes are in alphabetical order (of numbers: in theirs).
    Without ``options.labels`` there are none. Folders ``train`` and ``test`` (or ``val``, ``validation``), with nothing
    else beside them, are the parts, with the classes below. Hidden files and folders are left out, and so is what runs
    wrote there; links are followed, but no folder is read twice.

    Args:
      found: all that there is.
      options: see above.
      other: what was found in ``options.test_dir``.

    Raises:
      UserError: there is no image; or labels are wanted and an image has none; or one that is held out isn't there.
    """
    if options.test_dir and other is None:
        raise UserError(
            f"data.test_dir is for folders, and data.dir is {found.what} {options.dir!r}: unpack it, or leave "
            "data.test_dir empty"
        )
    parts, split, left_out = _parts(_some(found, options.dir, "data.dir"), options)
    kinds = _classes(options.dir, parts, split, found, options) if options.labels else []
    founds, left_out = [found] * len(parts), [*left_out, *found.left_out()]
    if other is not None:
        parts = [*parts, _some(other, options.test_dir, "data.test_dir").images]
        kinds += _classes(options.test_dir, parts[-1:], False, other, options) if kinds else []
        founds, left_out = [found, other], [*left_out, *(f"of data.test_dir {line}" for line in other.left_out())]
    classes: list[str] = []
    labelled: list[np.ndarray | None]
    if options.condition:
        labelled = [labels.vectors(part, options.condition) for part in kinds]
    else:
        classes = _ordered({kind for part in kinds for kind in part})
        numbers = {kind: number for number, kind in enumerate(classes)}
        labelled = [np.array([numbers[kind] for kind in part], np.int64) for part in kinds]
    ready = [part_of(*own, options) for own in zip(founds, parts, labelled or [None, None], strict=False)]
    return Source(
        name=f"folder:{printable(found.name)}",
        train=ready[0],
        test=ready[1] if len(ready) > 1 else None,
        classes=tuple(map(printable, classes)),
        left_out=tuple(left_out),
    )


def _some(found: Found, place: str, key: str) -> Found:
    """Return ``found``, its images in the order of their paths; raise `UserError` if there are none."""
    found.images.sort()
    if not found.images:
        also = "".join(f"; left out are {line}" for line in found.left_out())
        raise UserError(f"{key}: no file in {found.what} {place!r} ends in {', '.join(ENDINGS)}{also}")
    return found


def _parts(found: Found, options: Options) -> tuple[list[list[Image]], bool, list[str]]:
    """Return the images in one part or two, train and test; whether by two folders; and what is to be said."""
    train, test, left_out = split(Counter(name.partition("/")[0] for name, *_ in found.images))
    if test and (key := next((key for key in ("test_dir", "test_list") if getattr(options, key)), "")):
        raise UserError(
            f"data.{key} says what is tested on, and so do {train}/ and {test}/ in {options.dir!r}: leave data.{key} "
            f"empty, or give data.dir={options.dir}/{train}"
        )
    if options.test_list:
        held = held_out.listed_files(options, {name for name, *_ in found.images})
        return [[image for image in found.images if (image[0] in held) == yes] for yes in (False, True)], False, []
    parts = [[image for image in found.images if image[0].startswith(f"{part}/")] for part in (train, test) if part]
    return parts or [found.images], bool(test), left_out


def part_of(found: Found, images: Sequence[Image], labels: np.ndarray | None, options: Options) -> Part:
    """Return some of the ``images`` that were found, with their labels, as they are decoded."""
    identity = "\n".join([found.identity, *("|".join(map(str, image)) for image in images)])
    names = Names(name for name, *_ in images)
    told = np.array([name for name, *_ in images], object) if len(images) <= _MOST_NAMED else None
    return Part(Decoded(found.reader(images), names, options), labels, identity, told)


def _files(folder: Path, images: Sequence[Image]) -> "_Files":
    return _Files(folder, Names(name for name, *_ in images))


class _Files:
    """Reads files by their numbers."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names

    def __call__(self, numbers: np.ndarray) -> list[bytes | str]:
        return [self._read(self._folder / self._names[number]) for number in numbers]

    @staticmethod
    def _read(path: Path) -> bytes | str:
        try:
            return read_regular(path)
        except OSError as error:
            return error.strerror or str(error)


def _walk(folder: Path, key: str, anywhere: bool, without: Path | None) -> Found:
    """All that lies in ``folder``, which ``key`` names, but in ``without``; links may lead ``anywhere``, or not out."""
    inside = folder.resolve()
    found = Found("the folder", inside.name, str(inside), partial(_files, folder))
    found.beside = partial(_beside, folder, anywhere)
    seen = set[str]() if without is None else {os.path.realpath(without)}

    def follow(link: Path) -> None:
        end = Path(os.path.realpath(link))
        if not anywhere and not end.is_relative_to(inside):
            name = link.relative_to(folder).as_posix()
            raise UserError(
                f"{key}: {name!r} in {str(folder)!r} is a link that leads out of it, to {str(end)!r}: "
                "if you trust whoever made it, set data.follow_links=True"
            )

    def take(file: Path) -> None:
        status, name = file.lstat(), file.relative_to(folder).as_posix()
        if stat.S_ISLNK(status.st_mode) and name.lower().endswith(ENDINGS):
            follow(file)
            status = file.stat() if file.exists() else status  # one that leads nowhere is unreadable
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            found.special.append(name)
        elif name.lower().endswith(ENDINGS):
            found.images.append((name, status.st_size, status.st_mtime_ns))
        else:
            found.endings[file.suffix.lower() or "none"] += 1

    for path, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        if os.path.realpath(path) in seen:  # links may make a circle
            folders.clear()
            continue
        seen.add(os.path.realpath(path))
        run = is_run([*folders, *files])
        if run and Path(path) != folder:
            found.own.append(Path(path).relative_to(folder).as_posix())
            folders.clear()
            continue
        own = [name for name in (*folders, *files) if name == CACHE or (run and name in DRAWN)]
        found.own += [Path(path, name).relative_to(folder).as_posix() for name in own]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in own)
        for name in folders:
            if os.path.islink(os.path.join(path, name)):
                follow(Path(path, name))
        for name in files:
            if not name.startswith(".") and name not in own:
                take(Path(path, name))
    return found


def _beside(folder: Path, anywhere: bool, name: str) -> bytes | str | None:
    """Return what the file ``name`` in the ``folder`` holds, as `gan_jax.data.found.Found` has it."""
    file = folder / name
    if not file.exists():
        return None
    if not anywhere and not Path(os.path.realpath(file)).is_relative_to(folder.resolve()):
        raise UserError(
            f"{str(file)!r} is a link that leads out of the folder: if you trust whoever made it, set "
            "data.follow_links=True"
        )
    return _Files._read(file)


def _refuse(error: OSError) -> None:
    raise UserError(f"data.dir: cannot read the folder {error.filename!r}: {error.strerror}")


def split(tops: Mapping[str, int]) -> tuple[str, str, list[str]]:
    """Return the folders of the train and of the test images, empty if there are none, and what is to be said.

    ``tops`` has the number of images of each folder directly below, and the names of images that lie there.
    """
    by_name = {top.casefold(): top for top in tops}
    train = [by_name[name] for name in _TRAIN if name in by_name]
    test = [by_name[name] for name in _TEST if name in by_name]
    if len(train) != 1 or not test:
        return "", "", []
    if len(train) + len(test) < len(tops):
        others = listed((repr(printable(top)) for top in sorted({*tops} - {*train, *test})), LISTED)
        return "", "", [f"nothing, though there are {train[0]}/ and {test[0]}/, since beside them lies {others}"]
    return train[0], test[0], [f"{tops[other]:,} images of {other}/, beside {test[0]}/" for other in test[1:]]


def _classes(
    place: str, parts: Sequence[Sequence[Image]], split: bool, found: Found, options: Options
) -> list[list[str]]:
    """Return the class of each image of the ``parts``, by a file of labels or by subfolders; notes what is left out."""
    names = [[name for name, *_ in part] for part in parts]
    file = labels.labels_file(found, place, options)
    if file is None and options.condition:
        raise UserError(
            f"data.condition: {place!r} has no labels.csv or dataset.json, which says the {options.condition} numbers "
            "of each image: write one, or set data.condition=0"
        )
    if file is None:
        return [_kinds(part, split, place) for part in names]
    known = labels.read_labels(file, options.condition)
    found.endings -= Counter([suffix(file.name)])
    found.notes += labels.without_image([name for name, *_ in found.images], known, file)
    everything = [name for part in names for name in part]
    of = dict(zip(everything, labels.of_images(everything, known, file), strict=True))
    return [[of[name] for name in part] for part in names]


def _kinds(names: Sequence[str], split: bool, folder: str) -> list[str]:
    """Return the class of each image: the first folder on its path, or the second of a split."""
    inner = [name.partition("/")[2] if split else name for name in names]
    for name, path in zip(names, inner, strict=True):
        if "/" not in path:
            raise UserError(
                f"data.labels: {name!r} lies in no subfolder of {folder!r}, and subfolders are the classes: "
                "move it into one, or write labels.csv there; or, for a GAN without classes, set data.labels=False"
            )
    kinds = [path.partition("/")[0] for path in inner]
    if len(set(kinds)) == 1 and all(path.count("/") > 1 for path in inner):
        below = listed((repr(printable(kind)) for kind in _ordered({path.split("/")[1] for path in inner})), LISTED)
        raise UserError(
            f"data.labels: all images of {folder!r} lie in its one folder {kinds[0]!r}, and classes are the folders "
            f"directly below data.dir: are it {below}? then give data.dir={folder}/{kinds[0]}"
        )
    return kinds


def _ordered(kinds: Iterable[str]) -> list[str]:
    """By their numbers, if all are numbers, else by the alphabet."""
    found = sorted(kinds)
    return sorted(found, key=int) if all(kind.isdecimal() for kind in found) else found
