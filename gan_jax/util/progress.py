"""What is shown to people: text that no terminal acts on, and that something goes on, for those who wait; the only
place that imports tqdm."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, TextIO

from gan_jax.util.errors import plain

_LOG = 10.0  # seconds between two lines of a bar in a file


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return a bar of tqdm's with these ``options`` on stderr.

    Where that is no terminal, it is a line every `_LOG` seconds.
    """
    from tqdm import (
        tqdm,  # not before `gan_jax.runtime.distributed.start`, which says whether this process has any bars
    )

    options["desc"] = plain(options["desc"]) if options.get("desc") else None
    if _is_terminal():
        options["file"] = getattr(sys.stderr, "beneath", sys.stderr)  # its own moves of the cursor are meant
    else:
        options |= {"file": _Lines(), "mininterval": _LOG, "maxinterval": _LOG, "position": 0}
    return tqdm(iterable, **options)


def _is_terminal() -> bool:
    """Whether stderr is one that has lines: some say that they have none, and tqdm would show nothing there."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).lines > 0
    except OSError:  # it has no size to ask for
        return True


class _Plain:
    """A stream of text for all that is printed: what a terminal would act on (names of files may hold it), or what its
    encoding doesn't have, is shown as Python writes it.

    Attributes:
      beneath: the stream that gets it.
    """

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def write(self, text: str) -> int:
        """As any stream's."""
        encoding = self.beneath.encoding or "utf-8"
        self.beneath.write(plain(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)

    def __eq__(self, other: object) -> bool:
        """Whether both are the same stream: so tqdm finds the bars that a line is printed beside."""
        return getattr(other, "_wrapped", other) is self.beneath or other is self

    def __hash__(self) -> int:
        return hash(self.beneath)


@contextmanager
def plain_output() -> Iterator[None]:
    """Let all that the process prints be plain text that can be shown."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Plain(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def others_bars() -> Iterator[None]:
    """Let bars be shown that another package draws by itself."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (getattr(stream, "beneath", stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Lines:
    """stderr for tqdm: instead of writing over a line it adds one."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def say(text: str) -> None:
    """Print a line on stdout beside the bars that are shown."""
    from tqdm import tqdm

    tqdm.write(text)


@contextmanager
def elapsed(what: str, delay: float = 2.0) -> Iterator[None]:
    """Show for how long ``what`` has been going on, once that is ``delay`` seconds.

    It is for work that can't tell how much of it is done.
    """
    ended = Event()

    def show() -> None:
        with bar(desc=what, bar_format="{desc}: {elapsed}", delay=delay, leave=False) as shown:
            while not ended.wait(min(1.0, delay)):
                shown.update(0)

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
