"""What people see who wait."""

import time

import pytest

from gan_jax.progress import elapsed


def test_long_work_shows_how_long_it_has_taken_and_short_work_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with elapsed("adding"):
        pass
    assert capsys.readouterr().err == ""
    with elapsed("compiling", delay=0.2):
        time.sleep(1.6)
    shown = [line for line in capsys.readouterr().err.split("\r") if line.strip()]
    assert shown[0] == "compiling: 00:00"
    assert shown[-1] == "compiling: 00:01"


def test_it_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with elapsed("compiling", delay=0.1):
            time.sleep(0.3)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    seen = capsys.readouterr().err
    assert "compiling" in seen
    assert seen.split("\r")[-1].strip() == ""  # the line is wiped
    time.sleep(0.3)
    assert capsys.readouterr().err == ""
