"""Config files: what ``get_config`` of one gives, and those of the package, which ``--config=dcgan`` finds anywhere."""

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed, unknown_name

_PACKAGE = Path(__file__).resolve().parent


def folder() -> Path:
    """Return where they are: in the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """Return what they are called."""
    return sorted(file.stem for file in folder().glob("[a-z]*.py"))


def resolved(text: str) -> str:
    """Return ``text``, the value of ``--config``, with the whole path where a built-in config is meant.

    ``dcgan``, and ``configs/dcgan.py`` where there is no such file, are; what follows a colon stays.
    """
    file, colon, argument = text.partition(":")
    name = re.fullmatch(r"(?:configs/)?([a-z]\w*)(\.py)?", file)
    if name is None or Path(file).exists() or name[1] not in names() or ("/" in file) != bool(name[2]):
        return text
    return f"{folder() / f'{name[1]}.py'}{colon}{argument}"


def importable() -> None:
    """See to it that ``from configs import dcgan`` works in config files where no checkout is on the path."""
    if importlib.util.find_spec("configs") is None:
        package = ModuleType("configs")
        package.__path__ = [str(folder())]
        sys.modules["configs"] = package


def load_config(path: str) -> ConfigDict:
    """Return what ``get_config`` of the Python file ``path`` returns; after a colon in ``path`` stands its argument.

    Raises:
      UserError: there is no such file, or running it fails.
    """
    file, *argument = path.split(":", 1)
    named.check_regular(f"config file {file!r}", file)
    if not Path(file).is_file():
        if Path(file).stem in names():
            raise UserError(f"there is no config file {file!r}; did you mean {Path(file).stem!r}, a built-in one?")
        near = unknown_name("config file", file, [str(p) for p in Path(file).parent.glob("[!_]*.py")])
        if near.args[0].count(".py") > 1:
            raise near
        raise UserError(f"there is no config file {file!r}: give the path of one, or of {listed(names())}")
    get_config = named.run(file, "config file").get("get_config")
    if not callable(get_config):
        raise UserError(
            f"config file {file} has no function get_config(): write it, as the files in configs/ do, or give another"
        )
    _check_argument(file, get_config, argument)
    try:
        config = get_config(*argument)
    except Exception as error:  # the file is the user's own code: anything may come
        raise named.failed(f"config file {file}", error, file) from error
    if isinstance(config, FrozenConfigDict):
        raise UserError(
            f"config file {file}: get_config() returns a FrozenConfigDict, which no flag can change: "
            "return the ConfigDict itself"
        )
    if not isinstance(config, ConfigDict):
        given = clipped(repr(config))
        raise UserError(f"config file {file}: get_config() must return an ml_collections.ConfigDict, not {given}")
    return config


def _check_argument(file: str, get_config: Callable[..., Any], argument: list[str]) -> None:
    """Refuse what stands behind the colon of ``--config``, or that nothing does, if the file isn't made for it."""
    try:
        inspect.signature(get_config).bind(*argument)
    except TypeError as error:
        wanted = (
            f"takes nothing after a colon, and {argument[0]!r} stands there"
            if argument
            else f"wants its argument after a colon, --config={file}:ARGUMENT"
        )
        raise UserError(f"config file {file}: its get_config{inspect.signature(get_config)} {wanted}") from error
