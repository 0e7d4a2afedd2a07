"""That something goes on, for people who wait; the only place that imports tqdm."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

_LOG = 10.0  # seconds between two lines of a bar in a file


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """A bar of tqdm's with these ``options`` on stderr; where that is no terminal, a line every `_LOG` seconds."""
    if not _is_terminal():
        options |= {"file": _Lines(), "mininterval": _LOG, "maxinterval": _LOG, "position": 0}
    return tqdm(iterable, **options)


def _is_terminal() -> bool:
    """Whether stderr is one that has lines: some say that they have none, and tqdm would show nothing there."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).lines > 0
    except OSError:  # it has no size to ask for
        return True


class _Lines:
    """stderr for tqdm: instead of writing over a line it adds one."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def say(text: str) -> None:
    """Prints a line on stdout beside the bars that are shown."""
    tqdm.write(text)


@contextmanager
def elapsed(what: str, delay: float = 2.0) -> Iterator[None]:
    """Shows for how long ``what`` has been going on, once that is ``delay`` seconds: for work that can't tell how much
    of it is done."""
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
