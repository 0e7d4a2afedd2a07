"""What is drawn, for people and for figures, is what was asked for: by what is averaged, of each number and label.

The generator here writes what it is told into its images.
"""

import dataclasses
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

from gan_jax import build
from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState, init_state
from gan_jax.data import Dataset
from gan_jax.evaluate import Evaluator, classifier, gan_train, monitors
from gan_jax.evaluate.extractors import Extractor
from gan_jax.evaluate.sample import interpolate, row_labels, sample
from tests.helpers import small

CLASSES = 5
AVERAGED, CURRENT = 40, 200  # what the two kinds of weights, and of statistics, show
# The purposes of their random numbers, as keys know them.
SAMPLES, EVALUATION = (np.uint32(zlib.crc32(name)) for name in (b"samples", b"evaluation"))


class Told(nn.Module):
    """Images of 8x8: the latent in the first row; weight, label, mode and statistic at the end of the last."""

    @nn.compact
    def __call__(self, z: jax.Array, *, label: jax.Array, train: bool, axis_name: str | None = None) -> jax.Array:
        del axis_name
        weight = self.param("weight", nn.initializers.constant(CURRENT), ())
        mean = self.variable("batch_stats", "mean", lambda: jnp.float32(CURRENT))
        images = jnp.zeros((len(z), 8, 8)).at[:, 0].set(128 + 30 * jnp.clip(z, -4, 4))
        images = images.at[:, 7, 7].set(weight).at[:, 7, 6].set(10 * label).at[:, 7, 5].set(255 * train)
        images = images.at[:, 7, 4].set(mean.value)
        return images[..., None] / 127.5 - 1


def told() -> tuple[GAN, GANState]:
    config = small("gan")
    config.data.image_size = 8
    gan, hyper = build.build_gan(config)
    gan = dataclasses.replace(gan, generator=Told(), classes=CLASSES)
    state = jax.jit(init_state, static_argnums=0)(gan, 0, hyper)
    averaged = jax.tree.map(lambda leaf: jnp.full_like(leaf, AVERAGED), state.ema)
    return gan, state.replace(seed=jnp.uint32(9), averages={"ema": averaged})


