"""Trackers: others who are told of a run while it trains, beside ``metrics.jsonl``; the config's ``log.track``."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from gan_jax.keys import TENSORBOARD
from gan_jax.util.errors import UserError


class Told(NamedTuple):
    """What a tracker is told of a run as it begins.

    Attributes:
      workdir: of the run.
      config: all keys, dotted, with their values.
      identity: what the service called this run when it was told of it before; empty the first time.
    """

    workdir: Path
    config: Mapping[str, Any]
    identity: str = ""

    @property
    def name(self) -> str:
        """Return what the run is called."""
        return self.workdir.absolute().name

    @property
    def group(self) -> str:
        """Return what its neighbours have in common with it, as the trials of a sweep."""
        return self.workdir.absolute().parent.name


class Tracker(Protocol):
    """A service that is told of one run. Whatever it raises ends the tracking, never the run."""

    identity: str  # by which the service knows the run again

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step by their tags, see `gan_jax.runs.trackers.tags`."""

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Take a grid of samples, uint8 ``[H, W, C]``."""

    def finish(self, figures: Mapping[str, float] | None) -> None:
        """Take the final figures by their tags, or None from a run that was stopped; return when all is sent."""


def named(value: str) -> tuple[str, ...]:
    """Return the names in a value of ``log.track``, with commas between them."""
    return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))


def check(value: str) -> None:
    """Refuse a tracker in ``value``, of ``log.track``, whose package isn't there.

    Raises:
      UserError: names it, and says how to install it.
    """
    for name in named(value):
        if name != TENSORBOARD and importlib.util.find_spec(name) is None:
            raise UserError(f"config.log.track: {name} isn't installed: pip install {name}")


def opener(name: str) -> Callable[[Told], Tracker]:
    """Return what opens the service ``name``; it imports that when it is called."""
    from gan_jax.runs.trackers import mlflow, wandb

    services: dict[str, Callable[[Told], Tracker]] = {"wandb": wandb.Wandb, "mlflow": mlflow.Mlflow}
    return services[name]
