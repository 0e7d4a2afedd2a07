"""Weights & Biases."""

import os
from collections.abc import Mapping

import numpy as np

from gan_jax.runs.trackers import Told

_PROJECT = "gan_jax"  # unless WANDB_PROJECT names one


class Wandb:
    """A run of Weights & Biases, whose settings are its own environment variables, as ``WANDB_MODE=offline``.

    A resumed run goes on under the same id. Nothing of what the program prints is taken.

    Raises:
      RuntimeError: nobody has logged in, and the mode is not offline.
    """

    def __init__(self, told: Told) -> None:
        import wandb

        online = os.environ.get("WANDB_MODE", "online") not in ("offline", "disabled", "dryrun")
        if online and not wandb.api.api_key:  # it would ask for one
            raise RuntimeError("nobody is logged in: wandb login, or WANDB_MODE=offline")
        place = told.workdir / "tracking"
        place.mkdir(exist_ok=True)
        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=told.identity or None,
            resume="allow" if told.identity and online else None,
            name=told.name,
            group=told.group,
            config=dict(told.config),
            dir=str(place),
            reinit="create_new",  # trials of a sweep are told of side by side
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.identity = self._run.id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a step."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Log a grid of samples."""
        self._run.log({"samples": self._image(picture)}, step=step)

    def finish(self, figures: Mapping[str, float] | None) -> None:
        """Put the figures into the run's summary, and wait until all is sent."""
        for name, value in (figures or {}).items():
            self._run.summary[f"final/{name}"] = value
        self._run.finish(exit_code=1 if figures is None else 0)
