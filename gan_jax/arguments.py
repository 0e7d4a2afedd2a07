"""What flags name: config files, functions in files, sweeps, arguments. All of it is the user's own code or text."""

import ast
import re
import runpy
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax import hyper
from gan_jax.errors import UserError, clipped, unknown_name

_COMMA = re.compile(r",(?![^()]*\))")  # not within brackets


def load_config(path: str) -> ConfigDict:
    """What ``get_config`` of the Python file ``path`` returns; after a colon in ``path`` stands its argument.

    Raises:
      UserError: there is no such file, or running it fails.
    """
    file, *argument = path.split(":", 1)
    _check_regular(f"config file {file!r}", file)
    if not Path(file).is_file():
        meant = Path("configs") / f"{Path(file).stem}.py"
        if meant.is_file():
            raise UserError(f"there is no config file {file!r}; did you mean {str(meant)!r}?")
        near = unknown_name("config file", file, [str(p) for p in Path(file).parent.glob("[!_]*.py")])
        if near.args[0].count(".py") > 1:
            raise near
        raise UserError(f"there is no config file {file!r}: give --config=configs/NAME.py, in the folder of launch.py")
    try:
        config = runpy.run_path(file)["get_config"](*argument)
    except UserError:
        raise
    except Exception as error:  # the file is the user's own code: anything may come
        raise UserError(f"config file {file}: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(config, ConfigDict):
        given = clipped(repr(config))
        raise UserError(f"config file {file}: get_config() must return an ml_collections.ConfigDict, not {given}")
    return config


def read_search(text: str) -> Callable[[Any], dict[str, Any]]:
    """The function that ``--search`` names, ``FILE.py:function``, from an Optuna trial to overrides.

    Raises:
      UserError: there is none.
    """
    if not text.rpartition(":")[0].endswith(".py"):
        raise UserError(f"--search={text!r}: give FILE.py:function")
    return _function("search", text, "trial")


def read_sweep(text: str) -> list[dict[str, Any]]:
    """The trials that ``--sweep`` asks for.

    Args:
      text: ``FILE.py:function``, called with `gan_jax.hyper`; or ``'key=1,2,3 key2=a,b'``, each value with each;
        a tuple is written in brackets, without spaces.

    Raises:
      UserError: it's neither, or the function fails.
    """
    if text.rpartition(":")[0].endswith(".py"):
        function = _function("sweep", text, "hyper")
        try:
            trials = function(hyper)
        except Exception as error:  # the file is the user's own code: anything may come
            raise UserError(f"sweep {text}: {type(error).__name__}: {one_line(error)}") from error
        if not (isinstance(trials, list) and all(isinstance(trial, dict) for trial in trials)):
            raise UserError(f"sweep {text}: must return a list of dicts of overrides, not {type(trials).__name__}")
        return trials
    sweeps = []
    for part in text.split():
        key, equals, values = part.partition("=")
        if not equals or not values:
            raise UserError(f"--sweep={text!r}: {part!r} is no key=1,2,3; give such, or FILE.py:function")
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
    """What ``--executor_args`` says: ``"partition=gpu timeout_min=600"``, as a dict.

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


def _function(flag: str, text: str, argument: str) -> Callable[[Any], Any]:
    """What ``FILE.py:function`` names, for a flag."""
    file, _, name = text.rpartition(":")
    _check_regular(f"--{flag}={text}: {file}", file)
    try:
        found = runpy.run_path(file).get(name)
    except FileNotFoundError as error:
        raise UserError(f"--{flag}={text}: there is no file {error.filename}") from error
    except Exception as error:  # the file is the user's own code: anything may come
        raise UserError(f"{flag} {text}: {type(error).__name__}: {one_line(error)}") from error
    if not callable(found):
        raise UserError(f"{file} has no function {name}({argument}): write it, or give --{flag}=FILE.py:function")
    function: Callable[[Any], Any] = found
    return function


def _check_regular(what: str, file: str) -> None:
    """Refuses what isn't a file, and may never end, such as a named pipe."""
    if Path(file).exists() and not Path(file).is_file():
        raise UserError(f"{what} is {'a folder' if Path(file).is_dir() else 'no regular file'}: give a file")


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def one_line(error: BaseException) -> str:
    """What ``error`` says, without line breaks."""
    return clipped(" ".join(str(error).split()), 2000) or type(error).__name__
