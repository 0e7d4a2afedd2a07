"""Events for TensorBoard, written as files beside the run."""

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


class TensorBoard:
    """The events of a run: scalars, grids, and the config as hyperparameters (the tab HPARAMS).

    What is added stays in memory until `flush` has written it.

    Args:
      folder: of the events.
      after: the last step that holds; what earlier files have of later ones is void.
      config: dotted keys and values.
    """

    def __init__(self, folder: Path, after: int, config: Mapping[str, Any]) -> None:
        self._folder = folder
        self._file = Appended(folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}")
        with _without_torch():
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.record_writer import masked_crc32c
            from tensorboardX.summary import hparams, image, scalar
        self._event, self._checksum, self._scalar, self._image = Event, masked_crc32c, scalar, image
        # Without the first of the three, TensorBoard finds all values and figures by itself.
        _, begin, self._end = hparams({key: _plain(value) for key, value in config.items()}, {})
        self._add(file_version="brain.Event:2")
        self._add(step=after + 1, session_log=SessionLog(status=SessionLog.START))  # what was later is void
        self._add(summary=begin)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step by their tags."""
        for name, value in values.items():
            self._add(step=step, summary=self._scalar(name, value))

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Add a grid of samples, uint8 ``[H, W, C]``."""
        self._add(step=step, summary=self._image("samples", picture, dataformats="HWC"))

    def flush(self) -> None:
        """Write what was added; raise an OSError if it can't, and may be called again."""
        self._file.flush()

    def close(self, figures: Mapping[str, float] | None) -> None:
        """Add that the run was finished, unless ``figures`` is None, and close the file, whatever the disk says."""
        if figures is not None:
            self._add(summary=self._end)
        try:
            self.flush()
        except OSError as error:
            print(f"warning: TensorBoard's events of {self._folder} have no end: {error}", file=sys.stderr)
        self._file.close()

    def _add(self, **values: Any) -> None:
        """Add a record of TensorBoard's: length, its checksum, the event, its checksum."""
        data = self._event(wall_time=time.time(), **values).SerializeToString()
        head = struct.pack("<Q", len(data))
        parts = head, struct.pack("<I", self._checksum(head)), data, struct.pack("<I", self._checksum(data))
        self._file.add(b"".join(parts))


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


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
