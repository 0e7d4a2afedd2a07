"""Searches: generations are populations, pruning spares the others, and a killed one goes on to the same end."""

import pytest

from gan_jax.sweeps import planning

pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")

import csv
import fcntl
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import optuna
from absl import flags
from ml_collections import ConfigDict, config_flags

from gan_jax.cli import arguments, modes
from gan_jax.cli.request import Request
from gan_jax.config import to_plain
from gan_jax.evaluate import Evaluator
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps import search, sweep
from gan_jax.training.run import Run
from gan_jax.util.errors import UserError
from tests.helpers import MEANS, NAMES, StopError, assert_identical, charts_of, records, saved, small

ONE = jax.devices()[:1]
RATE = "optimizer.generator.learning_rate"


def measured() -> ConfigDict:
    """A small GAN with cheap figures."""
    config = small("gan")
    config.eval.features = MEANS
    return config


def space(trial: Any) -> dict[str, Any]:
    return {
        RATE: trial.suggest_float("rate", 1e-5, 1e-1, log=True),
        "averages.ema.decay": trial.suggest_float("decay", 0, 0.9),
    }


def study(path: Path) -> list[dict[str, Any]]:
    """All that Optuna knows of the trials in ``path``."""
    backend = optuna.storages.journal.JournalFileBackend(str(path / "study.journal"))
    trials = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend)).trials
    kept = ("number", "params", "state", "values", "intermediate_values", "user_attrs")
    return [{name: getattr(trial, name) for name in kept} for trial in trials]


def rates_as_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the FID of a GAN its generator's learning rate."""
    monkeypatch.setattr(
        Evaluator,
        "figures",
        lambda _, state: {"fid[rate]": float(state.hyperparams["optimizer"]["generator"]["learning_rate"])},
    )


def test_a_generation_is_one_program_and_figures_are_those_of_the_last_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = measured()
    best = search.search(config, space, tmp_path, trials=3, population=2, devices=ONE)
    printed = capsys.readouterr().out
    assert "generation of trials 000, 001\n2 trials, 1 program, " in printed
    assert "generation of trials 002\n1 trial, 1 program, " in printed
    assert re.findall("finished: .* trials", printed) == ["finished: 2 of 3 trials", "finished: 3 trials"]
    said = re.findall(r"^(?:step (\d+))? +(\d{3})  D loss [\d.]+, G loss [\d.]+; fid (\S+) \(", printed, re.M)
    assert [found[:2] for found in said] == [
        (step, name)
        for step, name in (*(("5", "000"), ("", "001"), ("10", "000"), ("", "001")), *(("5", "002"), ("10", "002")))
    ]
    trials = study(tmp_path)
    assert len({trial["params"]["rate"] for trial in trials}) == 3
    for number, trial in enumerate(trials):
        run = tmp_path / f"{number:03d}"
        own, summary = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "summary"))
        assert own["optimizer"]["generator"]["learning_rate"] == trial["params"]["rate"]
        assert own["averages"]["ema"]["decay"] == trial["params"]["decay"]
        assert trial["values"] == [summary[f"fid[{MEANS}]"]]
        assert trial["intermediate_values"] == {
            record["step"]: record[f"fid[{MEANS}]"] for record in records(run) if record["step"] % 5 == 0
        }
    assert best is not None
    assert best.value == min(trial["values"][0] for trial in trials)
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row[RATE]) for row in rows] == [trial["params"]["rate"] for trial in trials]
    assert len(charts_of(tmp_path / "report.html")) > 5

    monkeypatch.setattr(sweep, "Population", lambda *_: pytest.fail("trained again"))
    assert search.search(config, space, tmp_path, trials=3, population=2, devices=ONE) == best
    config.batch_size = 20
    with pytest.raises(UserError, match=r"holds another search \(batch_size: 16 -> 20\)"):
        search.search(config, space, tmp_path, devices=ONE)


def test_the_seed_says_what_is_proposed(tmp_path: Path) -> None:
    def proposed(seed: int, name: str) -> list[dict[str, Any]]:
        config = measured()
        config.seed = seed
        asked = search._generation(search._study(config, tmp_path / name, "fid"), space, 64, 4, seed)
        return [trial.params for trial in asked.values()]

    one = proposed(0, "one")
    assert one == proposed(0, "two")
    assert len({str(params) for params in one + proposed(1, "three")}) == 8


