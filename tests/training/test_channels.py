"""Whole runs on transparent pictures, on seven channels and on 16 bits: trained, judged, drawn, gone on with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from numpy.testing import assert_array_equal
from PIL import Image

import gan_jax
from gan_jax import build
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from tests.helpers import assert_identical, records, run, small

_FEATURES = "import jax.numpy as jnp\ndef flat(images):\n    return images.reshape(len(images), -1)[:, ::7] / 9.0\n"


def made(kind: str, place: Path) -> dict[str, Any]:
    """The data of that kind, as keys of ``config.data``: 60 images of 8x8 pixels."""
    rng = np.random.default_rng(0)
    if kind == "pictures":
        (place / "pictures").mkdir()
        for i, image in enumerate(rng.integers(0, 256, (60, 8, 8, 4), np.uint8)):
            Image.fromarray(image).save(place / "pictures" / f"{i:02d}.png")
        return {"source": "folder", "dir": str(place / "pictures"), "channels": 4, "flip": True}
    if kind == "seven":
        np.savez(place / "a.npz", images=rng.integers(0, 256, (60, 8, 8, 7), np.uint8))
        return {"source": "npz", "dir": str(place / "a.npz"), "channels": 7}
    np.save(place / "a.npy", rng.integers(300, 4001, (60, 8, 8), np.uint16))
    streamed = {"source": "npz", "dir": str(place / "a.npy"), "device_budget_mb": 0}
    return streamed | {"channels": 1, "bits": 16, "range": "300,4000"}


def asked(kind: str, place: Path) -> ConfigDict:
    config = small("gan")
    config.data.update({"image_size": 8, "test_fraction": 0.4} | made(kind, place))
    (place / "mine.py").write_text(_FEATURES)
    config.eval.update({"features": f"{place / 'mine.py'}:flat", "samples": 20, "every": 4})
    config.steps, config.sample.every, config.checkpoint.every = 4, 2, 2
    config.augment.name = "color" if kind == "pictures" else "none"
    return config


@pytest.mark.parametrize(
    "kind", ["wide", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pictures", "seven"))]
)
def test_a_run_is_trained_judged_drawn_and_gone_on_with(kind: str, tmp_path: Path) -> None:
    config = asked(kind, tmp_path)
    state = run(config, tmp_path / "run")
    assert any(name.startswith("fid[mine.py:flat") for name in records(tmp_path / "run")[-1])
    config.steps = 2
    run(config, tmp_path / "again")
    config.steps = 4
    assert_identical(run(config, tmp_path / "again").generator.params, state.generator.params)

    trained = gan_jax.load(tmp_path / "run")
    drawn = trained.sample(12, seed=5)
    assert drawn.shape == (12, *trained.gan.image_shape)
    assert drawn.dtype == trained.gan.pixels.dtype
    if kind == "wide":
        assert 300 <= drawn.min() < drawn.max() <= 4000
        assert len(np.unique(drawn)) > 256
    for name in ("s.npz", "s.png", "s"):
        request = Request(tmp_path / "run", num_samples=12, seed=5, out=tmp_path / name)
        if name == "s" and kind == "seven":
            with pytest.raises(gan_jax.util.errors.UserError, match="which holds all"):
                MODES["sample"].run(request)
            continue
        MODES["sample"].run(request)
    with np.load(tmp_path / "s.npz") as file:
        assert_array_equal(file["images"], drawn)
    with Image.open(tmp_path / "s.png") as grid:
        assert grid.mode == ("L" if kind == "wide" else "RGB")
    said = trained.discriminate(drawn)
    inner = trained.gan.pixels.own(drawn)
    scaled = inner.astype(np.float32) / (trained.gan.pixels.top / 2) - 1
    np.testing.assert_allclose(said, trained.discriminate(scaled), rtol=1e-6)

    # What was drawn, read back, is what the evaluation looks at.
    dataset = build.build_dataset(config, None)
    assert dataset.train_images[np.arange(2)].dtype == trained.gan.pixels.dtype
    evaluator = build.build_evaluator(config, trained.gan, dataset, None, [_device()], 20)
    options = gan_jax.data.alone(build.image_options(config), "npz", tmp_path / "s.npz")
    again = gan_jax.data.load(options, None).train_images[np.arange(12)]
    assert_array_equal(again, inner)
    assert evaluator.looked_at(again)[0].shape[0] == 12


def _device() -> Any:
    import jax

    return jax.devices()[0]
