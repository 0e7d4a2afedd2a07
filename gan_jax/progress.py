"""That something goes on, for people who wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tqdm import tqdm


@contextmanager
def elapsed(what: str, delay: float = 2.0) -> Iterator[None]:
    """Shows on stderr for how long ``what`` has been going on, once that is ``delay`` seconds: for work that can't tell
    how much of it is done."""
    ended = Event()

    def show() -> None:
        with tqdm(desc=what, bar_format="{desc}: {elapsed}", delay=delay, leave=False) as bar:
            while not ended.wait(min(1.0, delay)):
                bar.update(0)

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
