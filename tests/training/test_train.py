"""Whole runs: what they write, that they repeat to the bit, and that they go on where they stopped."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from gan_jax import build
from gan_jax.core.state import init_state
from gan_jax.core.update import update
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import program
from gan_jax.training import train
from gan_jax.training.dispatch import Pace, Pending, chunks
from gan_jax.util.errors import UserError
from tests.helpers import ONE, assert_identical, records, run, run_until, saved, small


def test_a_run_writes_what_the_readme_says(config: ConfigDict, tmp_path: Path) -> None:
    final = run(config, tmp_path)
    assert int(final.step) == config.steps
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 16
    assert [line["step"] for line in records(tmp_path)] == list(range(1, 11))
    assert ["d_unseen" in line for line in records(tmp_path)] == [step in (5, 10) for step in range(1, 11)]
    pictures = sorted((tmp_path / "samples").iterdir())
    assert [p.name for p in pictures] == [f"step_{step:08d}.png" for step in (0, 5, 10)]
    with Image.open(pictures[0]) as picture, Image.open(tmp_path / "training.gif") as animation:
        assert picture.size == (62, 62)  # 2 x 2 images of 28, with borders of 2
        assert animation.n_frames == 3  # type: ignore[attr-defined]
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [4, 8, 10]
    kept = json.loads((tmp_path / "checkpoints" / "10" / "config" / "metadata").read_text())
    assert kept == json.loads((tmp_path / "config.json").read_text())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 10
    assert summary["images"] == 160
    for name in ("seconds", "images_per_second"):
        assert summary[name] > 0, name
    assert set(summary["resources"]) == {
        *("compile_seconds", "images_per_second_median", "images_per_second_quartiles", "gflop_per_step"),
        *("gb_per_step", "gflop_per_second", "matmul_gflop_per_second", "share_of_matmul_rate"),
        *("device_memory_mb", "host_memory_mb"),
    }
    assert summary["d_loss"] == records(tmp_path)[-1]["d_loss"]


def test_the_time_before_a_resume_counts_and_a_lost_report_is_written_again(tmp_path: Path) -> None:
    config = small("gan")
    config.log.every = 1000
    run_until(config, tmp_path, ONE, "pause", at=10)
    before = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert before["step"] == 8  # of the last checkpoint
    run(config, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["seconds"] > before["seconds"] > 0
    (tmp_path / "report.html").unlink()
    assert train.train(config, tmp_path, ONE) is None
    assert ">too short to say</span>" in (tmp_path / "report.html").read_text()


def test_a_line_is_the_mean_of_the_steps_since_the_line_before(tmp_path: Path) -> None:
    """Of a lazy penalty, of those that had it; whatever the dispatches. Evaluations and checkpoints have lines, too."""
    config = small("gan")
    config.terms.r1.update({"weight": 10.0, "every": 3})
    config.checkpoint.every = 7
    run(config, tmp_path / "each")
    each = {record["step"]: record for record in records(tmp_path / "each")}
    config.log.every, config.steps_per_dispatch = 4, 3
    run(config, tmp_path / "means")
    lines = records(tmp_path / "means")
    assert [line["step"] for line in lines] == [4, 5, 7, 8, 10]
    with_penalty = {4: (1, 4), 5: (), 7: (7,), 8: (), 10: (10,)}  # steps 0, 3, 6 and 9 from 0 up
    for before, line in zip((0, 4, 5, 7, 8), lines, strict=True):
        names = each[before + 1].keys() - {"step", "d_seen", "d_unseen", "d_r1"}
        for name in names:
            mean = np.mean([each[step][name] for step in range(before + 1, int(line["step"]) + 1)])
            assert line[name] == pytest.approx(mean, rel=1e-12), name
        penalties = [each[step]["d_r1"] for step in with_penalty[int(line["step"])]]
        assert ("d_r1" in line) == bool(penalties)
        assert min(penalties, default=1) > 0
        assert line.get("d_r1") == (pytest.approx(np.mean(penalties), rel=1e-12) if penalties else None)
    assert ["d_seen" in line for line in lines] == [False, True, False, False, True]


def test_tensorboard_gets_scalars_and_pictures(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    run(small("gan"), tmp_path)
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, events, at = file.read_bytes(), [], 0
    while at < len(data):  # a record: length, its checksum, the event, its checksum
        size = int.from_bytes(data[at : at + 8], "little")
        events.append(Event.FromString(data[at + 12 : at + 12 + size]))
        at += 16 + size
    values = [(event.step, value) for event in events for value in event.summary.value]
    logged = {step: value.simple_value for step, value in values if value.tag == "losses/d_loss"}
    assert logged == pytest.approx({line["step"]: line["d_loss"] for line in records(tmp_path)}, rel=1e-6)
    assert [step for step, value in values if value.tag == "samples"] == [0, 5, 10]


@pytest.mark.parametrize("config", ["gan", pytest.param("dcgan", marks=pytest.mark.slow)], indirect=True)
def test_the_same_seed_gives_the_same_run_to_the_bit_and_another_seed_another(
    config: ConfigDict, tmp_path: Path
) -> None:
    one, two = run(config, tmp_path / "one"), run(config, tmp_path / "two")
    assert_identical(one, two)
    assert records(tmp_path / "one") == records(tmp_path / "two")
    for picture in (tmp_path / "one" / "samples").iterdir():
        assert picture.read_bytes() == (tmp_path / "two" / "samples" / picture.name).read_bytes()
    config.seed = 1
    three = run(config, tmp_path / "three")
    assert not (jax.tree.leaves(one.ema)[-1] == jax.tree.leaves(three.ema)[-1]).any()


def test_an_interrupted_run_resumes_and_ends_bit_identical(
    config: ConfigDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(config, tmp_path / "whole")
    run_until(config, tmp_path / "cut", ONE, "draw", at=5)  # between two checkpoints, and within an epoch
    assert_identical(run(config, tmp_path / "cut"), whole)
    assert "resumed from the checkpoint of step 4" in capsys.readouterr().out
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert_identical(saved(config, tmp_path / "cut"), saved(config, tmp_path / "whole"))


@pytest.mark.parametrize("steps", [1, 0])
def test_the_cut_into_dispatches_changes_nothing(steps: int, tmp_path: Path) -> None:
    config = small("gan")
    one = run(config, tmp_path / "one")
    config.steps_per_dispatch = steps
    config.checkpoint.every = 7
    assert_identical(one, run(config, tmp_path / "two"))


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(("seconds", "steps"), [(0.0001, 1000), (0.001, 250), (0.03, 8), (0.2, 1), (5.0, 1)])
def test_a_dispatch_makes_as_many_steps_as_take_a_quarter_of_a_second(
    seconds: float, steps: int, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that takes ``seconds`` for a step, and makes them while the next dispatch waits, or at once."""
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    config, pace, last, counts = small("gan"), Pace(0, 1000), None, []
    config.steps = 50_000
    config.update({key: {"every": 50_000} for key in ("sample", "eval", "checkpoint")})
    for step, count in chunks(config, 0, pace):
        begin = now
        if inline:
            now += count * seconds
        new = Pending(step, count, {}, begin, now if inline else None)
        counts.append(count)
        if last is not None:
            if not inline:
                now = max(now, last.dispatched) + last.count * seconds
            pace.wait(last)
        last = new
    assert sum(counts) == 50_000
    assert set(counts[20:-1]) == {steps}
    assert counts[0] == 1
    assert Pace(20, 1000).steps == 20
    assert Pace(20, 7).steps == 7


