"""What the modes doctor and clean say of a workdir on disk, and what clean deletes of it."""

import sys
from pathlib import Path

from gan_jax.runs import disk
from gan_jax.runs.workdir import Workdir
from gan_jax.util import progress
from gan_jax.util.errors import UserError, clipped

_SHOWN = 30  # lines


def show(folder: Path) -> list[disk.Part]:
    """Print what the run, sweep or search in ``folder`` takes; return it."""
    with progress.elapsed("adding up"):
        found, cache = disk.parts(folder), disk.cache(folder)
    total, free = (sum(part.size for part in some) for some in (found, _free(found)))
    print(f"{'on disk':<16}{folder}: {_megabytes(total)}, of which {_megabytes(free)} may be deleted by --mode=clean")
    for part in found[:_SHOWN]:
        print(_line(part, folder))
    if len(found) > _SHOWN:
        rest = found[_SHOWN:]
        print(f"{'':<16}{_megabytes(sum(part.size for part in rest)):>10}  {len(rest)} smaller things")
    if cache is not None:
        print(_line(cache, folder.parent))
    return found


def clean(folder: Path, sure: bool) -> None:
    """Delete what may go of the run, sweep or search in ``folder``, once somebody has said yes.

    Args:
      folder: see above.
      sure: whether nobody need be asked.

    Raises:
      UserError: there is nothing of the kind, a run goes on there, nobody can be asked, or it can't be deleted.
    """
    place = Workdir(folder)
    if not (place.holds_run() or place.holds_sweep()):
        raise UserError(f"no run in {folder}: give the --workdir of a run, sweep or search")
    with place.locked():
        free = _free(disk.parts(folder))
        if not free:
            print(f"nothing in {folder} may be deleted: --mode=doctor --workdir={folder} says what is there")
            return
        for part in free:
            print(_line(part, folder))
        much = f"{len(free)} things, {_megabytes(sum(part.size for part in free))}"
        if not sure and not _agreed(f"delete these {much}? [y/N] "):
            print("nothing is deleted")
            return
        with progress.bar(free, unit="thing", delay=1, leave=False) as bar:
            for part in bar:
                try:
                    disk.remove(part)
                except OSError as error:
                    raise UserError(f"cannot delete {part.path}: {error.strerror or error}") from error
        print(f"deleted {much}")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError("--mode=clean asks before it deletes, and nobody is there: give --yes")
    return input(question).strip().lower() in ("y", "yes")


def _free(parts: list[disk.Part]) -> list[disk.Part]:
    return [part for part in parts if part.loss]


def _line(part: disk.Part, folder: Path) -> str:
    name, may = part.path.relative_to(folder), f"; may go, and with it {part.loss}" if part.loss else ""
    return f"{'':<16}{_megabytes(part.size):>10}  {clipped(str(name), 60)}{f': {part.what}' if part.what else ''}{may}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"
