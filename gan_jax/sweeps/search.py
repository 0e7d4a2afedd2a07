"""Searches over hyperparameters by Optuna, the only place that imports it: a generation of trials is a population.

Optuna proposes a generation, the sweep trains it (`gan_jax.sweeps.sweep`), its figures are what the next one is
proposed from. All that Optuna knows is kept in ``study.journal``; what becomes of a trial is read from its own workdir,
so a search that was killed, wherever, goes on to the same end.
"""

import fcntl
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optuna
from ml_collections import ConfigDict
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from gan_jax.config import OBSERVING, WITHOUT_EFFECT, differences, to_plain
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import program
from gan_jax.runtime.signals import Stop
from gan_jax.sweeps import planning, population, sweep
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed, unknown_name
from gan_jax.util.files import read_regular

# What can be searched for, by the name before the bracket of its features.
OBJECTIVES: dict[str, Literal["minimize", "maximize"]] = {
    **dict.fromkeys(("fid", "kid", "mind", "duplicates", "class_distance"), "minimize"),
    **dict.fromkeys(("precision", "recall", "density", "coverage", "inception_score", "class_entropy"), "maximize"),
}
STARTUP = 10  # trials that are drawn at random, before those that learn from others
UNPRUNED = 5  # trials that must have reached their last step before any is pruned
WARM_UP = 0.25  # share of its steps in which no trial is pruned

Space = Callable[[optuna.Trial], dict[str, Any]]


def search(
    config: ConfigDict,
    space: Space,
    path: Path,
    trials: int = 64,
    population: int = 8,
    objective: str = "fid",
    devices: Sequence[jax.Device] | None = None,
    *,
    stop: Stop | None = None,
    fallback: Path | None = None,
) -> FrozenTrial | None:
    """Train ``trials`` trials of ``config``, ``population`` of them at a time, from where they are.

    Trials are proposed by multivariate TPE, each with a seed of its own that is a function of the config's seed and the
    trial's number; those that run count as bad ones, so a generation spreads out. A trial ends early if its best
    figure is worse than the median, at the same step, of the trials of earlier generations that reached their ends.

    Args:
      config: what the trials have in common.
      space: from an Optuna trial to overrides, dotted keys to values.
      path: as for `gan_jax.sweeps.sweep.sweep`; gets ``study.journal`` too.
      trials, population: see above.
      objective: one of `OBJECTIVES`, at a trial's last step.
      devices: those to train on; all local ones if None.
      stop, fallback: as for `gan_jax.training.train.train`.

    Returns:
      The best trial, its overrides among its user attributes; None if all diverged.

    Raises:
      UserError: anything that the user can mend; also a ``path`` that holds another search.
    """
    devices = jax.local_devices() if devices is None else devices
    planning.refuse_a_run(path)
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    if config.eval.features == "none":
        raise UserError(f"a search for {objective} needs features to measure it by: set config.eval.features")
    with Workdir(path).locked():  # all the time: two searches would propose the same trials
        study = _study(config, path, objective)
        while asked := _generation(study, space, trials, population, config.seed):
            numbers, overrides = list(asked), [trial.user_attrs["overrides"] for trial in asked.values()]
            members = planning.plan(config, overrides, path, numbers)
            print(f"generation of trials {listed(member.name for member in members)}")
            sweep.train(members, devices, _judge(asked, objective), stop=stop, fallback=fallback)
            found = study.get_trials(deepcopy=False)
            sweep.conclude({f"{trial.number:03d}": trial.user_attrs["overrides"] for trial in found}, path, trials)
            program.forget()
            for member in members:  # the last of all, so that whatever was cut off is done again
                _tell(study, member, objective)
    return study.best_trial if any(trial.state == TrialState.COMPLETE for trial in study.trials) else None


class _Lock:
    """Optuna's lock on the journal: the system's, which ends with its process. Optuna's own is a file that stays."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._file = journal, -1

    def acquire(self) -> bool:
        """Wait until no other process writes."""
        self._file = os.open(self._journal, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(OSError):  # a file system without locks, of which `Workdir.locked` has warned
            fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let others write."""
        os.close(self._file)


def _drop_torn(journal: Path) -> None:
    """Cut off a last line that a killed process, or a full disk, left without an end: the next would be glued to it.

    Optuna takes no notice of it either, as long as nothing follows.
    """
    if journal.exists() and (data := read_regular(journal)) and not data.endswith(b"\n"):
        os.truncate(journal, data.rfind(b"\n") + 1)


