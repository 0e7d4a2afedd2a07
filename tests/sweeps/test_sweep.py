"""Populations: each trial is the run that it would be alone."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.build import build_gan
from gan_jax.cli import arguments
from gan_jax.config import schedule
from gan_jax.core.state import init_state
from gan_jax.runs import charts, report
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import program
from gan_jax.sweeps import hyper, planning, population, sweep
from gan_jax.training import train
from gan_jax.training.run import Run
from gan_jax.util.errors import UserError
from tests.helpers import StopError, assert_identical, charts_of, distance, records, run, saved, small

TWO = jax.devices()[:2]
RATES: dict[str, Any] = {"optimizer.generator.learning_rate": 1e-3}


def alone(config: ConfigDict, overrides: dict[str, Any], path: Path) -> Any:
    own = ConfigDict(config.to_dict())
    own.update_from_flattened_dict(overrides)
    return run(own, path)


@pytest.mark.parametrize(
    "name",
    [
        "gan",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dcgan", "wgan", "sagan", "biggan", "progan", "fastgan", "r3gan", "stylegan2")
        ),
    ],
)
def test_a_trial_of_a_population_is_the_run_alone(tmp_path: Path, name: str) -> None:
    """In float64, where rounding can't hide a fault; in float32 only the order of sums differs."""
    config = small(name)
    config.compute_dtype = "float64"
    if name == "gan":  # each trial remembers for itself
        config.augment.name = "translation"
        config.terms.lecam.update({"weight": 0.3, "start": 1.0})
        config.terms.path_length.update({"weight": 2.0, "every": 2})
        config.schedules.strength = schedule("augment.p", "ada", every=1.0, length=8.0, target=-2.0)
    if name == "stylegan2":
        config.augment.update({"name": "ada", "p": 0.0})
        config.schedules.augment.update({"kind": "ada", "every": 1.0, "length": 8.0, "target": -2.0})
        config.terms.path_length.update({"weight": 2.0, "every": 2})
    with jax.enable_x64(True):
        compare_with_runs_alone(tmp_path, config)


def compare_with_runs_alone(tmp_path: Path, config: ConfigDict) -> None:
    trials = [{"seed": 1}, {"seed": 2, **RATES}, {"averages.ema.decay": 0.5, "terms.adversarial.weight": 0.9}]
    rows = sweep.sweep(config, trials, tmp_path / "sweep", TWO)
    for number, overrides in enumerate(trials):
        whole = alone(config, overrides, tmp_path / f"alone{number}")
        own = ConfigDict(config.to_dict())
        own.update_from_flattened_dict(overrides)
        state = saved(own, tmp_path / "sweep" / f"{number:03d}")
        for part in ("generator", "discriminator", "ema", "memory"):
            if jax.tree.leaves(getattr(whole, part)):  # not every GAN remembers anything
                assert distance(getattr(whole, part), getattr(state, part)) < 1e-9
        ours, theirs = (records(tmp_path / name) for name in (f"sweep/{number:03d}", f"alone{number}"))
        assert [r["step"] for r in ours] == [r["step"] for r in theirs]
        assert ours[-1]["d_loss"] == pytest.approx(theirs[-1]["d_loss"], rel=1e-9)
        for name in ("summary.json", "training.gif", "report.html", "samples/step_00000010.png"):
            assert (tmp_path / "sweep" / f"{number:03d}" / name).exists()
    assert len(charts_of(tmp_path / "sweep" / "report.html")) >= 5
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [row["trial"] for row in read] == ["000", "001", "002"] == [row["trial"] for row in rows]
    assert [row["seed"] for row in read] == ["1", "2", ""]
    assert float(read[2]["d_loss"]) == pytest.approx(records(tmp_path / "sweep/002")[-1]["d_loss"])


@pytest.mark.slow
def test_a_trial_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    config = small("gan")
    sweep.sweep(config, [{"seed": 1}, {"seed": 2}, {"seed": 3}], tmp_path / "three", TWO)
    sweep.sweep(config, [{"seed": 7}, {"seed": 2}, {"seed": 8}], tmp_path / "others", TWO)
    config.seed = 2
    assert_identical(saved(config, tmp_path / "three" / "001"), saved(config, tmp_path / "others" / "001"))