def test_a_pruned_or_diverged_trial_stops_and_spares_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates_as_figures(monkeypatch)
    monkeypatch.setattr(search, "UNPRUNED", 1)
    config = measured()

    def chosen(trial: Any) -> dict[str, Any]:
        wild = {"optimizer.discriminator.learning_rate": 1e30 if trial.number == 0 else 1e-4}
        return {RATE: [1e-4, 2e-4, 4e-4, 2e-5][trial.number], "seed": trial.suggest_int("seed", 0, 99), **wild}

    best = search.search(config, chosen, tmp_path / "search", trials=4, population=2, devices=ONE)
    assert best is not None
    assert best.number == 3
    trials = study(tmp_path / "search")
    assert [trial["state"].name for trial in trials] == ["FAIL", "COMPLETE", "PRUNED", "COMPLETE"]
    assert list(trials[2]["intermediate_values"]) == [5]
    pruned = tmp_path / "search" / "002"
    assert [record["step"] for record in records(pruned)] == [1, 2, 3, 4, 5]
    assert json.loads((pruned / "summary.json").read_text()) == {
        "verdict": "pruned",
        "why": "pruned at step 5: fid[rate] 0.0004 is worse than the median of earlier trials there",
    }
    with (tmp_path / "search" / "sweep.csv").open() as file:
        assert [row["verdict"] for row in csv.DictReader(file)][:3:2] == ["diverged", "pruned"]
    without = [trial["user_attrs"]["overrides"] for trial in trials[2:]]
    sweep.sweep(config, without, tmp_path / "sweep", ONE)
    ours, theirs = tmp_path / "search" / "003", tmp_path / "sweep" / "001"
    assert_identical(saved(config, ours), saved(config, theirs))
    assert records(ours) == records(theirs)


def killed(cut: str, patch: pytest.MonkeyPatch) -> Callable[[Any], dict[str, Any]]:
    """Makes the search die in its second generation; returns what to search then."""

    def die(*_: Any) -> Any:
        raise StopError

    if cut == "training":
        honest = Run.pause

        def pause(self: Run, step: int, *rest: Any) -> str:
            return die() if step == 8 and self.workdir.path.name > "001" else honest(self, step, *rest)

        patch.setattr(Run, "pause", pause)
    elif cut == "telling":
        tell = search._tell
        patch.setattr(search, "_tell", lambda *given: die() if given[1].name == "003" else tell(*given))
    elif cut == "concluding":
        conclude = sweep.conclude
        patch.setattr(sweep, "conclude", lambda trials, *rest: die() if len(trials) == 4 else conclude(trials, *rest))
    elif cut == "asking":

        def asked(trial: Any) -> dict[str, Any]:
            if trial.number == 3:
                raise KeyboardInterrupt  # as StopError is an Exception, which the search takes for the function's own
            return one_worse(trial)

        return asked
    return one_worse