def latents(seed: int, purpose: np.uint32, count: int) -> np.ndarray:
    """By the definition: normal, of the key that seed, purpose and number make."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    one = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (8,)))
    return np.asarray(one(jnp.arange(count)))


def check(images: np.ndarray, labels: np.ndarray, z: np.ndarray) -> None:
    """The images show these labels and latents, what is averaged, and the mode of evaluation."""
    assert images.shape == (len(labels), 8, 8, 1)
    assert set(images[:, 7, 7, 0]) == {AVERAGED}
    assert set(images[:, 7, 4, 0]) == {AVERAGED}
    assert set(images[:, 7, 5, 0]) == {0}
    assert_array_equal(images[:, 7, 6, 0], 10 * labels)
    assert_allclose(images[:, 0, :, 0], 128 + 30 * np.clip(z, -4, 4), atol=0.51)


# --- for people -------------------------------------------------------------------------------------------------------


def test_each_of_many_samples_is_of_its_own_number_and_label_by_the_averaged_weights() -> None:
    gan, state = told()
    labels = (np.arange(700) % CLASSES).astype(np.int32)  # no batch begins with the class that the first begins with
    check(sample(gan, state, 3, labels), labels, latents(3, SAMPLES, 700))
    assert_array_equal(row_labels(gan, 73), [i // 10 % CLASSES for i in range(73)])


def test_each_of_many_interpolations_goes_from_a_sample_of_its_own_to_the_next() -> None:
    gan, state = told()
    labels = (np.arange(600) // 10 % CLASSES).astype(np.int32)
    images, ends = interpolate(gan, state, 3, labels), latents(3, SAMPLES, 120).reshape(60, 2, 8)
    cosine = (ends[:, 0] * ends[:, 1]).sum(-1) / np.linalg.norm(ends, axis=-1).prod(-1)
    angle, t = np.arccos(cosine)[:, None, None], np.linspace(0, 1, 10)[None, :, None]
    z = (np.sin((1 - t) * angle) * ends[:, :1] + np.sin(t * angle) * ends[:, 1:]) / np.sin(angle)
    check(images, labels, z.reshape(600, 8))


# --- for figures ------------------------------------------------------------------------------------------------------


def two_features(_: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    return images[:, 0, :2, 0].astype(jnp.float32), jnp.zeros((len(images), 0))


def dataset(seed: int = 0) -> Dataset:
    """350 random images in the order of their classes, of which there are 200, 100 and 50; others to test on."""
    images = np.random.default_rng(seed).integers(0, 256, (350, 8, 8, 1), np.uint8)
    test = np.random.default_rng(99).integers(0, 256, (40, 8, 8, 1), np.uint8)
    labels = np.repeat(np.arange(3), (200, 100, 50)).astype(np.int32)
    return Dataset("noise", images, labels, test, np.zeros(40, np.int32), 3)


def judge(gan: GAN, data: Dataset, cache: Path | None = None, devices: int = 1, samples: int = 350) -> Evaluator:
    return Evaluator(gan, data, lambda: Extractor("two", two_features, {}), samples, jax.devices()[:devices], cache)


@pytest.mark.parametrize("devices", [1, 2])
def test_what_is_judged_is_drawn_by_the_averaged_weights_with_labels_as_the_data_has_them(devices: int) -> None:
    gan, state = told()
    features, _, images = judge(gan, dataset(), devices=devices, samples=690).draw(state)  # no whole number of shards
    shown = images[:, 7, 6, 0] // 10
    assert_array_equal(np.bincount(shown[:350]), [200, 100, 50])
    assert_array_equal(shown[350:], shown[:340])
    assert_allclose(np.bincount(shown[:140], minlength=3), [80, 40, 20], atol=14)  # mixed, whatever their order there
    check(images, shown, latents(9, EVALUATION, 690))
    assert_array_equal(features, images[:, 0, :2, 0])


def test_samples_of_one_kind_are_precise_and_recall_little() -> None:
    gan, state = told()
    evaluator = judge(gan, dataset())
    fake = evaluator.real[:1] + np.random.default_rng(1).normal(size=(350, 2)) * 1e-2
    figures = evaluator.figures(state, (fake, np.zeros((350, 0)), np.zeros((350, 8, 8, 1), np.uint8)))
    assert figures["precision[two]"] == 1
    assert figures["recall[two]"] < 0.05
    assert figures["density[two]"] > 0.5
    assert figures["coverage[two]"] < 0.1


def test_features_that_are_kept_are_those_of_the_same_data(tmp_path: Path) -> None:
    gan, _ = told()
    for seed in (0, 1, 0):
        data = dataset(seed)
        evaluator = judge(gan, data, tmp_path)
        assert_array_equal(evaluator.real, data.train_images[evaluator.train_numbers][:, 0, :2, 0])


# --- classifiers ------------------------------------------------------------------------------------------------------


def test_each_accuracy_of_gan_train_is_of_its_own_two_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(images: Any, labels: np.ndarray) -> str:
        """Which set it is, images with labels: each has a grey of its own in all of them."""
        assert len(images) == len(labels)
        greys = images[np.arange(len(images))][:, 0, 0, 0]
        assert_array_equal(greys // 10, labels + 5)
        return "".join(sorted({{0: "train", 1: "test", 2: "drawn"}[int(grey) % 10] for grey in greys}))

    def images(kind: int, labels: np.ndarray) -> np.ndarray:
        return np.broadcast_to((10 * (labels + 5) + kind)[:, None, None, None], (len(labels), 2, 2, 1)).astype(np.uint8)

    labels = [np.arange(n).astype(np.int32) % 3 for n in (12, 6, 9)]
    data = Dataset("x", images(0, labels[0]), labels[0], images(1, labels[1]), labels[1], 3)
    monkeypatch.setattr(classifier, "fit", lambda images, labels, classes, seed: (of(images, labels), classes, seed))
    shares: dict[tuple[str, str], float] = {
        ("train", "test"): 0.5,
        ("train", "drawn"): 0.25,
        ("drawn", "test"): 0.75,
        ("drawntrain", "test"): 0.125,
    }

    def accuracy(variables: Any, images: Any, labels: np.ndarray) -> float:
        learnt, classes, seed = variables
        assert classes == 3
        share: float = shares[learnt, of(images, labels)] + 0.01 * seed
        return share

    monkeypatch.setattr(classifier, "accuracy", accuracy)
    found = gan_train(data, images(2, labels[2]), labels[2], 3)
    for name, share in (("real_train", 0.5), ("gan_test", 0.25), ("gan_train", 0.75), ("augmented", 0.125)):
        assert found[name] == pytest.approx(share + 0.01)
        assert found[f"{name}_std"] == pytest.approx(0.01 * (2 / 3) ** 0.5)


def test_a_classifier_that_learns_drops_half_of_its_features_others_in_each_step() -> None:
    module = classifier.Classifier(2)
    images, labels = np.zeros((64, 4, 4, 1), np.uint8), np.arange(64) % 2
    params: Any = jax.tree.map(
        jnp.zeros_like,
        jax.jit(module.init, static_argnames="train")(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)[
            "params"
        ],
    )
    params["Dense_0"]["bias"] += 1.0  # so that all features are 1
    params["Dense_1"]["kernel"] += jnp.asarray([1.0, 0.0])  # and the first logit is their sum
    x = jnp.zeros((64, 4, 4, 1))
    features, logits = classifier.apply({"params": params}, jnp.zeros_like(x, jnp.uint8))
    assert_allclose(features, 1)
    assert_allclose(logits[:, 0], 128)
    dropped: Any = module.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(1)})
    sums = np.asarray(dropped[1][:, 0])
    assert abs(sums.mean() - 128) < 5  # kept ones count twice: mean 128, deviation sqrt(128) of each
    assert 8 < sums.std() < 15

    def gradient(step: int) -> Any:
        """Adam's first moment after one step, a tenth of the gradient."""
        copy: Any = jax.tree.map(jnp.copy, params)
        opt_state = optax.adam(1e-3).init(copy)
        _, after = classifier._step(module, copy, opt_state, images, labels, jax.random.key(0), step)
        return 10 * np.asarray(after[0].mu["Dense_1"]["kernel"])

    first, second = gradient(0), gradient(1)
    assert len(np.unique(first.round(6))) > 20  # without dropout all features are alike
    assert np.abs(first - second).max() > 0.1


