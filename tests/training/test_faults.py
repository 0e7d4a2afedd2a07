"""A run survives what happens to it: signals, damaged checkpoints, full disks, states that are not finite, a second
process."""

import errno
import gc
import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.cli import doctor
from gan_jax.core.state import init_state, named_leaves
from gan_jax.data import stream
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime.signals import RESUME_ME, Stop
from gan_jax.sweeps import hyper, population, sweep
from gan_jax.training import train
from gan_jax.training.dispatch import Pending
from gan_jax.training.run import Run
from gan_jax.util import files
from gan_jax.util.errors import DivergedError, EndedError, UserError
from tests.conftest import ORBAX_THREADS
from tests.helpers import ONE, ROOT, SMALL, assert_identical, records, run, run_until, saved, small


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
    honest = Run.report

    def report(self: Run, pending: Pending, figures: Any = None) -> str:
        if pending.first < step <= pending.first + pending.count:
            stop.asked = "SIGTERM"
        return honest(self, pending, figures)

    patch.setattr(Run, "report", report)


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_asked_to_end_saves_at_once_and_ends_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though step 6 has no line: the next is of the steps before it, too, and after a kill again."""
    config = gan(**{"log.every": 4})
    whole, stop = run(config, tmp_path / "whole"), Stop()
    with monkeypatch.context() as patch:
        stops_at(2, stop, patch)
        with pytest.raises(EndedError, match="SIGTERM: ended at step 6 with a checkpoint"):
            train.train(config, tmp_path / "cut", ONE, stop=stop)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["6"]
    run_until(config, tmp_path / "cut", ONE, "draw", at=10)  # before the checkpoint
    assert_identical(run(config, tmp_path / "cut"), whole)
    assert [record["step"] for record in records(tmp_path / "whole")] == [4, 8, 10]
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


@pytest.mark.slow
def test_a_sweep_that_is_asked_to_end_saves_all_trials_after_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, trials, stop = gan(**{"log.every": 4}), hyper.sweep("seed", [1, 2]), Stop()
    sweep.sweep(config, trials, tmp_path / "whole", ONE)
    with monkeypatch.context() as patch:
        stops_at(2, stop, patch)
        with pytest.raises(EndedError, match="ended at step 6"):
            sweep.sweep(config, trials, tmp_path / "cut", ONE, stop=stop)
    sweep.sweep(config, trials, tmp_path / "cut", ONE)
    for name in ("000", "001"):
        assert_identical(saved(config, tmp_path / "cut" / name), saved(config, tmp_path / "whole" / name))
        assert records(tmp_path / "cut" / name) == records(tmp_path / "whole" / name)


@pytest.mark.slow
def test_a_signal_between_two_programs_ends_a_sweep_before_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, stop, honest = hyper.sweep("loss", ["hinge", "minimax"]), Stop(), Run.finish

    def finish(self: Run, resources: Any) -> str:
        assert stop.looked_at
        stop.asked = "SIGTERM"
        return honest(self, resources)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", finish)
        with pytest.raises(EndedError, match="SIGTERM: ended before the next program; the same command resumes"):
            sweep.sweep(gan(), trials, tmp_path, ONE, stop=stop)
    assert not stop.looked_at  # a second one ends the process at once
    assert (tmp_path / "000" / "summary.json").exists()
    assert not (tmp_path / "001").exists()


LONG = [
    "--config=configs/gan.py",
    *SMALL,
    "--config.steps=1000000",
    "--config.checkpoint.every=100000",
    "--config.sample.every=100000",
]


def started(
    path: Path,
    *flags: str,
    after: int = 20,
    by: Sequence[str] = (),
    nohup: bool = False,
    waiting: Callable[[], Any] = lambda: None,
    **options: Any,
) -> subprocess.Popen[str]:
    """A run without end, in a process of its own, that has logged so many steps (0: has only begun).

    It is started ``by`` a command with these ``options`` of `subprocess.Popen`, ignores SIGHUP with ``nohup``, and
    ``waiting`` is called until it has logged them.
    """
    command = [*by, sys.executable, "launch.py", *LONG, "--config.eval.every=100000", f"--workdir={path}", *flags]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)  # a process inherits it
    try:
        process = subprocess.Popen(command, text=True, **options)
    finally:
        signal.signal(signal.SIGHUP, before)
    log = path / "metrics.jsonl"
    while process.poll() is None and after and not (log.exists() and log.read_text().count("\n") > after):
        waiting()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_with_a_checkpoint_and_the_code_75(number: signal.Signals, tmp_path: Path) -> None:
    process, begin = started(tmp_path), time.monotonic()
    process.send_signal(number)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == RESUME_ME == 75, printed
    assert time.monotonic() - begin < 20
    step = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert f"{number.name}: ended at step {step:,} with a checkpoint; the same command resumes" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT), printed
    assert "ended at once" in printed
    assert not list((tmp_path / "checkpoints").glob("[0-9]*[0-9]"))


def test_the_same_signal_twice_at_once_is_one(tmp_path: Path) -> None:
    """As `timeout` sends it, to a process and to its group."""
    process = started(tmp_path)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == RESUME_ME, printed
    assert list((tmp_path / "checkpoints").glob("[0-9]*[0-9]"))


def test_a_signal_before_the_first_step_ends_at_once_with_the_same_code(tmp_path: Path) -> None:
    process = started(tmp_path / "run", after=0)
    while not (tmp_path / "run").exists():  # the data is loaded, the program not compiled yet
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "the same command starts again" in process.communicate(timeout=60)[0]
    assert process.returncode == RESUME_ME


# --- checkpoints ------------------------------------------------------------------------------------------------------

TREE = {"a": np.arange(3000, dtype=np.float32).reshape(30, 100), "b": {"c": np.int32(3), "d": np.zeros((2, 4))}}


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

    def write(file: Path, data: bytes) -> None:
        file.write_bytes(data)

    for file in sorted(path.rglob("*")):
        if file.is_file():
            data, name = file.read_bytes(), str(file.relative_to(path))
            yield f"{name} removed", file.unlink
            yield f"{name} emptied", partial(write, file, b"")
            yield f"{name} cut", partial(write, file, data[: len(data) // 2])
            for at in sorted({0, len(data) // 3, len(data) // 2, len(data) - 1} if data else set()):
                flipped = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
                yield f"{name} flipped at {at}", partial(write, file, flipped)
    for name in ("state", "leaves", "state/d"):
        yield f"{name} removed", partial(shutil.rmtree, path / name)
    yield "all folders removed", lambda: [*map(shutil.rmtree, filter(Path.is_dir, path.iterdir()))]


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
            assert what != "leaves removed", "nothing is left to check the state by"
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


def test_a_checkpoint_of_another_shape_names_the_leaves_and_both_shapes(three: Path) -> None:
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

    step, states = population.together(opened(), [TREE, TREE])  # type: ignore[list-item]
    assert step == 2
    assert_identical(states, [tree(2), tree(2)])
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == ["3"]
    for number in (1, 2):
        (tmp_path / "other" / str(number) / "state" / "manifest.ocdbt").unlink()
    with pytest.raises(UserError, match="no step has a whole checkpoint of all trials"):
        population.together(opened(), [TREE, TREE])  # type: ignore[list-item]
    assert sorted(path.name for path in (three / "checkpoints").iterdir()) == ["1", "2"]


# --- one process a workdir --------------------------------------------------------------------------------------------

HOLD = (
    "import sys, pathlib, time; from gan_jax.runs.workdir import Workdir\n"
    "with Workdir(pathlib.Path(sys.argv[1])).locked(): print('locked', flush=True); time.sleep(100)"
)


def test_a_second_process_is_refused_and_the_lock_of_a_dead_one_is_no_obstacle(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        for start in (lambda: train.train(gan(), tmp_path, ONE), lambda: sweep.sweep(gan(), [{}], tmp_path, ONE)):
            with pytest.raises(UserError, match=f"{tmp_path} is in use by process {other.pid} on .*: wait for it"):
                start()
        other.kill()
        other.wait()
    with Workdir(tmp_path).locked():
        pass


def test_where_locks_are_unknown_a_warning_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with Workdir(tmp_path).locked():
        assert "No locks available" in capsys.readouterr().err


# --- disks ------------------------------------------------------------------------------------------------------------


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_for_a_while_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each kind of write fails twice, and then succeeds."""
    config = gan(**{"checkpoint.every": 4, "sample.every": 5})
    whole = run(config, tmp_path / "whole")
    for owner, name, first in ((Checkpoints, "save", 0), (files.Appended, "flush", 4), (Workdir, "save_grid", 1)):
        honest, calls = getattr(owner, name), iter(range(-first, 1000))

        def write(*arguments: Any, honest: Any = honest, calls: Any = calls, **named: Any) -> Any:
            return full() if next(calls) in (0, 1) else honest(*arguments, **named)

        monkeypatch.setattr(owner, name, write)
    assert_identical(run(config, tmp_path / "cut"), whole)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    said = capfd.readouterr().err
    for what in ("a checkpoint", "metrics.jsonl", "the samples"):
        assert f"cannot write {what} of {tmp_path / 'cut'}: No space left on device; training waits" in said
        assert f"{what} of {tmp_path / 'cut'}: written after" in said


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_the_run_in_its_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = gan(**{"checkpoint.every": 4})
    whole = run(config, tmp_path / "whole")
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    honest = Checkpoints.save
    with monkeypatch.context() as patch:

        def save(self: Checkpoints, step: int, *rest: Any, **named: Any) -> None:
            if step >= 8 and self.directory.is_relative_to(tmp_path / "runs"):
                full()
            honest(self, step, *rest, **named)

        patch.setattr(Checkpoints, "save", save)
        lost = r"tried for .* at step 8: what came after the checkpoint of step 4 is lost, without a --fallback=DIR"
        with pytest.raises(UserError, match=rf"No space left on device; {lost}"):
            train.train(config, tmp_path / "runs" / "a", ONE)
        with pytest.raises(
            UserError, match=r"the run ended at step 8, saved in (.*)/else/a: go on with --workdir=\1/else/a"
        ):
            train.train(config, tmp_path / "runs" / "a", ONE, fallback=tmp_path / "else")
    assert_identical(run(config, tmp_path / "else" / "a"), whole)
    assert records(tmp_path / "else" / "a") == records(tmp_path / "whole")


