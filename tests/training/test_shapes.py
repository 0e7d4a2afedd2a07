"""A run of images that aren't square from end to end: trained, resumed, drawn, judged, projected and exported."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

import gan_jax
from gan_jax.use.play import Player
from tests.helpers import assert_identical, run, small

SHAPE = (24, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcgan", "stylegan2", "fastgan"])
def test_a_wide_run_goes_through_everything(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        size = rng.integers(30, 60, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{number:02d}.png")
    config = small(name)
    height, width = (32, 56) if name == "fastgan" else SHAPE
    config.data.update({"source": "folder", "name": "", "dir": str(folder), "channels": 3})
    config.data.image_size, config.data.image_width = height, width
    config.eval.update({"features": "random", "samples": 20})
    config.augment.name, config.steps = "color,translation,cutout", 8
    config.eval.every = config.sample.every = 8
    whole = run(config, tmp_path / "whole")
    config.steps = 4
    run(config, tmp_path / "run")
    config.steps = 8
    assert_identical(run(config, tmp_path / "run"), whole)
    assert (tmp_path / "run/report.html").exists()
    grid = np.asarray(Image.open(sorted((tmp_path / "run/samples").glob("*.png"))[-1]))
    assert grid.shape[:2] == (2 * (height + 2) + 2, 2 * (width + 2) + 2)
    trained = gan_jax.load(tmp_path / "run")
    assert trained.sample(3).shape == (3, height, width, 3)
    found = trained.project(trained.sample(1)[0], steps=3)
    assert found.image.shape == (height, width, 3)
    trained.export(tmp_path / "out", onnx=True)
    runtime = pytest.importorskip("onnxruntime")
    z = np.asarray(trained.latents(2, seed=3), np.float32)
    (images,) = runtime.InferenceSession(tmp_path / "out/generator.onnx").run(None, {"latents": z})
    options: dict[str, Any] = {"noise_mode": "const"} if name != "dcgan" else {}
    assert_allclose(images, np.asarray(trained.generate(z, **options)), atol=2e-3)
    assert gan_jax.load(tmp_path / "out").sample(2).shape == (2, height, width, 3)
    player = Player(trained)
    assert (player.about()["height"], player.about()["width"]) == (height, width)
    assert Image.open(io.BytesIO(player.image({"a": {"seed": 1}}))).size == (width, height)
