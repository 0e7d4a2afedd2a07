"""Many trials in one program: a population of GANs on all devices, each trial with a workdir of its own.

Trials whose static halves are alike, and that differ in nothing but leaves of the state (seed, rates, betas, weights,
labels, decay), form a population: one compiled program trains them all, each whole on one device. Trials that differ
otherwise make several populations, one after another.
"""

import csv
import dataclasses
import hashlib
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.config import OBSERVING, changed, flat, to_plain
from gan_jax.core.gan import GAN, Hyperparams
from gan_jax.core.state import GANState, init_state, named_leaves
from gan_jax.evaluate import monitors
from gan_jax.runs.checkpoint import Checkpoints, DamagedError
from gan_jax.runs.report import best_trials, counted, write_report, write_sweep_report
from gan_jax.runs.workdir import Workdir, named_by_number
from gan_jax.runtime import placement, program
from gan_jax.runtime.signals import Stop
from gan_jax.training import resources
from gan_jax.training.dispatch import Pace, Pending, chunks, due
from gan_jax.training.run import Trial, ended
from gan_jax.util import progress
from gan_jax.util.errors import DivergedError, EndedError, UserError, listed
from gan_jax.util.files import read_json, write_atomically, write_json

_LOOKING = {"steps", *OBSERVING}  # keys on which no step's speed depends
_WORTH = 1.5  # how much faster trials must be at once: in turn, none's rounding depends on how many there are
_LISTED = 20  # trials of a program whose values are printed
_LOSSES = ("d_loss", "g_loss")
_COPIES = 3  # of a state that a step needs at its peak: old, new, gradients


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
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

    def alike(self, other: "Member") -> bool:
        """Whether one program trains both."""
        same_leaves = bool(jax.tree.structure(self.hyperparams) == jax.tree.structure(other.hyperparams))  # type: ignore[operator]
        return same_leaves and self.gan == other.gan and _static(self) == _static(other)

    def nbytes(self) -> int:
        """Of its state."""
        return placement.nbytes(jax.eval_shape(lambda: init_state(self.gan, 0, self.hyperparams)))


# Told of every evaluation of a trial: ``observe(member, step, figures)``. If it returns why, the trial ends there.
Observe = Callable[[Member, int, Mapping[str, float]], str | None]


def _static(member: Member) -> dict[str, Any]:
    """All of a trial's config but what is a leaf of its state."""
    leaves = {"seed", *named_leaves(member.hyperparams)}
    return {key: value for key, value in flat(to_plain(member.config)).items() if key not in leaves}


def sweep(
    config: ConfigDict,
    trials: Sequence[dict[str, Any]],
    path: Path,
    devices: Sequence[jax.Device] | None = None,
    *,
    stop: Stop | None = None,
    fallback: Path | None = None,
) -> list[dict[str, Any]]:
    """Trains all ``trials`` of ``config``, from where they are to their ends.

    Args:
      config: what they have in common.
      trials: overrides, dotted keys to values; see `gan_jax.sweeps.hyper`.
      path: the directory that gets a workdir for each trial, ``000``, ``001``, ..., ``sweep.csv`` and
        ``report.html``.
      devices: those to train on; all local ones if None.
      stop, fallback: as for `gan_jax.training.train.train`.

    Returns:
      The rows of ``sweep.csv``: overrides and final figures of each trial.

    Raises:
      UserError: anything that the user can mend, in any trial, before the first one starts.
      EndedError: ``stop`` asked for an early end, and all trials were saved after the same step.
    """
    members = plan(config, trials, path)
    with Workdir(path).locked():
        train(members, jax.local_devices() if devices is None else devices, stop=stop, fallback=fallback)
    return conclude({member.name: member.overrides for member in members}, path)


def refuse_a_run(path: Path) -> None:
    """Raises `UserError` if ``path`` is the workdir of a run, whose report a sweep would replace by its own."""
    if (path / "config.json").exists():
        raise UserError(f"{path} holds a run: give another --workdir")


def train(
    members: Sequence[Member],
    devices: Sequence[jax.Device],
    observe: Observe | None = None,
    *,
    stop: Stop | None = None,
    fallback: Path | None = None,
) -> None:
    """Trains those of ``members`` that aren't finished, program by program; ``observe`` may end one early."""
    populations = split(members, devices)
    print(describe(members, populations, devices))
    ready = [(number, part) for number, population in enumerate(populations, 1) for part in in_step(population)]
    for _, (going, _) in ready[1:]:
        _check_data(going[0], devices)
    for at, (number, (going, ended_early)) in enumerate(ready):
        if at:
            program.forget()
        print(f"program {number} of {len(populations)}: {listed(member.name for member in going)}")
        _Population(going, ended_early, devices, observe, stop or Stop(), fallback).go()