def test_a_save_that_fails_leaves_nothing_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of orbax waited 300 s for a folder that could not be made, and the process for them at its end."""
    ignored: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: ignored.append(f"{found.exc_value} {found.object}"))
    place = tmp_path / "checkpoints"
    with Checkpoints(place, keep=2) as checkpoints:
        checkpoints.save(1, tree(1), {}, wait=True)
        shutil.rmtree(place)
        place.touch()
        for step in (2, 3):
            with pytest.raises(OSError, match="Not a directory"):
                checkpoints.save(step, tree(step), {}, wait=True)
        for _ in range(100):
            if not (left := [thread.name for thread in threading.enumerate() if thread.name in ORBAX_THREADS]):
                break
            time.sleep(0.05)
        assert not left
        place.unlink()
        with suppress(OSError):  # the one that makes the folder anew
            checkpoints.save(4, tree(4), {}, wait=True)
        checkpoints.save(4, tree(4), {}, wait=True)
    gc.collect()
    assert not ignored
    assert_identical(restored(tmp_path), tree(4))


def test_a_checkpoint_that_is_lost_in_the_background_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Saving returns before the disk has it all; that it failed then is found after the next chunk."""
    config = gan(**{"checkpoint.every": 4})
    honest, calls = Checkpoints.check, iter(range(1000))

    def check(self: Checkpoints, wait: bool = False) -> None:
        if next(calls) == 2:  # after the chunk to step 6
            shutil.rmtree(self.directory / "4", ignore_errors=True)
            full()
        honest(self, wait)

    monkeypatch.setattr(Checkpoints, "check", check)
    run(config, tmp_path)
    assert "could not be written: [Errno 28] No space left on device" in capfd.readouterr().err
    assert "7" in [path.name for path in (tmp_path / "checkpoints").iterdir()]


