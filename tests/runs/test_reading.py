"""Modes that read need nothing to write to: what can't be kept is a warning."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from gan_jax.cli import doctor, modes
from gan_jax.cli.request import Request
from gan_jax.evaluate import classifier
from gan_jax.training import train
from gan_jax.util.errors import UserError
from tests.helpers import run, small

ONE = jax.devices()[:1]


def config_of(pictures: Path) -> ConfigDict:
    """A small GAN of two classes of pictures, with figures at its end alone."""
    config = small("gan")
    config.steps, config.sample.every, config.eval.every, config.checkpoint.every = 2, 2, 2, 2
    config.data.update({"source": "folder", "dir": str(pictures), "labels": True})
    return config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pictures`` and a run of them, ``runs/a``, without what was decoded for it."""
    place = tmp_path_factory.mktemp("made")
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)):
        folder = place / "pictures" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    run(config_of(place / "pictures"), place / "runs" / "a")
    for file in [*(place / "runs" / "data_cache").iterdir(), place / "runs" / "a" / "report.html"]:
        file.unlink()
    return place


@pytest.fixture
def sealed(made: Path) -> Iterator[Path]:
    """`made`, with ``runs`` only to be read: by its mode, or for root, who may write anyway, by the file system."""
    runs = made / "runs"
    if os.geteuid():
        for path in [runs, *runs.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        yield made
        for path in [runs, *runs.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
        return
    if subprocess.run(["mount", "--bind", str(runs), str(runs)], capture_output=True).returncode:
        pytest.skip("a file system that is only read needs root who may mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(runs)], check=True)
        yield made
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=True)


def files(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def mode(name: str, place: Path, **others: Any) -> None:
    modes.MODES[name].run(Request(place / "runs" / "a", num_samples=20, **others))


@pytest.mark.slow
def test_an_evaluation_gives_its_figures_and_picture(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, honest, said = files(sealed), classifier.fit, []

    def fit(*given: Any) -> Any:
        said.append(capsys.readouterr().err)  # before it begins
        return honest(*given)

    monkeypatch.setattr(classifier, "fit", fit)
    monkeypatch.setitem(classifier._RECIPE, "steps", 3)
    overrides = {"eval.features": "classifier"}
    mode("evaluate", sealed, overrides=overrides, out=tmp_path / "near.png")
    (first,) = said
    assert "the decoded images of folder:pictures are not kept" in first
    assert "the classifier of the evaluation is trained now and not kept" in first
    out, err = capsys.readouterr()
    assert "fid[classifier:" in out
    assert f"nearest to it: {tmp_path / 'near.png'}" in out
    for what in ("the features of the data", "the figures", "the picture", "the report"):
        assert f"warning: cannot keep {what} in " in err
    assert "--out" not in err
    with Image.open(tmp_path / "near.png") as picture:
        assert picture.size == (6 * 30 + 2, 20 * 30 + 2)

    mode("evaluate", sealed)
    out, err = capsys.readouterr()
    assert "d_unseen" in out
    assert "the figures in" in err
    assert files(sealed) == before


@pytest.mark.slow
def test_samples_and_interpolations_go_where_they_may(sealed: Path, tmp_path: Path) -> None:
    for name in ("sample", "interpolate"):
        mode(name, sealed, out=tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").exists()
        with pytest.raises(UserError, match=r"cannot write to .*runs/a \(.*\): give --out=FILE"):
            mode(name, sealed)


def test_so_does_the_doctor_and_a_training_that_has_nothing_to_do(
    sealed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(sealed / "pictures")
    assert dict(doctor._kept(config, sealed / "runs" / "new"))["data"].startswith(
        "folder:pictures: 57 train and 3 test"
    )
    assert train.train(config, sealed / "runs" / "a", ONE) is None
    out, err = capsys.readouterr()
    assert "holds a finished run of 2 steps: nothing to do" in out
    assert "warning: cannot keep the report in" in err
    config.steps = 3
    with pytest.raises(UserError, match="cannot write to the workdir"):
        train.train(config, sealed / "runs" / "a", ONE)
