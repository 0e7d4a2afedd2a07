"""The directory of a run for its processes other than the first."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.runs.logs import Logs, _NoLogs
from gan_jax.runs.workdir import Workdir, grid_name
from gan_jax.util.errors import UserError


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
        """Find what process 0 wrote.

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
        """Do nothing but say where process 0 keeps it."""
        return self.path / folder / grid_name(step)

    def save_animation(self) -> None:
        """Do nothing."""

    def save_diverged(self, step: int, leaves: Mapping[str, np.ndarray]) -> Path:
        """Do nothing but say where process 0 keeps it."""
        return self.diverged / f"step_{step:08d}.npz"

    def logs(self, after: int, config: ConfigDict) -> Logs:
        """Return logs that keep nothing."""
        return _NoLogs()

    @staticmethod
    def _write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
        pass
