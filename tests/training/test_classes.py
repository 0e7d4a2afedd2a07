"""The number of classes that a config leaves to the data: counted once, kept by the run, and asked of nobody after."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import load
from gan_jax.data import Options
from gan_jax.data import dataset as data_sets
from gan_jax.data.cache import Cache
from gan_jax.data.parts import Source
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps import planning
from gan_jax.training.classes import with_classes
from gan_jax.util.errors import UserError
from tests.helpers import assert_identical, begun, run, small


def arrays(path: Path, classes: int) -> str:
    """A file of 20 images of so many classes, numbered from 3."""
    images = np.random.default_rng(classes).integers(0, 256, (20, 16, 16, 1), np.uint8)
    np.savez(path, images=images, labels=np.arange(20) % classes + 3)
    return str(path)


def of_arrays(path: str) -> ConfigDict:
    config = small("cgan")
    config.data.source, config.data.dir, config.data.image_size = "npz", path, 16
    config.classes, config.batch_size = 0, 8
    return config


def test_classes_are_counted_and_a_begun_run_keeps_its_number(tmp_path: Path) -> None:
    config = of_arrays(arrays(tmp_path / "a.npz", 4))
    place = Workdir(tmp_path / "run")
    found, dataset = with_classes(config, place)
    assert dataset is not None
    assert (config.classes, found.classes, dataset.classes) == (0, 4, 4)
    begun(found, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["classes"] == 4
    Path(config.data.dir).unlink()
    again, nothing = with_classes(config, place)
    assert (again.classes, nothing) == (4, None)
    assert load(tmp_path / "run").classes == ["3", "4", "5", "6"]


@pytest.mark.parametrize(("classes", "conditional"), [(5, "concat"), (0, "none")])
def test_a_number_that_is_given_stays_and_so_does_none(classes: int, conditional: str, tmp_path: Path) -> None:
    config = of_arrays("nowhere.npz")
    config.classes = classes
    config.generator.conditional = config.discriminator.conditional = conditional
    found, dataset = with_classes(config, Workdir(tmp_path / "run"))
    assert (found, dataset) == (config, None)


def test_what_is_wrong_is_said_before_the_data_is_read(tmp_path: Path) -> None:
    config = of_arrays("nowhere.npz")
    config.loss = "hing"
    with pytest.raises(UserError, match="unknown loss 'hing'"):
        with_classes(config, Workdir(tmp_path / "run"))


def test_data_without_classes_are_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((20, 16, 16), np.uint8))
    config = of_arrays(str(tmp_path / "a.npz"))
    config.data.labels = False
    with pytest.raises(UserError, match=r"config.classes is 0, as many as the data has, but it has no labels: set "):
        with_classes(config, Workdir(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_trials_have_the_classes_of_their_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    honest = data_sets.SOURCES["npz"]

    def source(options: Options, cache: Cache) -> Source:
        reads.append(options.dir)
        return honest(options, cache)

    monkeypatch.setitem(data_sets.SOURCES, "npz", source)
    four, two = arrays(tmp_path / "a.npz", 4), arrays(tmp_path / "b.npz", 2)
    settings: list[dict[str, Any]] = [{"seed": 0}, {"seed": 1}, {"data.dir": two}]
    trials = planning.plan(of_arrays(four), settings, tmp_path / "sweep")
    assert [trial.gan.classes for trial in trials] == [4, 4, 2]
    assert reads == [four, two]


@pytest.mark.slow
def test_a_run_that_leaves_its_classes_to_the_data_is_the_run_that_names_them(tmp_path: Path) -> None:
    config = of_arrays(arrays(tmp_path / "a.npz", 4))
    config.steps = 2
    run(config, tmp_path / "left")
    config.steps = 4  # it goes on, though its config.json has another number than this one
    left = run(config, tmp_path / "left")
    config.classes = 4
    assert_identical(left, run(config, tmp_path / "named"))
