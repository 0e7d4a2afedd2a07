"""What flags and configs name outside of this project: paths, and Python files and functions of the user's own.

What runs there may raise anything; whatever it is becomes one line, with the file and the line that it came from.
"""

import importlib
import os
import re
import runpy
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gan_jax.util.errors import UserError, clipped

# Where code lies that isn't the user's.
_OTHERS = tuple(
    f"{path}{os.sep}" for path in (Path(__file__).parent, *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
)


def path(text: str, what: str) -> Path:
    """The path ``text``, a ``~`` at its start read as shells do; ``what`` names it.

    Raises:
      UserError: it starts at a home directory, and none is known here.
    """
    found = os.path.expanduser(text)
    if found == text and re.match(r"~(/|$)", text):
        raise UserError(f"{what}: {text!r} starts at the home directory, and none is known here: write the whole path")
    return Path(found)


def run(file: str, what: str) -> dict[str, Any]:
    """The names that the Python ``file`` defines; ``what`` it is, for errors.

    Raises:
      UserError: it can't be run.
    """
    try:
        return runpy.run_path(file)
    except Exception as error:  # the user's own code: anything may come
        raise failed(f"{what} {file}", error, file) from error


def check_regular(what: str, file: str) -> None:
    """Refuses what isn't a file, and may never end, such as a named pipe; ``what`` it is."""
    if Path(file).exists() and not Path(file).is_file():
        raise UserError(f"{what} is {'a folder' if Path(file).is_dir() else 'no regular file'}: give a file")


def is_function(text: str) -> bool:
    """Whether ``text`` can be the name of a function, ``FILE.py:function`` or ``package.module:function``."""
    place, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and (_is_file(place) or re.fullmatch(r"\w+(\.\w+)*", place) is not None)


def function(text: str, what: str, argument: str) -> Callable[[Any], Any]:
    """The function that ``FILE.py:function`` or ``package.module:function`` names.

    Args:
      text: its name.
      what: what names it, e.g. ``--sweep`` or ``eval.features``.
      argument: what it is called with, in a word.

    Raises:
      UserError: there is none, or what it lies in can't be run.
    """
    place, _, name = text.rpartition(":")
    if not is_function(text):
        raise UserError(f"{what}={text!r}: give FILE.py:function or package.module:function")
    if _is_file(place):
        place = str(path(place, what))
        check_regular(f"{what}={text}: {place}", place)
        if not Path(place).is_file():
            raise UserError(f"{what}={text}: there is no file {place}")
        found = run(place, f"{what}: the file").get(name)
    else:
        try:
            found = getattr(importlib.import_module(place), name, None)
        except Exception as error:  # the user's own code: anything may come
            raise failed(f"{what}={text}", error) from error
    if not callable(found):
        raise UserError(
            f"{what}: {place} has no function {name}({argument}): write it, or give {what}=FILE.py:function or "
            "package.module:function"
        )
    own: Callable[[Any], Any] = found
    return own


def failed(what: str, error: BaseException, file: str = "") -> UserError:
    """What is said where code of the user's own fails: ``config file mine.py, line 3: NameError: name 'x' is ...``.

    Args:
      what: failed, in words; that with a ``file``, if it is one.
      error: what it raised.
      file: see above; of any other the name is said beside the line.
    """
    if isinstance(error, UserError):
        return error
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    own = [frame for frame in frames if not frame[0].startswith(("<", *_OTHERS))]
    where = ""
    if own:
        name, line = own[-1]
        where = f", line {line}" if name == file else f": {name}, line {line}"
    said = clipped(error.msg) if isinstance(error, SyntaxError) else one_line(error)
    return UserError(f"{what}{where}: {type(error).__name__}: {said}")


def one_line(error: BaseException) -> str:
    """What ``error`` says, without line breaks."""
    return clipped(" ".join(str(error).split()), 2000) or type(error).__name__


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or Path(place).is_file()