@pytest.mark.slow
def test_a_run_may_resume_on_another_number_of_devices(config: ConfigDict, tmp_path: Path) -> None:
    run_until(config, tmp_path, jax.devices()[:2], "draw", at=5)
    assert int(run(config, tmp_path, jax.devices()[:4]).step) == 10
    assert [line["step"] for line in records(tmp_path)] == list(range(1, 11))


def test_a_finished_run_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small("gan")
    run(config, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert train.train(config, tmp_path, ONE) is None
    assert "finished run of 10 steps: nothing to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("config", ["gan", pytest.param("dcgan", marks=pytest.mark.slow)], indirect=True)
def test_a_run_made_longer_is_the_longer_run(config: ConfigDict, tmp_path: Path) -> None:
    """Finished or not; its log has one step more, that of the first end, where the next line's mean begins."""
    config.log.every = config.eval.every = 2
    whole = run(config, tmp_path / "whole")
    config.steps = 5
    run(config, tmp_path / "finished")
    run_until(config, tmp_path / "unfinished", ONE, "pause", 5)
    for path in (tmp_path / "finished", tmp_path / "unfinished"):
        config.steps = 10
        assert_identical(run(config, path), whole)
        known, wanted = ({record["step"]: record for record in records(p)} for p in (path, tmp_path / "whole"))
        if 5 in known:
            both, last = known.pop(5), known.pop(6)
            for name, value in wanted.pop(6).items():
                mean = last[name] if name in ("step", "d_seen", "d_unseen") else (both[name] + last[name]) / 2
                assert mean == pytest.approx(value, rel=1e-12), name
        assert known == wanted
        assert json.loads((path / "config.json").read_text())["steps"] == 10
        summary = json.loads((path / "summary.json").read_text())
        assert (summary["steps"], summary["images"]) == (10, 160)
        assert re.search(r", 10 steps\n *<p class=.why.>", (path / "report.html").read_text())
        assert train.train(config, path, ONE) is None
        config.steps = 9
        with pytest.raises(UserError, match=r"\(steps: 10 -> 9\).*; it has made 10 steps and can have more"):
            train.train(config, path, ONE)


@pytest.mark.slow
def test_an_unfinished_run_may_end_earlier_too(tmp_path: Path) -> None:
    config = small("gan")
    run_until(config, tmp_path / "cut", ONE, "pause", 8)
    config.steps = 4  # its checkpoint
    with pytest.raises(UserError, match=r"\(steps: 10 -> 4\)"):
        train.train(config, tmp_path / "cut", ONE)
    config.steps = 6
    assert_identical(run(config, tmp_path / "cut"), run(config, tmp_path / "whole"))
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


@pytest.mark.slow
def test_a_finished_run_that_cannot_be_made_longer_stays_finished(tmp_path: Path) -> None:
    config, file = small("gan"), tmp_path / "images.npz"
    config.data.update({"source": "npz", "dir": str(file)})
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    np.savez(file, images=images)
    run(config, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}

    def stays() -> None:
        assert train.train(config, tmp_path / "run", ONE) is None
        assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before

    longer = ConfigDict(config.to_dict() | {"steps": 12})
    np.savez(file, images=images[1:])
    with pytest.raises(UserError, match="the images of npz:images are not those"):
        train.train(longer, tmp_path / "run", ONE)
    stays()
    np.savez(file, images=images)
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "away")
    with pytest.raises(UserError, match="ended at step 10, and its checkpoints are gone: restore them"):
        train.train(longer, tmp_path / "run", ONE)
    (tmp_path / "away").rename(tmp_path / "run" / "checkpoints")
    stays()
    Workdir(tmp_path / "run").claim(longer)  # and killed
    assert train.train(config, tmp_path / "run", ONE) is None
    assert int(run(longer, tmp_path / "run").step) == 12


