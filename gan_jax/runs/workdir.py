"""What a run leaves on disk: its directory, and how each file in it is written."""

import fcntl
import json
import math
import os
import re
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configuration
from gan_jax import stages
from gan_jax.runs import trackers, visualize
from gan_jax.runs.code import KEY, Code, shown
from gan_jax.runs.logs import Logs
from gan_jax.runs.trackers import Told
from gan_jax.util.errors import UserError, listed, printable
from gan_jax.util.files import read_json, read_regular, write_arrays, write_atomically, write_json

_TRIAL = re.compile(r"\d{3,}")  # a trial's folder in that of a sweep or search
_PLACES = ("data.dir", "data.test_dir", "data.test_list")
_FREE = (*configuration.WITHOUT_EFFECT, *configuration.OBSERVING)  # keys that a run may go on with others of
_EVALUATION = re.compile(r"evaluation_[0-9]{8,}_[0-9]{6,}_[\w-]{0,60}(_[\w%.~,=-]+)?\.json")  # see `_evaluation_name`
_PARTS = ("train", "test")


class Workdir:
    """The directory of one run.

    ``config.json`` (the resolved config), ``data.json`` (what it is trained on), ``metrics.jsonl`` (one object a logged
    step), ``samples/step_*.png``, ``training.gif``, ``summary.json``, TensorBoard events in ``tensorboard/``,
    ``checkpoints/``; damaged ones in ``checkpoints_damaged/``, states that are not finite in ``diverged/``; ``lock``;
    ``changes.json``, what of the config was changed on the way; ``code.json`` and ``code/``, see `gan_jax.runs.code`.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        try:
            os.fspath(path.absolute()).encode()
        except UnicodeEncodeError as error:
            text = f"the workdir {printable(str(path.absolute()))}: its name isn't UTF-8, as checkpoints want it"
            raise UserError(f"{text}: rename it, or give another --workdir") from error
        self.path = path
        self.checkpoints, self.best = path / "checkpoints", path / "best"
        self.damaged: Path | None = path / "checkpoints_damaged"
        self.diverged = path / "diverged"
        self.cache = cache or path.parent / "data_cache"  # of decoded data, shared with the runs beside this one
        self._config = path / "config.json"
        self._metrics = path / "metrics.jsonl"
        self._summary = path / "summary.json"
        self._data = path / "data.json"
        self.data: dict[str, Any] = {}  # what `check_data` was told
        self.history: list[dict[str, Any]] = []  # what `record_changes` found
        self._rollbacks = self.diverged / "rollbacks.json"
        self._changes = path / "changes.json"
        self.code = Code(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training here, for as long as this one lives; make the directory.

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

    def check(self, config: ConfigDict, allowed: Collection[str] = (), alone: bool = True) -> None:
        """Refuse a directory that holds a run with other settings, if anything came of that, or a sweep.

        A run may get other ``steps`` than it had, if it hasn't made more and is `open_ended`: what it did so far is
        what it would have done. It may be looked at in other ways, too (`gan_jax.config.OBSERVING`).

        Args:
          config: that of the run that shall be here.
          allowed: further keys that may differ, see `gan_jax.training.train.changed_leaves`.
          alone: whether it is no trial of a sweep.

        Raises:
          UserError: names the keys that differ.
        """
        if self.holds_sweep():
            raise UserError(f"{self.path} holds a sweep or a search: give another --workdir")
        if (self.path / "params.safetensors").exists():
            raise UserError(f"{self.path} holds an exported generator, which can't be trained: give another --workdir")
        self.code.check_place(config)
        trackers.check(config.log.track)
        if self.holds_run():
            self._refuse_another(config, True, allowed, alone)
            made = self.made()
            if made is not None and made < config.steps and not self.saved():
                raise UserError(
                    f"{self.path} holds a run that ended at step {made:,}, and its checkpoints are gone: "
                    "restore them, or give another --workdir"
                )

    def differing(self, config: ConfigDict) -> dict[str, str]:
        """Return what keeps the run here from just going on with ``config``: what differs, by dotted key, in words."""
        movable = stages.lengthens(config) and (config.steps > self.reached() or config.steps == self.made())
        ignored = (*_FREE, *(("steps",) if movable else ()))
        own = configuration.to_plain(self.config())
        return configuration.differences(own, configuration.to_plain(config), ignored) | self.code.differing(config)

    def reached(self) -> int:
        """Return the last step that the run here has made and saved."""
        return max([*self.saved(), self.made() or 0])

    def _refuse_another(
        self, config: ConfigDict, if_begun: bool, allowed: Collection[str] = (), alone: bool = True
    ) -> None:
        differing = {key: text for key, text in self.differing(config).items() if key not in allowed}
        if not differing or (if_begun and not self.begun()):
            return
        reached, why = self.reached(), ""
        if "steps" in differing:
            more = f"; it has made {reached:,} steps and can have more"
            ends = "; a learning rate's schedule ends with the steps, which can't be changed then"
            why = more if stages.lengthens(config) else ends
        elif alone and reached and all(map(configuration.is_leaf, differing)):
            why = f"; or go on from step {reached:,} with these, which is recorded, by --change"
        elif not alone:
            why = "; the trials of a sweep keep the values that they began with"
        every = configuration.differences(configuration.to_plain(self.config()), configuration.to_plain(config))
        said = [*differing.values(), *(text for key, text in every.items() if key in _PLACES)]  # no reason alone
        raise UserError(
            f"{self.path} holds a run with other settings ({listed(said, between='; ')}): give another --workdir to "
            f"train with these, or leave them as they were to go on with that run{why}"
            f"{self.code.told(config, differing)}"
        )

    def holds_run(self) -> bool:
        """Whether there is one, begun or not: its config."""
        return self._config.exists() or bool(self._configs_of_checkpoint())

    def holds_sweep(self) -> bool:
        """Whether there are trials in it, each with a workdir of its own."""
        return (self.path / "000").is_dir()

    def trials(self) -> list[Path]:
        """Return the workdirs of a sweep's or search's trials, in their order."""
        return sorted(path for path in self.path.iterdir() if path.is_dir() and _TRIAL.fullmatch(path.name))

    def begun(self) -> bool:
        """Whether something came of the run here, a logged step, a checkpoint or more: else another may take its
        place."""
        return bool(self.saved() or self.summary() or self.records() or self._rollbacks.exists())

    def claim(self, config: ConfigDict) -> None:
        """Make the directory, and in it ``config.json`` and ``data.json``, of what `check_data` was told.

        Raises:
          UserError: it can't be written.
        """
        try:
            for folder in (self.path, self.checkpoints, self.path / "samples", self.path / "tensorboard"):
                folder.mkdir(parents=True, exist_ok=True)
            self._write_json(self._config, configuration.to_plain(config))
            self.code.keep(config)
            if self.data:
                self._write_json(self._data, self.data)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        reason = f"{error.filename}: {error.strerror}"
        if self.path.exists() and not self.path.is_dir():
            reason = "it is a file"
        return UserError(f"cannot write to the workdir {self.path}: {reason}; give another --workdir")

    def check_data(
        self,
        name: str,
        digest: str,
        count: int,
        classes: Sequence[Mapping[str, Any]] = (),
        conditions: Sequence[Sequence[float]] = (),
    ) -> None:
        """Take the data of the run, for `claim` to remember; refuse other data than the run here began with.

        Args:
          name: of the data, for people.
          digest: changes when its content does.
          count: of images to train on.
          classes: ``name`` and counts of each, by label.
          conditions: vectors of images, that samples are of; those of other data than ``digest`` tells.

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
                if before.get("name") != name:
                    raise UserError(
                        f"{self.path} holds a run on {before.get('name')}, and the data is {name} now: give another "
                        f"--workdir to train on it, e.g. --workdir={self.path}_{_word(name)}"
                    )
                known = before.get("images")
                then = f" ({count:,} to train on, {known:,} then)" if isinstance(known, int) else ""
                own = self.config().data
                held = [f"data.{key}={own[key]}" for key in ("test_dir", "test_list") if own[key]]
                hint = f" (it held out {listed(held)})" if held else ""
                raise UserError(
                    f"the images of {name} are not those that the run in {self.path} began with{then}{hint}: "
                    "restore them, or train anew in another --workdir"
                )
        self.data = {"name": name, "digest": digest, "images": count, "classes": list(classes)}
        self.data |= {"conditions": [list(vector) for vector in conditions]} if conditions else {}

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

    def conditions(self) -> np.ndarray:
        """Vectors of images of the data float32 ``[N, K]``; ``[0, 0]`` where labels are classes, or nobody knows."""
        found = self.data or read_json(self._data)
        try:
            vectors = np.array(found["conditions"], np.float32)
        except (TypeError, KeyError, ValueError):
            return np.zeros((0, 0), np.float32)
        return vectors if vectors.ndim == 2 and np.isfinite(vectors).all() else np.zeros((0, 0), np.float32)

    def config(self) -> ConfigDict:
        """Return the config of the run here; if ``config.json`` is gone, that of the newest checkpoint.

        Raises:
          UserError: there is no run, its config is damaged, or ``config.json`` isn't what the run was trained with.
        """
        known = self._configs_of_checkpoint()
        try:
            plain = known[0] if known and not self._config.exists() else json.loads(read_regular(self._config))
            config = ConfigDict(plain)
            configuration.fill_in(config)
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
        if known and all(edited := [_unlike(one, config) for one in known]):
            unlike = listed(edited[0].values(), between="; ")
            raise UserError(
                f"{self._config} isn't what the run was trained with ({unlike}): editing it changes no "
                "run; undo that, or remove the file (the checkpoints have the config too), and give --config.KEY=VALUE"
            )
        return config

    def _configs_of_checkpoint(self) -> list[dict[str, Any]]:
        """Return the config that the run goes on with from its newest checkpoint, and the one that came to there.

        Without a checkpoint it is nothing.
        """
        for step in reversed(self.saved()):
            if found := self._config_at(step):
                changes = (change for change in self.changes() if not change["key"].startswith(KEY))
                since = {change["key"]: change["new"] for change in changes if change["step"] >= step}
                return [configuration.replaced(found, since), found]
        return []

    def _config_at(self, step: int) -> dict[str, Any] | None:
        # Where orbax has put what `Checkpoints.save` gave it.
        found = read_json(self.checkpoints / str(step) / "config" / "metadata")
        return found if isinstance(found, dict) and found else None

    def changes(self) -> list[dict[str, Any]]:
        """Return what of the config was changed on the way.

        Each has ``key``, ``old`` and ``new`` value, and the ``step`` that the new one holds after.

        Raises:
          UserError: the file is damaged.
        """
        if not self._changes.exists():
            return []
        found = read_json(self._changes)
        try:
            if all(isinstance(change["key"], str) and change["step"] >= 0 and "new" in change for change in found):
                return list(found)
        except (TypeError, KeyError):
            pass
        raise UserError(f"{self._changes}, the history of the run's config, is damaged: restore it")

    def record_changes(self, config: ConfigDict, step: int | None) -> list[dict[str, Any]]:
        """Remember, and return, what was changed, now that the run goes on with ``config``.

        It goes on from the checkpoint of ``step``; None: from its beginning.
        """
        before, known = None if step is None else self._config_at(step), self.changes()
        self.history = [change for change in known if step is not None and change["step"] < step]
        if step is not None and before is None:  # it can't be read
            self.history = [change | {"step": min(change["step"], step)} for change in known]
        old, new = (configuration.flat(of) for of in (before or {}, configuration.to_plain(config)))
        for key in _unlike(before, config) if before else ():
            self.history.append({"step": step, "key": key, "old": old.get(key), "new": new.get(key)})
        self.history += [] if step is None else self.code.changes(config, step, known)
        if self.history != known:
            try:
                self._write_json(self._changes, self.history)
            except OSError as error:
                raise self._unwritable(error) from error
        return self.history

    def saved(self) -> list[int]:
        """Return the steps of the checkpoints that lie here as orbax ends them, in order, whatever was begun since."""
        return [int(path.name) for path in named_by_number(self.checkpoints, str) if path.is_dir()]

    def summary(self) -> dict[str, Any] | None:
        """Return the final figures of a finished run, or None."""
        summary = read_json(self._summary)
        return summary if isinstance(summary, dict) else None

    def made(self) -> int | None:
        """Return the steps of the finished run here; None if there is none, or if it ended before its last."""
        steps = (self.summary() or {}).get("steps")
        return steps if isinstance(steps, int) else None

    def finished(self, steps: int) -> bool:
        """Whether the run here is at its end, if it has ``steps``; also if it ended before, for good."""
        made = self.made()
        return self.summary() is not None and (made is None or made >= steps)

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, by which a run counts as finished."""
        self._write_json(self._summary, summary)

    def save_evaluation(self, figures: Mapping[str, Any]) -> None:
        """Write ``evaluation_STEP_SAMPLES_FEATURES.json``, of the ``figures`` with these names.

        With ``sampling`` among them it is ``..._FEATURES_SAMPLING.json``.
        """
        self._write_json(self.path / _evaluation_name(figures), figures)

    def evaluations(self) -> list[dict[str, Any]]:
        """Return what `save_evaluation` wrote, by step and samples; damaged files are named, and left out."""
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
        """Write the grid of ``step``, uint8 ``[H, W, C]``, to ``folder``; return the file."""
        path = self.path / folder / grid_name(step)
        visualize.save_png(picture, path)
        return path

    def grids(self, folder: str = "samples") -> list[Path]:
        """Return the files that `save_grid` wrote to ``folder``, by step, without whatever else people put there."""
        return named_by_number(self.path / folder, grid_name)

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

    def logs(self, after: int, config: ConfigDict) -> "Logs":
        """Open the logs, for the trackers of ``config``, to go on after step ``after``.

        What earlier attempts logged of later steps is dropped, and a run that ended with fewer steps isn't finished any
        more.
        """
        known = [record for record in self.records() if record["step"] <= after]
        if after > 0 and not known:
            lost = f"warning: {self._metrics} has lost what came before step {after:,}: curves are of the rest"
            print(lost, file=sys.stderr)
        text = "".join(json.dumps(record) + "\n" for record in known if "ended" not in record)
        write_atomically(self._metrics, lambda file: file.write(text.encode()), sync=True)
        self._summary.unlink(missing_ok=True)
        told = Told(self.path, configuration.flat(configuration.to_plain(config)))
        return Logs(told, after, known[-1]["seconds"] if known else 0.0)

    def rollbacks(self, after: int) -> list[dict[str, Any]]:
        """Those that the run up to the checkpoint of step ``after`` knows of; see `add_rollback`."""
        found = read_json(self._rollbacks)
        try:
            return [rollback for rollback in found if rollback["to"] <= after and 0 <= rollback["seed"] < 2**32]
        except (KeyError, TypeError):  # of None, too: there is no such file
            return []

    def add_rollback(self, rollback: dict[str, Any]) -> None:
        """Remember that the run went back: ``to`` that step, to go on with that ``seed``."""
        self._write_json(self._rollbacks, [*self.rollbacks(rollback["to"]), rollback])

    def move(self, other: "Workdir", config: ConfigDict, logs: "Logs") -> None:
        """Write to ``other`` what is known of the run here.

        Nothing is read here, for the case that it is gone.
        """
        other.code = Code(other.path, self.code)
        other.check(config)
        other.data = self.data
        other.claim(config)
        if self.history:
            other._write_json(other._changes, self.history)
        write_atomically(other._metrics, lambda file: file.write(logs.content()), sync=True)

    def save_diverged(self, step: int, leaves: Mapping[str, np.ndarray]) -> Path:
        """Keep a state that is not finite in ``diverged/``."""
        path = self.diverged / f"step_{step:08d}.npz"
        write_arrays(path, leaves)
        return path

    @staticmethod
    def _write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
        write_json(path, value)


def told(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what `Workdir.changes` has, a line each."""
    return [
        f"after step {c['step']:,}: {c['key']} {shown(c['key'], c.get('old'))} -> {shown(c['key'], c['new'])}"
        for c in changes
    ]


