"""What SIGTERM, SIGINT and SIGHUP do to a training: the first lets it save and end, the second ends it at once.

SIGHUP says that the terminal is gone, and its shell may be: what the training prints then goes nowhere, and no failing
print ends it.
"""

import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: the exit code of a run that the same command takes up again
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds in which the same signal once more is no second one: `timeout` sends it to a process and its group; and
# systemd sends SIGHUP after SIGTERM.
_ONE = 1.0
_UNREAD = "nobody reads its output any more"


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
    """Yield a `Stop` that hears SIGTERM, SIGINT and, unless it is ignored (by ``nohup``), SIGHUP.

    It is for a process' main thread. Signals are heard by a thread: handlers of Python's own wait until the main one
    comes back from a compiled program, or from compiling it, which may take minutes. Stdout and stderr are `_Lasting`
    meanwhile.
    """
    stop, (heard, told) = Stop(), socket.socketpair()
    told.setblocking(False)
    alone = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    numbers = [number for number in HEARD if not (alone and number == signal.SIGHUP)]
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    fd = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(heard, stop), daemon=True)
    thread.start()
    try:
        with _lasting_output(None if alone else stop):
            yield stop
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        told.close()
        thread.join()
        heard.close()


@contextmanager
def _lasting_output(stop: Stop | None) -> Iterator[None]:
    """Make stdout and stderr `_Lasting`, beneath what lies on top (`gan_jax.util.progress.plain_output`)."""
    streams: tuple[Any, Any] = sys.stdout, sys.stderr
    beneath = [getattr(stream, "beneath", stream) for stream in streams]
    lasting = [cast(TextIO, _Lasting(stream, stop)) for stream in beneath]
    for name, stream, under, bottom in zip(("stdout", "stderr"), streams, beneath, lasting, strict=True):
        if under is stream:
            setattr(sys, name, bottom)
        else:
            stream.beneath = bottom
    try:
        yield
    finally:
        for name, stream, under in zip(("stdout", "stderr"), streams, beneath, strict=True):
            if under is not stream:
                stream.beneath = under
            setattr(sys, name, stream)


class _Lasting:
    """A stream that outlives its terminal, its pipe or the room on its disk: what it can't write is dropped.

    Args:
      stream: the real one.
      stop: asked to end where the other end of a pipe is closed; None: nobody is.
    """

    def __init__(self, stream: TextIO, stop: Stop | None) -> None:
        self._stream, self._stop = stream, stop

    def write(self, text: str) -> int:
        """As of any stream, but for errors."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lost(error)
        return len(text)

    def flush(self) -> None:
        """As of any stream, but for errors."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        if error.errno in (errno.EPIPE, errno.EIO):
            _silence(self._stream.fileno())
        if error.errno == errno.EPIPE and self._stop is not None and not self._stop.asked:
            self._stop.asked = _UNREAD

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _listen(heard: socket.socket, stop: Stop) -> None:
    begin = 0.0
    while number := heard.recv(1):
        if number[0] not in HEARD:
            continue
        name = signal.Signals(number[0]).name
        if stop.asked and name == "SIGHUP":
            continue  # nobody is there to mean it
        if stop.asked in (name, "SIGHUP") and time.monotonic() - begin < _ONE:
            continue
        if stop.asked:
            last = "the same command resumes from the last checkpoint, if there is one"
            end(128 + number[0], f"{name} again: ended at once; {last}")
        stop.asked, begin = name, time.monotonic()
        if not stop.looked_at:
            end(RESUME_ME, f"{name} before the first step: ended; the same command starts again")
        _say(f"{name}: ending after this chunk of steps, with a checkpoint; once more ends at once")


def end(code: int, text: str) -> None:
    """End the process from any of its threads, whatever the others do."""
    _say(text)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def _say(text: str) -> None:
    try:
        os.write(2, f"\n{text}\n".encode())
    except OSError:  # the terminal is gone
        _silence(2)


def _silence(descriptor: int) -> None:
    """Let what is written there go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