def test_a_workdir_that_is_removed_ends_the_run_in_its_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = gan(**{"steps_per_dispatch": 1})
    whole = run(config, tmp_path / "whole")
    honest = Run.report

    def report(self: Run, pending: Pending, figures: Any = None) -> str:
        if pending.first == 4:
            shutil.rmtree(tmp_path / "runs")
        return honest(self, pending, figures)

    monkeypatch.setattr(Run, "report", report)
    with pytest.raises(UserError, match="it was removed; the run ended at step 6, saved in"):
        train.train(config, tmp_path / "runs" / "a", ONE, fallback=tmp_path / "else")
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.jsonl"))
    assert_identical(run(config, tmp_path / "else" / "a"), whole)
    assert records(tmp_path / "else" / "a") == records(tmp_path / "whole")


@pytest.fixture
def little(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 1 MB, or as many as the parameter says."""
    path = tmp_path / "little"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', 1)}m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.slow
def test_a_file_system_that_is_really_full(
    little: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 2.0)
    config = gan(**{"checkpoint.every": 2, "generator.widths": (256, 256)})  # a state of 3.5 MB
    with pytest.raises(UserError, match=r"o space left on device; tried for .*saved in .*else/a") as error:
        train.train(config, little / "a", ONE, fallback=tmp_path / "else")
    assert "\n" not in str(error.value)
    said = capfd.readouterr().err
    assert "training waits" in said or "could not be written" in said
    assert "written after" not in said
    (kept,) = (tmp_path / "else" / "a" / "checkpoints").iterdir()
    assert [record["step"] for record in records(tmp_path / "else" / "a")] == list(range(2, int(kept.name) + 1, 2))
    assert int(run(config, tmp_path / "else" / "a").step) == 10


@pytest.mark.parametrize("little", [64], indirect=True)
def test_a_file_system_that_becomes_read_only_ends_the_run_in_its_fallback(
    little: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the kernel makes one after an error of its disk: whatever is opened there from then on is refused."""
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    config = gan(**{"steps_per_dispatch": 1, "checkpoint.every": 2})
    whole = run(config, tmp_path / "whole")
    honest, sealed = Run.report, tmp_path / "sealed"
    sealed.mkdir()
    subprocess.run(["mount", "--bind", str(little), str(sealed)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(sealed)], check=True)

    def report(self: Run, pending: Pending, figures: Any = None) -> str:
        if pending.first == 4:
            subprocess.run(["mount", "--bind", str(sealed), str(little)], check=True)
        return honest(self, pending, figures)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "report", report)
        try:
            with pytest.raises(UserError, match=r"Read-only file system.*saved in .*else/a") as error:
                train.train(config, little / "a", ONE, fallback=tmp_path / "else")
            assert "\n" not in str(error.value)
            assert f"of {little / 'a'}: Read-only file system; training waits" in capfd.readouterr().err
            with pytest.raises(UserError, match="Read-only file system") as error:  # from the start
                train.train(config, little / "b", ONE)
            assert "\n" not in str(error.value)
        finally:
            subprocess.run(["umount", "-l", str(little), str(sealed)], check=True)
    assert_identical(run(config, tmp_path / "else" / "a"), whole)
    assert records(tmp_path / "else" / "a") == records(tmp_path / "whole")


