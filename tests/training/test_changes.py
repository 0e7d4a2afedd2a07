"""What of a run may change when it goes on: how it is looked at, freely; what its results depend on, by a word that is
recorded; its files by hand, not."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax.config import OBSERVING
from gan_jax.core.state import GANState
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps import hyper, sweep
from gan_jax.training import train
from gan_jax.training.dispatch import Pending
from gan_jax.training.run import Run
from gan_jax.util.errors import DivergedError, UserError
from tests.helpers import MEANS, ONE, assert_identical, records, run, run_until, saved, small

RATE = "optimizer.generator.learning_rate"


def changed(config: ConfigDict, **values: Any) -> ConfigDict:
    """A copy of ``config`` with other values, by dotted keys with two underscores for a dot."""
    own = ConfigDict(config.to_dict())
    own.update_from_flattened_dict({key.replace("__", "."): value for key, value in values.items()})
    return own


def go_on(config: ConfigDict, path: Path) -> GANState:
    """Goes on with ``config`` by the explicit word."""
    state: GANState = jax.device_get(train.train(config, path, ONE, change=True))
    return state


def history(path: Path) -> list[tuple[int, str, Any, Any]]:
    return [(c["step"], c["key"], c["old"], c["new"]) for c in json.loads((path / "changes.json").read_text())]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `small` that ended at its 9th step, with checkpoints of its steps 4 and 8."""
    path = tmp_path_factory.mktemp("runs") / "cut"
    run_until(small("gan"), path, ONE, "pause", at=10)
    assert Workdir(path).saved() == [4, 8]
    return path


@pytest.fixture
def begun(cut: Path, tmp_path: Path) -> Path:
    """A copy of `cut`."""
    shutil.copytree(cut, tmp_path / "run")
    return tmp_path / "run"


def test_how_a_run_is_looked_at_changes_freely_and_the_run_is_the_same(begun: Path, tmp_path: Path) -> None:
    config = small("gan")
    whole = run(config, tmp_path / "whole")
    other: dict[str, Any] = {
        "log.every": 2,
        "log.track": "",
        "sample.every": 3,
        "sample.rows": 3,
        "eval.every": 9,
        "eval.samples": 20,
    }
    other |= {"eval.features": MEANS, "checkpoint.every": 9, "checkpoint.keep": 1, "checkpoint.best": "kid"}
    other |= {"eval.sampling": "truncation=0.9", "checkpoint.patience": 9}
    assert set(other) | {"eval.standing"} == set(OBSERVING)  # it has no statistics to compute anew
    config.update_from_flattened_dict(other)
    assert_identical(run(config, begun), whole)
    assert Workdir(begun).saved() == [10]
    assert [path.name[5:13] for path in Workdir(begun).grids()] == ["00000000", "00000005", "00000009", "00000010"]
    assert [record["step"] for record in records(begun)] == [*range(1, 9), 9, 10]
    assert [f"fid[{MEANS}, truncation=0.9]" in record for record in records(begun)][-3:] == [False, True, True]
    assert json.loads((begun / "config.json").read_text())["checkpoint"] == {
        "every": 9,
        "keep": 1,
        "best": "kid",
        "patience": 9,
    }
    assert not (begun / "changes.json").exists()
    with pytest.raises(UserError, match=r"other settings \(batch_size: 16 -> 8\)"):
        train.train(changed(config, batch_size=8, log__every=1), begun, ONE)
    kept = json.loads((begun / "config.json").read_text())
    del kept["checkpoint"]["patience"], kept["eval"]["standing"]  # a version that didn't have them
    (begun / "config.json").write_text(json.dumps(kept))
    assert Workdir(begun).config().checkpoint.patience == 0
    del kept["data"]["flip"]
    (begun / "config.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"config\.data\.flip is missing"):
        Workdir(begun).config()


def test_a_rate_is_changed_by_a_word_and_reaches_the_state(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """G's rate is 0 then, so it stays what it was; the average's decay too, so it is G itself; D goes on."""
    before = saved(small("gan"), begun)
    config = changed(small("gan"), averages__ema__decay=0.0, **{RATE: 0.0})
    decay = small("gan").averages.ema.decay
    told = f"averages.ema.decay: {decay} -> 0.0; optimizer.generator.learning_rate: 0.0002 -> 0.0"
    with pytest.raises(
        UserError, match=rf"\({told}\): .*; or go on from step 8 with these, which is recorded, by --ch"
    ):
        train.train(config, begun, ONE)
    assert not (begun / "changes.json").exists()
    after = go_on(config, begun)
    assert (int(before.step), int(after.step)) == (8, 10)
    assert_identical(after.generator.params, before.generator.params)
    assert_identical(after.ema["params"], after.generator.params)
    ours, theirs = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(of.discriminator.params)])
        for of in (
            before,
            after,
        )
    )
    assert (ours != theirs).mean() > 0.9
    expected = [(8, "averages.ema.decay", decay, 0.0), (8, RATE, 0.0002, 0.0)]
    assert history(begun) == expected
    line = f"after step 8: {RATE} 0.0002 -> 0.0"
    assert f"changed       {line}" in capsys.readouterr().out
    assert line in (begun / "report.html").read_text().replace("&gt;", ">")
    assert Workdir(begun).config().optimizer.generator.learning_rate == 0

    longer = changed(config, steps=12)  # has the values now, without a word, and keeps its history
    assert_identical(run(longer, begun).generator.params, before.generator.params)
    assert history(begun) == expected
    with pytest.raises(UserError, match=rf"averages.ema.decay: 0.0 -> {decay}; .*; or go on from step 12 with these"):
        train.train(changed(small("gan"), steps=14), begun, ONE)


