"""What a run leaves on disk: its directory, and how each file in it is written."""

import fcntl
import json
import math
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configuration
from gan_jax import visualize
from gan_jax.errors import UserError
from gan_jax.files import Appended, read_regular, write_arrays, write_atomically

_EVALUATION = re.compile(r"evaluation_[0-9]{8,}_[0-9]{6,}_[\w-]{0,60}\.json")  # see `_evaluation_name`
_PARTS = ("train", "test")


class Workdir:
    """The directory of one run.

    ``config.json`` (the resolved config), ``data.json`` (what it is trained on), ``metrics.jsonl`` (one object a logged
    step), ``samples/step_*.png``, ``training.gif``, ``summary.json``, TensorBoard events in ``tensorboard/``,
    ``checkpoints/``; damaged ones in ``checkpoints_damaged/``, states that are not finite in ``diverged/``; ``lock``.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.damaged: Path | None = path / "checkpoints_damaged"
        self.diverged = path / "diverged"
        self.cache = cache or path.parent / "data_cache"  # of decoded data, shared with the runs beside this one
        self._config = path / "config.json"
        self._metrics = path / "metrics.jsonl"
        self._summary = path / "summary.json"
        self._data = path / "data.json"
        self.data: dict[str, Any] = {}  # what `check_data` was told
        self._rollbacks = self.diverged / "rollbacks.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training here, for as long as this one lives; makes the directory.

        The lock is the system's, on the file ``lock``: it ends with the process, however that ends.

        Raises:
          UserError: another process trains here.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
            except BlockingIOError as error:
                holder = os.pread(file, 200, 0).decode(errors="replace") or "another process"
                raise UserError(
                    f"{self.path} is in use by {holder}: wait for it, end it, or give another --workdir"
                ) from error
            except OSError as error:  # a file system without locks, or a full one
                reason = f"cannot lock {self.path} ({error.strerror})"
                print(f"warning: {reason}: see to it that no other process trains there", file=sys.stderr)
            yield
        finally:
            os.close(file)

    def check(self, config: ConfigDict) -> None:
        """Refuses a directory that holds the run of another config, if anything came of that, or a sweep.

        A run may get other ``steps`` than it had, if it hasn't made more and is `open_ended`: what it did so far is
        what it would have done.

        Raises:
          UserError: names the keys that differ.
        """
        if self.holds_sweep():
            raise UserError(f"{self.path} holds a sweep or a search: give another --workdir")
        if self.holds_run():
            self._refuse_another(config, if_begun=True)
            made = self.made()
            if made is not None and made < config.steps and not self.saved():
                raise UserError(
                    f"{self.path} holds a run that ended at step {made:,}, and its checkpoints are gone: "
                    "restore them, or give another --workdir"
                )

    def _refuse_another(self, config: ConfigDict, if_begun: bool) -> None:
        ours, theirs = configuration.to_plain(config), configuration.to_plain(self.config())
        made = self.made()
        reached = max([*self.saved(), made or 0])
        open_ended = configuration.open_ended(config)
        movable = open_ended and (config.steps > reached or config.steps == made)
        ignored = (*configuration.WITHOUT_EFFECT, *(("steps",) if movable else ()))
        differing = configuration.differences(theirs, ours, ignored)
        if differing and (self.begun() or not if_begun):
            why = ""
            if ours["steps"] != theirs["steps"] and not movable:
                schedule = "; a learning rate's schedule ends with the steps, which can't be changed then"
                why = f"; it has made {reached:,} steps and can have more" if open_ended else schedule
            raise UserError(
                f"{self.path} holds a run of another config ({'; '.join(differing)}): "
                f"give another --workdir, or the values that the run has{why}"
            )

    def holds_run(self) -> bool:
        """Whether there is one, begun or not: its config."""
        return self._config.exists() or self._config_of_checkpoint() is not None

    def holds_sweep(self) -> bool:
        """Whether there are trials in it, each with a workdir of its own."""
        return (self.path / "000").is_dir()

    def begun(self) -> bool:
        """Whether something came of the run here, a logged step, a checkpoint or more: else another may take its
        place."""
        return bool(self.saved() or self.summary() or self.records() or self._rollbacks.exists())

    def claim(self, config: ConfigDict) -> None:
        """Makes the directory, and in it ``config.json`` and ``data.json``, of what `check_data` was told.

        Raises:
          UserError: it can't be written.
        """
        try:
            for folder in (self.path, self.checkpoints, self.path / "samples", self.path / "tensorboard"):
                folder.mkdir(parents=True, exist_ok=True)
            self._write_json(self._config, configuration.to_plain(config))
            if self.data:
                self._write_json(self._data, self.data)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        reason = f"{error.filename}: {error.strerror}"
        if self.path.exists() and not self.path.is_dir():
            reason = "it is a file"
        return UserError(f"cannot write to the workdir {self.path}: {reason}; give another --workdir")

    def check_data(self, name: str, digest: str, count: int, classes: Sequence[Mapping[str, Any]] = ()) -> None:
        """Takes the data of the run, for `claim` to remember; refuses other data than the run here began with.

        Args:
          name: of the data, for people.
          digest: changes when its content does.
          count: of images to train on.
          classes: ``name`` and counts of each, by label.

        Raises:
          UserError: the run here began with other data.
        """
        if self.begun() and self._data.exists():
            before = read_json(self._data)
            if not (isinstance(before, dict) and "digest" in before):
                raise UserError(
                    f"{self._data}, which says what the run here was trained on, is damaged: restore it, or remove it "
                    f"if that was {name}"
                )
            if before["digest"] != digest:
                known = before.get("images")
                then = f" ({count:,} to train on, {known:,} then)" if isinstance(known, int) else ""
                raise UserError(
                    f"the images of {name} are not those that the run in {self.path} began with{then}: "
                    "restore them, or train anew in another --workdir"
                )
        self.data = {"name": name, "digest": digest, "images": count, "classes": list(classes)}

    def class_names(self, count: int) -> list[str]:
        """Of the ``count`` classes of the run, by label; where that isn't known, their numbers."""
        names = [one["name"] for one in self.classes()]
        return names if len(names) == count else [str(label) for label in range(count)]

    def classes(self) -> list[dict[str, Any]]:
        """``name`` of each class of the data, by label, and how many images there are to ``train`` and ``test`` on."""
        found = self.data or read_json(self._data)
        try:
            return [{"name": str(one["name"]), **{part: int(one[part]) for part in _PARTS}} for one in found["classes"]]
        except (TypeError, KeyError, ValueError):
            return []

    def config(self) -> ConfigDict:
        """The config of the run here; if ``config.json`` is gone, that of the newest checkpoint.

        Raises:
          UserError: there is no run, or its config is damaged.
        """
        plain = None if self._config.exists() else self._config_of_checkpoint()
        try:
            config = ConfigDict(configuration.completed(plain or json.loads(read_regular(self._config))))
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.holds_sweep():
                text = f"{self.path} holds a sweep or a search: give the --workdir of a trial, as {self.path / '000'}"
                raise UserError(text) from error
            raise UserError(f"no run in {self.path}: train first, or give the --workdir of a run") from error
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"cannot read {self._config}: {error}; mend it, or give another --workdir") from error
        try:
            configuration.validate(config)
        except UserError as error:
            raise UserError(f"{self._config}: {error}") from error
        return config

    def _config_of_checkpoint(self) -> dict[str, Any] | None:
        # Where orbax has put what `Checkpoints.save` gave it.
        files = [self.checkpoints / str(step) / "config" / "metadata" for step in self.saved()]
        found = next((read_json(file) for file in reversed(files) if file.exists()), None)
        return found if isinstance(found, dict) else None

    def saved(self) -> list[int]:
        """The steps of the checkpoints that lie here as orbax ends them, whatever was begun since, in their order."""
        return [int(path.name) for path in named_by_number(self.checkpoints, str) if path.is_dir()]

    def summary(self) -> dict[str, Any] | None:
        """The final figures of a finished run, or None."""
        summary = read_json(self._summary)
        return summary if isinstance(summary, dict) else None

    def made(self) -> int | None:
        """The steps of the finished run here; None if there is none, or if it ended before its last."""
        steps = (self.summary() or {}).get("steps")
        return steps if isinstance(steps, int) else None

    def finished(self, steps: int) -> bool:
        """Whether the run here is at its end, if it has ``steps``; also if it ended before, for good."""
        made = self.made()
        return self.summary() is not None and (made is None or made >= steps)

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes ``summary.json``, by which a run counts as finished."""
        self._write_json(self._summary, summary)

    def save_evaluation(self, figures: Mapping[str, Any]) -> None:
        """Writes ``evaluation_STEP_SAMPLES_FEATURES.json``, of the ``figures`` with these names."""
        self._write_json(self.path / _evaluation_name(figures), figures)

    def evaluations(self) -> list[dict[str, Any]]:
        """What `save_evaluation` wrote, by step and samples; damaged files are named, and left out."""
        found = []
        for file in sorted(self.path.glob("evaluation_*.json")):
            if not _EVALUATION.fullmatch(file.name):
                continue
            figures = read_json(file)
            try:
                name = _evaluation_name(figures)
            except (TypeError, KeyError, ValueError):
                print(f"warning: {file} is damaged, and left out of the report", file=sys.stderr)
                continue
            if name == file.name:  # else a copy of another
                found.append(figures)
        return found

    def save_grid(self, step: int, picture: np.ndarray, folder: str = "samples") -> Path:
        """Writes the grid of ``step``, uint8 ``[H, W, C]``, to ``folder``; returns the file."""
        path = self.path / folder / _grid_name(step)
        visualize.save_png(picture, path)
        return path

    def grids(self, folder: str = "samples") -> list[Path]:
        """The files that `save_grid` wrote to ``folder``, by step; whatever else people put there is left out."""
        return named_by_number(self.path / folder, _grid_name)

    def save_animation(self) -> None:
        """``training.gif``, of all sample grids."""
        visualize.save_animation(self.grids(), self.path / "training.gif")

    def records(self) -> list[dict[str, Any]]:
        """All whole records of ``metrics.jsonl``; a line torn by a crash is left out."""
        records = []
        text = read_regular(self._metrics).decode(errors="replace") if self._metrics.exists() else ""
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and all(_is_time(record.get(key)) for key in ("step", "seconds")):
                records.append(record)
        return records

    def logs(self, after: int) -> "Logs":
        """Opens the logs to go on after step ``after``; what earlier attempts logged of later steps is dropped, and a
        run that ended with fewer steps isn't finished any more."""
        known = [record for record in self.records() if record["step"] <= after]
        if after > 0 and not known:
            lost = f"warning: {self._metrics} has lost what came before step {after:,}: curves are of the rest"
            print(lost, file=sys.stderr)
        text = "".join(json.dumps(record) + "\n" for record in known if "ended" not in record)
        write_atomically(self._metrics, lambda file: file.write(text.encode()), sync=True)
        self._summary.unlink(missing_ok=True)
        return Logs(self._metrics, self.path / "tensorboard", after, known[-1]["seconds"] if known else 0.0)

    def rollbacks(self, after: int) -> list[dict[str, Any]]:
        """Those that the run up to the checkpoint of step ``after`` knows of; see `add_rollback`."""
        found = read_json(self._rollbacks)
        try:
            return [rollback for rollback in found if rollback["to"] <= after and 0 <= rollback["seed"] < 2**32]
        except (KeyError, TypeError):  # of None, too: there is no such file
            return []

    def add_rollback(self, rollback: dict[str, Any]) -> None:
        """Remembers that the run went back: ``to`` that step, to go on with that ``seed``."""
        self._write_json(self._rollbacks, [*self.rollbacks(rollback["to"]), rollback])

    def move(self, other: "Workdir", config: ConfigDict, logs: "Logs") -> None:
        """Writes to ``other`` what is known of the run here without reading anything here, for the case that it is
        gone."""
        other.check(config)
        other.data = self.data
        other.claim(config)
        write_atomically(other._metrics, lambda file: file.write(logs.content()), sync=True)

    def save_diverged(self, step: int, leaves: Mapping[str, np.ndarray]) -> Path:
        """Keeps a state that is not finite in ``diverged/``."""
        path = self.diverged / f"step_{step:08d}.npz"
        write_arrays(path, leaves)
        return path

    @staticmethod
    def _write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
        write_json(path, value)


