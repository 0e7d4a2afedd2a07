"""The checkpoint that an evaluation found best, in a folder of its own."""

import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gan_jax.keys import FIGURES, HIGHER_IS_BETTER
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import distributed
from gan_jax.util.errors import UserError


class Best:
    """Keeps one checkpoint, the best by one figure of the evaluations of a run; a context manager.

    Args:
      workdir: of the run.
      figure: one of `gan_jax.keys.FIGURES`, or ``none``: nothing is kept.
    """

    def __init__(self, workdir: Workdir, figure: str) -> None:
        self._place, self._figure = workdir, figure
        self._open: Checkpoints | None = None
        self.kept: dict[str, Any] = {}  # what is known of it, as `found` returns it, and its ``step``
        if figure in FIGURES and workdir.best.is_dir():
            checkpoints = self._checkpoints()
            step = checkpoints.latest()
            with suppress(Exception):  # of damaged files, orbax and its parsers raise anything
                self.kept = {} if step is None else checkpoints.log(step)

    def __enter__(self) -> "Best":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._open is not None:
            try:
                self._open.__exit__(*error)
            except UserError as refused:  # the run itself is whole
                print(f"warning: {refused}", file=sys.stderr)

    def found(self, figures: Mapping[str, float], stage: int) -> dict[str, Any] | None:
        """Return what is better in ``figures`` than what is kept, as `save` wants it, or None.

        Figures of other features, of other numbers of samples and of other stages don't compare: the newest counts.

        Args:
          figures: of an evaluation.
          stage: the step at which the run's stage began.
        """
        named = [(name, value) for name, value in figures.items() if name.partition("[")[0] == self._figure]
        if not named or not math.isfinite(named[0][1]):
            return None
        name, value = named[0]
        found = {"figure": name, "samples": figures.get("eval_samples", 0.0), "stage": stage, "value": value}
        alike = all(self.kept.get(key) == found[key] for key in ("figure", "samples", "stage"))
        sign = -1 if self._figure in HIGHER_IS_BETTER else 1
        return None if alike and sign * value >= sign * self.kept["value"] else found

    def waited(self, step: int, begin: int, every: int) -> int:
        """Return how many evaluations, one in so many steps, were no better than the best one known after ``step``.

        Args:
          step: after which the last one was.
          begin: the step at which the run's stage began: what was before doesn't count.
          every: steps between two.
        """
        best = self.kept.get("step")
        return 0 if best is None else (step - max(best, begin)) // every

    def save(self, step: int, state: Any, config: dict[str, Any], found: dict[str, Any]) -> None:
        """Save the state of ``step`` in place of the one kept before, as `gan_jax.runs.checkpoint.Checkpoints` does."""
        log = {**found, "step": step}
        if self.kept.get("step", -1) >= step:  # of a time before the run went back
            self._checkpoints().drop_after(step - 1)
        self._checkpoints().save(step, state, config, wait=distributed.several(), log=log)
        self.kept = log

    def check(self) -> None:
        """Say so if the last `save` could not be written; then nothing is known to be kept."""
        try:
            if self._open is not None:
                self._open.check()
        except OSError as error:
            print(f"\nwarning: the best checkpoint could not be written: {error}", file=sys.stderr)
            self.kept = {}

    def __str__(self) -> str:
        """Return which checkpoint it is, and why, in words; nothing if there is none."""
        return f"step {self.kept['step']:,}, {self.kept['figure']} {self.kept['value']:.5g}" if self.kept else ""

    def _checkpoints(self) -> Checkpoints:
        if self._open is None:
            self._open = Checkpoints(self._place.best, 1, self._place.damaged)
        return self._open
