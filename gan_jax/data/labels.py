"""Labels that lie in a file beside the images: ``labels.csv``, and StyleGAN's ``dataset.json``."""

import csv
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gan_jax.data.found import Found
from gan_jax.data.options import Options
from gan_jax.util.errors import UserError, clipped, listed, printable

FILES = ("labels.csv", "dataset.json")
_NAMED = 5  # images in a message
Row = tuple[str, list[str]]  # an image's path below the folder, and its label, or the numbers of a vector


class File(NamedTuple):
    """A file of labels: its name, where it is, for people, its text, and what paths in it may begin with."""

    name: str
    where: str
    text: bytes
    around: str = ""

    def __str__(self) -> str:
        """Return where it is."""
        return self.where


def labels_file(found: Found, place: str, options: Options) -> File | None:
    """Return the file that says the labels of the images that were ``found`` in ``place``; None: subfolders do.

    Raises:
      UserError: ``options.label_key`` names one that isn't there, or several are there; or one can't be read.
    """
    files = []
    for name in [options.label_key] if options.label_key else FILES:
        text, where = found.beside(name), f"{place.rstrip('/')}/{name}"
        if isinstance(text, str):
            raise UserError(f"cannot read {where}: {text}; mend it, or remove it")
        if text is not None:
            files.append(File(name, where, text, found.around))
    if options.label_key and not files:
        raise UserError(
            f"data.label_key: {options.label_key!r} is not in {place!r}: name its file of labels, or leave it "
            "empty for labels.csv, dataset.json or subfolders"
        )
    files = [file for file in files if options.label_key or file.name != "dataset.json" or _has_labels(file)]
    if len(files) > 1:
        several = " and ".join(file.name for file in files)
        raise UserError(f"{place!r} has {several}: say by data.label_key which of them has the labels")
    return files[0] if files else None


def read_labels(file: File, condition: int = 0) -> dict[str, str]:
    """Read the label of each image that ``file`` names, by its path below the folder of the file.

    With a ``condition`` it is a vector of so many numbers, with spaces between them; see `vectors`.

    Raises:
      UserError: it isn't as it must be; names the line.
    """
    found: dict[str, str] = {}
    rows = _json_rows if file.name.lower().endswith(".json") else _csv_rows
    for number, (name, cells) in enumerate(rows(file, condition), start=1):
        label = " ".join(cells)
        path = os.path.normpath(name.strip().replace("\\", "/")).removeprefix(file.around)
        if found.setdefault(path, label.strip()) != label.strip():
            labels = f"{clipped(found[path])!r} and {clipped(label.strip())!r}"
            raise UserError(f"{file}: two labels for {clipped(printable(path))!r}, {labels}: keep one of them")
        if not label.strip():
            raise UserError(f"{file}: label {number} is empty, of {clipped(printable(path))!r}: write one")
        if condition and not _is_vector(cells, condition):
            raise UserError(
                f"{file}, label {number}: of {clipped(printable(path))!r} it must be {condition} finite numbers, as "
                f"data.condition={condition} says, not {clipped(label)!r}"
            )
    if not found:
        raise UserError(f"{file} has no labels: write a line for each image, or remove it")
    return found


def of_images(names: Sequence[str], labels: dict[str, str], file: File) -> list[str]:
    """Return the label of each image.

    Raises:
      UserError: some have none.
    """
    if missing := [name for name in names if name not in labels]:
        some = listed((repr(printable(name)) for name in missing), _NAMED)
        raise UserError(
            f"{file} has no label for {len(missing):,} of the {len(names):,} images ({some}), by their paths below its "
            "folder, with the endings: add them, or move these images out; or rename the file, and subfolders are the "
            "classes"
        )
    return [labels[name] for name in names]


def vectors(labels: Sequence[str], condition: int) -> np.ndarray:
    """Return what `read_labels` read as vectors float32 ``[N, condition]``."""
    return np.array([label.split() for label in labels], np.float32).reshape(-1, condition)


def _is_vector(cells: Sequence[str], condition: int) -> bool:
    try:
        return len(cells) == condition and bool(np.isfinite(np.array(cells, np.float32)).all())
    except ValueError:
        return False


def without_image(names: Collection[str], labels: Iterable[str], file: File) -> list[str]:
    """Return what is to be said of labels without an image, a line at most."""
    known = set(names)
    lost = [repr(printable(name)) for name in labels if name not in known]
    return [f"{len(lost):,} labels of {file.name} without an image: {listed(lost, _NAMED)}"] if lost else []


def _csv_rows(file: File, condition: int) -> Iterator[Row]:
    """Two columns, or one for each number of a ``condition`` and the file's name.

    They are parted by commas, semicolons or tabs; a first line that names no file is a header.
    """
    lines = _text(file).splitlines()
    mark = next((mark for mark in ",;\t" if lines and mark in lines[0]), ",")
    for number, cells in enumerate(csv.reader(lines, delimiter=mark), start=1):
        if not any(map(str.strip, cells)):
            continue
        if len(cells) != max(condition, 1) + 1:
            wanted = f"{condition + 1}, file name and numbers" if condition else "two, file name and label"
            more = "" if condition else f"; for a vector an image set data.condition={len(cells) - 1}"
            raise UserError(
                f"{file}, line {number}: it has {len(cells)} columns, and there must be {wanted}"
                f"{more * (len(cells) > 2)}"
            )
        if number > 1 or "." in cells[0].strip().strip("."):
            yield cells[0], [cell.strip() for cell in cells[1:]]


def _json_rows(file: File, condition: int) -> Iterator[Row]:
    """StyleGAN's: ``{"labels": [["00000/img00000000.png", 6], ...]}``, or lists of numbers in the place of such."""
    rows = _parsed(file)
    rows = rows.get("labels") if isinstance(rows, dict) else None
    if rows is None:
        raise UserError(
            f'{file} says that there are no labels ("labels": null): for a GAN without classes set '
            "data.labels=False; if subfolders are the classes, remove it"
        )
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        one = isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)
        label = row[1] if one else None
        if condition and isinstance(label, list):
            yield row[0], list(map(repr, label))
            continue
        if isinstance(label, bool) or not isinstance(label, (int | float | str) if condition else (int | str)):
            wanted = "a list of numbers" if condition else "a whole number or a name"
            more = f"; for vectors set data.condition={len(label)}" if isinstance(label, list) else ""
            raise UserError(
                f'{file}, label {number}: it must be ["FILE", LABEL], {wanted}, not {clipped(repr(row))}{more}'
            )
        yield row[0], [str(label)]


def _has_labels(file: File) -> bool:
    """Whether a ``dataset.json`` is StyleGAN's; others have this name, too."""
    found = _parsed(file)
    return isinstance(found, dict) and "labels" in found


def _parsed(file: File) -> object:
    try:
        return json.loads(_text(file))
    except ValueError as error:
        raise UserError(f"cannot read {file}: it is no JSON ({clipped(str(error))}): mend it, or remove it") from error


def _text(file: File) -> str:
    try:
        return file.text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {file}: it is no text in UTF-8: save it as such") from error
