"""The one error that users are meant to see, and how names, lists and texts of any length get into one line."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

_SHOWN = 20  # names in a message
_LONG = 100  # characters of one of them


class UserError(Exception):
    """A mistake that the user can mend. Its text is one line: what is wrong, where, and what to do."""


def unknown_name(what: str, name: str, valid: Iterable[str], near: Sequence[str] = ()) -> UserError:
    """``unknown loss 'hing'; did you mean 'hinge'? valid: hinge, minimax, ...``; of many names, the
    nearest or the first ones. ``near``: those that may be meant; if empty, what is spelt most alike.
    """
    names = sorted(valid)
    near = near or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" did you mean {either(near)}?" if near else ""
    if near and len(names) > _SHOWN:
        return UserError(f"unknown {what} {name!r};{hint}")
    return UserError(f"unknown {what} {name!r};{hint} valid: {listed(names)}")


def either(names: Iterable[str]) -> str:
    """Return ``'a', 'b' or 'c'``."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


def listed(things: Iterable[object], most: int = _SHOWN, between: str = ", ", long: int = _LONG) -> str:
    """Return the first ``most`` of some things, each in at most ``long`` characters: ``a, b, c, and 5 more``."""
    texts = [clipped(str(thing), long) for thing in things]
    rest = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return between.join([*texts[:most], *rest])


def counted(count: int, what: str) -> str:
    """Return how many there are, in words: ``1 trial``, ``2,000 trials``."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def clipped(text: str, most: int = _LONG) -> str:
    """``text`` if it has at most ``most`` characters, else its beginning and ``...``."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def printable(text: str) -> str:
    """``text`` with what can't be shown (line breaks, control and surrogate characters) as Python writes it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def plain(text: str) -> str:
    """`printable`, but for line breaks and tabs."""
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), text)


@contextmanager
def needed(package: str, extra: str) -> Iterator[None]:
    """Around imports that need an optional ``package``, of the project's ``extra``.

    Raises:
      UserError: it isn't installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(f"this needs {package}, which is not installed: pip install -e '.[{extra}]'") from error


class DivergedError(UserError):
    """A training whose loss or state is no longer finite."""


class EndedError(Exception):
    """A training that was asked to end early, and did: the same command resumes it."""
