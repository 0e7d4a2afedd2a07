"""A run survives what happens to it: signals, damaged checkpoints, full disks, states that are not finite, a second
process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import build, files, hyper, sweep, train
from gan_jax.checkpoint import Checkpoints
from gan_jax.errors import DivergedError, EndedError, UserError
from gan_jax.signals import RESUME_ME, Stop
from gan_jax.state import init_state
from gan_jax.trial import Pending, Trial
from gan_jax.workdir import Workdir
from tests.conftest import ROOT, small
from tests.test_command import DCGAN, SMALL
from tests.test_train import ONE, assert_identical, records, run, saved


def gan(**changed: Any) -> ConfigDict:
    """A small run of 10 steps, in chunks of 3, that looks at its state at the end only."""
    config = small("gan")
    config.steps_per_dispatch = 3
    for key in ("sample", "eval", "checkpoint"):
        config[key].every = 100
    config.log.every = 2
    config.update_from_flattened_dict(changed)
    return config


def stops_at(step: int, stop: Stop, patch: pytest.MonkeyPatch) -> None:
    """Lets a signal arrive while the chunk that contains ``step`` is reported."""
    honest = Trial.report

    def report(self: Trial, pending: Pending, figures: Any = None) -> str:
        if pending.first < step <= pending.first + pending.count:
            stop.asked = "SIGTERM"
        return honest(self, pending, figures)

    patch.setattr(Trial, "report", report)


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_asked_to_end_saves_at_once_and_ends_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stop = run(gan(), tmp_path / "whole"), Stop()
    with monkeypatch.context() as patch:
        stops_at(2, stop, patch)
        with pytest.raises(EndedError, match="SIGTERM: ended at step 6 with a checkpoint"):
            train.train(gan(), tmp_path / "cut", ONE, stop=stop)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["6"]
    assert_identical(run(gan(), tmp_path / "cut"), whole)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


def test_the_time_until_a_signal_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, stop = gan(**{"log.every": 100}), Stop()
    with monkeypatch.context() as patch:
        stops_at(2, stop, patch)
        with pytest.raises(EndedError):
            train.train(config, tmp_path, ONE, stop=stop)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    run(config, tmp_path)
    assert [record["step"] for record in records(tmp_path)] == [10]
    assert json.loads((tmp_path / "summary.json").read_text())["seconds"] > json.loads(line)["seconds"] > 0


def test_a_sweep_that_is_asked_to_end_saves_all_trials_after_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, stop = hyper.sweep("seed", [1, 2]), Stop()
    sweep.sweep(gan(), trials, tmp_path / "whole", ONE)
    with monkeypatch.context() as patch:
        stops_at(2, stop, patch)
        with pytest.raises(EndedError, match="ended at step 6"):
            sweep.sweep(gan(), trials, tmp_path / "cut", ONE, stop=stop)
    sweep.sweep(gan(), trials, tmp_path / "cut", ONE)
    for name in ("000", "001"):
        assert_identical(saved(gan(), tmp_path / "cut" / name), saved(gan(), tmp_path / "whole" / name))
        assert records(tmp_path / "cut" / name) == records(tmp_path / "whole" / name)


LONG = [DCGAN, *SMALL, "--config.steps=1000000", "--config.checkpoint.every=100000", "--config.sample.every=100000"]


def started(path: Path, *flags: str, after: int = 20) -> subprocess.Popen[str]:
    """A run without end, in a process of its own, that has logged so many steps (0: has only begun)."""
    command = [sys.executable, "launch.py", *LONG, "--config.eval.every=100000", f"--workdir={path}", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log = path / "metrics.jsonl"
    while process.poll() is None and after and not (log.exists() and log.read_text().count("\n") > after):
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint_and_the_code_75(number: signal.Signals, tmp_path: Path) -> None:
    process, begin = started(tmp_path), time.monotonic()
    process.send_signal(number)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == RESUME_ME == 75, printed
    assert time.monotonic() - begin < 20
    step = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert f"{number.name}: ended at step {step:,} with a checkpoint; the same command resumes" in printed
    assert "Traceback" not in printed


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT), printed
    assert "ended at once" in printed
    assert not list((tmp_path / "checkpoints").glob("[0-9]*[0-9]"))


def test_a_signal_before_the_first_step_ends_at_once_with_the_same_code(tmp_path: Path) -> None:
    process = started(tmp_path / "run", after=0)
    while not (tmp_path / "run").exists():  # the data is loaded, the program not compiled yet
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "the same command starts again" in process.communicate(timeout=60)[0]
    assert process.returncode == RESUME_ME


# --- checkpoints ------------------------------------------------------------------------------------------------------

TREE = {"a": np.arange(3000, dtype=np.float32).reshape(30, 100), "b": {"c": np.int32(3), "d": np.zeros((2, 0))}}


def tree(step: int) -> Any:
    return jax.tree.map(lambda leaf: leaf + leaf.dtype.type(step), TREE)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A directory with checkpoints of the steps 1, 2 and 3."""
    with Checkpoints(tmp_path / "checkpoints", keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step), {"step": step})
    return tmp_path


def restored(path: Path, keep: int | None = 3) -> Any:
    with Checkpoints(path / "checkpoints", keep, path / "damaged") as checkpoints:
        return checkpoints.restore(TREE)