@pytest.mark.slow
def test_a_lost_log_is_said_and_the_speed_is_that_of_the_steps_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small("gan")
    run(config, tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    config.steps = 13
    run(config, tmp_path)
    assert f"{tmp_path / 'metrics.jsonl'} has lost what came before step 10" in capsys.readouterr().err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["images"] == 13 * 16
    assert summary["images_per_second"] == pytest.approx(3 * 16 / summary["seconds"], rel=1e-3)


def test_a_finished_run_without_its_log_is_one_clear_error(tmp_path: Path) -> None:
    config = small("gan")
    run(config, tmp_path)
    for name in ("metrics.jsonl", "summary.json"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"has lost its metrics\.jsonl: restore it"):
        train.train(config, tmp_path, ONE)


@pytest.mark.slow
def test_a_run_whose_rates_end_with_its_steps_cannot_be_longer(tmp_path: Path) -> None:
    config = small("gan")
    config.schedules.discriminator_rate.kind = "linear"
    run(config, tmp_path)
    config.steps = 12
    with pytest.raises(UserError, match=r"\(steps: 10 -> 12\).*; a learning rate's schedule ends with"):
        train.train(config, tmp_path, ONE)
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 10


def test_a_run_that_died_after_its_last_checkpoint_is_finished_off(tmp_path: Path) -> None:
    config = small("gan")
    run_until(config, tmp_path, ONE, "finish")
    assert not (tmp_path / "summary.json").exists()
    run(config, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 10
    assert len(records(tmp_path)) == 10


@pytest.mark.slow
def test_a_run_among_its_images_goes_on_from_any_folder_and_knows_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for grey, (name, count) in enumerate({"cat": 11, "dog": 9}.items()):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("L", (8, 8), (100 * grey,)).save(tmp_path / name / f"{number}.png")
    config = small("cgan")
    config.update({"model": "mlp", "classes": 2, "steps": 4, "batch_size": 4})
    config.generator = ConfigDict({"widths": (8,), "norm": "none", "conditional": "concat"})
    config.discriminator = ConfigDict({"widths": (8,), "norm": "none", "conditional": "concat"})
    config.data.update({"source": "folder", "dir": ".", "name": "", "image_size": 28})
    monkeypatch.chdir(tmp_path)
    train.train(config, Path("runs/zoo"), ONE)
    said = capsys.readouterr().out
    assert f"folder:{tmp_path.name}, 19 train and 1 test images" in said
    assert "classes       2 classes: cat 11, dog 9" in said
    monkeypatch.chdir("/")
    place = Workdir(tmp_path / "runs" / "zoo")
    assert place.config().data.dir == str(tmp_path)
    for kept in place.checkpoints.glob("*/config/metadata"):
        assert json.loads(kept.read_text())["data"]["dir"] == str(tmp_path)
    longer = place.config()
    longer.steps = 6
    run(longer, place.path)
    assert "runs/zoo" in capsys.readouterr().out
    assert json.loads((place.path / "data.json").read_text())["classes"] == [
        {"name": "cat", "train": 10, "test": 1},
        {"name": "dog", "train": 9, "test": 0},
    ]
    assert "0: cat" in (place.path / "report.html").read_text()
    grid = np.asarray(Image.open(place.grids()[0]))
    assert grid.shape[1] > 2 * 30 + 2 + 10  # names stand before its rows


def test_another_config_in_a_used_workdir_is_refused_and_the_keys_named(tmp_path: Path) -> None:
    config = small("gan")
    run(config, tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    config.optimizer.generator.learning_rate = 1e-3
    config.generator.widths = (8,)
    refused = r"generator.widths: \[32, 48\] -> \[8\]; optimizer.generator.learning_rate: 0.0002"
    with pytest.raises(UserError, match=refused):
        train.train(config, tmp_path, ONE)
    assert (tmp_path / "config.json").read_bytes() == before
    known = Workdir(tmp_path).config()
    (tmp_path / "config.json").unlink()  # the checkpoints have it, too
    assert Workdir(tmp_path).config() == known
    with pytest.raises(UserError, match=refused):
        train.train(config, tmp_path, ONE)
    assert not (tmp_path / "config.json").exists()


def test_a_run_of_which_nothing_came_makes_way_for_another(tmp_path: Path) -> None:
    """As one that was ended before its first step, for a value that the plan showed to be wrong."""
    config, place = small("gan"), Workdir(tmp_path)
    place.check_data("digits", "1234", 5)
    place.claim(config)
    config.loss = "hinge"
    place.check(config)
    place.check_data("others", "5678", 6)
    place.claim(config)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds": 0.5}\n')
    config.loss = "least_squares"
    with pytest.raises(UserError, match="loss: hinge -> least_squares"):
        place.check(config)
    with pytest.raises(UserError, match=r"images of others are not those .* began with \(5 to train on, 6 then\)"):
        place.check_data("others", "1234", 5)


def test_what_people_put_beside_a_runs_files_counts_for_nothing(tmp_path: Path) -> None:
    config, place = small("gan"), Workdir(tmp_path)
    run_until(config, tmp_path, ONE, "draw", at=5)
    grid = (tmp_path / "samples" / "step_00000000.png").read_bytes()
    for name in ("step_00000000 copy", "step_00000000 (1)", "step_3", "step_000000003", "step_", "step_00000000.png"):
        (tmp_path / "samples" / f"{name}.png").write_bytes(grid)
    for name in ("4 copy", "4.bak", "04", "old"):
        shutil.copytree(tmp_path / "checkpoints" / "4", tmp_path / "checkpoints" / name)
    for name in ("9", "²", ".DS_Store"):
        (tmp_path / "checkpoints" / name).touch()
    assert place.saved() == [4]
    figures = {"step": 4, "samples": 60, "features": "a:b", "fid": 1.0}
    place.save_evaluation(figures)
    (kept,) = tmp_path.glob("evaluation_*.json")
    assert kept.name == "evaluation_00000004_000060_a-b.json"
    for name in ("evaluation_00000004_000060_a-b copy", "evaluation_00000004_000060_a-b-2", "evaluation_of_mine"):
        (tmp_path / f"{name}.json").write_bytes(kept.read_bytes())
    assert place.evaluations() == [figures]
    run(config, tmp_path)
    assert [path.name for path in place.grids()] == [f"step_{step:08d}.png" for step in (0, 5, 10)]
    with Image.open(tmp_path / "training.gif") as animation:
        assert animation.n_frames == 3  # type: ignore[attr-defined]
    assert (tmp_path / "checkpoints" / "4 copy").exists()
    assert place.saved() == [4, 8, 10]
    (tmp_path / "samples" / "step_100000000.png").write_bytes(grid)
    assert [path.name for path in place.grids()][-2:] == ["step_00000010.png", "step_100000000.png"]  # by number


def test_a_run_is_refused_the_workdir_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "000").mkdir()
    with pytest.raises(UserError, match="holds a sweep or a search: give another --workdir"):
        train.train(small("gan"), tmp_path, ONE)


def images_in(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)):
        Image.fromarray(image).save(folder / f"{i}.png")


def test_a_run_goes_on_with_its_own_data_only_wherever_it_lies_now(tmp_path: Path) -> None:
    config = small("gan")
    images_in(tmp_path / "one", 30)
    config.data.update({"source": "folder", "dir": str(tmp_path / "one")})
    run_until(config, tmp_path / "runs" / "a", ONE, "draw", at=5)
    (tmp_path / "one" / "3.png").write_bytes((tmp_path / "one" / "4.png").read_bytes())
    with pytest.raises(UserError, match=r"images of folder:one are not those that the run .* began with"):
        train.train(config, tmp_path / "runs" / "a", ONE)
    images_in(tmp_path / "two", 30)
    remembered = (tmp_path / "runs" / "a" / "data.json").read_text()
    (tmp_path / "runs" / "a" / "data.json").write_text("garbage")
    with pytest.raises(UserError, match=r"data.json, which says .* is damaged: restore it, or remove it if that was"):
        train.train(config, tmp_path / "runs" / "a", ONE)
    (tmp_path / "runs" / "a" / "data.json").write_text(remembered)
    config.data.dir, config.data.device_budget_mb = str(tmp_path / "two"), 0
    assert int(run(config, tmp_path / "runs" / "a").step) == 10


def test_a_config_that_cannot_start_does_not_claim_its_workdir(tmp_path: Path) -> None:
    config = small("gan")
    config.data.name = "mnist6k"
    with pytest.raises(UserError, match="did you mean 'mnist5k'"):
        train.train(config, tmp_path / "run", ONE)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"steps": 1}'])