def _study(config: ConfigDict, path: Path, objective: str) -> optuna.Study:
    """Return the study in ``path``, begun if there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.mkdir(parents=True, exist_ok=True)
    journal = path / "study.journal"
    lock: Any = _Lock(journal)
    try:
        _drop_torn(journal)
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
    except ValueError as error:
        raise UserError(f"{journal} is damaged ({error}): give another --workdir, or remove what is broken") from error
    pruner = optuna.pruners.MedianPruner(UNPRUNED, n_warmup_steps=math.ceil(WARM_UP * config.steps))
    study = optuna.create_study(
        storage=storage, study_name="search", direction=OBJECTIVES[objective], pruner=pruner, load_if_exists=True
    )
    ours = {"objective": objective, **to_plain(config), **Workdir(path).code.digests(config)}
    if "config" not in study.user_attrs:
        study.set_user_attr("config", ours)
    free = *WITHOUT_EFFECT, *(key for key in OBSERVING if not key.startswith("eval."))  # by these trials are judged
    differing = differences(study.user_attrs["config"], ours, ignored=free)
    if differing:
        said = listed(differing.values(), between="; ")
        raise UserError(f"{path} holds another search ({said}): give another --workdir")
    return study


def _generation(study: optuna.Study, space: Space, trials: int, population: int, seed: int) -> dict[int, optuna.Trial]:
    """Return the trials to train next, by number: what a killed process left, and new ones up to a full generation."""
    known = study.get_trials(deepcopy=False)
    asked = {}
    for trial in known:
        if trial.state == TrialState.RUNNING:
            study.sampler = _sampler(seed, trial.number)
            asked[trial.number] = _filled(optuna.Trial(study, trial._trial_id), space)
    # Generations end at multiples of their size, wherever the process was killed before.
    end = min(trials, -(-(len(known) + (not asked)) // population) * population)
    for number in range(len(known), end):
        study.sampler = _sampler(seed, number)
        asked[number] = _filled(study.ask(), space)
    return asked


def _filled(trial: optuna.Trial, space: Space) -> optuna.Trial:
    """``trial`` with its overrides; parameters that it has already stay as they are."""
    try:
        overrides = space(trial)
        trial.set_user_attr("overrides", overrides)
    except Exception as error:  # the user's own code: anything may come
        raise named.failed(f"trial {trial.number} of the search", error) from error
    if not isinstance(overrides, dict):
        raise UserError(f"the search's function must return a dict of overrides, not {type(overrides).__name__}")
    return trial


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial: it remembers nothing, so a resumed search draws what an unbroken one does."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True, seed=own
        )


def _judge(trials: Mapping[int, optuna.Trial], objective: str) -> population.Observe:
    """Report every evaluation to Optuna, and say why a trial is pruned, if it is."""

    def observe(member: planning.Trial, step: int, figures: Mapping[str, float]) -> str | None:
        trial = trials[int(member.name)]
        name, value = _figure(figures, objective)
        known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if step not in known:  # as it is where a killed process had come further than its checkpoint
            trial.report(value, step)
        if step == member.config.steps or not trial.should_prune():
            return None
        return f"pruned at step {step:,}: {name} {value:.4g} is worse than the median of earlier trials there"

    return observe


def _tell(study: optuna.Study, member: planning.Trial, objective: str) -> None:
    """Say how a trial ended, as its summary has it."""
    summary = member.workdir.summary() or {}
    if summary.get("verdict") == "pruned":
        study.tell(int(member.name), state=TrialState.PRUNED)
        return
    value = math.nan if summary.get("verdict") == "diverged" else _figure(summary, objective)[1]
    if math.isfinite(value):
        study.tell(int(member.name), value)
    else:
        study.tell(int(member.name), state=TrialState.FAIL)


def _figure(figures: Mapping[str, Any], objective: str) -> tuple[str, float]:
    """Return the objective among ``figures``, with its whole name."""
    for name, value in figures.items():
        if name.partition("[")[0] == objective:
            return name, float(value)
    raise UserError(
        f"--objective={objective}: these features (config.eval.features) give no such figure, but "
        f"{listed(sorted({name.partition('[')[0] for name in figures} & OBJECTIVES.keys())) or 'none'}"
    )
