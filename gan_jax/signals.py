"""What SIGTERM and SIGINT do to a training: the first lets it save and end, the second ends it at once."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: the exit code of a run that the same command takes up again
_HEARD = (signal.SIGTERM, signal.SIGINT)
_ONE = 1.0  # seconds in which the same signal once more is no second one: `timeout` sends it to a process and its group


class Stop:
    """Whether a training shall end early.

    Attributes:
      asked: the name of the first signal, empty until there is one.
      looked_at: whether somebody looks at ``asked`` soon, and saves; before, there is nothing to lose, and the first
        signal ends the process.
    """

    def __init__(self) -> None:
        self.asked = ""
        self.looked_at = False


@contextmanager
def listening() -> Iterator[Stop]:
    """A `Stop` that hears SIGTERM and SIGINT. For a process' main thread.

    They are heard by a thread: handlers of Python's own wait until the main one comes back from a compiled program, or
    from compiling it, which may take minutes.
    """
    stop, (heard, told) = Stop(), socket.socketpair()
    told.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in _HEARD}
    fd = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(heard, stop), daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        told.close()
        thread.join()
        heard.close()


def _listen(heard: socket.socket, stop: Stop) -> None:
    begin = 0.0
    while number := heard.recv(1):
        if number[0] not in _HEARD:
            continue
        name = signal.Signals(number[0]).name
        if stop.asked == name and time.monotonic() - begin < _ONE:
            continue
        if stop.asked:
            last = "the same command resumes from the last checkpoint, if there is one"
            end(128 + number[0], f"{name} again: ended at once; {last}")
        stop.asked, begin = name, time.monotonic()
        if not stop.looked_at:
            end(RESUME_ME, f"{name} before the first step: ended; the same command starts again")
        _say(f"{name}: ending after this chunk of steps, with a checkpoint; once more ends at once")


def end(code: int, text: str) -> None:
    """Ends the process from any of its threads, whatever the others do."""
    _say(text)
    sys.stdout.flush()
    os._exit(code)


def _say(text: str) -> None:
    os.write(2, f"\n{text}\n".encode())