def one_worse(trial: Any) -> dict[str, Any]:
    """`space`, but that a trial of the second generation has a far higher rate than the others."""
    overrides = space(trial)
    return overrides | {RATE: overrides[RATE] * (1 if trial.number == 2 else 1e-4)}


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["training", "asking", "telling", "concluding"])
def test_a_killed_search_goes_on_to_the_same_end(cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates_as_figures(monkeypatch)
    monkeypatch.setattr(search, "UNPRUNED", 1)
    monkeypatch.setattr(search, "STARTUP", 1)
    config = measured()
    best = search.search(config, one_worse, tmp_path / "whole", trials=4, population=2, devices=ONE)
    assert [trial["state"].name for trial in study(tmp_path / "whole")][2:] == ["PRUNED", "COMPLETE"]
    with pytest.MonkeyPatch.context() as patch:
        dying = killed(cut, patch)
        with pytest.raises((StopError, KeyboardInterrupt)):
            search.search(config, dying, tmp_path / "cut", trials=4, population=2, devices=ONE)
    assert "RUNNING" in [trial["state"].name for trial in study(tmp_path / "cut")]
    again = search.search(config, one_worse, tmp_path / "cut", trials=4, population=2, devices=ONE)
    assert study(tmp_path / "cut") == study(tmp_path / "whole")
    assert again is not None
    assert best is not None
    assert (again.number, again.value) == (best.number, best.value)
    for number in range(4):
        cut_run, whole = (tmp_path / name / f"{number:03d}" for name in ("cut", "whole"))
        assert_identical(saved(config, cut_run), saved(config, whole))
        assert records(cut_run) == records(whole)


class End:
    """Stands for an Optuna trial: all parameters at one end of their ranges."""

    def __init__(self, end: int) -> None:
        self.end = end

    def suggest_float(self, _: str, *ends: float, log: bool = False) -> float:
        return ends[self.end]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails what hangs."""

    def hangs(*_: Any) -> None:
        pytest.fail(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_lock_of_a_killed_search_is_no_obstacle() -> None:
    """Neither that of Optuna itself, a link beside the journal, as it is in a relative workdir: it leads nowhere."""
    path = Path("runs/s")
    path.mkdir(parents=True)
    (path / "study.journal.lock").symlink_to("runs/s/study.journal")
    hold = (
        "import pathlib, sys, time; from gan_jax.sweeps import search\n"
        "search._Lock(pathlib.Path(sys.argv[1])).acquire(); print('locked', flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", hold, str(path / "study.journal")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with (path / "study.journal").open() as journal, pytest.raises(BlockingIOError):
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.kill()
        other.wait()
    with within(20):
        assert len(search._generation(search._study(measured(), path, "fid"), space, 64, 3, 0)) == 3
    with (path / "study.journal").open() as journal:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(study(path)) == 3


def test_a_second_search_is_refused_before_it_asks_for_anything(tmp_path: Path) -> None:
    with Workdir(tmp_path).locked(), pytest.raises(UserError, match=f"{tmp_path} is in use by process {os.getpid()}"):
        search.search(measured(), space, tmp_path, devices=ONE)
    assert not (tmp_path / "study.journal").exists()


def test_a_line_of_the_journal_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    begun = search._study(measured(), tmp_path, "fid")
    assert len(search._generation(begun, space, 64, 2, 0)) == 2
    whole = (tmp_path / "study.journal").read_bytes()
    (tmp_path / "study.journal").write_bytes(whole + b'{"op_code": 4, "worker')
    begun = search._study(measured(), tmp_path, "fid")
    assert len(search._generation(begun, space, 64, 4, 0)) == 4
    found = (tmp_path / "study.journal").read_bytes()
    assert found.startswith(whole)
    assert all(json.loads(line) for line in found.splitlines())
    assert len(study(tmp_path)) == 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [0, 1])
def test_all_that_a_configs_search_can_propose_can_be_built(name: str, end: int, tmp_path: Path) -> None:
    module = importlib.import_module(f"configs.{name}")
    if hasattr(module, "get_search"):
        (member,) = planning.plan(module.get_config(), [module.get_search(End(end))], tmp_path)
        assert len(member.overrides) == 3


def broken(_: Any) -> Any:
    raise ZeroDivisionError("division\nby zero")


@pytest.mark.parametrize(
    ("changed", "given", "objective", "message"),
    [
        ({}, space, "fidd", "unknown objective 'fidd'; did you mean 'fid'?"),
        ({"eval.features": "none"}, space, "fid", "needs features to measure it by: set config.eval.features"),
        ({}, broken, "fid", "test_search.py, line "),
        ({}, lambda _: [1], "fid", "must return a dict of overrides, not list"),
        ({}, lambda _: {"seed": {1}}, "fid", "TypeError: Object of type set is not JSON serializable"),
        (
            {},
            lambda _: {"sed": 1},
            "fid",
            "trial 000 of the sweep (sed=1): unknown config key 'sed'; did you mean",
        ),
        ({}, space, "kid", "--objective=kid: these features (config.eval.features) give no such figure, but fid"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(
    changed: dict[str, Any], given: Any, objective: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates_as_figures(monkeypatch)
    config = measured()
    config.update_from_flattened_dict(changed)
    with pytest.raises(UserError) as error:
        search.search(config, given, tmp_path, trials=1, population=1, objective=objective, devices=ONE)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mended_function_takes_up_the_trial_that_it_failed_in(tmp_path: Path) -> None:
    def wide(trial: Any) -> dict[str, Any]:
        return {"generator.widths": [(16,), (48, 32)][trial.suggest_categorical("widths", [1])], **space(trial)}

    config = measured()
    begun = search._study(config, tmp_path, "fid")
    with pytest.raises(UserError):
        search._generation(begun, broken, 1, 1, seed=0)
    ((number, trial),) = search._generation(begun, wide, 1, 1, seed=0).items()
    assert number == 0
    (member,) = planning.plan(config, [trial.user_attrs["overrides"]], tmp_path, [number])
    assert member.gan.generator.widths == (48, 32)


def test_the_function_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def few(trial):\n    return {'seed': trial}\n\nnothing = 1\n")
    assert arguments.read_search(f"{file}:few")(3) == {"seed": 3}
    for text, message in {
        "few": "give FILE.py:function or package.module:function",
        f"{file}:get_search": "has no function get_search\\(trial\\): write it, or give --search=FILE.py:function",
        f"{file}:nothing": "has no function nothing",
        f"{tmp_path}/none.py:few": "there is no file",
    }.items():
        with pytest.raises(UserError, match=message):
            arguments.read_search(text)


def test_without_optuna_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "optuna"] + ["gan_jax.sweeps.search"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delattr("gan_jax.sweeps.search")
    request = Request(tmp_path, measured(), "configs/gan.py", trials=1, population=1)
    with pytest.raises(UserError, match=r"needs optuna, which is not installed: pip install -e '\.\[search\]'"):
        modes.MODES["search"].run(request)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections' own
@pytest.mark.slow
def test_the_best_is_printed_with_the_command_that_trains_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates_as_figures(monkeypatch)
    config, path = measured(), "configs/gan.py:mnist5k"
    modes.MODES["search"].run(Request(tmp_path / "found", config, path, trials=2, population=2))
    best, said = capsys.readouterr().out.splitlines()[-2:]
    number = min(study(tmp_path / "found"), key=lambda trial: trial["values"])["number"]
    assert best.startswith(f"best: trial {tmp_path / 'found' / f'{number:03d}'}, fid ")
    monkeypatch.setattr(sys, "argv", shlex.split(said)[2:])
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    values(sys.argv)
    alone: Any = values["config"].value
    assert to_plain(alone) == json.loads((tmp_path / "found" / f"{number:03d}" / "config.json").read_text())
    assert values["workdir"].value == str(tmp_path / "found_best")