def job(config: ConfigDict, trials: Sequence[dict[str, Any]], path: Path, numbers: Sequence[int]) -> None:
    """The part of a sweep that a process of its own trains (`gan_jax.sweeps.jobs`).

    Args:
      config: what all trials of the sweep have in common, references and all.
      trials, numbers: those of the part, and their numbers in the sweep.
      path: of the sweep.
    """
    build.enable_float64(config)
    train(plan(config, trials, path, numbers), jax.local_devices())


def conclude(trials: Mapping[str, dict[str, Any]], path: Path, planned: int = 0) -> list[dict[str, Any]]:
    """Writes ``sweep.csv`` and ``report.html`` of the ``trials`` in ``path``, overrides by name; returns the rows.

    ``planned`` is how many there will be, if more are to come.
    """
    rows = [{"trial": name, **overrides, **_figures(Workdir(path / name))} for name, overrides in trials.items()]
    known = named_by_number(path, trial_name)
    others = [place.name for place in known if place.is_dir() and place.name not in trials]
    if others:
        print(f"warning: {path} holds trials of a longer sweep, left out now: {listed(others)}", file=sys.stderr)
    _write_csv(rows, path / "sweep.csv")
    swept = list(dict.fromkeys(key for trial in trials.values() for key in trial))
    planned = max(planned, len(rows))
    report = write_sweep_report(path, rows, swept, planned)
    for line in best_trials(rows, swept):
        print(line)
    done = sum(row["verdict"] != "not finished" for row in rows)
    of = f"{done} of " if done < planned else ""
    print(f"finished: {of}{counted(range(planned), 'trial')}; see {report} and {path / 'sweep.csv'}")
    return rows


def trial_name(number: int) -> str:
    """What the workdir of a trial is called."""
    return f"{number:03d}"


def plan(
    config: ConfigDict, trials: Sequence[dict[str, Any]], path: Path, numbers: Sequence[int] | None = None
) -> list[Member]:
    """Every trial, built and checked; ``numbers``, of their workdirs, count from 0 if none are given.

    Raises:
      UserError: an override is unknown, of a wrong type, or can't be built; names the trial. Or see `refuse_a_run`.
    """
    if not trials:
        raise UserError("the sweep has no trials")
    refuse_a_run(path)
    members = []
    for number, overrides in zip(numbers or range(len(trials)), trials, strict=True):
        try:
            own = changed(config, overrides)
            gan, hyper = build.build_gan(own)
        except (UserError, TypeError, ValueError) as error:
            text = listed(f"{key}={value}" for key, value in overrides.items())
            raise UserError(f"trial {number:03d} of the sweep ({text}): {' '.join(str(error).split())}") from error
        if own.parallel.logical_shards:
            raise UserError("a sweep trains each trial whole on one device: leave config.parallel.logical_shards at 0")
        workdir = Workdir(path / trial_name(number), cache=path.parent / "data_cache")
        try:
            workdir.check(own, alone=False)
        except UserError:
            build.check_data_place(own)  # if that is mistaken, it is what is to be said
            raise
        members.append(Member(overrides, own, gan, hyper, workdir))
    return members


def grouped(members: Sequence[Member]) -> list[list[Member]]:
    """Trials that one program could train, together."""
    groups: list[list[Member]] = []
    for member in members:
        group = next((group for group in groups if group[0].alike(member)), None)
        if group is None:
            groups.append([member])
        else:
            group.append(member)
    return groups


