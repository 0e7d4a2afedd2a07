"""The only place that imports orbax: the whole state of a run on disk, and back."""

import errno
import hashlib
import json
import os
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gan_jax.core.state import named_leaves
from gan_jax.runtime import distributed, environment
from gan_jax.util.errors import UserError, listed

_NAMED = 3  # leaves that differ, in a message


class DamagedError(Exception):
    """A checkpoint that isn't what was saved. Its text says how."""


class Checkpoints:
    """The checkpoints of one run, in ``directory``; a context manager.

    Saving is asynchronous: `save` returns when the state is copied to the host, and leaving the context waits for the
    disk. A checkpoint appears under its name only when it is whole, and has a checksum of each leaf of the state, which
    `restore` compares.

    Args:
      directory: where they lie.
      keep: how many of the newest stay; None: nothing is written or moved there, as by those that only read a run.
      aside: where damaged ones are put.
    """

    def __init__(self, directory: Path, keep: int | None = None, aside: Path | None = None) -> None:
        self.directory, self._keep, self._aside = directory, keep, aside
        _hush()
        self._trusted = True  # the disk: after an error, until a save is seen to end well
        self._manager = self._opened()

    def _opened(self) -> ocp.CheckpointManager:
        if self._keep is None:
            options = ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0)
        else:  # what a killed process had half written goes
            # Folders are made at once: where that fails later, threads wait for them for 300 s, and the process for
            # these.
            at_once = ocp.AsyncOptions(create_directories_asynchronously=False)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, create=True, cleanup_tmp_directories=True, async_options=at_once
            )
        return ocp.CheckpointManager(self.directory.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._manager.close()
        except Exception as error:
            if kind is None:  # else it was said already
                raise UserError(f"cannot write a checkpoint to {self.directory}: {_refusal(error)}") from error

    def latest(self) -> int | None:
        """Return the step of the newest checkpoint, or None."""
        step: int | None = self._manager.latest_step()
        return step

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints that are kept."""
        return sorted(self._manager.all_steps())

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def save(
        self, step: int, state: Any, config: dict[str, Any], wait: bool = False, log: dict[str, Any] | None = None
    ) -> None:
        """Save ``state`` as that of ``step``, and with it the config (of JSON values) that made it.

        Args:
          step: one that has a checkpoint already is left alone.
          state: of arrays.
          config: of JSON values.
          wait: whether to return only when it lies on disk.
          log: of JSON values, what `log` gives back.

        Raises:
          OSError: it, or the one before it, can't be written.
        """
        # A true copy: on the CPU a NumPy view would share the buffer that the next step is given to overwrite.
        host = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        try:
            self._manager.wait_until_finished()
            environment.give_back()  # each of the threads that write would keep and grow its own
            if step not in self._manager.all_steps():
                items = {
                    "state": ocp.args.StandardSave(host),
                    "config": ocp.args.JsonSave(config),
                    "leaves": ocp.args.JsonSave(_signed(_leaves(host, _checksum), log or {})),
                }
                self._manager.save(step, args=ocp.args.Composite(**items), force=True)
            if wait or not self._trusted:
                self._manager.wait_until_finished()
                self._trusted = True
        except Exception as error:  # tensorstore's are ValueErrors, others OSErrors
            raise self._failed(error) from error

    def check(self, wait: bool = False) -> None:
        """Ask how the last `save` ended; if not told to ``wait``, only once it has ended.

        Raises:
          OSError: it could not be written.
        """
        try:
            if wait or not self._manager.is_saving_in_progress():
                self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OSError:
        """Open a manager that knows nothing of a failed save, and remove its remains."""
        self._trusted = False
        with suppress(Exception):  # the same again
            self._manager.close()
        with suppress(OSError):  # the directory is gone, too; the next save tries once more
            self._manager = self._opened()
        return OSError(_refusal(error))

    def restore(self, like: Any, step: int | None = None) -> Any:
        """Return the state of ``step``, as NumPy arrays in a tree like ``like`` (shapes will do).

        Args:
          like: what it must look like; or a function that says so of a step.
          step: default the newest that is whole; damaged ones that are newer are named on stderr and put aside.

        Raises:
          UserError: there is none, it is damaged, or it doesn't hold such a state. Nothing is moved then.
        """
        kept = self.steps()
        if not kept:
            raise UserError(f"no checkpoint in {self.directory}: train first, with the same --workdir")
        if step is not None:
            if step not in kept:
                raise UserError(f"no checkpoint of step {step} in {self.directory}; kept are {listed(kept)}")
            try:
                return self.load(step, like(step) if callable(like) else like)
            except DamagedError as error:
                raise UserError(
                    f"checkpoint {step} in {self.directory} is damaged ({error}): give another --step"
                ) from error
        damaged: dict[int, str] = {}
        for newest in reversed(kept):
            try:
                state = self.load(newest, like(newest) if callable(like) else like)
            except DamagedError as error:
                damaged[newest] = str(error)
                continue
            for number, reason in damaged.items():
                self.put_aside(number, reason)
            if damaged:
                distributed.barrier()
                self._manager.reload()
            return state
        found = listed((f"{number} ({reason})" for number, reason in damaged.items()), between="; ")
        raise UserError(
            f"no checkpoint in {self.directory} is whole: {found}; nothing was removed: restore them from a copy, or "
            "give another --workdir to begin anew"
        )

    def put_aside(self, step: int, reason: str) -> None:
        """Say that the checkpoint of ``step`` is damaged, and move it out of the way, if it may."""
        where = ""
        if self._keep is not None and self._aside is not None:
            self._aside.mkdir(parents=True, exist_ok=True)
            names = (self._aside / f"{step}{f'_{i}' if i else ''}" for i in count())
            target = next(name for name in names if not name.exists())
            (self.directory / str(step)).rename(target)
            self._manager.reload()
            where = f" and put aside as {target}"
        print(f"warning: checkpoint {step} in {self.directory} is damaged ({reason}){where}", file=sys.stderr)

    def load(self, step: int, like: Any) -> Any:
        """Return the state of ``step``.

        Raises:
          DamagedError: it isn't what was saved.
          UserError: it is, but it is another state than ``like``.
        """
        leaves = self._listed(step)
        _compare(
            {name: text.split(" ")[0] for name, text in leaves.items()}, _leaves(like, _shape), step, self.directory
        )
        return self._whole(step, leaves, jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like))

    def leaves(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of what was saved after ``step``, by dotted names; see `arrays`."""
        try:
            return {name: _described(text) for name, text in self._listed(step).items()}
        except (ValueError, TypeError) as error:
            raise DamagedError(_reason(error)) from error

    def arrays(self, step: int) -> dict[str, np.ndarray]:
        """Return the arrays of the state of ``step`` by their dotted names, whatever GAN it is of.

        Raises:
          DamagedError: they aren't what was saved.
        """
        return named_leaves(self._whole(step, self._listed(step)))

    def _listed(self, step: int) -> dict[str, str]:
        """Each leaf's `_checksum`."""
        if not (self.directory / str(step) / "leaves").exists():
            raise DamagedError("its list of leaves is missing")
        try:
            written = self._written(step)
            leaves: dict[str, str] = written["leaves"]
            if written != _signed(leaves, written.get("log", {})):
                raise DamagedError("its list of leaves has another checksum")
            return leaves
        except DamagedError:
            raise
        except Exception as error:  # of damaged files, orbax and its parsers raise anything
            raise DamagedError(_reason(error)) from error

    def _whole(self, step: int, leaves: dict[str, str], template: Any = None) -> Any:
        """Return the state of ``step``, of the ``leaves`` with these checksums; without ``template`` nested dicts."""
        try:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(template))
            state = self._manager.restore(step, args=args).state
        except Exception as error:
            raise DamagedError(_reason(error)) from error
        found = _leaves(state, _checksum)
        for name in leaves.keys() | found.keys():
            if leaves.get(name) != found.get(name):
                raise DamagedError(f"{name} has another checksum")
        return state

    def log(self, step: int) -> dict[str, Any]:
        """Return what `save` was given as ``log``; empty if it was nothing. `load` has seen that it isn't damaged."""
        found: dict[str, Any] = self._written(step).get("log", {})
        return found

    def _written(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(leaves=ocp.args.JsonRestore())
        found: dict[str, Any] = self._manager.restore(step, args=args).leaves
        return found


def _leaves(tree: Any, describe: Callable[[Any], str]) -> dict[str, str]:
    return {name: describe(leaf) for name, leaf in named_leaves(tree).items()}


def _shape(leaf: Any) -> str:
    """``float32[8,32]``, nothing for what has no shape."""
    return f"{np.dtype(leaf.dtype)}[{','.join(map(str, leaf.shape))}]" if hasattr(leaf, "shape") else ""


def _described(text: str) -> jax.ShapeDtypeStruct:
    """Return the shape and type that `_checksum` begins with."""
    kind, _, sides = text.split(" ")[0].rstrip("]").partition("[")
    return jax.ShapeDtypeStruct(tuple(map(int, filter(None, sides.split(",")))), np.dtype(kind))


def _checksum(leaf: Any) -> str:
    """``float32[8,32] 0123...``: its shape, and a hash of its bytes."""
    data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data
    return f"{_shape(leaf)} {hashlib.sha256(data).hexdigest()[:32]}"


def _signed(leaves: dict[str, str], log: dict[str, Any]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps([leaves, log] if log else leaves, sort_keys=True).encode()).hexdigest()
    return {"leaves": leaves, **({"log": log} if log else {}), "sha256": digest}


def _compare(theirs: dict[str, str], ours: dict[str, str], step: int, directory: Path) -> None:
    """Refuse a checkpoint of other leaves.

    Raises:
      UserError: names the first that differ, with both shapes.
    """
    names = [name for name in [*ours, *(theirs.keys() - ours.keys())] if ours.get(name) != theirs.get(name)]
    if names:
        unlike = (f"{n}: {theirs.get(n, 'absent')} there, {ours.get(n, 'absent')} here" for n in names)
        shown = listed(unlike, _NAMED, "; ", long=300)
        raise UserError(
            f"checkpoint {step} in {directory} is of another architecture or an older layout: {shown}: "
            "give another --workdir, or the release that wrote it"
        )


def _reason(error: BaseException) -> str:
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0], 200, placeholder=" ...")


def _refusal(error: BaseException) -> str:
    """Why a write failed: of tensorstore's long stories the system's word."""
    words = (os.strerror(code) for code in errno.errorcode)
    return next((word for word in words if word in str(error)), _reason(error))


def _hush() -> None:
    """When reading or writing fails, orbax closes its event loop under tensorstore's open requests, whose tracebacks
    would all be printed beside the one error."""
    honest = sys.unraisablehook
    if getattr(honest, "hushed", False):
        return

    def hook(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            honest(found)

    hook.hushed = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook
