"""A tracker behind a thread of its own: however slow or broken the service is, the run goes on."""

import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gan_jax.runs.trackers import Told, Tracker
from gan_jax.util.errors import clipped, printable
from gan_jax.util.files import read_json, write_json

_MOST = 1000  # lines and pictures that wait for a service
PATIENCE = 60.0  # seconds that the end of a run waits for one
_HURRIED = 5.0  # those that the end of a stopped run does


class Background:
    """Tells a service of a run: all of it, each line once, however often the run is resumed, and in a thread.

    What the service was told of is kept in ``tracking/NAME.json`` of the workdir: by what it knows the run, and the
    last steps. A step that it knows isn't told again, as a resumed run makes the same steps. If the service fails, or
    1,000 lines wait for it, that is a warning, and the service is told nothing more by this process.

    Args:
      name: of the service.
      told: the run.
      opened: what opens it, in the thread.
    """

    def __init__(self, name: str, told: Told, opened: Callable[[Told], Tracker]) -> None:
        self.name, self._told, self._opened = name, told, opened
        self._file = told.workdir / "tracking" / f"{name}.json"
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue(_MOST)
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Tell of a step's values."""
        self._put("scalars", step, dict(values))

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Tell of a grid of samples."""
        self._put("picture", step, picture)

    def close(self, figures: Mapping[str, float] | None) -> None:
        """Tell of the end, see `Tracker.finish`, and wait until all is sent, `PATIENCE` seconds at most."""
        self._put("finish", figures)
        patience = _HURRIED if figures is None else PATIENCE
        self._thread.join(patience)
        if self._thread.is_alive() and not self._failed:
            self._fail(f"it has not taken all within {patience:.0f} s")

    def _put(self, what: str, *told: Any) -> None:
        if self._failed:
            return
        try:
            self._queue.put_nowait((what, told))
        except queue.Full:
            self._fail(f"{_MOST:,} lines wait for it")

    def _fail(self, why: object) -> None:
        self._failed = True
        said = clipped(printable(str(why).strip().partition("\n")[0]), 300)
        print(f"\nwarning: {self.name} is told nothing more of {self._told.workdir}: {said}", file=sys.stderr)

    def _work(self) -> None:
        try:
            found = read_json(self._file)
            known = found if isinstance(found, dict) and isinstance(found.get("identity"), str) else {"identity": ""}
            tracker = self._opened(self._told._replace(identity=known["identity"]))
            known["identity"] = tracker.identity
            write_json(self._file, known)
            while not self._failed:
                what, told = self._queue.get()
                if what == "finish":
                    tracker.finish(*told)
                    return
                if told[0] > known.get(what, -1):
                    getattr(tracker, what)(*told)
                    known[what] = told[0]
                    write_json(self._file, known)
        except Exception as error:
            if not self._failed:
                self._fail(f"{type(error).__name__}: {error}")
