"""The logs of a run: ``metrics.jsonl`` and TensorBoard's events."""

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.util.files import Appended


class Logs:
    """``metrics.jsonl`` and the TensorBoard events of a run, both open for adding; a context manager.

    What is added stays in memory until `flush` has written it.
    """

    def __init__(self, metrics: Path, tensorboard: Path, after: int, seconds_before: float) -> None:
        self.seconds_before = seconds_before
        self._metrics = Appended(metrics)
        self._events = Appended(tensorboard / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}")
        with _without_torch():
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.record_writer import masked_crc32c
            from tensorboardX.summary import image, scalar
        self._event, self._checksum, self._scalar, self._image = Event, masked_crc32c, scalar, image
        self._add(file_version="brain.Event:2")
        self._add(step=after + 1, session_log=SessionLog(status=SessionLog.START))  # what was later is void

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._events.close()

    def write(self, record: Mapping[str, float]) -> None:
        """Adds one record: ``step``, ``seconds``, ``images_per_second`` and the metrics."""
        self._metrics.add(json.dumps(dict(record)).encode() + b"\n")
        for name, value in record.items():
            if name not in ("step", "seconds", "ended"):
                self._add(step=record["step"], summary=self._scalar(name, value))

    def write_picture(self, step: int, picture: np.ndarray) -> None:
        """Adds uint8 ``[H, W, C]`` to TensorBoard under the name ``samples``."""
        self._add(step=step, summary=self._image("samples", picture, dataformats="HWC"))

    def _add(self, **values: Any) -> None:
        """A record of TensorBoard's: length, its checksum, the event, its checksum."""
        data = self._event(wall_time=time.time(), **values).SerializeToString()
        head = struct.pack("<Q", len(data))
        parts = head, struct.pack("<I", self._checksum(head)), data, struct.pack("<I", self._checksum(data))
        self._events.add(b"".join(parts))

    def flush(self) -> None:
        """Writes what was added; raises an OSError if it can't, and may be called again."""
        self._metrics.flush()
        self._events.flush()

    def sync(self) -> None:
        """Waits until the metrics lie on the disk, so that no checkpoint does before them."""
        self._metrics.sync()

    @property
    def gone(self) -> bool:
        """Whether ``metrics.jsonl`` was removed meanwhile, as with the whole workdir."""
        return self._metrics.gone

    def content(self) -> bytes:
        """All of ``metrics.jsonl``, as far as it can still be read."""
        return self._metrics.content()


class _NoLogs(Logs):
    def __init__(self) -> None:
        self.seconds_before = 0.0

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, record: Mapping[str, float]) -> None:
        pass

    def write_picture(self, step: int, picture: np.ndarray) -> None:
        pass

    def flush(self) -> None:
        pass

    def sync(self) -> None:
        pass

    @property
    def gone(self) -> bool:
        return False


@contextmanager
def _without_torch() -> Iterator[None]:
    """tensorboardX would import torch if it found it: seconds and 200 MB for nothing."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]
