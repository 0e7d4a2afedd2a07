"""What flags and configs name outside of this project: paths, and Python files and functions of the user's own.

What runs there may raise anything; whatever it is becomes one line, with the file and the line that it came from.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import runpy
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_jax.util.errors import UserError, clipped, unknown_name
from gan_jax.util.files import read_regular

# Where code lies that isn't the user's.
_OTHERS = tuple(
    f"{path}{os.sep}"
    for path in (Path(__file__).parents[1], *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
)


def program() -> str:
    """Return how this program was called, for commands that are shown."""
    called = Path(sys.argv[0])
    as_module = called.parts[-2:] == ("gan_jax", "__main__.py")
    return "gan-jax" if called.name == "gan-jax" else "python -m gan_jax" if as_module else "python launch.py"


def path(text: str, what: str) -> Path:
    """Return the path ``text``, a ``~`` at its start read as shells do; ``what`` names it.

    Raises:
      UserError: it starts at a home directory, and none is known here.
    """
    found = os.path.expanduser(text)
    if found == text and re.match(r"~(/|$)", text):
        raise UserError(f"{what}: {text!r} starts at the home directory, and none is known here: write the whole path")
    return Path(found)


def run(file: str, what: str) -> dict[str, Any]:
    """Return the names that the Python ``file`` defines; ``what`` it is, for errors.

    Raises:
      UserError: it can't be run.
    """
    try:
        return runpy.run_path(file)
    except Exception as error:  # the user's own code: anything may come
        raise failed(f"{what} {file}", error, file) from error


def check_regular(what: str, file: str) -> None:
    """Refuse what isn't a file, and may never end, such as a named pipe; ``what`` it is."""
    if Path(file).exists() and not Path(file).is_file():
        raise UserError(f"{what} is {'a folder' if Path(file).is_dir() else 'no regular file'}: give a file")


def is_function(text: str) -> bool:
    """Whether ``text`` can name what lies in a file or module, ``FILE.py:function`` or ``package.module:function``."""
    place, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and (_is_file(place) or re.fullmatch(r"\w+(\.\w+)*", place) is not None)


def is_module(text: str) -> bool:
    """Whether ``text`` can name a whole file or module, ``FILE.py`` or ``package.module``."""
    return text.endswith(".py") or re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text) is not None


def parts(text: str) -> tuple[str, str]:
    """Return the file or module that ``text`` names, and the name in it; ``""`` where it names the whole."""
    place, _, name = text.rpartition(":") if is_function(text) else (text, "", "")
    return place, name


def anywhere(text: str) -> str:
    """Return ``text``, as of `parts`, so that it is found from any folder."""
    place, name = parts(text)
    if not _is_file(place):
        return text
    return os.path.abspath(os.path.expanduser(place)) + (f":{name}" if name else "")


def source(text: str) -> Path | None:
    """Return the file in which the code lies that ``text`` names, there or gone; None: it can't be known."""
    place, _ = parts(text)
    if _is_file(place):
        return Path(os.path.abspath(os.path.expanduser(place)))
    try:
        found = importlib.util.find_spec(place)
    except Exception:  # its package can't be imported, as whoever imports it will say
        return None
    return Path(found.origin) if found and found.origin and found.has_location else None


def function(text: str, what: str, argument: str) -> Callable[[Any], Any]:
    """Return the function that ``FILE.py:function`` or ``package.module:function`` names.

    Args:
      text: its name.
      what: what names it, e.g. ``--sweep`` or ``eval.features``.
      argument: what it is called with, in a word.

    Raises:
      UserError: there is none, or what it lies in can't be run.
    """
    place, name = parts(text)
    if not is_function(text):
        raise UserError(f"{what}={text!r}: give FILE.py:function or package.module:function")
    found = getattr(_module(text, what), name, None)
    if not callable(found):
        place = str(path(place, what)) if _is_file(place) else place
        raise UserError(
            f"{what}: {place} has no function {name}({argument}): write it, or give {what}=FILE.py:function or "
            "package.module:function"
        )
    own: Callable[[Any], Any] = found
    return own


def thing(text: str, what: str) -> Any:
    """Return what ``text`` names, anything that ``FILE.py:NAME`` or ``package.module:NAME`` has, or the whole module.

    Within a process it is one and the same for as long as its file is, so that programs compiled with it are, too.

    Args:
      text: its name.
      what: what names it, e.g. ``config.loss``.

    Raises:
      UserError: there is none, or what it lies in can't be run.
    """
    module, (place, name) = _module(text, what), parts(text)
    if name and not hasattr(module, name):
        own = [known for known, value in vars(module).items() if not (known[0] == "_" or isinstance(value, ModuleType))]
        raise unknown_name(f"name in {place}, which {what} names:", name, own)
    return getattr(module, name) if name else module


_files: dict[tuple[str, bytes], ModuleType] = {}  # by place and content


def _module(text: str, what: str) -> ModuleType:
    """Return the file or module in which ``text`` lies.

    A file is run once in a process, and again when it has changed.
    """
    place, _ = parts(text)
    if not _is_file(place):
        try:
            return importlib.import_module(place)
        except Exception as error:  # the user's own code: anything may come
            raise failed(f"{what}={text}", error) from error
    place = str(path(place, what))
    check_regular(f"{what}={text}: {place}", place)
    if not Path(place).is_file():
        raise UserError(f"{what}={text}: there is no file {place}")
    content = read_regular(Path(place))
    key = os.path.abspath(place), hashlib.sha256(content).digest()
    if key not in _files:
        name = f"{Path(place).stem} {hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"  # no import finds it
        module = ModuleType(name)
        module.__file__ = key[0]
        sys.modules[name] = module  # dataclasses look for theirs
        try:
            exec(compile(content, place, "exec", dont_inherit=True), module.__dict__)
        except Exception as error:  # the user's own code: anything may come
            del sys.modules[name]
            raise failed(f"{what}: the file {place}", error, place) from error
        _files[key] = module
    return _files[key]


def failed(what: str, error: BaseException, file: str = "") -> UserError:
    """Return what is said where the user's own code fails: ``config file mine.py, line 3: NameError: name 'x' is ...``.

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
    """Return what ``error`` says, without line breaks."""
    return clipped(" ".join(str(error).split()), 2000) or type(error).__name__


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or Path(place).is_file()