def test_a_trial_that_diverges_harms_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small("gan")
    wild = {"optimizer.discriminator.learning_rate": 1e30}
    rows = sweep.sweep(config, [{}, wild, {"seed": 1}], tmp_path / "wild", TWO[:1])
    assert [row["verdict"] == "diverged" for row in rows] == [False, True, False]
    assert "001: " in capsys.readouterr().err
    assert '<span class="verdict ">diverged</span>' in (tmp_path / "wild" / "001" / "report.html").read_text()
    sweep.sweep(config, [{}, {"seed": 2}, {"seed": 1}], tmp_path / "tame", TWO[:1])
    assert_identical(saved(config, tmp_path / "wild" / "000"), saved(config, tmp_path / "tame" / "000"))
    rows = sweep.sweep(config, [{}, wild, {"seed": 1}], tmp_path / "wild", TWO[:1])  # finished: nothing to do
    assert [row["verdict"] == "diverged" for row in rows] == [False, True, False]


@pytest.mark.slow
def test_a_sweep_made_longer_is_the_longer_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What diverged before stays so, and keeps its slot."""
    config = small("gan")
    trials: list[dict[str, Any]] = [{"seed": 1}, {"optimizer.discriminator.learning_rate": 1e30}, {"seed": 2}]
    whole = sweep.sweep(config, trials, tmp_path / "whole", TWO)
    config.steps = 5
    sweep.sweep(config, trials, tmp_path / "sweep", TWO)
    config.steps = 10
    rows = sweep.sweep(config, trials, tmp_path / "sweep", TWO)
    assert [row.get("steps") for row in rows] == [10, None, 10] == [row.get("steps") for row in whole]
    assert [row["d_loss"] for row in rows if "d_loss" in row] == [row["d_loss"] for row in whole if "d_loss" in row]
    for name, seed in (("000", 1), ("002", 2)):
        config.seed = seed
        assert_identical(saved(config, tmp_path / "sweep" / name), saved(config, tmp_path / "whole" / name))
    capsys.readouterr()
    wild = ConfigDict(config.to_dict())
    wild.update_from_flattened_dict(trials[1])
    wild.seed = small("gan").seed
    assert train.train(wild, tmp_path / "sweep" / "001", TWO[:1]) is None
    assert "holds a run that diverged before its last step (" in capsys.readouterr().out


@pytest.mark.slow
def test_trials_that_are_added_leave_the_others_where_they_are(tmp_path: Path) -> None:
    config = small("gan")
    config.steps, config.checkpoint.every = 5, 100
    sweep.sweep(config, [{"seed": 1}, {"seed": 2}], tmp_path / "sweep", TWO[:1])
    before = (tmp_path / "sweep" / "000" / "metrics.jsonl").read_bytes()
    config.steps = 10
    members = planning.plan(config, [{"seed": 1}, {"seed": 2}, {"seed": 3}], tmp_path / "sweep")
    assert [[m.name for m in going] for going, _ in planning.in_step(members)] == [["002"], ["000", "001"]]
    members[2].workdir.claim(members[2].config)  # as one that began with them, and was killed when they had saved
    assert [[m.name for m in going] for going, _ in planning.in_step(members)] == [["000", "001", "002"]]
    (members[2].workdir.path / "config.json").unlink()
    sweep.sweep(config, [{"seed": 1}, {"seed": 2}, {"seed": 3}], tmp_path / "sweep", TWO[:1])
    log = (tmp_path / "sweep" / "000" / "metrics.jsonl").read_bytes()
    assert log.startswith(before)  # with the times of then
    for number in range(3):
        assert [record["step"] for record in records(tmp_path / "sweep" / f"{number:03d}")] == [*range(1, 11)]


def test_a_killed_sweep_goes_on_to_the_same_end(tmp_path: Path) -> None:
    config, trials = small("gan"), [{"seed": 1}, {"seed": 2}, {"seed": 3}]
    sweep.sweep(config, trials, tmp_path / "whole", TWO)
    honest = Run.pause

    def dying(self: Run, step: int, *rest: Any) -> str:
        if step == 8 and self.config.seed == 2:  # when the first trial has a checkpoint that the others lack
            raise StopError
        return honest(self, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "pause", dying)
        with pytest.raises(StopError):
            sweep.sweep(config, trials, tmp_path / "cut", TWO)
    sweep.sweep(config, trials, tmp_path / "cut", TWO)
    for number, overrides in enumerate(trials):
        config.seed = overrides["seed"]
        whole, cut = (tmp_path / name / f"{number:03d}" for name in ("whole", "cut"))
        assert_identical(saved(config, cut), saved(config, whole))
        assert records(cut) == records(whole)


def test_data_that_does_not_do_for_a_later_program_is_said_before_the_first(tmp_path: Path) -> None:
    trials: list[dict[str, Any]] = [{}, {"batch_size": 9000}]
    with pytest.raises(UserError, match=r"trial 001 of the sweep: .* has 4,500 images .* fewer than batch_size=9000"):
        sweep.sweep(small("gan"), trials, tmp_path, TWO[:1])
    assert not (tmp_path / "000").exists()


def test_trials_that_a_shorter_sweep_leaves_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("000", "001", "002"):
        (tmp_path / name).mkdir()
    sweep.conclude({"000": {"seed": 1}}, tmp_path)
    assert f"warning: {tmp_path} holds trials of a longer sweep, left out now: 001, 002" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"holds a sweep or a search: give the --workdir of a trial, as .*000"):
        Workdir(tmp_path).config()


def test_a_plan_says_what_each_trial_has(tmp_path: Path) -> None:
    members = planning.plan(small("gan"), hyper.sweep("seed", range(22)), tmp_path)
    lines = planning.describe(members, planning.split(members, TWO), TWO).splitlines()
    assert lines[2:4] == ["  000  seed=0", "  001  seed=1"]
    assert lines[-2:] == ["  019  seed=19", "  and 2 more"]


def test_trials_are_parted_by_what_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small("gan")
    trials = hyper.product([hyper.sweep("seed", range(3)), hyper.sweep("loss", ["hinge", "minimax"])])
    trials += [{}, {"terms.feature_matching.weight": 1.0}, {"optimizer.discriminator.clip": 0.1}]
    trials += [{"generator.widths": (8,)}]
    moved = {"augment.name": "translation"}  # by chance they are another program, though a chance is a number
    trials += [moved, moved | {"augment.p": 0.5}, moved | {"augment.p": 0.25}]
    members = planning.plan(config, trials, tmp_path)
    numbers = [[int(m.name) for m in part] for part in planning.split(members, TWO)]
    assert numbers == [[0, 2, 4], [1, 3, 5], [6], [7], [8], [9], [10], [11, 12]]
    monkeypatch.setattr("gan_jax.runtime.placement.memory", lambda devices: 3 * members[0].nbytes() + 1)
    assert [len(part) for part in planning.split(members, TWO[:1])] == [1] * 13
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_programs_are_forgotten_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code lies in thousands of mappings, of which a process may have 65,530."""
    alive, honest = [], population.Population.go

    def go(self: Any) -> None:
        honest(self)
        alive.append(len(jax.devices()[0].client.live_executables()))

    monkeypatch.setattr(population.Population, "go", go)
    jax.clear_caches()
    sweep.sweep(small("gan"), hyper.sweep("generator.widths", [(8,), (9,), (10,), (11,)]), tmp_path, TWO[:1])
    assert max(alive) <= alive[0] + 5, alive


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ([], "no trials"),
        ([{"sed": 1}], "trial 000 of the sweep (sed=1): unknown config key 'sed'; did you mean 'seed'?"),
        ([{}, {"loss": "hing"}], "trial 001 of the sweep (loss=hing): unknown loss 'hing'"),
        ([{"steps": "many"}], "trial 000 of the sweep (steps=many): config.steps must be of type int, not 'many'"),
        ([{"optimizer.generator.b1": "x"}], "config.optimizer.generator.b1 must be of type float, not 'x'"),
    ],
)
def test_a_sweep_that_cannot_be_says_which_trial(trials: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        planning.plan(small("gan"), trials, tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sweep_is_read_from_a_flag_or_a_file(tmp_path: Path) -> None:
    assert arguments.read_sweep("seed=1,2 loss=hinge") == [{"seed": 1, "loss": "hinge"}, {"seed": 2, "loss": "hinge"}]
    assert arguments.read_sweep("w=(8,),(8,16)") == [{"w": (8,)}, {"w": (8, 16)}]
    assert arguments.read_sweep("config.averages.ema.decay=0.5,.9")[1] == {"averages.ema.decay": 0.9}
    file = tmp_path / "mine.py"
    file.write_text("def few(hyper):\n    return hyper.sweep('seed', [3])\n\ndef none(hyper):\n    return 3\n")
    assert arguments.read_sweep(f"{file}:few") == [{"seed": 3}]
    for text, message in {
        "loss=hinge seed": "'seed' is no key=1,2,3; give such, FILE.py:function or package.module:function",
        "seed=1 seed=2": "seed is swept twice",
        f"{file}:many": "has no function many\\(hyper\\): write it, or give --sweep=FILE.py:function",
        "nowhere.py:few": "there is no file .*nowhere.py",
        f"{file}:none": "must return a list of dicts of overrides, not int",
    }.items():
        with pytest.raises(UserError, match=message):
            arguments.read_sweep(text)


@pytest.mark.slow
def test_trials_run_at_once_where_that_was_measured_to_be_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small("gan")
    config.parallel.population = "auto"
    config.steps, asked = 4, []

    class Asked(program.Population):
        def __init__(self, *arguments: Any) -> None:
            asked.append(arguments[-1])
            super().__init__(*arguments)

    monkeypatch.setattr(program, "Population", Asked)
    for number, (ratio, said) in enumerate({1.4: "in turn: at once they are 1.40", 1.6: "at once: at once"}.items()):
        monkeypatch.setattr(program, "measured", lambda *_, ratio=ratio: ratio)
        path = tmp_path / str(number)
        sweep.sweep(config, [{"seed": 1}, {"seed": 2}], path / "first", TWO[:1])
        assert said in capsys.readouterr().out
        monkeypatch.setattr(program, "measured", None)  # known from now on
        asked.clear()
        sweep.sweep(config, [{"seed": 1}, {"seed": 2}], path / "second", TWO[:1])
        assert asked == [ratio > 1.5]
        assert_identical(saved(config, path / "first" / "000"), saved(config, path / "second" / "000"))
        asked.clear()
        longer = ConfigDict(config.to_dict() | {"steps": 5})
        sweep.sweep(longer, [{"seed": 1}, {"seed": 2}], path / "second", TWO[:1])
        assert asked == [ratio > 1.5]
    for damaged in ("garbage", "[]", '{"x": null}'):  # and it is measured again
        (path / "data_cache" / "populations.json").write_text(damaged)
        with pytest.raises(TypeError, match="not callable"):
            sweep.sweep(config, [{"seed": 1}, {"seed": 2}], path / "third", TWO[:1])
    config.parallel.population = "map"
    asked.clear()
    sweep.sweep(config, [{"seed": 1}, {"seed": 2}], tmp_path / "asked", TWO[:1])
    assert asked == [False]


def test_a_trial_whose_log_is_gone_has_its_last_figures(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    workdir.save_summary({"verdict": "healthy", "fid[x]": 3.0})
    assert sweep._figures(workdir) == {"verdict": "healthy", "fid[x]": 3.0, "best_fid[x]": 3.0}
    workdir.save_summary({"verdict": "diverged"})
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "seconds": 1, "fid[x]": 2.0}\n')
    assert sweep._figures(workdir) == {"verdict": "diverged", "best_fid[x]": 2.0, "best_fid_step[x]": 5}


@pytest.mark.slow
def test_both_populations_are_timed_and_their_states_kept() -> None:
    config = small("gan")
    gan, leaves = build_gan(config)
    fed = build.build_feed(config, gan, build.build_dataset(config, None), TWO[:1])
    both = [program.Population(gan, fed.fetch, 4, TWO[:1], 2, together) for together in (True, False)]
    one = jax.device_get(init_state(gan, 0, leaves))
    share = {name: np.asarray(array)[0] for name, array in fed.nothing.items()}
    assert program.measured(both[0], both[1], [one, one], fed.data, share, repeats=1) > 0
    assert int(one.step) == 0


def test_a_streamed_data_set_is_refused_in_one_line(tmp_path: Path) -> None:
    config = small("gan")
    config.data.device_budget_mb = 1
    with pytest.raises(UserError, match="raise the budget, or train the trials one by one") as error:
        sweep.sweep(config, [{}], tmp_path, TWO)
    assert "\n" not in str(error.value)
    build_gan(config)


def test_the_best_trial_is_named_with_its_setting() -> None:
    rows = [{"trial": "000", "rate": 1, "fid[x]": 3.0}, {"trial": "001", "rate": 2, "fid[x]": 2.0, "best_fid[x]": 1.0}]
    rows[0] |= {"best_fid[x]": 3.0, "best_fid_step[x]": 9}
    rows[1] |= {"best_fid_step[x]": 1200}
    rows += [{"trial": "002", "rate": 3, "verdict": "diverged"}]
    rows += [{"trial": "003", "rate": 4, "fid[y]": 1.0, "best_fid[y]": 1.0, "best_fid_step[y]": 7}]
    rows += [{"trial": "004", "fid[y]": math.nan}]  # another's compare not
    ends = ["lowest fid[x] at the end: 2, of trial 001 (rate=2)", "lowest fid[y]: 1 at step 7, of trial 003 (rate=4)"]
    assert report.best_trials(rows, ["rate"]) == ["lowest fid[x]: 1 at step 1,200, of trial 001 (rate=2)", *ends]
    assert report.best_trials(rows[:1], ["seed"]) == ["lowest fid[x]: 3 at step 9, of trial 000"]
    assert report.best_trials(rows[2:3], ["rate"]) == []
    rows[2] |= {"best_fid[x]": 0.5, "best_fid_step[x]": 3}  # one that diverged later was the best, too
    assert report.best_trials(rows, ["rate"])[0] == "lowest fid[x]: 0.5 at step 3, of trial 002 (rate=3)"


def test_a_table_names_the_features_that_all_columns_share_once() -> None:
    found = report.table([{"trial": "0", "fid[a:b]": 1.0, "best_fid[a:b], median": 2.0}])
    assert found["note"] == "Measured by a:b."
    assert found["columns"] == ["trial", "FID", "best FID, median"]
    assert found["rows"] == [["0", "1", "2"]]
    apart = report.table([{"fid[a]": 1.0, "fid[b]": 2.0}])
    assert apart["columns"] == ["FID by a", "FID by b"]
    assert apart["note"] == ""


def test_a_sweep_page_shows_what_people_compare_first() -> None:
    rows = [{"trial": "0", "d_grad_norm": 1.0, "d_loss": 0.5, "rate": 1, "fid[x]": 2.0, "verdict": "healthy"}]
    assert list(report._trials(rows, ["rate"])[0]) == ["trial", "rate", "verdict", "fid[x]", "d_loss"]


def test_a_sweep_page_tells_its_trials_apart_and_leads_to_them(tmp_path: Path) -> None:
    names = ("fid[x]", "precision[x]", "recall[x]", "d_loss", "g_loss")
    rows = []
    for number in range(23):
        path = tmp_path / f"{number:03d}"
        path.mkdir()
        lines = [{"step": step, "seconds": 1.0, **dict.fromkeys(names, 2.0 + number - step / 4)} for step in (1, 2)]
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        rows.append({"trial": path.name, "seed": number, "verdict": "healthy"})
    (tmp_path / "007" / "report.html").touch()
    page = report.write_sweep_report(tmp_path, rows, ["seed"], 40).read_text()
    assert "23 of 40 trials, 0 diverged" in page
    assert '<td><a href="007/report.html">007</a></td>' in page
    assert page.count("<a href") == 1
    drawn = charts_of(page)
    assert [chart["title"] for chart in drawn] == ["FID", "precision", "recall", "D's loss", "G's loss"]
    assert "best 1.5 at step 2 (000)" in page
    for chart in drawn:  # the same in each
        assert {line["name"]: line["style"] for line in chart["lines"]} == {f"{n:03d}": n for n in range(23)}


def test_a_curve_keeps_its_ends_and_its_lowest_point() -> None:
    values = np.random.default_rng(0).uniform(10, 20, 3001)
    values[1239] = 3.25
    records = [{"step": float(step), "fid[x]": value} for step, value in enumerate(values)]
    (line,) = report._series(records, ("fid",)).values()
    assert 300 <= len(line) <= 301
    assert {(0, values[0]), (1239, 3.25), (3000, values[-1])} <= set(line)
    assert line == sorted(line)
    cases: dict[str, dict[str, Any]] = {
        "FID": {"fid[x]": line},
        "fid": {"FID": line, "FID, newest weights": [(1, 1.0)]},
        "KID": {"kid[x]": line},
    }
    for title, series in cases.items():
        drawn = charts.chart(title, series)
        assert drawn is not None
        assert drawn["caption"] == "best 3.25 at step 1,239"
        assert drawn["marks"] == [{"x": 1239, "y": 3.25, "name": "best 3.25"}]
    losses = charts.chart("Losses", {"fid[x]": line})
    assert losses is not None
    assert not losses["marks"]
    assert charts.chart("FID", {}) is None


def test_settings_are_told_by_median_and_range_over_seeds() -> None:
    rows = [{"trial": str(i), "seed": i % 3, "rate": i // 3, "fid[x]": float(i * i)} for i in range(6)]
    rows[2] = {"trial": "2", "seed": 2, "rate": 0, "verdict": "diverged"}
    first, second = report._settings(rows, ["seed", "rate"])
    assert first == {"rate": 0, "trials": 3, "diverged": 1, "fid[x], median": 0.5, "fid[x], range": "0 to 1"}
    assert second["fid[x], median"] == 16
    assert second["fid[x], range"] == "9 to 25"
    wide = [{"trial": "0", "generator.widths": [8, 4], "fid[x]": 1.0}]
    assert report._settings(wide, ["generator.widths"])[0]["generator.widths"] == [8, 4]


def test_what_people_put_beside_the_trials_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("000", "001", "000 copy", "000_old", "2", "0002", "1000"):
        (tmp_path / name).mkdir()
    (tmp_path / "007").touch()
    sweep.conclude({"000": {"seed": 0}}, tmp_path)
    assert capsys.readouterr().err.endswith("holds trials of a longer sweep, left out now: 001, 1000\n")
