"""A rollback goes on with another seed, in memory and in a stream alike, and so does whoever takes the run up again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gan_jax.data.stream import Reader
from gan_jax.training.dispatch import Pending
from gan_jax.training.run import Run
from gan_jax.util.errors import DivergedError
from tests.helpers import StopError, assert_identical, run
from tests.training.test_faults import gan

TO = 4  # the step of the checkpoint that runs go back to; the chunk after it ends at step 7


def config(**changed: Any) -> Any:
    return gan(on_divergence="rollback", **{"checkpoint.every": TO, **changed})


@contextmanager
def diverging(dies_at: int | None = None) -> Iterator[None]:
    """Lets a run diverge once, in the chunk after step `TO`, and then die in the chunk after step ``dies_at``."""
    honest = Run.report

    def report(self: Run, pending: Pending, figures: Any = None) -> str:
        back = (self.workdir.diverged / "rollbacks.json").exists()
        if pending.first == TO and not back:
            raise DivergedError("by chance")
        if pending.first == dies_at and back:
            raise StopError
        return honest(self, pending, figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "report", report)
        yield


@pytest.fixture(scope="module")
def back(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The end of a run in memory that went back and was never stopped."""
    with diverging():
        return run(config(), tmp_path_factory.mktemp("back") / "run")


def test_a_stream_has_the_order_of_the_rollbacks_seed_as_memory_has(
    back: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders, honest = [], Reader.__call__

    def call(self: Reader, step: int) -> Any:
        orders.append(self.seed)
        return honest(self, step)

    monkeypatch.setattr(Reader, "__call__", call)
    with diverging():
        assert_identical(run(config(**{"data.device_budget_mb": 0}), tmp_path), back)
    assert set(orders) == {config().seed, int(back.seed)}
    assert int(back.seed) != config().seed


@pytest.mark.parametrize("at", [TO, 8])  # before the first checkpoint after the rollback, and after it
def test_a_run_that_dies_after_a_rollback_goes_on_with_its_seed(back: Any, at: int, tmp_path: Path) -> None:
    with diverging(at), pytest.raises(StopError):
        run(config(), tmp_path)
    assert_identical(run(config(), tmp_path), back)


def test_a_run_without_a_checkpoint_goes_back_to_another_start(tmp_path: Path) -> None:
    changed = {"checkpoint.every": 100, "sample.every": TO}
    with diverging():
        back = run(config(**changed), tmp_path / "back")
    own = config(**changed)
    assert int(back.seed) != own.seed
    own.seed = int(back.seed)
    assert_identical(back, run(own, tmp_path / "other"))
