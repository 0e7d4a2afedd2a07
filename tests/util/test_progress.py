"""What people see who wait, at a terminal and in a log."""

import os
import sys
import time

import pytest

from gan_jax.util import progress


def test_long_work_shows_how_long_it_has_taken_and_short_work_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.elapsed("adding"):
        pass
    assert capsys.readouterr().err == ""
    with progress.elapsed("compiling", delay=0.2):
        time.sleep(1.6)
    shown = [line.strip() for line in capsys.readouterr().err.split("\r") if line.strip()]
    assert shown[0] == "compiling: 00:00"
    assert shown[-1] == "compiling: 00:01"


def test_a_terminal_without_lines_is_shown_lines_as_a_log_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2)
    for lines, back in ((0, False), (40, True)):
        monkeypatch.setattr(os, "get_terminal_size", lambda *_, lines=lines: os.terminal_size((80, lines)))
        for _ in progress.bar(range(3)):
            pass
        shown = capsys.readouterr().err
        assert "3/3" in shown
        assert ("\r" in shown) == back


def test_it_ends_with_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def fail() -> None:
        with progress.elapsed("compiling", delay=0.1):
            time.sleep(0.3)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    seen = capsys.readouterr().err
    assert "compiling" in seen
    assert seen.split("\r")[-1].strip() == ""  # the line is wiped
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_a_log_gets_a_line_now_and_then_and_nothing_that_moves_a_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LOG", 0.2)
    with progress.bar(total=100, desc="training") as bar:
        for _ in range(100):
            bar.update()
            time.sleep(0.005)
            for _ in progress.bar(range(2), desc="within", leave=False):
                pass
    err = capsys.readouterr().err
    assert "\r" not in err
    assert "\x1b" not in err
    lines = [line for line in err.splitlines() if line.startswith("training")]
    assert 3 <= len(lines) <= 8
    assert lines[0].startswith("training:   0%")
    assert lines[-1].startswith("training: 100%")
    assert "" not in err.splitlines()