def _grid_name(step: int) -> str:
    return f"step_{step:08d}.png"


def _evaluation_name(figures: Mapping[str, Any]) -> str:
    features = re.sub(r"\W+", "-", str(figures["features"]))[-60:]
    return f"evaluation_{figures['step']:08d}_{figures['samples']:06d}_{features}.json"


def named_by_number(folder: Path, name: Callable[[int], str]) -> list[Path]:
    """What lies in ``folder`` under exactly the ``name`` of a number, in the order of these; nothing if it can't be
    read.

    A copy that people put beside it, as ``step_00000002 copy.png``, is none of them.
    """
    found = {}
    with suppress(OSError):
        for path in folder.iterdir():
            number = re.search("[0-9]+", path.name)
            if number and path.name == name(int(number[0])):
                found[int(number[0])] = path
    return [found[number] for number in sorted(found)]


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


def read_json(path: Path) -> Any:
    """What lies in ``path``, or None if it isn't there or can't be read."""
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Replaces ``path`` in one step."""
    text = json.dumps(value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()), sync=True)


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


class Onlooker(Workdir):
    """The directory of a run for its processes other than the first: they read it, and write nothing."""

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        super().__init__(path, cache)
        self.damaged = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Process 0 has the lock."""
        yield

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
        self._refuse_another(config, if_begun=False)

    def save_grid(self, step: int, picture: np.ndarray, folder: str = "samples") -> Path:
        """Does nothing but say where process 0 keeps it."""
        return self.path / folder / _grid_name(step)

    def save_animation(self) -> None:
        """Does nothing."""

    def save_diverged(self, step: int, leaves: Mapping[str, np.ndarray]) -> Path:
        """Does nothing but say where process 0 keeps it."""
        return self.diverged / f"step_{step:08d}.npz"

    def logs(self, after: int) -> Logs:
        """Logs that keep nothing."""
        return _NoLogs()

    @staticmethod
    def _write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
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
