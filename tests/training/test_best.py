"""The checkpoint of the best evaluation: which it is, that it stays, and that it can be used."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import gan_jax
from gan_jax import build
from gan_jax.cli import command
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core.state import GANState
from gan_jax.evaluate import Evaluator
from gan_jax.runs.best import Best
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps.sweep import sweep
from gan_jax.training.train import train
from gan_jax.util.errors import UserError
from tests.helpers import MEANS, ONE, run, run_until, small

FIDS = {2: 9.0, 4: 5.0, 6: 7.0, 8: 4.0, 10: 6.0}  # of the evaluations after these steps


def judged(monkeypatch: pytest.MonkeyPatch, name: str = "fid[x]", values: dict[int, float] = FIDS) -> Any:
    """A config whose evaluations come to ``values``."""

    def figures(self: Evaluator, state: GANState, drawn: Any = None) -> dict[str, float]:
        return {"eval_samples": 40.0, name: values[int(state.step)]}

    monkeypatch.setattr(Evaluator, "figures", figures)
    config = small("gan")
    config.eval.every, config.checkpoint.keep, config.checkpoint.every = 2, 1, 2
    return config


def kept(path: Path) -> list[int]:
    return sorted(int(folder.name) for folder in (path / "best").iterdir() if folder.name.isdecimal())


def test_the_best_stays_and_the_newest_go_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    run(judged(monkeypatch), path, ONE)
    assert kept(path) == [8]
    assert Workdir(path).saved() == [10]
    summary = Workdir(path).summary()
    assert summary is not None
    assert summary["best_checkpoint"] == "step 8, fid[x] 4"
    assert "best checkpoint: step 8, FID 4 (--step=best)" in (path / "report.html").read_text()
    best, last = gan_jax.load(path, step="best"), gan_jax.load(path)
    assert (best.step, last.step) == (8, 10)
    assert not np.array_equal(best.sample(4), last.sample(4))
    out = tmp_path / "best.npz"
    MODES["sample"].run(Request(path, num_samples=4, step="best", out=out))
    with np.load(out) as samples:
        np.testing.assert_array_equal(samples["images"], best.sample(4))


@pytest.mark.parametrize("dies", ["pause", pytest.param("save", marks=pytest.mark.slow)])
def test_a_run_that_was_killed_keeps_the_same(dies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = judged(monkeypatch)
    whole = run(config, tmp_path / "whole", ONE)
    run_until(config, tmp_path / "run", ONE, dies, 8)
    assert kept(tmp_path / "run") == [4]
    state = run(config, tmp_path / "run", ONE)
    jax.tree.map(np.testing.assert_array_equal, whole, state)
    assert kept(tmp_path / "run") == kept(tmp_path / "whole") == [8]


def test_of_some_figures_the_highest_is_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = judged(monkeypatch, "recall[x]", {2: 0.1, 4: 0.4, 6: 0.3, 8: 0.4, 10: 0.2})
    config.checkpoint.best = "recall"
    run(config, tmp_path / "run", ONE)
    assert kept(tmp_path / "run") == [4]
    config.checkpoint.best = "none"
    run(config, tmp_path / "none", ONE)
    assert not (tmp_path / "none/best").exists()
    for step, message in (("best", "no best checkpoint in .*/none/best"), ("worst", "must be a number or 'best'")):
        with pytest.raises(UserError, match=message):
            gan_jax.load(tmp_path / "none", step=step)
    config.checkpoint.best = "losses"
    with pytest.raises(UserError, match=r"checkpoint.best must be none, fid, kid, .*, not 'losses'"):
        run(config, tmp_path / "other", ONE)


def test_figures_that_do_not_compare_are_not_compared(tmp_path: Path) -> None:
    best = Best(Workdir(tmp_path), "fid")
    best.kept = {"figure": "fid[x]", "samples": 40.0, "stage": 0, "value": 3.0, "step": 8}
    assert best.found({"fid[x]": 4.0, "eval_samples": 40.0}, 0) is None
    assert best.found({"fid[x]": 2.0, "eval_samples": 40.0}, 0)
    assert best.found({"fid[y]": 4.0, "eval_samples": 40.0}, 0)  # other features
    assert best.found({"fid[x]": 4.0, "eval_samples": 50.0}, 0)  # of fewer samples it is larger
    assert best.found({"fid[x]": 4.0, "eval_samples": 40.0}, 6)  # another resolution
    assert best.found({"fid[x]": float("nan"), "eval_samples": 40.0}, 6) is None
    assert best.found({"fid_current[x]": 1.0, "eval_samples": 40.0}, 0) is None


def test_where_the_run_goes_back_it_stays_until_a_better_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    run(judged(monkeypatch), path, ONE)
    with Best(Workdir(path), "fid") as best:
        assert best.kept["step"] == 8
        found = best.found({"fid[x]": 3.0, "eval_samples": 40.0}, 0)
        assert found
        best.save(6, {"w": np.ones(2)}, {}, found)
    assert kept(path) == [6]


def test_one_that_cannot_be_written_is_said_and_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    with Best(Workdir(tmp_path), "fid") as best:
        found = best.found({"fid[x]": 3.0, "eval_samples": 40.0}, 0)
        assert found
        best.save(6, {"w": np.ones(2)}, {}, found)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "check", full)
            best.check()
        assert "warning: the best checkpoint could not be written: No space left" in capsys.readouterr().err
        assert best.found({"fid[x]": 4.0, "eval_samples": 40.0}, 0)


@pytest.mark.parametrize(("text", "step"), [(None, None), ("best", "best"), ("0", 0), ("12", 12)])
def test_a_step_is_a_number_or_best(text: str | None, step: Any) -> None:
    assert command.step_of(text) == step


@pytest.mark.parametrize("text", ["-1", "1.5", "", "last", "Best"])
def test_a_step_is_nothing_else(text: str) -> None:
    with pytest.raises(UserError, match=r"--step must be a whole number from 0 up, or best, not"):
        command.step_of(text)


WORSE = {2: 9.0, 4: 5.0, 6: 7.0, 8: 6.0, 10: 4.0}


def impatient(monkeypatch: pytest.MonkeyPatch, patience: int) -> Any:
    config = judged(monkeypatch, values=WORSE)
    config.checkpoint.patience, config.checkpoint.every, config.eval.features = patience, 5, MEANS
    return config


def test_a_run_ends_where_nothing_gets_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, config = tmp_path / "run", impatient(monkeypatch, 2)
    state = run(config, path, ONE)
    assert int(state.step) == 8
    assert kept(path) == [4]
    assert Workdir(path).saved() == [8]
    assert (Workdir(path).summary() or {})["steps"] == 8
    why = "ended early: 2 evaluations in a row were no better than the best, step 4, fid[x] 5"
    assert why in capsys.readouterr().out
    assert "2 evaluations in a row were no better" in (path / "report.html").read_text()
    for patience in (2, 1):
        config.checkpoint.patience = patience
        assert train(config, path, ONE) is None
        assert "a run that ended early (2 evaluations in a row" in capsys.readouterr().out
    config.checkpoint.patience = 3  # goes on, and is what it would have been
    goes_on = run(config, path, ONE)
    whole = run(config, tmp_path / "whole", ONE)
    assert int(goes_on.step) == 10
    jax.tree.map(np.testing.assert_array_equal, goes_on, whole)
    assert kept(path) == [10]
    assert "ended_early" not in (Workdir(path).summary() or {})


@pytest.mark.parametrize("dies", ["save", pytest.param("finish", marks=pytest.mark.slow)])
def test_a_run_killed_where_it_ends_early_ends_there(
    dies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = impatient(monkeypatch, 2)
    whole = run(config, tmp_path / "whole", ONE)
    run_until(config, tmp_path / "run", ONE, dies, 8 if dies == "save" else None)
    state = run(config, tmp_path / "run", ONE)
    jax.tree.map(np.testing.assert_array_equal, whole, state)
    assert kept(tmp_path / "run") == kept(tmp_path / "whole") == [4]


def test_patience_is_for_a_figure_and_a_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = impatient(monkeypatch, 2)
    with pytest.raises(UserError, match=r"a sweep's trials end together: leave config\.checkpoint\.patience at 0"):
        sweep(config, [{"seed": 1}], tmp_path / "sweep")
    config.eval.features = "none"
    with pytest.raises(UserError, match=r"checkpoint\.patience waits for a better figure: set eval\.features"):
        build.build_gan(config)
    config.checkpoint.best = "none"
    with pytest.raises(UserError, match=r"checkpoint\.patience waits for a better figure"):
        build.build_gan(config)