def test_a_classifier_sees_each_image_once_an_epoch_for_300_steps_in_its_seeds_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, labels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1).repeat(4, 1).repeat(4, 2), np.arange(256)

    def seen(seed: int) -> np.ndarray:
        batches: list[np.ndarray] = []
        keys: list[Any] = []

        def step(module: Any, params: Any, opt_state: Any, images: Any, labels: Any, key: Any, step: int) -> Any:
            assert step == len(batches)
            assert_array_equal(images[:, 0, 0, 0], labels)
            batches.append(labels)
            keys.append(jax.random.key_data(key))
            return params, opt_state

        monkeypatch.setattr(classifier, "_step", step)
        classifier.fit(images, labels, 256, seed)
        assert_array_equal(np.unique(keys, axis=0), [jax.random.key_data(jax.random.key(seed))])
        return np.stack(batches)

    first, second = seen(0), seen(1)
    assert first.shape == (300, 128)
    for order in (first, second):
        assert_array_equal(np.sort(order.reshape(150, 256)), np.tile(labels, (150, 1)))
    assert (first == second).mean() < 0.02


# --- monitors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("apart", "share"), [(0.5, 1.0), (1.5, 0.0), (1e-3, 1.0)])
def test_a_duplicate_has_another_nearer_than_reals_have_and_itself_is_none(apart: float, share: float) -> None:
    reals = np.stack([np.arange(200.0), np.zeros(200)], 1)  # each 1 from the next
    pairs = np.stack([np.repeat(np.arange(100) * 10.0, 2), np.tile([0, apart], 100)], 1)
    assert monitors.duplicates(reals, pairs) == share
