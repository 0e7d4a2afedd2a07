"""What flags name: config files, functions in files, sweeps, arguments. All of it is the user's own code or text."""

import ast
import re
from collections.abc import Callable
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.sweeps import hyper
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped

_MOST_SEEDS = 1_000_000
_STRONGEST = 100  # standard deviations
_COMMA = re.compile(r",(?![^()]*\))")  # not within brackets


def read_search(text: str) -> Callable[[Any], dict[str, Any]]:
    """Return the function that ``--search`` names, from an Optuna trial to overrides.

    See `gan_jax.util.named.function`.

    Raises:
      UserError: there is none.
    """
    return named.function(text, "--search", "trial")


def read_sweep(text: str) -> list[dict[str, Any]]:
    """Return the trials that ``--sweep`` asks for.

    Args:
      text: ``FILE.py:function`` or ``package.module:function``, called with `gan_jax.sweeps.hyper`; or
        ``'key=1,2,3 key2=a,b'``, each value with each; a tuple is written in brackets, without spaces.

    Raises:
      UserError: it's neither, or the function fails.
    """
    if named.is_function(text) and ("=" not in text or text.rpartition(":")[0].endswith(".py")):
        function = named.function(text, "--sweep", "hyper")
        try:
            trials = function(hyper)
        except Exception as error:  # the file is the user's own code: anything may come
            raise named.failed(f"--sweep={text}", error) from error
        if not (isinstance(trials, list) and all(isinstance(trial, dict) for trial in trials)):
            raise UserError(f"--sweep={text}: must return a list of dicts of overrides, not {type(trials).__name__}")
        return trials
    sweeps = []
    for part in text.split():
        key, equals, values = part.partition("=")
        if not equals or not values:
            raise UserError(
                f"--sweep={text!r}: {part!r} is no key=1,2,3; give such, FILE.py:function or package.module:function"
            )
        sweeps.append(hyper.sweep(key.removeprefix("config."), map(_value, _COMMA.split(values))))
    try:
        return hyper.product(sweeps)
    except ValueError as error:
        raise UserError(f"--sweep={text!r}: {error}") from error


def read_override(text: str, config: ConfigDict) -> tuple[str, Any]:
    """Key and value of ``--config.KEY=VALUE``, a string where ``config`` has one."""
    key, _, value = text.lstrip("-").removeprefix("config.").partition("=")
    try:
        strings = isinstance(reduce(getitem, key.split("."), config), str)
    except (KeyError, TypeError):
        strings = False  # it is unknown, as who sets it will find
    return key, value if strings else _value(value)


def read_arguments(text: str) -> dict[str, Any]:
    """Return what ``--executor_args`` says, such as ``"partition=gpu timeout_min=600"``, as a dict.

    Raises:
      UserError: a part has no ``=``, or asks for several processes.
    """
    found: dict[str, Any] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"--executor_args={text!r}: give 'name=value name2=value2'")
        found[name] = _value(value)
    for name in ("nodes", "tasks_per_node"):
        if found.get(name, 1) != 1:
            raise UserError(f"--executor_args: {name}={found[name]}, but a job is one process: leave it out")
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def read_seeds(text: str, flag: str = "seeds") -> np.ndarray:
    """Return the seeds that ``--seeds=0-99,200`` names, ``[N]``, in that order.

    Raises:
      UserError: it isn't such a list.
    """
    found: list[np.ndarray] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [end for end in (first, last if dash else first) if end.isascii() and end.isdecimal()]
        if len(ends) < 2 or not int(ends[0]) <= int(ends[1]) < 2**32:
            raise UserError(f"--{flag}={clipped(text)}: write numbers from 0 to 2^32 - 1, and from-to, as 0-99,200")
        if int(ends[1]) - int(ends[0]) >= _MOST_SEEDS:
            raise UserError(f"--{flag}={clipped(text)}: at most {_MOST_SEEDS:,} at once")
        found.append(np.arange(int(ends[0]), int(ends[1]) + 1, dtype=np.int64))
    seeds = np.concatenate(found)
    if len(np.unique(seeds)) < len(seeds):
        raise UserError(f"--{flag}={clipped(text)}: a number is there twice")
    return seeds


def read_shift(text: str) -> dict[int, float]:
    """Return the strength of each direction that ``--shift='0=2 3=-1.5'`` names, by its number.

    Raises:
      UserError: it isn't that.
    """
    found: dict[int, float] = {}
    for part in text.split():
        number, equals, strength = part.partition("=")
        value = _value(strength)
        numeric = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _STRONGEST
        if not equals or not (number.isascii() and number.isdecimal()) or not numeric or int(number) in found:
            raise UserError(
                f"--shift={clipped(text)}: write number=strength of each direction, as '0=2 3=-1.5', "
                f"strengths up to {_STRONGEST}"
            )
        found[int(number)] = float(value)
    return found


def read_grid(text: str) -> tuple[int, int]:
    """Columns and rows of ``--grid=8x4``.

    Raises:
      UserError: it isn't that.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdecimal() and 0 < int(side) <= 1000 for side in sides):
        raise UserError(f"--grid={clipped(text)}: write columns x rows, as 8x4")
    return int(sides[0]), int(sides[1])
