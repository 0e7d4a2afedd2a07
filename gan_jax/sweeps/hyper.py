"""Sweeps over hyperparameters, as a config's ``get_hyper(hyper)`` puts them together from this module.

A sweep is a list of overrides, one dict a trial, from dotted keys of the config to values.
"""

from collections.abc import Iterable, Sequence
from itertools import chain as _chain
from itertools import product as _product
from typing import Any

Sweep = list[dict[str, Any]]


def sweep(key: str, values: Iterable[Any]) -> Sweep:
    """Return a trial for each of the ``values`` of ``key``."""
    return [{key: value} for value in values]


def product(sweeps: Sequence[Sweep]) -> Sweep:
    """Each trial of one with each of the others, the last changing fastest."""
    return [_merged(trials) for trials in _product(*sweeps)]


def zipped(sweeps: Sequence[Sweep]) -> Sweep:
    """Merge the first trials of all in one, then the second ones, and so on.

    Raises:
      ValueError: they aren't of one length.
    """
    return [_merged(trials) for trials in zip(*sweeps, strict=True)]


def chained(sweeps: Sequence[Sweep]) -> Sweep:
    """All trials of the first, then all of the second, and so on."""
    return list(_chain.from_iterable(sweeps))


def _merged(trials: Iterable[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for trial in trials:
        twice = merged.keys() & trial.keys()
        if twice:
            raise ValueError(f"{min(twice)} is swept twice in one trial")
        merged |= trial
    return merged
