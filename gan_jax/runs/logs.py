"""The log of a run: ``metrics.jsonl``, and whoever else is told of each line."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.keys import TENSORBOARD
from gan_jax.runs.trackers import Told, named, opener
from gan_jax.runs.trackers.background import Background
from gan_jax.runs.trackers.tags import tagged
from gan_jax.runs.trackers.tensorboard import TensorBoard
from gan_jax.util.files import Appended


class Logs:
    """``metrics.jsonl`` of a run, open for adding, and its trackers; a context manager.

    What is added stays in memory until `flush` has written it, to ``metrics.jsonl`` and TensorBoard's events.

    Args:
      told: the run.
      after: the last step that the log has.
      seconds_before: that the run took up to there.
    """

    def __init__(self, told: Told, after: int, seconds_before: float) -> None:
        self.seconds_before = seconds_before
        self._config = told.config
        self._metrics = Appended(told.workdir / "metrics.jsonl")
        names = named(told.config["log.track"])
        folder = told.workdir / "tensorboard"
        self._events = [TensorBoard(folder, after, told.config)] if TENSORBOARD in names else []
        self._services = [Background(name, told, opener(name)) for name in names if name != TENSORBOARD]

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._metrics.close()
        events, self._events = self._events, []
        for each in events:
            each.close({} if kind is None else None)
        if kind is not None:
            self._tell_of_the_end(None)

    def write(self, record: Mapping[str, float], images: int) -> None:
        """Add one record: ``step``, ``seconds``, ``images_per_second`` and metrics, after so many real ``images``."""
        self._metrics.add(json.dumps(dict(record)).encode() + b"\n")
        values = {**tagged(record, self._config), "images": float(images)}
        for tracker in self._trackers:
            tracker.scalars(int(record["step"]), values)

    def write_picture(self, step: int, picture: np.ndarray) -> None:
        """Show a grid of samples, uint8 ``[H, W, C]``, to the trackers."""
        for tracker in self._trackers:
            tracker.picture(step, picture)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Tell the services that the run is finished, with its final figures, and wait for them.

        They are open until then where the context was left without an error; TensorBoard's events aren't.
        """
        self._tell_of_the_end(tagged(summary, {}))

    @property
    def _trackers(self) -> list[TensorBoard | Background]:
        return [*self._events, *self._services]

    def _tell_of_the_end(self, figures: Mapping[str, float] | None) -> None:
        services, self._services = self._services, []
        for service in services:
            service.close(figures)

    def flush(self) -> None:
        """Write what was added; raise an OSError if it can't, and may be called again."""
        self._metrics.flush()
        for events in self._events:
            events.flush()

    def sync(self) -> None:
        """Wait until the metrics lie on the disk, so that no checkpoint does before them."""
        self._metrics.sync()

    @property
    def gone(self) -> bool:
        """Whether ``metrics.jsonl`` was removed meanwhile, as with the whole workdir."""
        return self._metrics.gone

    def content(self) -> bytes:
        """Return all of ``metrics.jsonl``, as far as it can still be read."""
        return self._metrics.content()


class _NoLogs(Logs):
    def __init__(self) -> None:
        self.seconds_before = 0.0

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, record: Mapping[str, float], images: int) -> None:
        pass

    def write_picture(self, step: int, picture: np.ndarray) -> None:
        pass

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass

    def flush(self) -> None:
        pass

    def sync(self) -> None:
        pass

    @property
    def gone(self) -> bool:
        return False
