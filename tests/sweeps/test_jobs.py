"""Sweeps by jobs: processes of their own, by submitit, train what the sweep in one process trains."""

import pytest

pytest.importorskip("submitit", reason="submitit is not installed: pip install -e '.[slurm]'")

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax

from gan_jax.cli import arguments, modes
from gan_jax.cli.request import Request
from gan_jax.sweeps import jobs, sweep
from gan_jax.util.errors import UserError
from tests.helpers import ROOT, SMALL, assert_identical, records, saved, small


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs import what lies here, as those of a command from a checkout do."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def assert_alike(config: Any, trials: list[dict[str, Any]], one: Path, other: Path) -> None:
    """Both directories hold the same runs, to the bit."""
    for number, overrides in enumerate(trials):
        own = type(config)(config.to_dict())
        own.update_from_flattened_dict(overrides)
        ours, theirs = one / f"{number:03d}", other / f"{number:03d}"
        assert_identical(saved(own, ours), saved(own, theirs))
        assert records(ours) == records(theirs)


def submitted(path: Path) -> int:
    return len(list((path / "jobs").glob("*_submitted.pkl")))


@pytest.mark.slow
def test_jobs_train_what_the_sweep_trains_and_one_that_fails_harms_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small("gan")
    good: list[dict[str, Any]] = [{"seed": 1}, {"loss": "hinge"}, {"seed": 2}]
    trials = [*good, {"eval.features": "no.such:thing"}]
    path = tmp_path / "jobs"
    with pytest.raises(UserError, match="1 of 3 jobs failed, see above; the same command submits these again"):
        jobs.sweep_by_jobs(config, trials, path, "local", {}, pause=0.05)
    out, err = capsys.readouterr()
    assert f"4 trials, 3 jobs, 0 of them done; logs in {path / 'jobs'}" in out
    (line,) = [line for line in err.splitlines() if "failed" in line]
    assert line.startswith("job ")
    assert "(003) failed: " in line
    assert "eval.features=no.such:thing: ModuleNotFoundError" in Path(line.rpartition(": ")[2]).read_text()
    with (path / "sweep.csv").open() as file:
        verdicts = [row["verdict"] for row in csv.DictReader(file)]
    assert [verdict == "not finished" for verdict in verdicts] == [False, False, False, True]
    sweep.sweep(config, good, tmp_path / "here", jax.devices())
    assert_alike(config, good, path, tmp_path / "here")
    assert submitted(path) == 3
    jobs.sweep_by_jobs(config, good, path, "local", {}, pause=0.05)  # finished: nothing to do
    assert submitted(path) == 3


class Earlier:
    """A job of an earlier start of the command, which was of fewer steps."""

    job_id = "1"
    paths = None

    def done(self) -> bool:
        return True

    def exception(self) -> None:
        return None


@pytest.mark.slow
def test_the_end_of_a_job_of_fewer_steps_is_not_that_of_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, honest, asked = small("gan"), jobs._Jobs.job, []

    def job(self: Any, part: Any) -> Any:
        asked.append(part)
        return honest(self, part) if len(asked) > 1 else Earlier()

    monkeypatch.setattr(jobs._Jobs, "job", job)
    (row,) = jobs.sweep_by_jobs(config, [{"seed": 1}], tmp_path / "sweep", "local", {}, pause=0.05)
    assert row["steps"] == config.steps
    assert len(asked) == 2


