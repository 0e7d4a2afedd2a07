"""How many steps one call of the compiled program makes, and what it leaves to be looked at."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax.runtime import distributed

_DISPATCH = 0.25  # seconds


@dataclasses.dataclass
class Pending:
    """A chunk of steps that was dispatched at a time, and whose metrics nobody has looked at yet.

    ``done`` is when it was, if its call returned no sooner, as on one CPU.
    """

    first: int
    count: int
    metrics: Any
    dispatched: float
    done: float | None = None

    def __post_init__(self) -> None:
        leaves = [leaf for leaf in jax.tree.leaves(self.metrics) if isinstance(leaf, jax.Array)]
        if leaves and all(leaf.is_ready() for leaf in leaves):  # type: ignore[attr-defined]
            self.done = time.perf_counter()


class Pace:
    """How many steps a dispatch makes.

    If none are asked for, as many as take `_DISPATCH` seconds: beside them what a dispatch costs, 1 or 2 ms, is under
    1 %, and who asks the run to end waits for two dispatches at most. It is found on the way, from 1 on, by how long
    the dispatches take, and is the same in all processes. No result depends on it.

    Args:
      asked: steps; 0: see above.
      most: steps that a dispatch can make.

    Attributes:
      steps: of the next dispatch.
    """

    def __init__(self, asked: int, most: int) -> None:
        self._asked = asked
        self.begin(most)

    def begin(self, most: int) -> None:
        """Begin anew, with another program: a dispatch of it can make so many steps."""
        self._most = most
        self._number, self._done = 0, 0.0  # dispatches so far, and when the last one was done
        self.steps = min(self._asked or 1, most)

    def wait(self, pending: Pending) -> None:
        """Until ``pending`` is done; it may change the number."""
        jax.block_until_ready(pending.metrics)
        begin, self._done = max(pending.dispatched, self._done), pending.done or time.perf_counter()
        self._number += 1
        if self._asked or not (self._number.bit_count() == 1 or self._number % 50 == 0):  # rarely: all must agree
            return
        wanted = pending.count * _DISPATCH / (self._done - begin)
        self.steps = distributed.broadcast(int(np.clip(wanted, 1, min(self._most, 4 * self.steps))))

    @property
    def ahead(self) -> int:
        """The most steps that any process has dispatched, and this one hasn't."""
        return 2 * min(self._most, self.steps if self._asked else 4 * self.steps)


def chunks(config: ConfigDict, first: int, pace: Pace, last: int | None = None) -> Iterator[tuple[int, int]]:
    """``(step, count)`` of each dispatch from step ``first`` to ``last`` (default: of the run), none of which runs past
    a step at which something is due."""
    step, last = first, config.steps if last is None else last
    while step < last:
        stop = min(step + pace.steps, last)
        for every in _intervals(config):
            stop = min(stop, (step // every + 1) * every)
        yield step, stop - step
        step = stop


def awaited(config: ConfigDict, step: int, last: int) -> str:
    """Return what comes next after ``step``, and at which step, up to the ``last``: evaluation, checkpoint, or both."""
    every = {"evaluation": config.eval.every, "checkpoint": config.checkpoint.every}
    at = {name: min(step - step % often + often, last) for name, often in every.items()}
    first = min(at.values())
    return f"{' and '.join(name for name, when in at.items() if when == first)} at {first:,}"


def due(config: ConfigDict, step: int) -> bool:
    """Whether somebody must look at the state after ``step`` steps."""
    return any(step % every == 0 for every in _intervals(config)) or step == config.steps


def _intervals(config: ConfigDict) -> tuple[int, int, int]:
    return config.sample.every, config.eval.every, config.checkpoint.every