def test_a_damaged_config_is_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError) as error:
        train.train(small("gan"), tmp_path, ONE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["checkpoints", "samples", "tensorboard"])
def test_a_file_where_a_folder_should_be_is_said_before_training(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"cannot write to the workdir .*{name}"):
        train.train(small("gan"), tmp_path, ONE)


def test_damaged_lines_of_the_log_are_dropped(tmp_path: Path) -> None:
    config = small("gan")
    run_until(config, tmp_path, ONE, "draw", at=5)
    log = tmp_path / "metrics.jsonl"
    log.write_text("[1]\n{}\n" + log.read_text() + '{"step": 5, "sec')
    run(config, tmp_path)
    assert [line["step"] for line in records(tmp_path)] == list(range(1, 11))


def test_divergence_stops_the_run_names_step_and_checkpoint_and_saves_nothing_bad(tmp_path: Path) -> None:
    config = small("gan")
    config.loss = "least_squares"
    config.optimizer.discriminator.learning_rate = 1e12
    config.checkpoint.every = 1
    with pytest.raises(UserError, match=r"d_\w+ is not finite at step \d+: the training diverged; .*checkpoint"):
        train.train(config, tmp_path, ONE)
    if (tmp_path / "checkpoints").exists() and any((tmp_path / "checkpoints").iterdir()):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved(config, tmp_path)))
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("shards", [0, 2])
def test_one_run_traces_its_step_and_compiles_its_program_once(
    shards: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("gan")
    config.steps, config.parallel.logical_shards = 13, shards
    traced = Mock(wraps=update)
    monkeypatch.setattr(program, "update", traced)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        run(config, tmp_path)
    compiled = [r.getMessage().split()[1] for r in caplog.records if r.getMessage().startswith("Compiling ")]
    assert compiled.count("jit(_fun)") == 1, compiled  # pmap's name for what it is given
    assert traced.call_count == 1


@pytest.mark.parametrize("config", ["gan", pytest.param("dcgan", marks=pytest.mark.slow)], indirect=True)
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(config: ConfigDict, tmp_path: Path) -> None:
    config.compute_dtype = "bfloat16"
    gan, hyper = build.build_gan(config)
    state = init_state(gan, 0, hyper)
    variables = {"params": state.generator.params, **state.generator.stats}
    images: Any = gan.generator.apply(variables, np.zeros((2, 8), np.float32), train=False)
    assert images.dtype == jax.numpy.bfloat16
    final = run(config, tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves((final.generator.params, final.ema))} == {np.dtype(np.float32)}
    assert np.isfinite(records(tmp_path)[-1]["g_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("d_steps", [2])
def test_images_of_another_size_and_in_colour_and_several_d_steps(d_steps: int, tmp_path: Path) -> None:
    config = small("dcgan")
    config.data.image_size, config.data.channels, config.d_steps, config.steps = 32, 3, d_steps, 2
    config.generator.widths, config.discriminator.widths = (8, 8, 8), (8, 8, 8)
    final = run(config, tmp_path, jax.devices()[:2])
    assert np.isfinite(records(tmp_path)[-1]["g_loss"])
    with Image.open(tmp_path / "samples" / "step_00000002.png") as picture:
        assert picture.mode == "RGB"
    assert int(final.step) == 2


def test_networks_too_large_for_a_cpu_are_warned_of() -> None:
    def state(count: int) -> Any:
        player = SimpleNamespace(params={"kernel": np.broadcast_to(np.float32(0), (count,))})
        return SimpleNamespace(generator=player, discriminator=player)

    assert train.too_heavy(state(11_000_000), jax.devices()).startswith("22 million parameters on a CPU")
    assert not train.too_heavy(state(9_000_000), jax.devices())
