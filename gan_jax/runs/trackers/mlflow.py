"""MLflow."""

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.runs.trackers import Told

_EXPERIMENT = "gan_jax"  # unless MLFLOW_EXPERIMENT_NAME names one
_LONG = 500  # characters of a value of the config
_AT_ONCE = 100  # parameters in a request
_ONE_AT_A_TIME = threading.Lock()  # trials of a sweep share a data base, which may be a file


class Mlflow:
    """A run of MLflow, at ``MLFLOW_TRACKING_URI`` or where MLflow itself keeps runs.

    A resumed run goes on as the same run. A key of the config that has changed since is a tag, as parameters stay.
    """

    def __init__(self, told: Told) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        with _ONE_AT_A_TIME:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
            if told.identity:
                self.identity = told.identity
                self._client.update_run(self.identity, status="RUNNING")
            else:
                known = self._client.get_experiment_by_name(name)
                experiment = known.experiment_id if known else self._client.create_experiment(name)
                tags = {"group": told.group, "workdir": str(told.workdir.absolute())}
                self.identity = self._client.create_run(experiment, tags=tags, run_name=told.name).info.run_id
            had = self._client.get_run(self.identity).data.params
            values = {key: str(value)[:_LONG] for key, value in told.config.items()}
            new = [Param(key, value) for key, value in values.items() if key not in had]
            for some in _parts(new):
                self._client.log_batch(self.identity, params=some)
            for key, value in values.items():
                if had.get(key, value) != value:
                    self._client.set_tag(self.identity, f"changed.{key}", value)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a step."""
        now = int(time.time() * 1000)
        with _ONE_AT_A_TIME:
            metrics = [self._metric(name, value, now, step) for name, value in values.items()]
            self._client.log_batch(self.identity, metrics=metrics)

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Log a grid of samples."""
        with _ONE_AT_A_TIME:
            self._client.log_image(self.identity, picture, key="samples", step=step)

    def finish(self, figures: Mapping[str, float] | None) -> None:
        """Log the figures as metrics ``final/...``, and how the run ended."""
        now = int(time.time() * 1000)
        metrics = [self._metric(f"final/{name}", value, now, 0) for name, value in (figures or {}).items()]
        with _ONE_AT_A_TIME:
            self._client.log_batch(self.identity, metrics=metrics)
            self._client.set_terminated(self.identity, "KILLED" if figures is None else "FINISHED")


def _parts(params: list[Any]) -> list[list[Any]]:
    return [params[at : at + _AT_ONCE] for at in range(0, len(params), _AT_ONCE)]
