"""One run on many hosts: here processes of two virtual CPU devices each, which gloo connects."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import jax
import pytest

from gan_jax import distributed
from tests.conftest import ROOT, small
from tests.test_command import DCGAN, SMALL
from tests.test_devices import distance
from tests.test_train import assert_identical, records, saved

FEATURES = "--config.eval.features=tests.test_evaluate:means"
STOPS_WITHIN = 60  # seconds, as the README has it


def spawn(devices: int, *flags: str, **environment: str) -> "subprocess.Popen[str]":
    """A process of ``launch.py`` with so many virtual devices."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMPI_"))}
    kept |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "launch.py", *flags],
        cwd=ROOT,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", code: int = 0, timeout: float = 300) -> str:
    """All that ``process`` printed; it must end in time, with ``code`` and without a traceback."""
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    assert process.returncode == code, (process.returncode, out, err)
    return out + err


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port: int = one.getsockname()[1]
        return port


def both(*flags: str) -> list["subprocess.Popen[str]"]:
    """Two processes of one run."""
    cluster = (f"--coordinator=localhost:{free_port()}", "--processes=2")
    return [spawn(2, *flags, *cluster, f"--process={number}") for number in (0, 1)]


@pytest.mark.parametrize(
    ("dtype", "budget"),
    [
        ("float64", 1024),
        ("float32", 0),
        pytest.param("float64", 0, marks=pytest.mark.slow),
        pytest.param("float32", 1024, marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_what_one_trains(dtype: str, budget: int, tmp_path: Path) -> None:
    flags = [DCGAN, *SMALL, FEATURES, "--config.steps=10", f"--config.compute_dtype={dtype}"]
    flags += ["--config.eval.samples=60", f"--config.data.device_budget_mb={budget}"]
    alone = spawn(4, *flags, f"--workdir={tmp_path / 'one'}")
    ended(alone)
    first, second = both(*flags, f"--workdir={tmp_path / 'two'}")
    printed = ended(first)
    assert "devices       4 x cpu (cpu), batch 16 (4 each)" in printed
    assert "finished: 10 steps" in printed
    assert ended(second) == ""
    config = small("dcgan")
    config.compute_dtype = dtype
    with jax.enable_x64(dtype == "float64"):
        one, two = saved(config, tmp_path / "one"), saved(config, tmp_path / "two")
    assert distance(one, two) < (1e-10 if dtype == "float64" else 1e-5)
    logged, reference = records(tmp_path / "two"), records(tmp_path / "one")
    assert [line["step"] for line in logged] == list(range(1, 11))
    for ours, theirs in zip(logged, reference, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    written = {str(path.relative_to(tmp_path / "two")) for path in (tmp_path / "two").rglob("*.*")}
    assert len([name for name in written if name.startswith("tensorboard/")]) == 1
    assert {"summary.json", "report.html", "training.gif", "samples/step_00000010.png"} <= written
    assert not [name for name in written if name.endswith(".partial")]


def kill_in_the_middle(victim: int, after: int, workdir: Path, *flags: str) -> str:
    """Kills one of two processes once so many steps are logged; returns what the other then says."""
    processes = both(*flags, f"--workdir={workdir}")
    log, other = workdir / "metrics.jsonl", processes[1 - victim]
    while not (log.exists() and log.read_text().count("\n") > after):
        assert processes[victim].poll() is None
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGKILL)
    processes[victim].communicate()
    begin = time.monotonic()
    said = ended(other, code=75, timeout=2 * STOPS_WITHIN)
    assert time.monotonic() - begin < STOPS_WITHIN
    return said


def test_when_one_process_is_killed_the_other_stops_and_the_same_commands_resume(tmp_path: Path) -> None:
    flags = ["--config=configs/gan.py", *SMALL, "--config.generator.widths=(32,48)", "--config.steps=60"]
    cut = tmp_path / "cut"
    for victim, after in ((1, 9), (0, 30)):
        said = kill_in_the_middle(victim, after, cut, *flags)
        assert "error: another process of this run is gone" in said
    first, second = both(*flags, f"--workdir={cut}")
    assert "resumed from the checkpoint of step" in ended(first)
    ended(second)
    whole = tmp_path / "whole"
    for process in both(*flags, f"--workdir={whole}"):
        ended(process)
    assert records(cut) == records(whole)
    config = small("gan")
    config.discriminator.widths = (8, 16)
    assert_identical(saved(config, cut), saved(config, whole))
    # What two processes wrote, one goes on with: the checkpoint doesn't know who made it.
    assert "nothing to do" in ended(spawn(1, *flags, f"--workdir={cut}"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2"], "want --coordinator=HOST:PORT, --processes=N and --process=I, all three"),
        (["--coordinator=host:1234"], "want --coordinator=HOST:PORT, --processes=N and --process=I, all three"),
        (["--coordinator=host", "--processes=2", "--process=0"], "--coordinator=host: give HOST:PORT"),
        (["--coordinator=host:1", "--processes=2", "--process=2"], "--process=2 of --processes=2: they are numbered"),
        (["--mode=sample", "--processes=2"], "--mode=sample runs in one process"),
    ],
)
def test_numbers_that_do_not_fit_are_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    (line,) = ended(spawn(1, DCGAN, f"--workdir={tmp_path}", *flags), code=2).splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(("process", "code"), [(0, -signal.SIGABRT), (1, 2)])
def test_processes_that_do_not_meet_end_with_one_line(process: int, code: int) -> None:
    program = f"""
        from gan_jax import command, distributed
        with command.one_line_errors():
            distributed.start("localhost:{free_port()}", 2, {process}, seconds=2)
    """
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", dedent(program)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: not all processes of this run met at localhost:")
    assert "within 2 s: start them all" in last
    assert time.monotonic() - begin < 30


def test_alone_nothing_waits_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(**_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(jax.distributed, "initialize", called)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    distributed.start(None, None, None)  # no number of tasks: a job's script, not one of its tasks
    monkeypatch.setenv("SLURM_NTASKS", "1")
    distributed.start(None, None, None)
    assert not distributed.several()
    assert distributed.is_first()
    distributed.meet()
    assert distributed.agreed([1]) == [1]
    monkeypatch.setenv("SLURM_NTASKS", "2")
    distributed.start(None, 1, None)
    with pytest.raises(AssertionError):
        distributed.start(None, None, None)