def test_what_the_disk_refuses_is_added_once_and_in_order(tmp_path: Path) -> None:
    class Stubborn:
        def __init__(self, file: Any) -> None:
            self.file, self.refuses = file, False

        def write(self, data: bytes) -> int:
            self.refuses = not self.refuses
            if self.refuses:
                full()
            return int(self.file.write(data[:3]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    added = files.Appended(tmp_path / "log")
    added._file = Stubborn(added._file)  # type: ignore[assignment]
    for line in (b"one\n", b"twenty-two\n"):
        added.add(line)
        while True:
            try:
                added.flush()
                break
            except OSError:
                assert added.content() == b"one\ntwenty-two\n"[: len(added.content())]
    added.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwenty-two\n"


# --- numbers that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leaf", "player"), [("mu", "generator"), ("kernel", "discriminator"), ("ema", "averages")])
def test_a_state_that_is_not_finite_is_found_within_a_chunk_and_kept(leaf: str, player: str, tmp_path: Path) -> None:
    config, stop = gan(), Stop()
    begun, hyper = build.build_gan(config)
    state = jax.device_get(init_state(begun, 0, hyper)).replace(step=np.int32(4))
    names = [name for name in named_leaves(state) if name.startswith(player) and leaf in name]
    flat, structure = jax.tree.flatten(jax.tree.map(np.array, state))
    at = list(named_leaves(state)).index(names[-1])
    flat[at].ravel()[0] = np.inf
    Workdir(tmp_path).claim(config)
    with Checkpoints(tmp_path / "checkpoints", 3) as checkpoints:
        checkpoints.save(4, jax.tree.unflatten(structure, flat), {})
    with pytest.raises(DivergedError) as error:
        train.train(config, tmp_path, ONE, stop=stop)
    said = str(error.value)
    assert "\n" not in said
    assert "the state is not finite at step 4" in said
    assert f"not finite in the state after step 4: {names[-1]};" in said
    with np.load(tmp_path / "diverged" / "step_00000004.npz", allow_pickle=False) as kept:
        assert sorted(kept) == sorted(named_leaves(state))
        assert np.isinf(kept[names[-1]]).sum() == 1


def test_steps_end_at_the_first_whose_metrics_are_not_finite(tmp_path: Path) -> None:
    config = gan(loss="least_squares", steps_per_dispatch=8)
    config.optimizer.discriminator.learning_rate = 1e12
    with pytest.raises(
        DivergedError, match=r"\w+ is not finite at step (\d+): .* in the state after step \1: [dg]"
    ) as error:
        train.train(config, tmp_path, ONE)
    assert "kept in" in str(error.value)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_rollbacks_are_counted_across_restarts_and_end(tmp_path: Path) -> None:
    config = gan(loss="least_squares", on_divergence="rollback")
    config.optimizer.discriminator.learning_rate = 1e12
    with pytest.raises(DivergedError, match="3 rollbacks did not help"):
        train.train(config, tmp_path, ONE)
    kept = json.loads((tmp_path / "diverged" / "rollbacks.json").read_text())
    assert [rollback["to"] for rollback in kept] == [0, 0, 0]
    assert len({rollback["seed"] for rollback in kept} | {config.seed}) == 4
    with pytest.raises(DivergedError, match="3 rollbacks did not help"):
        train.train(config, tmp_path, ONE)
    assert len(json.loads((tmp_path / "diverged" / "rollbacks.json").read_text())) == 3


@pytest.mark.slow
def test_a_rollback_goes_on_with_another_order_and_so_does_its_resumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = gan(on_divergence="rollback", **{"checkpoint.every": 4})
    plain, honest = run(config, tmp_path / "plain"), Run.report

    def report(self: Run, pending: Pending, figures: Any = None) -> str:
        if pending.first == 7 and not (self.workdir.diverged / "rollbacks.json").exists():
            raise DivergedError("by chance")
        return honest(self, pending, figures)

    monkeypatch.setattr(Run, "report", report)
    back, stop = run(config, tmp_path / "back"), Stop()
    assert [record["step"] for record in records(tmp_path / "back")] == [2, 4, 6, 8, 10]
    assert int(back.seed) == json.loads((tmp_path / "back" / "diverged" / "rollbacks.json").read_text())[0]["seed"]
    with pytest.raises(AssertionError):
        assert_identical(back.ema, plain.ema)
    with monkeypatch.context() as patch:
        stops_at(5, stop, patch)
        with pytest.raises(EndedError):
            train.train(config, tmp_path / "cut", ONE, stop=stop)
    assert_identical(run(config, tmp_path / "cut"), back)
    assert records(tmp_path / "cut") == records(tmp_path / "back")


# --- death ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kills"), [(0, 6), (1, 50)])
def test_runs_killed_at_random_moments_end_bit_identical(seed: int, kills: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kill", str(tmp_path), str(seed), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} kills, {kills // 3} of them in a save" in done.stdout


# --- processes that read data -----------------------------------------------------------------------------------------

FAMILY = """
import multiprocessing, os, sys, time
from gan_jax.data.stream import _live_with_the_parent

def worker():
    _live_with_the_parent()
    print(os.getpid(), flush=True)
    time.sleep(100)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=worker, daemon=True).start()
    time.sleep(100)
"""


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_is_deaf_to_signals_and_dies_with_its_parent(tmp_path: Path) -> None:
    """A job's SIGTERM reaches all its processes; a worker that died of it would hang the one that saves."""
    (tmp_path / "family.py").write_text(FAMILY)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "family.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(worker, number)
        time.sleep(0.5)
        assert alive(worker)
        parent.kill()
        parent.wait()
        for _ in range(100):
            if not alive(worker):
                return
            time.sleep(0.1)
        os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def test_the_death_of_a_worker_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, str]] = []
    over = threading.Event()
    monkeypatch.setattr(stream, "_GRACE", 0.1)

    def end(code: int, text: str) -> None:
        said.append((code, text))
        over.set()

    monkeypatch.setattr(stream, "end", end)
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(100,), daemon=True)
    worker.start()
    thread = threading.Thread(target=stream._watch, args=(over, []))
    thread.start()
    time.sleep(2.5)
    assert not said
    worker.kill()
    thread.join(30)
    ((code, text),) = said
    assert code == RESUME_ME
    assert "ended with exit code -9" in text


# --- what goes into a bug report --------------------------------------------------------------------------------------


def test_the_doctor_says_what_is_here_and_trains_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor.examine(None, tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    said = {line[:16].strip(): line[16:] for line in lines}
    assert f"jax {jax.__version__}" in said["packages"]
    assert said["python"].startswith(platform.python_version())
    assert "not usable by JAX" in said["CUDA"]
    assert said["device 7"] == "cpu (cpu)"
    assert said["data"].startswith("embedded:mnist5k: 4,500 train and 500 test images, ")
    assert " files, " in said["compile cache"]
    assert said["self-test"].startswith("passed: one step")
    assert not (tmp_path / "run").exists()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(doctor, "train", broken)
    with pytest.raises(UserError, match="the self-test failed: ZeroDivisionError: by design"):
        doctor.examine(gan(**{"data.name": "mnist6k"}), tmp_path / "run")
    printed = capsys.readouterr().out
    assert "Traceback" in printed
    assert "not usable: unknown data.name" in printed
