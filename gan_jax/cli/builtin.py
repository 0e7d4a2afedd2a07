"""The config files that come with the package: ``--config=dcgan`` finds ``configs/dcgan.py`` wherever it lies."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parents[1]


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
