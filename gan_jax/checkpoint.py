"""The only place that imports orbax: the whole state of a run on disk, and back."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gan_jax.errors import UserError


class Checkpoints:
    """The checkpoints of one run, in ``directory``, the newest ``keep`` of them; a context manager.

    Saving is asynchronous: `save` returns when the state is copied to the host, and leaving the context waits for the
    disk. A checkpoint appears under its name only when it is whole.
    """

    def __init__(self, directory: Path, keep: int = 1) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self.directory = directory
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        step: int | None = self._manager.latest_step()
        return step

    def steps(self) -> list[int]:
        """The steps of all checkpoints that are kept."""
        return sorted(self._manager.all_steps())

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def save(self, step: int, state: Any, config: dict[str, Any]) -> None:
        """Saves ``state`` as that of ``step``, and with it the config (of JSON values) that made it.

        Raises:
          UserError: it can't be written.
        """
        # A true copy: on the CPU a NumPy view would share the buffer that the next step is given to overwrite.
        host = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        try:
            items = {"state": ocp.args.StandardSave(host), "config": ocp.args.JsonSave(config)}
            self._manager.save(step, args=ocp.args.Composite(**items))
        except OSError as error:
            raise UserError(f"cannot write a checkpoint to {self.directory}: {error}") from error

    def restore(self, like: Any, step: int | None = None) -> Any:
        """The state of ``step`` (default: the newest), as NumPy arrays in a tree like ``like`` (shapes will do).

        Raises:
          UserError: there is none, or it doesn't hold such a state.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise UserError(f"no checkpoint in {self.directory}: train first, with the same --workdir")
        if step not in (kept := self._manager.all_steps()):
            raise UserError(
                f"no checkpoint of step {step} in {self.directory}; kept are {', '.join(map(str, sorted(kept)))}"
            )
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(template))
            return self._manager.restore(step, args=items).state
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(
                f"cannot restore checkpoint {step} in {self.directory} ({reason}): "
                f"move {self.directory / str(step)} away to go on from the one before"
            ) from error
