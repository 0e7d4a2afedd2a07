"""The training loop, of a run and of a population alike: dispatch steps, look at what they said, do what is due."""

import time
from collections.abc import Iterable
from typing import Any, Protocol

from ml_collections import ConfigDict

from gan_jax.runtime import distributed
from gan_jax.runtime.signals import Stop
from gan_jax.training.dispatch import Pace, Pending, due
from gan_jax.util import progress
from gan_jax.util.errors import EndedError

ATTEND = "the disk"
Shares = Iterable[tuple[tuple[int, int], Any]]  # ((first step, number of steps), the devices' shares) of each dispatch


class Trained(Protocol):
    """Whatever the loop trains.

    Attributes:
      config: says how often what is due, and how many steps there are.
      first: the step from which this process goes on.
      stop: whether somebody asked for the end.
      trials: how many GANs make a step in each step.
    """

    config: ConfigDict
    first: int
    stop: Stop

    @property
    def trials(self) -> int:
        """0: none goes on."""

    @property
    def until(self) -> int:
        """The step with which the present stage ends, or the run."""

    def dispatch(self, count: int, share: Any) -> Any:
        """Start ``count`` steps; return their metrics, which needn't be ready."""

    def report(self, pending: Pending) -> None:
        """Log what is pending."""

    def pause(self, step: int, pending: Pending) -> None:
        """Log it, and do what is due after ``step`` steps, with the state of then."""

    def shown(self) -> str:
        """Return what a progress bar shows."""

    def needs_attention(self, step: int) -> str:
        """Return why to `attend` after ``step`` steps: a signal, `ATTEND` for the disk, or nothing."""

    def attend(self, step: int) -> None:
        """Save the state after ``step`` steps now."""


def loop(trained: Trained, shares: Shares, pace: Pace) -> None:
    """Train to the last step.

    Args:
      trained: see above.
      shares: of all dispatches from its first step on, see `gan_jax.training.dispatch.chunks`.
      pace: how many steps a dispatch makes.

    Raises:
      EndedError: somebody asked for the end, and all was saved.
    """
    last, calls = trained.config.steps, distributed.Calls()
    pending: Pending | None = None
    trials = trained.trials
    # By the mean rate, in which evaluations have their share, the time to the end is right.
    options: dict[str, Any] = {"unit": "step", "dynamic_ncols": True, "smoothing": 0}
    bar = progress.bar(total=last * trials, initial=trained.first * trials, **options)
    with bar:

        def look(pending: Pending, at: int | None = None) -> None:
            if at is None:
                trained.report(pending)
            else:
                trained.pause(at, pending)
            bar.set_postfix_str(trained.shown(), refresh=False)
            bar.update(pending.count * trials)

        for (step, count), share in shares:
            begin = time.perf_counter()
            new, end = Pending(step, count, trained.dispatch(count, share), begin), step + count
            if pending:  # looked at while the next chunk runs
                pace.wait(pending)
                look(pending)
            pending = new
            if due(trained.config, end) or end == trained.until:
                pace.wait(pending)
                look(pending, at=end)
                pending = None
            told = trained.needs_attention(end)
            if told := calls.due(end, told, last if end == last else end + pace.ahead):
                if pending:
                    look(pending)
                    pending = None
                trained.stop.asked = trained.stop.asked or told.removeprefix(ATTEND)
                trained.attend(end)
                if trained.stop.asked and end < last:
                    distributed.barrier()  # nobody leaves before all are saved
                    raise EndedError(
                        f"{trained.stop.asked}: ended at step {end:,} with a checkpoint; the same command resumes"
                    )
            if not trained.trials:
                break
