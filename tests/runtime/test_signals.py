"""A run whose terminal, or whose reader, is gone: it saves, and no print that fails ends it."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from gan_jax.runtime import signals
from gan_jax.runtime.signals import RESUME_ME
from tests.helpers import records
from tests.training.test_faults import started


def last(path: Path) -> int:
    """The step of the last checkpoint in a workdir."""
    return max(int(place.name) for place in (path / "checkpoints").iterdir())


def test_a_terminal_that_is_gone_costs_no_step(tmp_path: Path) -> None:
    """As of an ssh connection: SIGHUP to who leads the terminal's session, and any print fails."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = []
    terminal = os.ttyname(theirs)
    process = started(
        tmp_path,
        by=["sh", "-c", f'exec "$@" <{terminal} >{terminal} 2>&1', "sh"],  # who leads a session owns what it opens
        waiting=lambda: shown.append(os.read(ours, 65536) if select.select([ours], [], [], 0)[0] else b""),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    assert b"step/s" in b"".join(shown)  # the bar of a terminal
    os.close(ours)
    assert process.wait(timeout=60) == RESUME_ME
    assert last(tmp_path) == len(records(tmp_path)) > 20


@pytest.mark.slow
def test_who_closes_the_pipe_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    process = started(tmp_path, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.close()
    assert process.wait(timeout=60) == RESUME_ME
    assert last(tmp_path) > 20
    process.stdout.close()


@pytest.mark.slow
def test_under_nohup_neither_sighup_nor_a_closed_pipe_ends_a_run(tmp_path: Path) -> None:
    process = started(tmp_path, nohup=True)
    assert process.stdout is not None
    process.send_signal(signal.SIGHUP)
    process.stdout.close()
    seen = len(records(tmp_path))
    while len(records(tmp_path)) < seen + 20:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == RESUME_ME


@pytest.mark.slow
def test_sighup_with_or_after_another_signal_is_no_second_one(tmp_path: Path) -> None:
    """As systemd ends what a user has left: SIGTERM, and SIGHUP at once."""
    process = started(tmp_path)
    for number in (signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == RESUME_ME, printed
    assert f"SIGTERM: ended at step {last(tmp_path):,} with a checkpoint" in printed


def test_what_a_full_disk_keeps_from_being_printed_ends_no_run() -> None:
    stop = signals.Stop()
    with Path("/dev/full").open("w", buffering=1) as full:
        lasting = signals._Lasting(full, stop)
        print("x", file=cast(Any, lasting), flush=True)
        assert not stop.asked
        assert os.readlink(f"/proc/self/fd/{full.fileno()}") == "/dev/full"  # it may have room again
        with suppress(OSError):
            full.close()
