"""Many trials in one program: a population of GANs on all devices, each trial with a workdir of its own.

Trials whose static halves are alike, and that differ in nothing but leaves of the state (seed, rates, betas, weights,
labels, decay), form a population: one compiled program trains them all, each whole on one device. Trials that differ
otherwise make several populations, one after another.
"""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.evaluate import monitors
from gan_jax.runs.report import best_trials, write_sweep_report
from gan_jax.runs.workdir import Workdir, named_by_number
from gan_jax.runtime import program
from gan_jax.runtime.signals import Stop
from gan_jax.sweeps.planning import Trial, describe, in_step, plan, split, trial_name
from gan_jax.sweeps.population import Observe, Population
from gan_jax.util.errors import UserError, counted, listed
from gan_jax.util.files import write_atomically


def sweep(
    config: ConfigDict,
    trials: Sequence[dict[str, Any]],
    path: Path,
    devices: Sequence[jax.Device] | None = None,
    *,
    stop: Stop | None = None,
    fallback: Path | None = None,
) -> list[dict[str, Any]]:
    """Train all ``trials`` of ``config``, from where they are to their ends.

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


def train(
    members: Sequence[Trial],
    devices: Sequence[jax.Device],
    observe: Observe | None = None,
    *,
    stop: Stop | None = None,
    fallback: Path | None = None,
) -> None:
    """Train those of ``members`` that aren't finished, program by program; ``observe`` may end one early."""
    populations = split(members, devices)
    print(describe(members, populations, devices))
    ready = [(number, part) for number, population in enumerate(populations, 1) for part in in_step(population)]
    for _, (going, _) in ready[1:]:
        _check_data(going[0], devices)
    for at, (number, (going, ended_early)) in enumerate(ready):
        if at:
            program.forget()
        print(f"program {number} of {len(populations)}: {listed(member.name for member in going)}")
        Population(going, ended_early, devices, observe, stop or Stop(), fallback).go()


def job(config: ConfigDict, trials: Sequence[dict[str, Any]], path: Path, numbers: Sequence[int]) -> None:
    """Train the part of a sweep that is for a process of its own (`gan_jax.sweeps.jobs`).

    Args:
      config: what all trials of the sweep have in common, references and all.
      trials, numbers: those of the part, and their numbers in the sweep.
      path: of the sweep.
    """
    build.enable_float64(config)
    train(plan(config, trials, path, numbers), jax.local_devices())


def conclude(trials: Mapping[str, dict[str, Any]], path: Path, planned: int = 0) -> list[dict[str, Any]]:
    """Write ``sweep.csv`` and ``report.html`` of the ``trials`` in ``path``, overrides by name; return the rows.

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
    print(f"finished: {of}{counted(planned, 'trial')}; see {report} and {path / 'sweep.csv'}")
    return rows


def _check_data(member: Trial, devices: Sequence[jax.Device]) -> None:
    """Raise `UserError` if the data of ``member`` doesn't do for it: now, not when the programs before are done."""
    try:
        dataset = build.build_dataset(member.config, member.workdir.cache)
        build.build_evaluator(member.config, member.gan, dataset, member.workdir.cache, devices)
    except UserError as error:
        raise UserError(f"trial {member.name} of the sweep: {error}") from error


def _figures(workdir: Workdir) -> dict[str, Any]:
    """Return the final figures of a trial, and the best FID on the way, however it ended, with its step."""
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
