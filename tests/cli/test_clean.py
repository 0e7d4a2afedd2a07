"""What a run takes on disk, and what is deleted of it."""

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import gan_jax
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.runs import disk
from gan_jax.runs.workdir import Workdir
from gan_jax.training.train import train
from gan_jax.util.errors import UserError
from tests.helpers import ONE, run, small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "run"
    run(small("gan"), path, ONE)
    (path / "diverged").mkdir()
    (path / "diverged/step_3.npz").write_bytes(b"x" * 5000)
    (path / ".samples.png.0a1b2c3d.partial").write_bytes(b"y" * 300)
    (path / "mine.txt").write_text("notes")
    return path


@pytest.fixture
def workdir(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def test_all_is_counted_once(workdir: Path) -> None:
    found = disk.parts(workdir)
    assert sum(part.size for part in found) == sum(file.stat().st_size for file in workdir.rglob("*") if file.is_file())
    assert [part.size for part in found] == sorted((part.size for part in found), reverse=True)
    free = {str(part.path.relative_to(workdir)) for part in found if part.loss}
    assert free == {"checkpoints/4", "checkpoints/8", "diverged", ".samples.png.0a1b2c3d.partial"}


def test_what_may_go_goes_and_the_run_is_as_before(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = gan_jax.load(workdir).sample(4)
    MODES["clean"].run(Request(workdir, yes=True))
    assert "deleted 4 things, " in capsys.readouterr().out
    assert Workdir(workdir).saved() == [10]
    assert (workdir / "mine.txt").exists()
    assert not (workdir / "diverged").exists()
    np.testing.assert_array_equal(gan_jax.load(workdir).sample(4), before)
    config = small("gan")
    config.steps = 12
    state = train(config, workdir, ONE)
    assert state is not None
    assert int(state.step) == 12
    MODES["clean"].run(Request(workdir, yes=True))
    MODES["clean"].run(Request(workdir, yes=True))
    assert "nothing in " in capsys.readouterr().out


def test_it_asks_first(workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--mode=clean asks before it deletes, and nobody is there: give --yes"):
        MODES["clean"].run(Request(workdir))

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, left in (("n\n", 3), ("\n", 3), ("y\n", 1)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        MODES["clean"].run(Request(workdir))
        assert len(Workdir(workdir).saved()) == left
    assert "nothing is deleted" in capsys.readouterr().out


def test_what_goes_on_or_is_no_run_is_left_alone(workdir: Path, tmp_path: Path) -> None:
    with Workdir(workdir).locked(), pytest.raises(UserError, match="is in use by process"):
        MODES["clean"].run(Request(workdir, yes=True))
    with pytest.raises(UserError, match=r"no run in .*: give the --workdir of a run, sweep or search"):
        MODES["clean"].run(Request(tmp_path, yes=True))
    assert len(Workdir(workdir).saved()) == 3


def test_a_sweeps_trials_are_cleaned(workdir: Path, tmp_path: Path) -> None:
    for name in ("000", "001"):
        shutil.copytree(workdir, tmp_path / "sweep" / name)
    MODES["clean"].run(Request(tmp_path / "sweep", yes=True))
    for name in ("000", "001"):
        assert Workdir(tmp_path / "sweep" / name).saved() == [10]


def test_the_doctor_shows_it(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_jax.cli.doctor.examine", lambda config, workdir: None)
    MODES["doctor"].run(Request(workdir))
    said = capsys.readouterr().out
    assert "may be deleted by --mode=clean" in said
    assert "checkpoints/10: the newest checkpoint, from which the run goes on\n" in said
    assert "checkpoints/4: an earlier checkpoint; may go, and with it --step=4" in said
