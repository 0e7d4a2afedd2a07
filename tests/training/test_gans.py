"""Every config in ``configs/``, shrunken: repeated, resumed, on any number of devices, sampled."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gan_jax.build import build_gan
from gan_jax.core.state import init_state
from gan_jax.evaluate import sample
from gan_jax.training import train
from tests.helpers import FOUNDING, NAMES, assert_identical, distance, records, run, run_until, small, trained

TWO = jax.devices()[:2]


def each(*quick: str) -> pytest.MarkDecorator:
    """All configs but the founding two; those that aren't ``quick`` are tried by ``python -m pytest -m slow``."""
    names = [name for name in NAMES if name not in FOUNDING]
    marked = [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
    return pytest.mark.parametrize("name", marked)


@each("aae")
def test_a_killed_and_resumed_run_ends_as_one_never_stopped_and_is_sampled(name: str, tmp_path: Path) -> None:
    config = small(name)
    config.steps, config.steps_per_dispatch, config.checkpoint.every = 4, 2, 2
    whole = run(config, tmp_path / "whole", TWO)
    run_until(config, tmp_path / "cut", TWO, "pause", at=4)
    assert_identical(run(config, tmp_path / "cut", TWO), whole)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    gan, _ = build_gan(config)
    images = sample.sample(gan, whole, 0, sample.row_labels(gan, 4, 2))
    assert images.shape == (4, *gan.image_shape)
    assert images.dtype == np.uint8
    assert len(np.unique(images, axis=0)) == 4


@each()
def test_float64_training_is_the_same_on_1_and_8_devices(name: str) -> None:
    config = small(name)
    config.compute_dtype = "float64"
    for term in config.terms.values():
        if "every" in term:
            term.every = min(term.every, 2)
    config.g_batches = 2 if name in ("aae", "sngan", "wgan_gp") else 0
    with jax.enable_x64(True):
        one, eight = (trained(config, devices, steps=4) for devices in (1, 8))
    assert distance(one.generator, eight.generator) < 1e-10
    assert distance(one.discriminator, eight.discriminator) < 1e-10
    assert distance(one.ema, eight.ema) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_float64_training_is_the_same_on_2_and_4_devices_too(name: str) -> None:
    config = small(name)
    config.compute_dtype = "float64"
    for term in config.terms.values():
        if "every" in term:
            term.every = min(term.every, 2)
    with jax.enable_x64(True):
        one, *others = (trained(config, devices, steps=4) for devices in (1, 2, 4))
    for other in others:
        for part in ("generator", "discriminator", "ema"):
            assert distance(getattr(one, part), getattr(other, part)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_rematerialisation_changes_no_value(name: str) -> None:
    config = small(name)
    config.compute_dtype = "float64"
    with jax.enable_x64(True):
        kept = trained(config, 1, steps=2)
        config.generator.remat = config.discriminator.remat = True
        again = trained(config, 2, steps=2)
    for part in ("generator", "discriminator", "ema"):
        assert distance(getattr(kept, part), getattr(again, part)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_hundred_steps_in_bfloat16_stay_finite(name: str) -> None:
    config = small(name)
    config.compute_dtype, config.steps = "bfloat16", 200
    for player in ("generator", "discriminator"):
        if "low_precision" in config[player]:
            config[player].low_precision = 1
    state = trained(config, 1, steps=200)
    for leaf in jax.tree.leaves((state.generator, state.discriminator, state.averages)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", ["cgan", "acgan", pytest.param("projection", marks=pytest.mark.slow)])
def test_a_class_changes_its_images_and_no_other(name: str) -> None:
    gan, hyper = build_gan(small(name))
    state = init_state(gan, 0, hyper)
    if name == "projection":  # whose gains are alike at first
        scale = state.generator.params["BatchNorm_0"]["scale"]
        state.ema["params"]["BatchNorm_0"]["scale"] = scale + np.arange(10)[:, None] / 5
    zeros, sevens = (sample.sample(gan, state, 0, np.full(3, label, np.int32)) for label in (0, 7))
    assert (zeros != sevens).any((1, 2, 3)).all()
    mixed = sample.sample(gan, state, 0, np.asarray([0, 7, 0], np.int32))
    np.testing.assert_array_equal(mixed, np.stack([zeros[0], sevens[1], zeros[2]]))


@pytest.mark.slow
def test_an_autoencoder_shows_unseen_images_beside_their_reconstructions(tmp_path: Path) -> None:
    config = small("aae")
    config.steps, config.sample.rows = 60, 4
    config.sample.every = 60
    config.optimizer.generator.learning_rate = 5e-3
    config.generator.encoder_widths = (64,)
    state = train.train(config, tmp_path, TWO)
    assert state is not None
    pictures = sorted((tmp_path / "reconstructions").iterdir())
    assert [picture.name for picture in pictures] == ["step_00000000.png", "step_00000060.png"]

    def error(path: Path) -> float:
        with Image.open(path) as picture:
            pixels = np.asarray(picture, np.float64)
        cells = [pixels[2 + 18 * r : 18 + 18 * r, 2 + 18 * c : 18 + 18 * c] for r in range(4) for c in range(4)]
        return float(np.mean([np.square(a - b).mean() for a, b in zip(cells[::2], cells[1::2], strict=True)]))

    assert error(pictures[1]) < error(pictures[0]) / 1.5
