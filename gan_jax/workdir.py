"""What a run leaves on disk: its directory, and how each file in it is written."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configuration
from gan_jax import visualize
from gan_jax.errors import UserError
from gan_jax.files import write_atomically


class Workdir:
    """The directory of one run.

    ``config.json`` (the resolved config), ``data.json`` (what it is trained on), ``metrics.jsonl`` (one object a logged
    step), ``samples/step_*.png``, ``training.gif``, ``summary.json``, TensorBoard events in ``tensorboard/``,
    ``checkpoints/``.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.cache = cache or path.parent / "data_cache"  # of decoded data, shared with the runs beside this one
        self._config = path / "config.json"
        self._metrics = path / "metrics.jsonl"
        self._summary = path / "summary.json"
        self._data = path / "data.json"

    def check(self, config: ConfigDict) -> None:
        """Refuses a directory that holds the run of another config.

        Raises:
          UserError: names the keys that differ.
        """
        if not self._config.exists():
            return
        ours, theirs = configuration.to_plain(config), configuration.to_plain(self.config())
        differing = configuration.differences(theirs, ours, ignored=configuration.WITHOUT_EFFECT)
        if differing:
            raise UserError(
                f"{self.path} holds a run of another config ({'; '.join(differing)}): "
                "give another --workdir, or the values that the run has"
            )

    def claim(self, config: ConfigDict) -> None:
        """Makes the directory, and ``config.json`` in it.

        Raises:
          UserError: it can't be written.
        """
        try:
            for folder in (self.path, self.checkpoints, self.path / "samples", self.path / "tensorboard"):
                folder.mkdir(parents=True, exist_ok=True)
            self._write_json(self._config, configuration.to_plain(config))
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise UserError(f"cannot write to the workdir {self.path}: {reason}; give another --workdir") from error

    def check_data(self, name: str, digest: str) -> None:
        """Remembers the data of the run in ``data.json``; refuses to go on with other data.

        Args:
          name: of the data, for people.
          digest: changes when its content does.

        Raises:
          UserError: the run here began with other data.
        """
        try:
            before = json.loads(self._data.read_text())
        except (OSError, ValueError):
            before = None
        if before is not None and before.get("digest") != digest and self.checkpoints.is_dir():
            raise UserError(
                f"the images of {name} are not those that the run in {self.path} began with: "
                "restore them, or give another --workdir"
            )
        self._write_json(self._data, {"name": name, "digest": digest})

    def config(self) -> ConfigDict:
        """The config of the run here.

        Raises:
          UserError: there is no run, or its config is damaged.
        """
        try:
            config = configuration.completed(ConfigDict(json.loads(self._config.read_text())))
        except FileNotFoundError as error:
            raise UserError(f"no run in {self.path}: train first, or give the --workdir of a run") from error
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"cannot read {self._config}: {error}; mend it, or give another --workdir") from error
        configuration.validate(config)
        return config

    def summary(self) -> dict[str, Any] | None:
        """The final figures of a finished run, or None."""
        try:
            summary: dict[str, Any] = json.loads(self._summary.read_text())
            return summary
        except (OSError, ValueError):
            return None

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes ``summary.json``, by which a run counts as finished."""
        self._write_json(self._summary, summary)

    def save_evaluation(self, step: int, figures: Mapping[str, Any]) -> None:
        """Writes ``evaluation_STEP.json``."""
        self._write_json(self.path / f"evaluation_{step:08d}.json", figures)

    def save_grid(self, step: int, picture: np.ndarray, folder: str = "samples") -> None:
        """Writes the grid of ``step``, uint8 ``[H, W, C]``, to ``folder``."""
        visualize.save_png(picture, self.path / folder / f"step_{step:08d}.png")

    def save_animation(self) -> None:
        """``training.gif``, of all sample grids."""
        visualize.save_animation(sorted((self.path / "samples").glob("step_*.png")), self.path / "training.gif")

    def records(self) -> list[dict[str, Any]]:
        """All whole records of ``metrics.jsonl``; a line torn by a crash is left out."""
        records = []
        for line in self._metrics.read_text().splitlines() if self._metrics.exists() else []:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and {"step", "seconds"} <= record.keys():
                records.append(record)
        return records

    def logs(self, after: int) -> "Logs":
        """Opens the logs to go on after step ``after``; what earlier attempts logged of later steps is dropped."""
        kept = [record for record in self.records() if record["step"] <= after]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self._metrics, lambda file: file.write(text.encode()))
        return Logs(self._metrics, self.path / "tensorboard", after, kept[-1]["seconds"] if kept else 0.0)

    @staticmethod
    def _write_json(path: Path, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, indent=2) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))


class Logs:
    """``metrics.jsonl`` and the TensorBoard events of a run, both open for adding; a context manager."""

    def __init__(self, metrics: Path, tensorboard: Path, after: int, seconds_before: float) -> None:
        self.seconds_before = seconds_before
        self._file = metrics.open("a")
        self._events = _summary_writer(tensorboard, purge_step=after + 1)

    def __enter__(self) -> "Logs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._events.close()

    def write(self, record: Mapping[str, float]) -> None:
        """Adds one record: ``step``, ``seconds``, ``images_per_second`` and the metrics."""
        self._file.write(json.dumps(dict(record)) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name not in ("step", "seconds"):
                self._events.add_scalar(name, value, record["step"])

    def write_picture(self, step: int, picture: np.ndarray) -> None:
        """Adds uint8 ``[H, W, C]`` to TensorBoard under the name ``samples``."""
        self._events.add_image("samples", picture, step, dataformats="HWC")


class Onlooker(Workdir):
    """The directory of a run for its processes other than the first: they read it, and write nothing."""

    def claim(self, config: ConfigDict) -> None:
        """Finds what process 0 wrote.

        Raises:
          UserError: it isn't there.
        """
        if not self._config.exists():
            raise UserError(
                f"there is no {self._config} here, which process 0 just wrote: "
                "give a --workdir on a file system that all hosts of the run share"
            )
        self.check(config)

    def save_grid(self, step: int, picture: np.ndarray, folder: str = "samples") -> None:
        """Does nothing."""

    def save_animation(self) -> None:
        """Does nothing."""

    def logs(self, after: int) -> Logs:
        """Logs that keep nothing."""
        return _NoLogs()

    @staticmethod
    def _write_json(path: Path, value: Mapping[str, Any]) -> None:
        pass


class _NoLogs(Logs):
    def __init__(self) -> None:
        self.seconds_before = 0.0

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, record: Mapping[str, float]) -> None:
        pass

    def write_picture(self, step: int, picture: np.ndarray) -> None:
        pass


def _summary_writer(directory: Path, purge_step: int) -> Any:
    """A tensorboardX writer without torch, which it would import if it found it: seconds and 200 MB for nothing."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter(str(directory), purge_step=purge_step)
