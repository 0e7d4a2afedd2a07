"""What all sections of a config are checked by, and how their numbers become leaves."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from gan_jax.core.schedules import Schedule
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed, unknown_name

Numbers = dict[str, ArrayLike]


def chosen(what: str, name: str, known: Mapping[str, Any]) -> Any:
    """Return what ``name``, the value of the config's key ``what``, means: one of ours, or something of the user's own.

    Raises:
      UserError: neither has such a name, or the user's own code can't be run.
    """
    if name in known:
        return known[name]
    if not named.is_function(name):
        raise unknown_name(what, name, known)
    key = f"config.{what.removeprefix('config.')}"
    found = named.thing(name, key)
    if not (callable(found) or hasattr(found, "apply") or isinstance(found, Schedule)):
        raise UserError(f"{key}={name} is of type {type(found).__name__}: name a function")
    return found


def check_call(where: str, name: str, function: Callable[..., Any], call: tuple[int, Collection[str]]) -> None:
    """Refuse a function of the user's own that can't be called with so many arguments and these numbers by name."""
    first, numbers = call
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled ones may have none
        return
    try:
        signature.bind(*[None] * first, **dict.fromkeys(numbers))
    except TypeError as error:
        told = f"{first} arguments" + (f" and, by name, {listed(numbers)}" if numbers else "")
        raise UserError(f"{where}: {name}{signature} is called with {told}, and that can't be: {error}") from error


def check_keys(where: str, values: Mapping[str, Any], known: Collection[str], every: bool = False) -> None:
    """Refuse keys that aren't known, what is no number where one is wanted, and, of ``every``, those missing."""
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"key of {where}:", key, known)
        if key not in ("key", "kind", "unit", "rule"):
            check_number(f"{where}.{key}", value)
    if every and (missing := [key for key in known if key not in values]):
        raise UserError(f"{where}.{missing[0]} is missing: make the entry by gan_jax.config.average(...)")


def check_number(key: str, value: Any) -> None:
    """Refuse what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{key} must be a number, not {clipped(repr(value))}")


def moved(config: ConfigDict) -> list[str]:
    """Return the keys that a schedule moves."""
    return [entry.get("key", "") for entry in config.schedules.values() if entry.get("kind") != "constant"]


def leaves(where: str, values: Mapping[str, Any], wide: Any) -> Numbers:
    """Return the numbers of a group of keys as leaves of the state; raise `UserError` if their type can't hold one."""
    with np.errstate(over="ignore"):
        found: Numbers = {name: np.asarray(value, wide) for name, value in values.items()}
    for name, value in values.items():
        if math.isfinite(value) and not np.isfinite(found[name]):
            raise UserError(
                f"config.{where}.{name}={value} is beyond what {np.dtype(wide).name} holds: give a smaller number"
            )
    return found
