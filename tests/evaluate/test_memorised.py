"""Which samples are copies of training images: by NumPy, of a generator that copies, and in the verdict."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.evaluate import Evaluator, monitors
from gan_jax.evaluate.extractors import Extractor
from tests.evaluate.test_floor import images, of_classes
from tests.helpers import trained_gan

REAL, TEST = images(900, 1), images(400, 2)


def to_nearest(points: np.ndarray) -> np.ndarray:
    """By NumPy, in float64."""
    found: np.ndarray = np.linalg.norm(REAL[None].astype(float) - points[:, None], axis=-1).min(1)
    return found


@pytest.mark.parametrize("copied", [0, 30, 200])
def test_copies_are_counted_and_fresh_images_hardly(copied: int) -> None:
    fake = np.concatenate([REAL[:copied] + 1e-3, images(200 - copied, 3)])
    limit = monitors.nearness(REAL, TEST)
    assert limit == pytest.approx(np.quantile(to_nearest(TEST), 0.01), rel=1e-4)
    assert limit is not None
    found = monitors.memorised(REAL, fake, limit)
    assert found == (to_nearest(fake) < limit).mean()
    assert 0 <= found - copied / 200 < 0.04


def test_few_test_images_say_nothing() -> None:
    assert monitors.nearness(REAL, TEST[:99]) is None
    assert monitors.nearness(REAL, TEST[:100]) is not None


def test_evaluations_have_the_rate_and_that_of_fresh_images() -> None:
    def rows(_: Any, images: jax.Array) -> Any:
        return images.reshape(len(images), 8, 8).mean(2).astype(jnp.float32), jnp.zeros((len(images), 0))

    gan, state = trained_gan()
    unseen = np.random.default_rng(7).integers(0, 256, (120, 28, 28, 1), np.uint8)
    dataset = dataclasses.replace(of_classes([0] * 150, 0, side=28, tests=120), test_images=unseen)
    own = Extractor("own", lambda _, images: rows(_, images[:, :8, :8]), {})
    judge = Evaluator(gan, dataset, lambda: own, 50, jax.devices()[:1])
    figures = judge.figures(state)
    real, test, fake = (
        np.asarray(x)[:, :8, :8].reshape(-1, 8, 8).mean(2)
        for x in (dataset.train_images, dataset.test_images, judge.draw(state)[2])
    )

    def distance(points: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.linalg.norm(real[None] - points[:, None], axis=-1).min(1)
        return found

    assert figures["memorised"] == (distance(fake) < np.quantile(distance(test), 0.01)).mean()
    assert judge.floor["memorised"] == 0.01
    few = dataclasses.replace(dataset, test_images=unseen[:50], test_labels=dataset.test_labels[:50])
    lacking = Evaluator(gan, few, lambda: own, 50, jax.devices()[:1])
    assert "memorised" not in lacking.figures(state) | lacking.floor


@pytest.mark.parametrize(("share", "warned"), [(0.09, False), (0.34, True)])
def test_the_verdict_warns_of_much_that_is_learnt_by_heart(share: float, warned: bool) -> None:
    records = [{"step": step, "d_loss": 1.0, "g_loss": 1.0, "memorised": share} for step in range(100, 1100, 100)]
    verdict, why = monitors.verdict(records, 1000)
    assert verdict == "healthy"
    said = "warning: 34 % of the samples are nearer to a training image than 99 % of the test images are"
    assert why.startswith(said) == warned
    assert f"memorised {share}" in why