def split(members: Sequence[Member], devices: Sequence[jax.Device]) -> list[list[Member]]:
    """Populations: trials that one program trains, as many as the devices' memory holds."""
    populations = []
    for group in grouped(members):
        room = max(1, placement.memory(devices) // (_COPIES * group[0].nbytes())) * len(devices)
        populations += [group[start : start + room] for start in range(0, len(group), room)]
    return populations


def _check_data(member: Member, devices: Sequence[jax.Device]) -> None:
    """Raises `UserError` if the data of ``member`` doesn't do for it: now, not when the programs before are done."""
    try:
        dataset = build.build_dataset(member.config, member.workdir.cache)
        build.build_evaluator(member.config, member.gan, dataset, member.workdir.cache, devices)
    except UserError as error:
        raise UserError(f"trial {member.name} of the sweep: {error}") from error


def in_step(population: Sequence[Member]) -> list[tuple[list[Member], list[Member]]]:
    """Those that aren't finished, in parts that go on together, each with those that ended early.

    Trials of a part lose no more than the steps of one checkpoint by going on from the last step that all have saved,
    and nothing by others that were added to them, which haven't begun. As a rule there is one part.
    """
    parts: list[list[Member]] = []
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


def describe(members: Sequence[Member], populations: Sequence[Sequence[Member]], devices: Sequence[jax.Device]) -> str:
    """The plan, in words."""
    kind = devices[0].device_kind
    lines = [f"{counted(members, 'trial')}, {counted(populations, 'program')}, {len(devices)} x {kind}"]
    for number, population in enumerate(populations):
        each = -(-len(population) // len(devices))
        memory = _COPIES * each * population[0].nbytes() / 2**20
        text = f"{counted(population, 'trial')}, {each} a device, about {memory:,.0f} MB of states there"
        lines.append(f"program {number + 1}: {text}")
        lines += [
            f"  {member.name}  {listed(f'{key}={value}' for key, value in member.overrides.items())}"
            for member in population[:_LISTED]
        ]
        lines += [f"  and {len(population) - _LISTED} more"] if len(population) > _LISTED else []
    return "\n".join(lines)


class _Population:
    """Trials that one program trains, those that are ``going``.

    Those that ``ended_early`` keep their slots: where trials go at once, rounding depends on how many there are.
    """

    def __init__(
        self,
        going: Sequence[Member],
        ended_early: Sequence[Member],
        devices: Sequence[jax.Device],
        observe: Observe | None,
        stop: Stop,
        fallback: Path | None,
    ) -> None:
        self.observe, self.stop, self.fallback = observe, stop, fallback
        self.members = sorted([*going, *ended_early], key=lambda member: member.name)
        self.devices = devices[: len(self.members)]
        self.each = -(-len(self.members) // len(self.devices))  # slots on a device
        self.config, self.gan = going[0].config, going[0].gan
        self.going = {number: member for number, member in enumerate(self.members) if member in going}  # by slot
        self.trials: dict[int, Trial] = {}  # those that still go on, by slot

    def go(self) -> None:
        """From the last step that all have a checkpoint of, to the end."""
        self.stop.looked_at = False  # nothing is lost until there are steps
        if self.stop.asked:
            raise EndedError(f"{self.stop.asked}: ended before the next program; the same command resumes")
        config, cache = self.config, self.members[0].workdir.cache
        dataset = build.build_dataset(config, cache)
        feed = build.build_feed(config, self.gan, dataset, self.devices[:1])
        if feed.streamed:
            raise UserError(
                f"{dataset.name} has {dataset.megabytes:,.0f} MB, more than data.device_budget_mb, and a sweep keeps "
                "its data on the devices: raise the budget, or train the trials one by one"
            )
        evaluator = build.build_evaluator(config, self.gan, dataset, cache, self.devices)
        for name, text in (dataset.description | {"evaluation": evaluator.description}).items():
            print(f"{name}: {text}")
        for warning in dataset.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        with ExitStack() as stack:
            kept = []
            for member in self.going.values():
                place = member.workdir
                stack.enter_context(place.locked())
                place.check_data(dataset.name, dataset.digest, len(dataset.train_images), dataset.class_counts)
                place.claim(member.config)
                kept.append(stack.enter_context(Checkpoints(place.checkpoints, config.checkpoint.keep, place.damaged)))
            begun = [jax.jit(init_state, static_argnums=0)(m.gan, m.config.seed, m.hyperparams) for m in self.members]
            states = jax.device_get(begun)
            first, found = together(kept, [states[number] for number in self.going])
            if first:
                print(f"resumed from the checkpoints of step {first:,}")
            for (number, member), state, checkpoints in zip(self.going.items(), found, kept, strict=True):
                states[number] = state
                logs = stack.enter_context(member.workdir.logs(after=first if first else -1))
                own = member.config, member.gan, evaluator, member.workdir, checkpoints, logs, first
                self.trials[number] = Trial(*own, self.stop, self.fallback)
            used = self.train(states, feed, first)
        for number, trial in self.trials.items():
            print(f"{self.members[number].name}: {trial.finish(used)}")

    def train(self, begun: Sequence[GANState], feed: Any, first: int) -> dict[str, Any]:
        """All steps from ``first`` on; returns what they cost."""
        data = placement.replicated(jax.tree.map(np.asarray, feed.data), self.devices)
        share = {name: np.asarray(array)[0] for name, array in feed.nothing.items()}
        begin = time.perf_counter()
        population = self.compiled(begun, feed, data, share)
        states, _ = jax.block_until_ready(population(population.put(begun), 0, data, share))
        compiling = round(time.perf_counter() - begin, 3)
        for number, trial in self.trials.items():
            trial.start(population.state(states, number))
        self.stop.looked_at = True
        pending: Pending | None = None
        count = len(self.trials)
        total = self.config.steps * count
        pace = Pace(self.config.steps_per_dispatch, feed.capacity)
        with progress.bar(total=total, initial=first * count, unit="step", dynamic_ncols=True) as bar:
            for step, length in chunks(self.config, first, pace):
                begin = time.perf_counter()
                states, metrics = population(states, length, data, share, self.trials)
                new = Pending(step, length, metrics, begin)
                if pending:
                    pace.wait(pending)
                    self.look(pending, population, states, False)
                pending = new
                if due(self.config, step + length):
                    pace.wait(pending)
                    self.look(pending, population, states, True)
                    pending = None
                bar.set_postfix_str(self.shown(), refresh=False)
                bar.update(length * count)
                if any([trial.needs_attention(step + length) for trial in self.trials.values()]):
                    if pending:
                        self.look(pending, population, states, False)
                        pending = None
                    for number, trial in self.trials.items():
                        trial.attend(step + length, population.state(states, number))
                    if self.stop.asked and step + length < self.config.steps:
                        raise ended(self.stop, step + length)
                if not self.trials:
                    break
        programs = len(self.devices) * (1 if population.together else self.each)
        state = population.state(states, 0)
        cost = resources.cost(self.gan, population.chunk, state, self.config.batch_size, programs)
        rates = [rate * count for trial in self.trials.values() for rate in trial.rates]
        images = self.config.batch_size * self.config.d_steps * count
        figures = resources.figures(cost, rates, images, self.devices, self.config.compute_dtype)
        return {"trials": count, "compile_seconds": compiling} | figures

    def compiled(self, begun: Sequence[GANState], feed: Any, data: Any, share: Any) -> program.Population:
        """The program; whether a device's trials make their steps at once is by the config, or by measurement.

        What was measured is kept beside the data, for all sweeps there: the two differ by rounding, and the same sweep
        shall come out the same twice.
        """

        def compile(together: bool) -> program.Population:
            return program.Population(self.gan, feed.fetch, feed.capacity, self.devices, self.each, together)

        asked = self.config.parallel.population
        if asked != "auto" or self.each == 1:
            return compile(asked == "vmap")
        file, kind = self.members[0].workdir.cache / "populations.json", self.devices[0].device_kind
        # Those may change.
        static = {key: value for key, value in _static(self.members[0]).items() if key not in _LOOKING}
        what = json.dumps([static, repr(self.gan.generator), repr(self.gan.discriminator)])
        key = f"{self.each} trials a device, {kind}: {hashlib.sha256(what.encode()).hexdigest()[:12]}"

        def rates() -> dict[str, float]:
            kept = read_json(file)
            found = kept.items() if isinstance(kept, dict) else ()
            return {name: rate for name, rate in found if isinstance(rate, int | float)}

        known = rates()
        both = {together: compile(together) for together in ((known[key] > _WORTH,) if key in known else (False, True))}
        if key not in known:
            print("measuring whether trials are faster at once or in turn; what is found is kept", flush=True)
            found = round(program.measured(both[True], both[False], begun, data, share), 3)
            known = {key: found} | rates()  # another job may have been first
            write_json(file, known)
        together = known[key] > _WORTH
        order = "at once" if together else "in turn"
        speed = f"at once they are {known[key]:.2f} times as fast as in turn, and {_WORTH} are wanted"
        print(f"{self.each} trials a device {order}: {speed}")
        return both[together]

    def look(self, pending: Pending, population: program.Population, states: list[Any], due: bool) -> None:
        """Lets each trial report, or do what is ``due``.

        Those that diverged, or that ``observe`` ends, are left behind.
        """
        metrics = jax.device_get(pending.metrics)
        for number, trial in list(self.trials.items()):
            own = Pending(pending.first, pending.count, population.metrics(metrics, number), pending.dispatched)
            try:
                if not due:
                    trial.report(own)
                    continue
                step = own.first + own.count
                trial.pause(step, population.state(states, number), own)
                if self.observe and trial.figures:
                    why = self.observe(self.members[number], step, trial.figures)
                    if why:
                        self.leave(number, "pruned", why)
            except DivergedError as error:
                self.leave(number, "diverged", str(trial.apart(error, population.state(states, number))))
        if due:
            self.tell(pending.first + pending.count)

    def leave(self, number: int, verdict: str, why: str) -> None:
        """Ends a trial before its last step."""
        print(f"\n{self.members[number].name}: {why}", file=sys.stderr)
        workdir = self.trials.pop(number).workdir
        workdir.save_summary({"verdict": verdict, "why": why})
        write_report(workdir)

    def tell(self, step: int) -> None:
        """Prints what an evaluation after ``step`` found of each trial; of many, of those with the lowest FIDs."""
        judged = {number: trial for number, trial in self.trials.items() if trial.figures}
        chosen = sorted(sorted(judged, key=lambda number: min(judged[number].fid, default=0.0))[:_LISTED])
        for place, number in enumerate(chosen):
            line, distances = judged[number].line, judged[number].distances(judged[number].figures)
            text = listed([f"D loss {line['d_loss']:.3f}, G loss {line['g_loss']:.3f}", *distances], between="; ")
            progress.say(f"{'' if place else f'step {step:,}':<14}{self.members[number].name}  {text}")
        if len(judged) > len(chosen):
            progress.say(f"{'':<14}and {len(judged) - len(chosen)} more")

    def shown(self) -> str:
        """What a progress bar shows of all trials."""
        now = [trial.now for trial in self.trials.values() if trial.now]
        if not now:
            return ""
        rate = sum(one["images_per_second"] for one in now)
        losses = (f"{name[0].upper()} loss {statistics.median(one[name] for one in now):.3f}" for name in _LOSSES)
        fids = [(trial.fid[0], self.members[number].name) for number, trial in self.trials.items() if trial.fid]
        lowest = [f"lowest fid {value:.3g} ({name})" for value, name in sorted(fids)[:1]]
        return listed([f"{rate:,.0f} images/s", f"medians: {listed(losses)}", *lowest])


def together(kept: Sequence[Checkpoints], begun: Sequence[GANState]) -> tuple[int, list[GANState]]:
    """The last step that all have a whole checkpoint of, and their states after it; step 0 and the states ``begun`` if
    there was none. Later checkpoints are removed, damaged ones put aside.

    Raises:
      UserError: there were such steps, but at each a checkpoint is damaged.
    """
    damaged: list[tuple[Checkpoints, int, str]] = []
    for step in sorted(set.intersection(*(set(checkpoints.steps()) for checkpoints in kept)), reverse=True):
        states = []
        for checkpoints, like in zip(kept, begun, strict=True):
            try:
                states.append(checkpoints.load(step, like))
            except DamagedError as error:
                damaged.append((checkpoints, step, str(error)))
        if len(states) == len(kept):
            break
    else:
        if damaged:
            found = listed(
                (f"{checkpoints.directory / str(step)} ({why})" for checkpoints, step, why in damaged),
                between="; ",
                long=300,
            )
            raise UserError(f"no step has a whole checkpoint of all trials: {found}; nothing was removed")
        step, states = 0, list(begun)
    for checkpoints, number, why in damaged:
        checkpoints.put_aside(number, why)
    for checkpoints in kept:
        checkpoints.drop_after(step)
    return step, states


def _figures(workdir: Workdir) -> dict[str, Any]:
    """Final figures of a trial, and the best FID on the way, however it ended, with its step."""
    summary = workdir.summary() or {"verdict": "not finished"}
    found = {name: value for name, value in summary.items() if isinstance(value, int | float | str)}
    for name, (value, step) in monitors.best(workdir.records()).items():
        found |= {f"best_{name}": value, f"best_fid_step{name.removeprefix('fid')}": step}
    for name in [name for name in found if name.startswith("fid[")]:
        found.setdefault(f"best_{name}", found[name])  # the log is gone
    return found


def _write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