def test_a_changed_run_that_is_cut_off_ends_bit_identical(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path / "other")
    config = changed(small("gan"), steps=14, **{RATE: 1e-3})
    whole = go_on(config, begun)
    with pytest.MonkeyPatch.context() as patch:
        honest = Run.report

        def report(self: Run, pending: Pending, figures: Any = None) -> str:
            if pending.first >= 8:
                raise KeyboardInterrupt
            return honest(self, pending, figures)

        patch.setattr(Run, "report", report)
        with pytest.raises(KeyboardInterrupt):
            go_on(changed(config, **{RATE: 5e-3}), tmp_path / "other")  # changed once more before it is saved
    assert Workdir(tmp_path / "other").saved() == [4, 8]
    assert history(tmp_path / "other") == [(8, RATE, 2e-4, 5e-3)]
    assert_identical(go_on(config, tmp_path / "other"), whole)
    assert history(tmp_path / "other") == history(begun) == [(8, RATE, 2e-4, 1e-3)]
    assert records(tmp_path / "other") == records(begun)


def test_a_change_holds_from_where_the_run_really_goes_on(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest checkpoint is found damaged only when it is read."""
    (begun / "checkpoints" / "8" / "state" / "manifest.ocdbt").unlink()
    before = Workdir(begun).config()
    go_on(changed(before, **{RATE: 1e-3}), begun)
    assert "resumed from the checkpoint of step 4" in capsys.readouterr().out
    assert history(begun) == [(4, RATE, 2e-4, 1e-3)]
    assert int(saved(before, begun).step) == 10


@pytest.mark.slow
def test_a_rollback_keeps_what_was_changed(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, diverged = Run.report, iter([True])

    def report(self: Run, pending: Pending, figures: Any = None) -> str:
        if pending.first >= 9 and next(diverged, False):
            raise DivergedError("by chance")
        return honest(self, pending, figures)

    monkeypatch.setattr(Run, "report", report)
    before = saved(small("gan"), begun)
    after = go_on(changed(small("gan"), steps=12, on_divergence="rollback", **{RATE: 0.0}), begun)
    assert int(after.seed) != 0
    assert_identical(after.generator.params, before.generator.params)
    assert history(begun) == [(8, RATE, 2e-4, 0.0)]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"batch_size": 8, RATE: 1e-3}, "batch_size: 16 -> 8"),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"schedules.generator_rate.kind": "linear"}, "schedules.generator_rate.kind: constant -> linear"),
        ({"optimizer.generator.clip": 0.1}, "optimizer.generator.clip: 0.0 -> 0.1"),
        ({"terms.r1.weight": 1.0}, "terms.r1.weight: 0.0 -> 1.0"),
        ({"steps": 6}, "steps: 10 -> 6"),
    ],
)
def test_what_is_no_leaf_of_the_state_is_refused(values: dict[str, Any], named: str, cut: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in cut.rglob("*")}
    with pytest.raises(UserError, match="--change: a run keeps its program") as error:
        go_on(changed(small("gan"), **values), cut)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in cut.rglob("*") if path.name != "lock"} == {
        path: time for path, time in files.items() if path.name != "lock"
    }


@pytest.mark.slow
def test_a_run_that_has_ended_changes_for_further_steps_alone(tmp_path: Path) -> None:
    config = changed(small("gan"), steps=4, schedules__generator_rate__kind="linear")
    run(config, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"holds a run that has ended, which --config.{RATE} can't change any more"):
        go_on(changed(config, **{RATE: 1e-3}), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    longer = changed(config, steps=8)
    with pytest.raises(UserError, match="a learning rate's schedule ends with the steps"):
        train.train(longer, tmp_path, ONE)
    state = go_on(longer, tmp_path)
    assert (int(state.step), float(state.hyperparams["schedules"]["generator_rate"]["length"])) == (8, 8)
    assert history(tmp_path) == [(4, "steps", 4, 8)]


@pytest.mark.parametrize("key", [RATE, "loss", "seed"])
def test_a_config_edited_by_hand_is_refused_wherever_it_is_read(key: str, begun: Path) -> None:
    place, file = Workdir(begun), begun / "config.json"
    known = place.config()
    edited = changed(known, **{key: {RATE: 0.1, "loss": "hinge", "seed": 7}[key]})
    file.write_text(json.dumps(edited.to_dict()))
    for look in (place.config, lambda: place.check(known), lambda: place.check(edited, alone=False)):
        with pytest.raises(UserError, match=rf"config.json isn't what the run was trained with \({key}: ") as error:
            look()
        assert "\n" not in str(error.value)
    file.unlink()
    assert place.config() == known
    file.write_text(json.dumps(changed(known, log__every=7, data__dir="elsewhere", steps=20).to_dict()))
    assert place.config().log.every == 7  # nothing that was trained depends on it


def test_a_change_whose_recording_was_cut_off_is_none(begun: Path) -> None:
    """The history is written before the config; the next start may say another thing."""
    place = Workdir(begun)
    config = place.config()
    place.record_changes(changed(config, **{RATE: 1e-3}), 8)
    assert history(begun) == [(8, RATE, 2e-4, 1e-3)]
    assert place.config() == config
    place.check(config)
    place.record_changes(config, 8)
    assert history(begun) == []
    (begun / "changes.json").write_text("{")
    with pytest.raises(UserError, match=r"changes.json, the history of the run's config, is damaged: restore it"):
        place.config()


def test_the_history_is_taken_along_to_a_fallback(begun: Path, tmp_path: Path) -> None:
    place, config = Workdir(begun), changed(small("gan"), **{RATE: 1e-3})
    place.record_changes(config, 8)
    with place.logs(8, config) as logs:
        place.move(Workdir(tmp_path / "else"), config, logs)
    logs.finish({})
    assert history(tmp_path / "else") == [(8, RATE, 2e-4, 1e-3)]


@pytest.mark.slow
def test_trials_of_a_sweep_keep_their_values_and_may_be_looked_at_otherwise(tmp_path: Path) -> None:
    config, trials = small("gan"), hyper.sweep(RATE, [1e-3, 1e-4])
    sweep.sweep(changed(config, steps=4), trials, tmp_path / "s", ONE)
    with pytest.raises(UserError, match=rf"\({RATE}: 0.001 -> 0.01\): .*; the trials of a sweep keep the values that"):
        sweep.sweep(config, hyper.sweep(RATE, [1e-2, 1e-4]), tmp_path / "s", ONE)
    sweep.sweep(changed(config, log__every=5, checkpoint__every=5), trials, tmp_path / "s", ONE)
    sweep.sweep(config, trials, tmp_path / "whole", ONE)
    for name in ("000", "001"):
        assert_identical(saved(config, tmp_path / "s" / name), saved(config, tmp_path / "whole" / name))