def _unlike(known: dict[str, Any], config: ConfigDict) -> dict[str, str]:
    """Return what a run with the config ``known`` can't have done by ``config``, each with both values."""
    # Made longer, it may have been killed before its next checkpoint.
    steps = ("steps",) if stages.lengthens(config) else ()
    return configuration.differences(known, configuration.to_plain(config), (*_FREE, *steps))


def grid_name(step: int) -> str:
    """Return what the grid after ``step`` steps is called."""
    return f"step_{step:08d}.png"


def _evaluation_name(figures: Mapping[str, Any]) -> str:
    features = re.sub(r"\W+", "-", str(figures["features"]))[-60:]
    parts = [f"evaluation_{figures['step']:08d}_{figures['samples']:06d}_{features}"]
    if how := figures.get("sampling"):
        parts.append(quote(str(how), safe="= ").replace(" ", ","))
    return f"{'_'.join(parts)}.json"


def named_by_number(folder: Path, name: Callable[[int], str]) -> list[Path]:
    """Return what lies in ``folder`` under exactly the ``name`` of a number, in the order of these.

    These are none if the folder can't be read. A copy that people put beside it, as ``step_00000002 copy.png``, is none
    of them.
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


def _word(name: str) -> str:
    """Of a data set's ``name`` what can be part of a folder's: ``cats`` of ``folder:cats``."""
    return "_".join(re.findall(r"\w+", name.partition(":")[2] or name))
