"""The run whose weights another begins with (``init_from``), and what was taken of it."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gan_jax.core.carry import Carried, begin_with, compare, learnt, weights
from gan_jax.core.state import GANState
from gan_jax.runs.checkpoint import Checkpoints, DamagedError
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import distributed
from gan_jax.util.errors import UserError, listed
from gan_jax.util.files import read_json, write_json

FILE = "init_from.json"
_NAMED = 15  # arrays that aren't taken, in what is printed
_WORDS = {"other_shape": "other shape", "not_there": "not there", "left_over": "left over"}


class Origin(NamedTuple):
    """What was read of a run: its workdir, the step, and all arrays of its state by their dotted names."""

    run: Path
    step: int
    arrays: Mapping[str, Any]


def check(text: str, shapes: GANState) -> None:
    """Refuse a run, or ``RUN@STEP``, that isn't there, or has nothing for a state of these ``shapes``.

    Raises:
      UserError: says which, before anything else is done. Only the list of arrays is read.
    """
    there = _newest_whole(text, Checkpoints.leaves)
    _refuse_nothing(compare(learnt(there.arrays), weights(shapes)), there)


def read(text: str) -> Origin:
    """Return what the newest whole checkpoint of a run holds, or, of ``RUN@STEP``, that one.

    Raises:
      UserError: there is none.
    """
    return _newest_whole(text, Checkpoints.arrays)


def _newest_whole(text: str, get: Callable[[Checkpoints, int], Mapping[str, Any]]) -> Origin:
    run, steps = _kept(text)
    steps = distributed.broadcast(steps)  # another may be saved meanwhile
    damaged: dict[int, str] = {}
    with Checkpoints(Workdir(run).checkpoints) as checkpoints:
        for step in steps:
            try:
                found = get(checkpoints, step)
            except DamagedError as error:
                damaged[step] = str(error)
                continue
            for number, why in damaged.items():
                print(f"warning: init_from: checkpoint {number} of {run} is damaged ({why})", file=sys.stderr)
            return Origin(run, step, found)
    reasons = listed((f"{number} ({why})" for number, why in damaged.items()), between="; ", long=300)
    raise UserError(f"init_from={text}: no checkpoint of it is whole: {reasons}: give another run or step")


def begin(origin: Origin, state: GANState, workdir: Workdir) -> tuple[GANState, list[str]]:
    """Return ``state``, one before its first step, with what it takes of ``origin``; and that in words.

    The whole list is kept in ``init_from.json`` of the ``workdir``.
    """
    state, found = begin_with(origin.arrays, state)
    _refuse_nothing(found, origin)
    plain = {"run": str(origin.run), "step": origin.step, **found._asdict()}
    if distributed.is_first():
        write_json(workdir.path / FILE, plain)
    return jax.device_get(state), described(plain)


def kept(workdir: Workdir) -> dict[str, Any] | None:
    """Return what `begin` kept in a workdir; None if nothing, or if it is damaged."""
    found = read_json(workdir.path / FILE)
    try:
        return found if {"run", "step", *Carried._fields} <= found.keys() else None
    except AttributeError:
        return None


def described(found: Mapping[str, Any], most: int = _NAMED) -> list[str]:
    """Return what `begin` keeps, in lines: counts, and the first ``most`` arrays that weren't taken."""
    fits, *others = Carried._fields
    counts = [f"{len(found[kind])} {_WORDS[kind]}" for kind in others]
    lines = list(_lines(found))
    rest = [f"and {len(lines) - most:,} more, all of them in {FILE}"] if len(lines) > most else []
    here = sum(len(found[kind]) for kind in (fits, "other_shape", "not_there"))
    head = f"{found['run']}, step {found['step']:,}: {len(found[fits])} of {here} arrays taken; {listed(counts)}"
    return [head, *lines[:most], *rest]


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for name, (old, new) in found["other_shape"].items():
        yield f"{_WORDS['other_shape']}: {name} {old} there, {new} here"
    for kind in ("not_there", "left_over"):
        for name, shape in found[kind].items():
            yield f"{_WORDS[kind]}: {name} {shape}"


def _kept(text: str) -> tuple[Path, list[int]]:
    """Return the workdir that ``text``, ``RUN`` or ``RUN@STEP``, names, and its checkpoints' steps, newest first."""
    name, at, step = text.rpartition("@")
    chosen = bool(at) and step.isdecimal() and not Path(text).expanduser().exists()
    run = Path(name if chosen else text).expanduser().absolute()
    place, where = Workdir(run), f"init_from={text}"
    if not run.is_dir():
        raise UserError(f"{where}: there is no such run: give the workdir of one, or RUN@STEP")
    if place.holds_sweep():
        raise UserError(f"{where} holds a sweep or a search: give the workdir of a trial, as {run / '000'}")
    steps = place.saved()
    if not steps:
        raise UserError(f"{where}: it has no checkpoint: give the workdir of a run that has")
    if chosen and int(step) not in steps:
        raise UserError(f"{where}: it has no checkpoint of step {int(step):,}; kept are {listed(steps)}")
    return run, [int(step)] if chosen else steps[::-1]


def _refuse_nothing(found: Carried, origin: Origin) -> None:
    if found.taken:
        return
    there = listed((f"{name} {shape}" for name, shape in found.left_over.items()), 2)
    here = listed((f"{name} {shape}" for name, shape in found.not_there.items()), 2)
    raise UserError(
        f"init_from: nothing of {origin.run}, step {origin.step:,}, fits this GAN: no array has name and shape of one "
        f"here (there: {there}; here: {here}): give a run of like networks"
    )
