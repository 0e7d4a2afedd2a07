"""One run on many hosts: here processes of two virtual CPU devices each, which gloo connects."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from gan_jax.core.state import GANState
from gan_jax.runs.onlooker import Onlooker
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import distributed, placement
from gan_jax.util.errors import UserError
from tests.helpers import DCGAN, ROOT, SMALL, assert_identical, distance, records, saved, small

FEATURES = "--config.eval.features=tests.evaluate.test_evaluate:means"
STOPS_WITHIN = 60  # seconds, as docs/devices.md has it


def spawn(devices: int, *flags: str, **environment: str) -> "subprocess.Popen[str]":
    """A process of ``launch.py`` with so many virtual devices."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMPI_"))}
    count = "--xla_force_host_platform_device_count="
    flags_of_xla = re.sub(rf"{count}\d+", f"{count}{devices}", os.environ["XLA_FLAGS"])
    kept |= {"XLA_FLAGS": flags_of_xla, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "launch.py", *flags],
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


def flags(dtype: str = "float64", budget: int = 1024) -> list[str]:
    """Those of a small run of 40 steps with batch norm and features, a checkpoint every 4 steps."""
    networks = ["--config=configs/gan.py", "--config.generator.norm=batch"]
    data = [f"--config.compute_dtype={dtype}", f"--config.data.device_budget_mb={budget}"]
    return [
        *networks,
        *SMALL,
        FEATURES,
        "--config.eval.samples=60",
        "--config.eval.every=20",
        "--config.steps=40",
        *data,
    ]


