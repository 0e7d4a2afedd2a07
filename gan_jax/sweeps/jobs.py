"""Sweeps whose programs are jobs on a cluster, by submitit, the only place that imports it.

This process plans, submits, waits and sums up; it leaves accelerators alone. A job trains one program's trials as a
sweep on one machine does (`gan_jax.sweeps.sweep.job`), and is queued again when its time runs out.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import submitit
from ml_collections import ConfigDict
from submitit.helpers import Checkpointable

from gan_jax.sweeps import planning, sweep
from gan_jax.util import progress
from gan_jax.util.errors import UserError, counted
from gan_jax.util.files import read_json, write_json

# Of all executors, with their types as submitit has them; what else is given goes to the chosen one.
_SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
_MINUTES = {"slurm": 24 * 60, "local": 30 * 24 * 60}  # submitit's own defaults are 5 and 2
_KINDS: dict[str, type[submitit.Job[None]]] = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}


class _Job(Checkpointable):
    """`gan_jax.sweeps.sweep.job`, submitted again as it is when it is stopped: it goes on from its checkpoints."""

    def __call__(
        self, config: ConfigDict, trials: Sequence[dict[str, Any]], path: Path, numbers: Sequence[int]
    ) -> None:
        sweep.job(config, trials, path, numbers)


def sweep_by_jobs(
    config: ConfigDict,
    trials: Sequence[dict[str, Any]],
    path: Path,
    executor: str,
    arguments: Mapping[str, Any],
    most: int | None = None,
    pause: float = 1.0,
) -> list[dict[str, Any]]:
    """As `gan_jax.sweeps.sweep.sweep`, each program's trials in a job of their own.

    Args:
      config, trials, path: as for `gan_jax.sweeps.sweep.sweep`; ``path/jobs`` gets scripts and logs.
      executor: slurm, or local: processes on this machine, one after another.
      arguments: of the job: ``timeout_min``, ``gpus_per_node``, ``partition`` and the like.
      most: trials in a job; all that one program can train if None.
      pause: seconds between two looks at the jobs.

    Returns:
      The rows of ``sweep.csv``.

    Raises:
      UserError: anything that the user can mend, in any trial or in ``arguments``, before the first job is submitted;
        at the end, with all other jobs done, that some failed.
    """
    members = planning.plan(config, trials, path)
    parts = []
    for group in planning.grouped(members):
        size = most or len(group)
        parts += [group[start : start + size] for start in range(0, len(group), size)]
    waiting = [part for part in parts if not _done(part)]
    queue = _executor(path / "jobs", executor, arguments)
    done = f"{len(parts) - len(waiting)} of them done"
    print(f"{counted(len(members), 'trial')}, {counted(len(parts), 'job')}, {done}; logs in {path / 'jobs'}")
    at_once = 1 if executor == "local" else len(parts)  # local ones would fight for the same devices
    failed = _Jobs(config, path, queue, at_once).go(waiting, pause) if waiting else 0
    rows = sweep.conclude({member.name: member.overrides for member in members}, path)
    if failed:
        raise UserError(f"{failed} of {len(parts)} jobs failed, see above; the same command submits these again")
    return rows


class _Jobs:
    """Submits parts of a sweep and waits for them; remembers in ``submitted.json`` which job has which."""

    def __init__(self, config: ConfigDict, path: Path, executor: submitit.AutoExecutor, at_once: int) -> None:
        self.config, self.path, self.executor, self.at_once = config, path, executor, at_once
        self.folder = Path(executor.folder)
        self.record = self.folder / "submitted.json"
        self.own: set[str] = set()  # jobs that this process submitted
        self.submitted: dict[str, str] = read_json(self.record) if self.record.exists() else {}
        if not (isinstance(self.submitted, dict) and all(isinstance(job, str) for job in self.submitted.values())):
            raise UserError(
                f"{self.record}, which says which jobs have which trials, is damaged: restore it, or remove it once "
                "none of them waits or runs any more, for all that aren't finished would be submitted again"
            )

    def go(self, parts: Sequence[Sequence[planning.Trial]], pause: float) -> int:
        """All ``parts``; returns how many failed."""
        queue, failed = list(parts), 0
        running: list[tuple[Sequence[planning.Trial], submitit.Job[None]]] = []
        try:
            with progress.bar(total=len(parts), unit="job", dynamic_ncols=True) as bar:
                while queue or running:
                    while queue and len(running) < self.at_once:
                        part = queue.pop(0)
                        running.append((part, self.job(part)))
                    time.sleep(pause)
                    for part, job in [both for both in running if not _goes_on(both[1])]:
                        running.remove((part, job))
                        error = job.exception()
                        if error is None and not _done(part) and job.job_id not in self.own:
                            queue.append(part)  # an earlier start's, of fewer steps or of other trials
                            continue
                        bar.update()
                        if error is not None or not _done(part):
                            failed += 1
                            print(f"\njob {job.job_id} ({_names(part)}) failed: {job.paths.stderr}", file=sys.stderr)
        finally:
            for _, job in running:  # local ones, which nobody would wait for; a cluster's go on
                if isinstance(job, submitit.LocalJob):
                    job.cancel()
        return failed

    def job(self, part: Sequence[planning.Trial]) -> "submitit.Job[None]":
        """Return the job that has ``part`` already, from an earlier start of the same command, or a new one."""
        name = part[0].name
        if name in self.submitted:
            job = _KINDS[self.executor.cluster](self.folder, self.submitted[name])
            if _goes_on(job):
                return job
        numbers = [int(member.name) for member in part]
        trials = [member.overrides for member in part]
        try:
            job = self.executor.submit(_Job(), self.config, trials, self.path.absolute(), numbers)
        except (RuntimeError, OSError) as error:
            raise UserError(f"no job could be submitted for {_names(part)}: {' '.join(str(error).split())}") from error
        self.submitted[name] = str(job.job_id)
        self.own.add(str(job.job_id))
        write_json(self.record, self.submitted)
        return job


def _executor(folder: Path, name: str, arguments: Mapping[str, Any]) -> submitit.AutoExecutor:
    """Submitit's executor, its arguments checked by itself."""
    # Jobs inherit the environment: they share the compiled programs of this user.
    for key in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"):
        value = getattr(jax.config, key)
        if value is not None:
            os.environ.setdefault(key.upper(), str(value))
    own = {
        key if key in _SHARED or key.startswith(f"{name}_") else f"{name}_{key}": arguments[key] for key in arguments
    }
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=name)
        executor.update_parameters(**{"name": "gan_jax", "timeout_min": _MINUTES[name], **own})
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        raise UserError(f"--executor={name}: {' '.join(str(error).split())}") from error
    return executor


def _goes_on(job: "submitit.Job[None]") -> bool:
    """Whether a job waits or runs; also one that another process submitted."""
    if isinstance(job, submitit.LocalJob) and job._process is None:
        try:  # its id is that of its process
            return b"submitit" in Path(f"/proc/{job.job_id}/cmdline").read_bytes()
        except OSError:
            return False
    return not job.done()


def _done(part: Sequence[planning.Trial]) -> bool:
    return all(member.workdir.finished(member.config.steps) for member in part)


def _names(part: Sequence[planning.Trial]) -> str:
    return part[0].name if len(part) == 1 else f"{part[0].name} to {part[-1].name}, {len(part)} trials"