def damages(path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Everything that may happen to a checkpoint's files, each by itself."""

    def flip(file: Path, at: int) -> None:
        data = bytearray(file.read_bytes())
        data[at] ^= 0x55
        file.write_bytes(data)

    for file in sorted(path.rglob("*")):
        if file.is_file():
            size = file.stat().st_size
            name = str(file.relative_to(path))
            yield f"{name} removed", file.unlink
            yield f"{name} emptied", lambda file=file: file.write_bytes(b"")
            yield f"{name} cut", lambda file=file, size=size: file.write_bytes(file.read_bytes()[: size // 2])
            for at in sorted({0, size // 3, size // 2, size - 1} if size else set()):
                yield f"{name} flipped at {at}", lambda file=file, at=at: flip(file, at)
    for name in ("state", "leaves"):
        yield f"{name} removed", lambda name=name: shutil.rmtree(path / name)
    yield "all removed", lambda: [shutil.rmtree(p) if p.is_dir() else p.unlink() for p in path.iterdir()]


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_used(
    part: int, three: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever is done to the files of the newest checkpoint: its state to the bit, or that of the one before."""
    kept, before = tmp_path / "kept", 0
    shutil.copytree(three / "checkpoints", kept)
    for number, (what, _) in enumerate(list(damages(kept / "3"))):
        if number % 4 != part:
            continue
        shutil.rmtree(three / "checkpoints")
        shutil.copytree(kept, three / "checkpoints")
        dict(damages(three / "checkpoints" / "3"))[what]()
        state = restored(three)
        if int(state["b"]["c"]) - 3 == 2:
            before += 1
            assert_identical(state, tree(2))
            assert "checkpoint 3 in" in (said := capfd.readouterr().err), what
            assert "put aside as" in said
            assert not (three / "checkpoints" / "3").exists()
        else:
            assert_identical(state, tree(3))
    assert before > 5


def test_only_reading_moves_nothing(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(three / "checkpoints" / "3" / "state")
    assert_identical(restored(three, keep=None), tree(2))
    assert "checkpoint 3" in capsys.readouterr().err
    with (
        Checkpoints(three / "checkpoints") as checkpoints,
        pytest.raises(UserError, match=r"checkpoint 3 .* is damaged .*: give another --step"),
    ):
        checkpoints.restore(TREE, 3)
    assert (three / "checkpoints" / "3").exists()


def test_when_no_checkpoint_is_whole_that_is_said_and_nothing_moved(three: Path) -> None:
    for step in (1, 2, 3):
        (three / "checkpoints" / str(step) / "state" / "manifest.ocdbt").unlink()
    before = sorted(three.rglob("*"))
    with pytest.raises(
        UserError, match=r"no checkpoint in .* is whole: 3 \(.*2 \(.*1 \(.*nothing was removed"
    ) as error:
        restored(three)
    assert "\n" not in str(error.value)
    assert sorted(three.rglob("*")) == before


@pytest.mark.parametrize("signed", [True, False])
def test_a_checkpoint_of_another_shape_names_the_leaves_and_both_shapes(signed: bool, three: Path) -> None:
    if not signed:  # as the first release wrote them
        shutil.rmtree(three / "checkpoints" / "3" / "leaves")
    other = {"a": np.zeros((30, 90), np.float32), "b": {"c": np.float32(0), "e": np.zeros(4)}}
    with (
        Checkpoints(three / "checkpoints", 3, three / "damaged") as checkpoints,
        pytest.raises(UserError) as error,
    ):
        checkpoints.restore(other)
    said = str(error.value)
    assert "another architecture or an older layout" in said
    for text in (
        "a: float32[30,100] there, float32[30,90] here",
        "b.c: int32[] there, float32[] here",
        "b.e: absent there, float64[4] here",
        "and 1 more",
    ):
        assert text in said
    assert "\n" not in said
    assert not (three / "damaged").exists()


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_and_ends_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, stop = gan(**{"checkpoint.every": 2}), Stop()
    whole = run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stops_at(5, stop, patch)
        with pytest.raises(EndedError):
            train.train(config, tmp_path / "cut", ONE, stop=stop)
    (newest,) = sorted((tmp_path / "cut" / "checkpoints").iterdir(), key=lambda path: int(path.name))[-1:]
    for file in newest.rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-7])
    assert_identical(run(config, tmp_path / "cut"), whole)
    printed = capsys.readouterr()
    assert f"put aside as {tmp_path / 'cut' / 'checkpoints_damaged' / newest.name}" in printed.err
    assert f"resumed from the checkpoint of step {int(newest.name) - 2}" in printed.out
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


def test_a_sweep_goes_on_from_the_step_before_a_damaged_checkpoint(three: Path, tmp_path: Path) -> None:
    shutil.copytree(three / "checkpoints", tmp_path / "other")
    (tmp_path / "other" / "3" / "state" / "manifest.ocdbt").unlink()

    def opened() -> list[Checkpoints]:
        return [Checkpoints(path, 3, tmp_path / "damaged") for path in (three / "checkpoints", tmp_path / "other")]

    step, states = sweep.together(opened(), [TREE, TREE])  # type: ignore[list-item]
    assert step == 2
    assert_identical(states, [tree(2), tree(2)])
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == ["3"]
    for number in (1, 2):
        (tmp_path / "other" / str(number) / "state" / "manifest.ocdbt").unlink()
    with pytest.raises(UserError, match="no step has a whole checkpoint of all trials"):
        sweep.together(opened(), [TREE, TREE])  # type: ignore[list-item]
    assert sorted(path.name for path in (three / "checkpoints").iterdir()) == ["1", "2"]