def state(path: Path) -> GANState:
    """The final state of the run in ``path``."""
    config = Workdir(path).config()
    with jax.enable_x64(config.compute_dtype == "float64"):
        return saved(config, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of an undisturbed run of two processes."""
    path = tmp_path_factory.mktemp("whole") / "run"
    first, second = both(*flags(), f"--workdir={path}")
    printed = ended(first)
    assert "devices       4 x cpu (cpu), batch 16 (4 each)" in printed
    assert "finished: 40 steps" in printed
    assert ended(second) == ""
    return path


def assert_alike(two: Path, one: Path, limit: float) -> None:
    """The runs of two processes and of one end in the same state, and logged the same on their way."""
    assert distance(state(one), state(two)) < limit
    logged, reference = records(two), records(one)
    assert [line["step"] for line in logged] == list(range(1, 41))
    for ours, theirs in zip(logged, reference, strict=True):
        assert ours == pytest.approx(theirs, rel=1e3 * limit, abs=1e3 * limit)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(whole: Path, tmp_path: Path) -> None:
    ended(spawn(4, *flags(), f"--workdir={tmp_path / 'one'}"))
    assert_alike(whole, tmp_path / "one", 1e-10)


def test_process_0_alone_writes(tmp_path: Path) -> None:
    first, second = both(*flags(), "--config.steps=4", "--config.eval.features=none", f"--workdir={tmp_path}")
    assert "finished: 4 steps" in ended(first)
    assert ended(second) == ""
    written = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if "checkpoints" not in path.parts]
    assert len([name for name in written if name.startswith("tensorboard/")]) == 1
    assert {"summary.json", "report.html", "training.gif", "samples/step_00000004.png"} <= set(written)
    assert not [name for name in written if name.endswith(".partial")]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "budget"), [("float64", 0), ("float32", 1024), ("float32", 1)])
def test_two_processes_train_what_one_trains_from_a_stream_and_in_float32(
    dtype: str, budget: int, tmp_path: Path
) -> None:
    one = spawn(4, *flags(dtype, budget), f"--workdir={tmp_path / 'one'}")
    two = both(*flags(dtype, budget), f"--workdir={tmp_path / 'two'}")
    for process in (one, *two):
        ended(process)
    # Sums over the devices are taken in another order: in float32 the runs part slowly.
    assert_alike(tmp_path / "two", tmp_path / "one", 1e-10 if dtype == "float64" else 1e-3)


@pytest.mark.slow
def test_with_logical_shards_two_processes_train_to_the_bit_what_one_trains(tmp_path: Path) -> None:
    common = [*flags("float32", 1), "--config.parallel.logical_shards=8"]
    for process in (
        spawn(4, *common, f"--workdir={tmp_path / 'one'}"),
        *both(*common, f"--workdir={tmp_path / 'two'}"),
    ):
        ended(process)
    assert_identical(state(tmp_path / "two"), state(tmp_path / "one"))
    assert records(tmp_path / "two") == records(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_stops_and_the_same_commands_resume(
    victim: int, whole: Path, tmp_path: Path
) -> None:
    processes = both(*flags(), f"--workdir={tmp_path}")
    log, other = tmp_path / "metrics.jsonl", processes[1 - victim]
    while not (log.exists() and log.read_text().count("\n") > 9):
        assert processes[victim].poll() is None
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGKILL)
    _, said = other.communicate(timeout=STOPS_WITHIN)
    assert other.returncode in (75, -signal.SIGABRT), said  # from Python, or from JAX's own thread
    line = said.splitlines()[-1]
    assert line.startswith("error: another process of this run is gone")
    assert line.endswith("start all of them again, the run resumes from its last checkpoint")
    processes[victim].communicate()
    assert processes[victim].returncode == -signal.SIGKILL

    first, second = both(*flags(), f"--workdir={tmp_path}")
    assert "resumed from the checkpoint of step" in ended(first)
    ended(second)
    assert records(tmp_path) == records(whole)
    assert_identical(state(tmp_path), state(whole))


@pytest.mark.slow
def test_a_signal_to_one_process_ends_both_after_the_same_step_and_the_same_commands_resume(
    whole: Path, tmp_path: Path
) -> None:
    log, steps = tmp_path / "metrics.jsonl", 0
    for told in (1, 0):  # the second resumes what the first ended
        processes = both(*flags(), "--config.steps=100000", f"--workdir={tmp_path}")
        while not (log.exists() and log.read_text().count("\n") > steps + 5):
            assert processes[told].poll() is None
            time.sleep(0.05)
        processes[told].send_signal(signal.SIGTERM)
        endings = [ended(process, code=75, timeout=STOPS_WITHIN).splitlines()[-1] for process in processes]
        step = Workdir(tmp_path).records()[-1]["step"]
        assert endings == [f"SIGTERM: ended at step {step:,} with a checkpoint; the same command resumes"] * 2
        assert (tmp_path / "checkpoints" / str(step)).is_dir()
        assert step > steps
        steps = step
    found = [line for line in records(tmp_path) if "ended" not in line]
    assert [line["step"] for line in found] == list(range(1, steps + 1))
    shared = min(steps, 39)  # step 40 is the other's last, with figures of its own
    assert found[:shared] == records(whole)[:shared]


@pytest.mark.slow
def test_both_processes_put_a_damaged_checkpoint_aside_and_go_on_from_the_one_before(
    whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    (path / "summary.json").unlink()
    for file in (path / "checkpoints" / "40" / "state" / "d").iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
    first, second = both(*flags(), f"--workdir={path}")
    assert "resumed from the checkpoint of step 36" in ended(first)
    assert "is damaged" in ended(second)
    assert (path / "checkpoints_damaged" / "40").is_dir()
    assert_identical(state(path), state(whole))


def test_all_look_after_a_step_that_none_has_dispatched_when_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Store:
        """The coordination service's, for one key after another."""

        def __init__(self) -> None:
            self.known: dict[str, str] = {}

        def key_value_set(self, key: str, value: str) -> None:
            if key in self.known:
                raise RuntimeError("ALREADY_EXISTS: key already exists")
            self.known[key] = value

        def key_value_try_get(self, key: str) -> str:
            if key not in self.known:
                raise RuntimeError("NOT_FOUND: key not found")
            return self.known[key]

    assert distributed.Calls().due(4, "SIGTERM", 12) == "SIGTERM"  # alone: at once
    assert distributed.Calls().due(4, "", 12) == ""
    state = SimpleNamespace(client=Store())
    monkeypatch.setattr(distributed, "_state", lambda: state)
    monkeypatch.setattr(distributed, "_decisions", iter([0, 0, 1, 1]))
    one, other = distributed.Calls(), distributed.Calls()
    assert one.due(4, "", 12) == ""
    assert one.due(8, "SIGTERM", 16) == ""
    assert other.due(8, "the disk", 16) == ""
    assert one.due(12, "SIGTERM", 20) == ""
    assert other.due(12, "", 20) == ""
    assert one.due(16, "SIGTERM", 24) == "SIGTERM"
    assert other.due(16, "", 24) == "SIGTERM"
    assert one.due(20, "", 28) == other.due(20, "", 28) == ""


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
        from gan_jax.cli import command
        from gan_jax.runtime import distributed
        with command.one_line_errors():
            distributed.start("localhost:{free_port()}", 2, {process}, seconds=2)
    """
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: not all processes of this run met at localhost:")
    assert "within 2 s: start them all" in last
    assert time.monotonic() - begin < 30


def test_processes_with_unlike_numbers_of_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(process_index=index) for index in (1, 0, 1)])
    with pytest.raises(UserError, match="have 1, 2 devices: give each as many"):
        placement.all_devices()
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(process_index=index) for index in (1, 0, 1, 0)])
    assert [device.process_index for device in placement.all_devices()] == [0, 0, 1, 1]
    np.testing.assert_array_equal(placement.local_index(8, placement.all_devices()), [[0, 1], [2, 3]])


def test_an_onlooker_finds_the_run_and_writes_nothing(tmp_path: Path) -> None:
    config = small("gan")
    with pytest.raises(UserError, match="which process 0 just wrote: give a --workdir on a file system that all hosts"):
        Onlooker(tmp_path / "run").claim(config)
    assert not (tmp_path / "run").exists()
    Workdir(tmp_path / "run").claim(config)
    before = sorted(tmp_path.rglob("*"))
    place = Onlooker(tmp_path / "run")
    place.claim(config)
    place.check_data("digits", "1234", 5)
    place.save_grid(1, np.zeros((2, 2, 1), np.uint8))
    place.save_animation()
    place.save_summary({})
    with place.logs(-1, config) as logs:
        logs.write({"step": 1}, 4)
        logs.write_picture(1, np.zeros((2, 2, 1), np.uint8))
    assert sorted(tmp_path.rglob("*")) == before
    config.seed = 1
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        place.claim(config)


def test_the_last_line_is_the_last_whatever_other_threads_say() -> None:
    code = dedent("""
        import os
        from gan_jax.runtime import distributed

        def leave(code, honest=os._exit):
            os.write(2, b"what JAX's own thread found out meanwhile")
            honest(code)

        os._exit = leave
        distributed._last_words("error: it died")
        distributed.leave("error: the end", 75)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (75, "error: the end\n")


def test_alone_nothing_waits_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(**_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(jax.distributed, "initialize", called)
    monkeypatch.setattr(distributed, "_last_words", lambda line: None)  # no process to watch this one
    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    distributed.start(None, None, None)  # no number of tasks: a job's script, not one of its tasks
    monkeypatch.setenv("SLURM_NTASKS", "1")
    distributed.start(None, None, None)
    assert not distributed.several()
    assert distributed.is_first()
    distributed.barrier()
    assert distributed.broadcast([1]) == [1]
    monkeypatch.setenv("SLURM_NTASKS", "2")
    distributed.start(None, 1, None)
    with pytest.raises(AssertionError):
        distributed.start(None, None, None)
