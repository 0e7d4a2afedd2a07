"""What a sweep will train: its trials, and the populations of those that one program trains."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.config import changed, flat, to_plain
from gan_jax.core.gan import GAN, Hyperparams
from gan_jax.core.state import named_leaves, state_shapes
from gan_jax.data import Options
from gan_jax.runs import origin
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import placement
from gan_jax.training.classes import with_classes
from gan_jax.util.errors import UserError, counted, listed

LISTED = 20  # trials of a program whose values are printed
_COPIES = 3  # of a state that a step needs at its peak: old, new, gradients


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A trial as it is planned: its overrides, the config with them, both halves of its GAN, its workdir."""

    overrides: dict[str, Any]
    config: ConfigDict
    gan: GAN
    hyperparams: Hyperparams
    workdir: Workdir

    @property
    def name(self) -> str:
        """That of its workdir."""
        return self.workdir.path.name

    @cached_property
    def static(self) -> dict[str, Any]:
        """All of its config but what is a leaf of its state."""
        leaves = {"seed", *named_leaves(self.hyperparams)}
        return {key: value for key, value in flat(to_plain(self.config)).items() if key not in leaves}

    def alike(self, other: "Trial") -> bool:
        """Whether one program trains both."""
        same_leaves = bool(jax.tree.structure(self.hyperparams) == jax.tree.structure(other.hyperparams))  # type: ignore[operator]
        return same_leaves and self.gan == other.gan and self.static == other.static

    def shapes(self) -> Any:
        """Of its state."""
        return state_shapes(self.gan, self.hyperparams)

    def nbytes(self) -> int:
        """Of its state."""
        return placement.nbytes(self.shapes())


def refuse_a_run(path: Path) -> None:
    """Raise `UserError` if ``path`` is the workdir of a run, whose report a sweep would replace by its own."""
    if (path / "config.json").exists():
        raise UserError(f"{path} holds a run: give another --workdir")


def trial_name(number: int) -> str:
    """Return what the workdir of a trial is called."""
    return f"{number:03d}"


def plan(
    config: ConfigDict, trials: Sequence[dict[str, Any]], path: Path, numbers: Sequence[int] | None = None
) -> list[Trial]:
    """Every trial, built and checked; ``numbers``, of their workdirs, count from 0 if none are given.

    Raises:
      UserError: an override is unknown, of a wrong type, or can't be built; names the trial. Or see `refuse_a_run`.
    """
    if not trials:
        raise UserError("the sweep has no trials")
    refuse_a_run(path)
    members, sources, known = [], set(), dict[Options, int]()
    for number, overrides in zip(numbers or range(len(trials)), trials, strict=True):
        workdir = Workdir(path / trial_name(number), cache=path.parent / "data_cache")
        try:
            own, _ = with_classes(changed(config, overrides), workdir, known)
            gan, hyper = build.build_gan(own)
        except (UserError, TypeError, ValueError) as error:
            text = listed(f"{key}={value}" for key, value in overrides.items())
            raise UserError(f"trial {number:03d} of the sweep ({text}): {' '.join(str(error).split())}") from error
        if own.checkpoint.patience:
            raise UserError("a sweep's trials end together: leave config.checkpoint.patience at 0")
        if own.get("stages"):
            raise UserError(
                f"a sweep can't grow: leave config.stages ({listed(own.stages)}) empty, or train the trials one by one"
            )
        if own.parallel.logical_shards:
            raise UserError("a sweep trains each trial whole on one device: leave config.parallel.logical_shards at 0")
        try:
            workdir.check(own, alone=False)
        except UserError:
            build.check_data_place(own)  # if that is mistaken, it is what is to be said
            raise
        members.append(Trial(overrides, own, gan, hyper, workdir))
        if own.init_from and not workdir.saved() and (own.init_from, gan) not in sources:
            origin.check(own.init_from, members[-1].shapes())
            sources.add((own.init_from, gan))
    return members


def grouped(members: Sequence[Trial]) -> list[list[Trial]]:
    """Trials that one program could train, together."""
    groups: list[list[Trial]] = []
    for member in members:
        group = next((group for group in groups if group[0].alike(member)), None)
        if group is None:
            groups.append([member])
        else:
            group.append(member)
    return groups


def split(members: Sequence[Trial], devices: Sequence[jax.Device]) -> list[list[Trial]]:
    """Return populations: trials that one program trains, as many as the devices' memory holds."""
    populations = []
    for group in grouped(members):
        room = max(1, placement.memory(devices) // (_COPIES * group[0].nbytes())) * len(devices)
        populations += [group[start : start + room] for start in range(0, len(group), room)]
    return populations


def in_step(population: Sequence[Trial]) -> list[tuple[list[Trial], list[Trial]]]:
    """Those that aren't finished, in parts that go on together, each with those that ended early.

    Trials of a part lose no more than the steps of one checkpoint by going on from the last step that all have saved,
    and nothing by others that were added to them, which haven't begun. As a rule there is one part.
    """
    parts: list[list[Trial]] = []
    waiting = [member for member in population if not member.workdir.finished(member.config.steps)]
    saved = {member: set(member.workdir.saved()) for member in waiting}
    begun = {member: member.workdir.holds_run() for member in waiting}
    reached = {member: max(steps, default=0) for member, steps in saved.items()}
    for member in sorted(waiting, key=lambda member: reached[member]):
        before = parts[-1] if parts else []
        lost = reached[member] - max(set.intersection(*(saved[one] for one in [*before, member])), default=0)
        all_begun = all(begun[one] for one in before)
        if before and (not lost or (all_begun and lost <= member.config.checkpoint.every)):
            before.append(member)
        else:
            parts.append([member])
    ended_early = [member for member in population if member not in saved and member.workdir.made() is None]
    return [(sorted(part, key=lambda member: member.name), ended_early) for part in parts]


def describe(members: Sequence[Trial], populations: Sequence[Sequence[Trial]], devices: Sequence[jax.Device]) -> str:
    """Return the plan, in words."""
    kind = placement.kind(devices)
    lines = [f"{counted(len(members), 'trial')}, {counted(len(populations), 'program')}, {len(devices)} x {kind}"]
    for number, population in enumerate(populations):
        each = -(-len(population) // len(devices))
        memory = _COPIES * each * population[0].nbytes() / 2**20
        text = f"{counted(len(population), 'trial')}, {each} a device, about {memory:,.0f} MB of states there"
        lines.append(f"program {number + 1}: {text}")
        lines += [
            f"  {member.name}  {listed(f'{key}={value}' for key, value in member.overrides.items())}"
            for member in population[:LISTED]
        ]
        lines += [f"  and {len(population) - LISTED} more"] if len(population) > LISTED else []
    return "\n".join(lines)
