"""What runs take on disk, and what of that may go."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gan_jax.runs.workdir import Workdir

_MADE = {  # what is in a workdir beside checkpoints, in words
    "tensorboard": "events for TensorBoard; metrics.jsonl has the same numbers",
    "tracking": "what wandb and mlflow were told, and by what they know the run",
    "samples": "grids of samples",
    "best": "the checkpoint of the best evaluation",
}


class Part(NamedTuple):
    """A part of what lies in a workdir.

    Attributes:
      path: a file or folder.
      size: bytes.
      what: it is, in words.
      loss: what is lost with it, in words, where it may go; "" where it must stay.
    """

    path: Path
    size: int
    what: str
    loss: str = ""


def parts(folder: Path) -> list[Part]:
    """Return what the run, sweep or search in ``folder`` takes, the largest first."""
    place = Workdir(folder)
    found: list[Part] = []
    for run in [folder, *place.trials()] if place.holds_sweep() else [folder]:
        found += _of_run(Workdir(run))
    return sorted(found, key=lambda part: -part.size)


def cache(folder: Path) -> Part | None:
    """Return the data that is kept beside ``folder``, for all runs there; None if there is none."""
    path = Workdir(folder).cache
    if not path.is_dir():
        return None
    return Part(
        path, size(path), "decoded images and classifiers, of all runs beside", "they are made again when needed"
    )


def size(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def remove(part: Part) -> None:
    """Delete it.

    Raises:
      OSError: it can't be deleted.
    """
    if part.path.is_dir() and not part.path.is_symlink():
        shutil.rmtree(part.path)
    else:
        part.path.unlink()


def _of_run(place: Workdir) -> Iterator[Part]:
    saved = place.saved()
    for step in saved:
        path = place.checkpoints / str(step)
        if step == saved[-1]:
            yield Part(path, size(path), "the newest checkpoint, from which the run goes on")
        else:
            yield Part(
                path, size(path), "an earlier checkpoint", f"--step={step}, and a way back if the newest is damaged"
            )
    special = {place.checkpoints, place.damaged, place.diverged}
    for bad, what in ((place.damaged, "damaged checkpoints"), (place.diverged, "states that weren't finite")):
        if bad is not None and bad.is_dir():
            yield Part(bad, size(bad), what, "what went wrong can't be looked at any more")
    if not place.path.is_dir():
        return
    for path in sorted(place.path.iterdir()):
        if path in special or path == place.cache or (place.holds_sweep() and path in place.trials()):
            continue
        if re.fullmatch(r"\..*\.partial(\.\w+)?", path.name):
            yield Part(path, size(path), "a file that was being written", "nothing, unless a process writes it now")
        else:
            yield Part(path, size(path), _MADE.get(path.name, ""))