@pytest.mark.slow
def test_a_command_that_was_killed_waits_for_its_job_and_submits_the_rest(tmp_path: Path) -> None:
    line = [sys.executable, "launch.py", "--config=configs/gan.py", "--mode=sweep", "--sweep=seed=1,2,3"]
    line += ["--population=2", "--executor=local", *SMALL, "--config.steps=600", f"--workdir={tmp_path}"]
    line += ["--config.checkpoint.every=20", "--config.log.every=20", "--config.sample.every=600"]
    line += ["--config.eval.every=600"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "001" / "checkpoints" / "20").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert submitted(tmp_path) == 1
    assert not (tmp_path / "000" / "summary.json").exists()
    done = subprocess.run(line, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "finished: 3 trials" in done.stdout
    assert submitted(tmp_path) == 2
    for name in ("000", "001", "002"):
        assert [record["step"] for record in records(tmp_path / name)] == list(range(20, 601, 20))


@pytest.mark.slow
def test_a_job_whose_time_runs_out_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    config = small("gan")
    config.steps = 600
    config.checkpoint.every, config.sample.every, config.eval.every, config.log.every = 20, 600, 600, 20
    path, trials = tmp_path / "jobs", [{"seed": 1}]

    def interrupt() -> None:
        while not (path / "000" / "checkpoints" / "20").exists():
            time.sleep(0.05)
        (job,) = json.loads((path / "jobs" / "submitted.json").read_text()).values()
        (task,) = Path(f"/proc/{job}/task/{job}/children").read_text().split()
        os.kill(int(task), signal.SIGUSR2)  # what SLURM sends before the end

    thread = threading.Thread(target=interrupt)
    thread.start()
    # Of so short a time submitit takes any such signal for its end.
    jobs.sweep_by_jobs(config, trials, path, "local", {"timeout_min": 9}, pause=0.05)
    thread.join()
    assert next((path / "jobs").glob("*_log.out")).read_text().count("Loading pickle") == 2
    sweep.sweep(config, trials, tmp_path / "here", jax.devices())
    assert_alike(config, trials, path, tmp_path / "here")


def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts stand-ins for SLURM's commands on the path, that run a job at once on this machine."""
    scripts = {
        "sbatch": 'cp "$1" {folder}/script_$$\nSLURM_JOB_ID=$$ bash "$1" >/dev/null 2>&1 </dev/null &\n'
        'echo "Submitted batch job $$"\n',
        "srun": 'shift 5\nexec "$@" >{folder}/log 2>&1\n',
        "sacct": 'echo "JobID|State|NodeList"\n',
    }
    for name, text in scripts.items():
        (folder / name).write_text("#!/bin/bash\n" + text.format(folder=folder))
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.slow
def test_jobs_of_a_cluster_get_their_parameters_and_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(tmp_path, monkeypatch)
    config, trials = small("gan"), [{"seed": 1}, {"seed": 2}]
    given = arguments.read_arguments("partition=gpu timeout_min=600 gpus_per_node=8 mem_gb=7.5 slurm_account=us")
    jobs.sweep_by_jobs(config, trials, tmp_path / "jobs", "slurm", given, most=1, pause=0.2)
    sweep.sweep(config, trials, tmp_path / "here", jax.devices())
    assert_alike(config, trials, tmp_path / "jobs", tmp_path / "here")
    scripts = [path.read_text() for path in tmp_path.glob("script_*")]
    assert len(scripts) == 2
    for flag in ("partition=gpu", "time=600", "gpus-per-node=8", "account=us", "mem=7680MB", "job-name=gan_jax"):
        assert f"#SBATCH --{flag}\n" in scripts[0]


@pytest.mark.parametrize(
    ("executor", "given", "message"),
    [
        ("slurm", "", '--executor=slurm: Could not detect "srun", are you indeed on a slurm cluster?'),
        ("local", "partitoin=gpu", "--executor=local: Unknown argument 'partitoin'"),
        ("local", "timeout_min=long", "--executor=local: Parameter \"timeout_min\" expected type <class 'int'>"),
        ("local", "nodes=2", "--executor_args: nodes=2, but a job is one process: leave it out"),
        ("local", "gpu", "--executor_args='gpu': give 'name=value name2=value2'"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(executor: str, given: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        jobs.sweep_by_jobs(small("gan"), [{}], tmp_path, executor, arguments.read_arguments(given))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ['{"000": "12', "[]", '{"000": 12}'])
def test_a_damaged_record_of_jobs_is_one_line_and_nothing_is_submitted_twice(content: str, tmp_path: Path) -> None:
    record = tmp_path / "jobs" / "submitted.json"
    record.parent.mkdir()
    record.write_text(content)
    with pytest.raises(UserError, match=r"submitted\.json, .* is damaged: restore it, or remove it once"):
        jobs.sweep_by_jobs(small("gan"), [{}], tmp_path, "local", {})
    assert record.read_text() == content
    assert submitted(tmp_path) == 0


def test_jobs_are_refused_the_workdir_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run: give another --workdir"):
        jobs.sweep_by_jobs(small("gan"), [{}], tmp_path, "local", {})
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_without_submitit_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "submitit"] + ["gan_jax.sweeps.jobs"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delattr("gan_jax.sweeps.jobs")
    request = Request(tmp_path, small("gan"), "configs/gan.py", population=1, executor="local")
    with pytest.raises(UserError, match=r"needs submitit, which is not installed: pip install -e '\.\[slurm\]'"):
        modes.MODES["sweep"].run(request)
