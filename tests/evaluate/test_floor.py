"""What fresh images come to by the evaluation's figures, and features that can't be had, said before training."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import build
from gan_jax.data import Dataset
from gan_jax.data.order import shuffled
from gan_jax.evaluate import Evaluator, classifier, find, metrics, monitors
from gan_jax.evaluate.floor import bias, floor, fresh_fid
from gan_jax.util.errors import UserError
from tests.evaluate.test_metrics import frechet_by_scipy, manifold_by_hand
from tests.helpers import small, trained_gan

MIXED = np.random.default_rng(0).normal(size=(12, 12)) / 12**0.5


def images(count: int, seed: int) -> np.ndarray:
    """Features as if of images of one kind."""
    x: np.ndarray = np.maximum(np.random.default_rng(seed).normal(size=(count, 12)) @ MIXED + 0.3, 0)
    return x.astype(np.float32)


REAL = images(900, 1)


def by_numpy(fresh: np.ndarray) -> float:
    """FID of ``fresh`` against `REAL`."""
    return frechet_by_scipy(REAL, fresh)


@pytest.mark.parametrize("samples", [400, 3000])
def test_few_test_images_say_on_average_what_as_many_as_samples_would(samples: int) -> None:
    """Below half of the train images, and beyond all of them."""
    truth = np.mean([by_numpy(images(samples, 100 + i)) for i in range(10)])
    few = [images(60, 500 + i) for i in range(15)]
    uncorrected, found = (np.asarray([f(x) for x in few]) for f in (by_numpy, lambda x: fresh_fid(REAL, x, samples)))
    assert uncorrected.mean() > 4 * truth
    assert abs(found.mean() - truth) < 4 * found.std() / len(few) ** 0.5
    assert abs(found.mean() - truth) < 0.15 * uncorrected.mean()


def test_the_bias_is_that_of_parts_and_nothing_of_all() -> None:
    assert bias(REAL, 900) == 0
    rng = np.random.default_rng(9)
    parts = [by_numpy(REAL[rng.choice(900, 300, replace=False)]) for _ in range(60)]
    assert abs(bias(REAL, 300) - np.mean(parts)) < 4 * np.std(parts) / 32**0.5
    assert bias(REAL, 600) == pytest.approx(bias(REAL, 450) * (1 / 600 - 1 / 900) / (1 / 450 - 1 / 900), rel=1e-9)


def test_as_many_test_images_as_samples_are_taken_as_they_are() -> None:
    test, logits = images(80, 2), np.random.default_rng(3).normal(size=(80, 4)) * 3
    found = floor(REAL, test, logits, 50)
    assert found["images"] == 50
    chosen = shuffled(80, 1)[:50]
    assert len(set(chosen)) == 50
    fresh = test[chosen]
    assert found["fid"] == pytest.approx(by_numpy(fresh), rel=1e-5)
    by_hand = manifold_by_hand(REAL[:50], fresh, 3, 5)
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand)
    assert found["inception_score"] == metrics.inception_score(logits[chosen], 10)[0]
    assert found["duplicates"] == monitors.duplicates(REAL[:50], fresh)
    assert abs(found["kid"]) < 1
    assert found["mind"] == metrics.monge_distance(REAL, fresh)


def test_fewer_compare_with_as_many_and_their_score_has_parts_of_the_samples_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "kernel_distance", lambda *_: (0.0, 0.0))
    test, logits = images(50, 2), np.random.default_rng(3).normal(size=(50, 4)) * 3
    chosen = shuffled(50, 1)
    found = floor(REAL, test, logits, 250)  # whose Inception score has 10 parts of 25
    assert found["images"] == 50
    assert "fid" not in found  # so few say nothing of it
    assert "fid" in floor(REAL, images(100, 2), np.zeros((100, 0)), 250)
    assert found["coverage"] == pytest.approx(manifold_by_hand(REAL[:50], test[chosen], 3, 5)["coverage"])
    assert found["inception_score"] == metrics.inception_score(logits[chosen], 2)[0]
    assert "inception_score" not in floor(REAL, test, np.zeros((50, 0)), 250)


def test_hardly_any_test_images_say_nothing() -> None:
    assert floor(REAL, images(9, 2), np.zeros((9, 0)), 100) == {}
    assert floor(REAL, np.zeros((0, 0), np.float32), np.zeros((0, 0)), 100) == {}


# --- features ---------------------------------------------------------------------------------------------------------


def of_classes(labels: Any, classes: int, side: int = 8, tests: int = 0) -> Dataset:
    count = len(labels)
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 1), np.uint8)
    held = np.zeros((tests, side, side, 1), np.uint8), np.zeros(tests, np.int32)
    return Dataset("x", pixels, np.asarray(labels, np.int32), *held, classes)


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (of_classes([0] * 20, 0), "x has none"),
        (of_classes([0] * 20, 1), "those of x are of one class"),
        (of_classes([3] * 20, 4), "those of x are of one class"),
    ],
)
def test_no_classifier_is_trained_on_less_than_two_classes(dataset: Dataset, why: str) -> None:
    assert find("auto", dataset, None) is None
    wanted = f"needs labels of two classes or more, and {why}: set it to random or inception"
    with pytest.raises(UserError, match=re.escape(wanted)):
        find("classifier", dataset, None)
    said = Evaluator(trained_gan()[0], dataset, None, 40, jax.devices()[:1]).description
    assert said.startswith(
        "only what D says of images seen and unseen; for FID and the like set config.eval.features to random or inc"
    )
    assert f"{why}; auto takes random from 10 images on, to train and to test on)" in said
    two = dataclasses.replace(dataset, train_labels=np.arange(20, dtype=np.int32) % 2, classes=2)
    assert find("auto", two, None) is not None


@pytest.mark.parametrize(
    ("classes", "train", "tests", "kind"),
    [(2, 20, 0, "classifier"), (0, 10, 10, "random"), (1, 20, 10, "random"), (0, 20, 9, ""), (0, 9, 20, "")],
)
def test_auto_takes_the_classifier_with_labels_and_else_random_features_of_enough_images(
    classes: int, train: int, tests: int, kind: str
) -> None:
    dataset = of_classes(np.arange(train) % max(classes, 1), classes, tests=tests)
    give = find("auto", dataset, None)
    assert (give is None) == (not kind)
    config = small("gan")
    config.eval.features = "auto"
    judge = build.build_evaluator(config, trained_gan()[0], dataset, None, jax.devices()[:1])
    said = {
        "classifier": "40 samples",
        "random": "40 samples by random features (a classifier needs labels of two classes or more, and ",
        "": "only what D says of images seen and unseen; for FID and the like set config.eval.features to random or ",
    }[kind]
    assert judge.description == said if kind == "classifier" else judge.description.startswith(said)
    assert "\n" not in judge.description
    if kind == "random":
        assert judge.extractor is not None
        assert judge.extractor.name.startswith("random:vgg16:")


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_the_classifier_takes_images_of_any_side(side: int) -> None:
    module = classifier.Classifier(3)
    shapes = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False), jnp.zeros((6, side, side, 3))
    )
    (features, logits), variables = shapes
    assert (features.shape, logits.shape) == ((6, 128), (6, 3))
    assert variables["params"]["Dense_0"]["kernel"].shape == (64, 128)  # of one pixel that is left


def quarters(x: jax.Array) -> jax.Array:
    """Features that images of less than 4 pixels haven't."""
    return x.reshape(len(x), 4, -1, x.shape[2]).mean((1, 2))


def nothing_of(x: jax.Array) -> jax.Array:
    """No features."""
    return x.reshape(len(x), -1)[:, :0]


def test_a_function_that_fails_on_such_images_is_refused_before_training() -> None:
    name = "tests.evaluate.test_floor:quarters"
    assert find(name, of_classes([0] * 20, 0), None) is not None
    with pytest.raises(
        UserError, match=rf"eval.features={name} fails on images of 3x3x1: .*, line \d+: TypeError: "
    ) as error:
        find(name, of_classes([0] * 20, 0, side=3), None)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="gives no features"):
        find("tests.evaluate.test_floor:nothing_of", of_classes([0] * 20, 0), None)
