"""What a log line says of the steps since the line before it."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class Means:
    """Means of metrics over the steps since they were last taken.

    Sums are added step by step in float64, so they are the same to the bit however the steps were cut into dispatches,
    and JSON keeps them exactly.

    Args:
      every: of each metric that not all steps have: step ``s`` (from 0 up) has it where ``s % every == 0``.
      kept: what `kept` gave, to go on from there.
    """

    def __init__(self, every: Mapping[str, int], kept: Mapping[str, Any] | None = None) -> None:
        self._every = every
        self._sums: dict[str, tuple[float, int]] = {name: (total, n) for name, (total, n) in (kept or {}).items()}

    def add(self, first: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Add arrays ``[n]``, of the steps from ``first`` on."""
        for name, values in metrics.items():
            every = self._every.get(name, 1)
            own = values[-first % every :: every]
            if len(own):
                total, count = self._sums.get(name, (0.0, 0))
                summed = np.add.accumulate(np.concatenate([[total], own], dtype=np.float64))[-1]
                self._sums[name] = float(summed), count + len(own)

    def take(self) -> dict[str, float]:
        """Return the mean of each metric over the steps that had it; none of what no step had. Begin anew."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means

    def kept(self) -> dict[str, list[float]]:
        """Sum and number of steps of each metric, for JSON; empty if nothing was added since they were taken."""
        return {name: [total, count] for name, (total, count) in self._sums.items()}
