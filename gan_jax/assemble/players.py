"""A player's optimizer, the parameters of it that stand still, and what both players are told beside their input."""

import dataclasses
import difflib
import fnmatch
import inspect
from collections.abc import Collection
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.assemble.checks import Numbers, leaves, moved
from gan_jax.core import losses, optimizers
from gan_jax.core.schedules import SCHEDULES
from gan_jax.keys import OPTIMIZER
from gan_jax.util.errors import UserError, clipped, unknown_name
from gan_jax.util.hints import likely

_BELOW_1 = ("b1", "b2", "decay", "momentum")


def optimizer(config: ConfigDict, player: str, wide: Any) -> tuple[optimizers.Recipe, Numbers]:
    """Return the optimizer of ``player`` and its arguments; those of no effect are left out."""
    values, where = config.optimizer[player].to_dict(), f"config.optimizer.{player}"
    name = values.pop("name", None)
    if name not in optimizers.OPTIMIZERS:
        raise unknown_name(f"{where}.name", str(name), optimizers.OPTIMIZERS)
    parameters = inspect.signature(optimizers.OPTIMIZERS[name]).parameters
    valid = [key for key in (*parameters, *OPTIMIZER) if not key.endswith("_dtype")]
    flags = {key for key, parameter in parameters.items() if isinstance(parameter.default, bool)}
    for key, value in values.items():
        if key in ("schedule", "final_rate"):
            raise UserError(
                f"{where}.{key} is config.schedules.{player}_rate now: set its kind ({', '.join(SCHEDULES)}) and final"
            )
        if key not in valid:
            what = f"key of config.optimizer.{player} for {name}:"
            raise unknown_name(what, key, valid, likely(key, valid))
        if key in flags:
            if not isinstance(value, bool):
                raise UserError(f"{where}.{key} must be True or False, not {clipped(repr(value))}")
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise UserError(f"{where}.{key} must be a finite number from 0 up, not {clipped(repr(value))}")
        if key in _BELOW_1 and value >= 1:
            raise UserError(f"{where}.{key} must be from 0 to below 1, not {value!r}")
    if "learning_rate" not in values:
        raise UserError(f"{where}.learning_rate is missing")
    if values.get("nesterov") and "momentum" in parameters and "momentum" not in values:
        raise UserError(f"{where}.nesterov changes nothing without momentum: set {where}.momentum too")
    clip, historical = (values.pop(key, 0.0) for key in ("clip", "historical_averaging"))
    active = values.pop("active", 1.0)
    paused = active != 1 or f"optimizer.{player}.active" in moved(config)
    values |= {"historical_averaging": historical} if historical else {}
    values |= {"clip": clip} if clip else {}
    values |= {"active": active} if paused else {}
    static = tuple((key, values.pop(key)) for key in sorted(flags & values.keys()))
    recipe = optimizers.Recipe(name, historical=historical > 0, clipped=clip > 0, paused=paused, flags=static)
    still = tuple(map(fnmatch.translate, _patterns(config, player)))
    return dataclasses.replace(recipe, frozen=still), leaves(f"optimizer.{player}", values, wide)


def _patterns(config: ConfigDict, player: str) -> list[str]:
    """Return the shell patterns of parameters that stand still."""
    return [pattern for part in config.freeze[player].split(",") if (pattern := part.strip())]


def frozen(config: ConfigDict, player: str, names: Collection[str]) -> list[str]:
    """Return those of the dotted ``names`` of a player's parameters that stand still."""
    patterns = _patterns(config, player)
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def check_frozen(config: ConfigDict, player: str, names: Collection[str]) -> None:
    """Refuse patterns of ``config.freeze`` that match none of the parameters' dotted ``names``, or all of them.

    Raises:
      UserError: names the pattern, and the nearest names.
    """
    patterns, where = _patterns(config, player), f"config.freeze.{player}"
    parts = [name.split(".") for name in names]
    groups = sorted({f"{'.'.join(part[:depth])}.*" for part in parts for depth in range(1, len(part))})
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, [*groups, *names], n=3, cutoff=0.6)
            raise unknown_name(f"parameters in {where}:", pattern, names, near)
    if patterns and len(frozen(config, player, names)) == len(names):
        raise UserError(
            f"{where}={config.freeze[player]!r} is all of the {player}'s parameters: leave some out, or set "
            f"config.optimizer.{player}.active=0"
        )


def labels(config: ConfigDict, loss: losses.Loss, wide: Any) -> Numbers:
    """Return the label values that ``loss`` takes."""
    taken = inspect.signature(loss).parameters
    if "real_label" not in taken and (config.labels.real, config.labels.fake) != (1, 0):
        raise UserError(f"loss {config.loss!r} has no labels: leave config.labels at real=1, fake=0")
    if "generator_label" not in taken and config.labels.generator != config.labels.real:
        raise UserError(f"loss {config.loss!r} has no label that G aims at: leave config.labels.generator unset")
    return leaves("labels", {name: value for name, value in config.labels.items() if f"{name}_label" in taken}, wide)


def fade(config: ConfigDict, family: Any, wide: Any) -> Numbers:
    """Return how much of the newest layers counts, where the networks of ``family`` take that; else nothing.

    Raises:
      UserError: they don't, and the config says that it is another than all, or moves.
    """
    if "fade" in inspect.signature(family.Generator.__call__).parameters:
        return leaves("", {"fade": config.fade}, wide)
    if config.fade != 1 or "fade" in moved(config):
        raise UserError(f"config.fade is of networks that grow, and {config.model!r} don't: leave it at 1")
    return {}
