"""The one error that users are meant to see, and how a wrong name is answered."""

import difflib
from collections.abc import Iterable

_SHOWN = 20  # names in a message


class UserError(Exception):
    """A mistake that the user can mend. Its text is one line: what is wrong, where, and what to do."""


def unknown_name(what: str, name: str, valid: Iterable[str]) -> UserError:
    """``unknown loss 'hing'; did you mean 'hinge'? valid: hinge, minimax, ...``; of many names, the
    nearest or the first ones.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    if near and len(names) > _SHOWN:
        return UserError(f"unknown {what} {name!r};{hint}")
    shown = ", ".join(names[:_SHOWN]) + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return UserError(f"unknown {what} {name!r};{hint} valid: {shown}")


class DivergedError(UserError):
    """A training whose loss or state is no longer finite."""


class EndedError(Exception):
    """A training that was asked to end early, and did: the same command resumes it."""
