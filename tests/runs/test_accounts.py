"""What runs, sweeps and searches keep account of: speed, grids, rollbacks, the best, the shares of processes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import placement
from gan_jax.sweeps import planning, sweep
from gan_jax.training.dispatch import Pending
from gan_jax.training.run import Run
from gan_jax.util.errors import UserError
from tests.evaluate.test_drawn import CLASSES, told
from tests.helpers import small


class Lines(list[dict[str, Any]]):
    """Logs that keep their lines here, of a run that took 100 s before."""

    seconds_before = 100.0

    def write(self, line: dict[str, Any], images: int) -> None:
        self.append(line)

    def flush(self) -> None:
        pass


def test_a_line_has_the_speed_of_this_process_and_a_grid_a_class_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, clock = small("gan"), [0.0]
    config.batch_size, config.d_steps, config.sample.rows, config.log.every = 16, 3, 4, 4
    monkeypatch.setattr("gan_jax.training.run.time.perf_counter", lambda: clock[0])
    evaluator: Any = SimpleNamespace(preparing=0.0)
    checkpoints: Any = SimpleNamespace(log=lambda _: None)
    lines: Any = Lines()
    run = Run(config, told()[0], evaluator, Workdir(tmp_path), checkpoints, lines, 100)
    np.testing.assert_array_equal(run.labels, np.repeat(np.arange(4) % CLASSES, 4))
    clock[0], evaluator.preparing = 7.0, 5.0  # what an evaluation prepares once is no time of the run
    metrics: dict[str, Any] = {name: np.arange(4.0) for name in ("d_loss", "g_loss")}
    run.report(Pending(100, 4, metrics | {"fine": np.bool_(True)}, 0.0))
    assert lines == [{"step": 104, "seconds": 102.0, "images_per_second": 96.0, "d_loss": 1.5, "g_loss": 1.5}]


def test_a_run_knows_the_rollbacks_up_to_its_checkpoint(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    for to, seed in ((4, 1), (8, 2), (8, 3)):
        workdir.add_rollback({"to": to, "seed": seed, "why": "x"})
    assert [[rollback["seed"] for rollback in workdir.rollbacks(after)] for after in (0, 4, 7, 8, 12)] == [
        *([], [1], [1], [1, 2, 3], [1, 2, 3])
    ]
    workdir.add_rollback({"to": 4, "seed": 4, "why": "x"})  # the steps from 4 to 8 are to be made anew
    assert [rollback["seed"] for rollback in workdir.rollbacks(12)] == [1, 4]


def test_a_workdir_is_locked_for_one_at_a_time(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            Workdir(tmp_path).locked(),
            pytest.raises(UserError, match=r"is in use by process \d+ on "),
            Workdir(tmp_path).locked(),
        ):
            pass


def test_the_best_of_a_trial_is_its_lowest_fid_on_the_way(tmp_path: Path) -> None:
    lines = [{"step": step, "seconds": 1.0, "fid[x]": fid} for step, fid in ((2, 5.0), (4, 2.0), (6, 3.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    workdir = Workdir(tmp_path)
    workdir.save_summary({"verdict": "healthy", "fid[x]": 3.0})
    assert sweep._figures(workdir)["best_fid[x]"] == 2.0


@pytest.mark.parametrize("shards", [0, 8])
def test_each_process_feeds_its_own_share_of_the_batch(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: Any = [SimpleNamespace(process_index=i // 2) for i in range(4)]
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        rows = placement.local_index(16, devices, shards)
        np.testing.assert_array_equal(rows.ravel(), np.arange(8) + 8 * process)
        assert len(rows) == (shards or 4) // 2


def test_a_search_looks_for_what_is_better_and_prunes_not_before_a_quarter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")
    from gan_jax.sweeps import search

    less = {"fid", "kid", "duplicates", "class_distance"}
    more = {"precision", "recall", "density", "coverage", "inception_score", "class_entropy"}
    assert {name for name, direction in search.OBJECTIVES.items() if direction == "minimize"} & (less | more) == less
    monkeypatch.setattr(search, "UNPRUNED", 1)
    config = small("gan")
    config.steps, config.eval.features = 100, "auto"
    study = search._study(config, tmp_path, "precision")
    study.sampler = search._sampler(0, 0)
    good, bad = study.ask(), study.ask()
    for step in (24, 25):
        good.report(0.9, step)
    study.tell(good, 0.9)
    for step, pruned in ((24, False), (25, True)):
        bad.report(0.1, step)
        assert bad.should_prune() == pruned


@pytest.mark.parametrize("ended", [0, 1])
def test_generations_end_at_multiples_of_their_size_wherever_a_search_was_killed(ended: int, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")
    from gan_jax.sweeps import search

    config = small("gan")
    config.eval.features = "auto"
    study = search._study(config, tmp_path, "fid")

    def space(trial: Any) -> dict[str, Any]:
        return {"seed": trial.suggest_int("seed", 0, 9)}

    def ask() -> list[int]:
        return list(search._generation(study, space, 10, 4, 0))

    assert ask() == [0, 1, 2, 3]
    for number in range(ended):
        study.tell(number, 1.0)
    assert ask() == list(range(ended, 4))  # those that were going on, and no others
    for number in range(ended, 4):
        study.tell(number, 1.0, state=optuna.trial.TrialState.COMPLETE)
    assert ask() == [4, 5, 6, 7]


def test_a_job_is_done_when_all_of_its_trials_are(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -e '.[slurm]'")
    from gan_jax.sweeps import jobs

    members = planning.plan(small("gan"), [{"seed": 1}, {"seed": 2}], tmp_path)
    done = []
    for member in members:
        member.workdir.save_summary({"verdict": "healthy", "steps": member.config.steps})
        done.append(jobs._done(members))
    assert done == [False, True]
