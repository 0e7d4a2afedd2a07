"""Standing statistics: the plain means of each batch's own, by NumPy; of the data's labels; of whatever is drawn."""

import dataclasses
import zlib
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

from gan_jax import build
from gan_jax.core import standing
from gan_jax.core.gan import GAN, Variables
from gan_jax.core.state import GANState, init_state, named_leaves
from gan_jax.data import Dataset
from gan_jax.evaluate import Evaluator
from gan_jax.evaluate.extractors import Extractor
from gan_jax.evaluate.sample import sample
from gan_jax.evaluate.sampling import Sampling, of_evaluations, read
from gan_jax.layers import BatchNorm
from gan_jax.util.errors import UserError
from tests.helpers import small

N, COUNTS = 3, np.asarray([60, 30, 0, 10])


class TwoNorms(nn.Module):
    """Images of 8x8, of two layers with batch norm; the first is told of the label."""

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool, label: jax.Array, axis_name: str | None = None) -> jax.Array:
        x = jnp.concatenate([nn.Dense(5)(z), jax.nn.one_hot(label, 4)], 1)
        x = nn.relu(BatchNorm()(x, train=train, axis_name=axis_name))
        x = BatchNorm()(nn.Dense(64)(x).reshape(-1, 8, 8, 1), train=train, axis_name=axis_name)
        return jnp.tanh(x)


@cache
def two() -> tuple[GAN, GANState]:
    config = small("gan")
    config.data.image_size = 8
    gan, hyper = build.build_gan(config)
    gan = dataclasses.replace(gan, generator=TwoNorms(), classes=4)
    state = init_state(gan, 7, hyper)
    return gan, state.replace(averages={"ema": jax.tree.map(lambda leaf: leaf + 0.1, state.ema)})


def keys_of(seed: int, purpose: str) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), np.uint32(zlib.crc32(purpose.encode())))
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(64 * N))


def by_hand(variables: Variables, seed: int, bound: float = np.inf) -> Any:
    """Means over N batches of 64 of each layer's mean and unbiased variance; and the labels."""
    kernels = [{k: np.asarray(v, np.float64) for k, v in variables["params"][f"Dense_{i}"].items()} for i in (0, 1)]
    scales = [{k: np.asarray(v, np.float64) for k, v in variables["params"][f"BatchNorm_{i}"].items()} for i in (0, 1)]
    found: list[list[np.ndarray]] = [[], [], [], []]

    def latent(key: jax.Array) -> jax.Array:
        return (
            jax.random.normal(key, (8,)) if bound == np.inf else jax.random.truncated_normal(key, -bound, bound, (8,))
        )

    latents = np.asarray(jax.vmap(latent)(keys_of(seed, "standing")), np.float64)
    drawn = jax.vmap(jax.random.uniform)(keys_of(seed, "standing_labels"))
    labels = np.searchsorted(np.cumsum(COUNTS) / COUNTS.sum(), np.asarray(drawn), side="right")
    for batch in range(N):
        z, label = (of[64 * batch : 64 * batch + 64] for of in (latents, labels))
        x = np.concatenate([z @ kernels[0]["kernel"] + kernels[0]["bias"], np.eye(4)[label]], 1)
        found[0].append(x.mean(0))
        found[1].append(x.var(0, ddof=1))
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * scales[0]["scale"] + scales[0]["bias"]
        x = np.maximum(x, 0) @ kernels[1]["kernel"] + kernels[1]["bias"]
        found[2].append(x.mean(keepdims=True)[0])
        found[3].append(x.var(ddof=1, keepdims=True)[0])
    return [np.mean(one, 0) for one in found], labels


def statistics(variables: Variables) -> list[np.ndarray]:
    layers = [variables["batch_stats"][f"BatchNorm_{i}"] for i in (0, 1)]
    return [np.asarray(layer[name]) for layer in layers for name in ("mean", "var")]


def over(seed: int, **options: Any) -> Variables:
    gan, state = two()
    one = jax.jit(lambda i: standing.moments(gan, state.ema, i, seed=seed, counts=jnp.asarray(COUNTS), **options))
    return standing.with_moments(state.ema, jax.tree.map(lambda *own: jnp.stack(own), *map(one, range(N))))


@pytest.mark.parametrize(("seed", "options"), [(7, {}), (8, {"truncation": 0.5})])
def test_they_are_the_means_over_batches_of_each_batchs_own(seed: int, options: dict[str, float]) -> None:
    _, state = two()
    found = over(seed, **options)
    desired, labels = by_hand(state.ema, seed, options.get("truncation", np.inf))
    for actual, wanted in zip(statistics(found), desired, strict=True):
        assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
    assert_array_equal(found["params"]["Dense_0"]["kernel"], state.ema["params"]["Dense_0"]["kernel"])
    assert_allclose(np.bincount(labels, minlength=4) / (64 * N), COUNTS / 100, atol=0.12)
    assert set(labels) == {0, 1, 3}  # the third has no images


def test_labels_are_as_frequent_as_in_the_data() -> None:
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(standing.labels(jnp.asarray([0, 6000, 3000, 0, 1000, 0]), keys))
    assert_allclose(np.bincount(drawn, minlength=6) / 20_000, [0, 0.6, 0.3, 0, 0.1, 0], atol=0.015)
    assert set(drawn) == {1, 2, 4}
    assert not np.asarray(standing.labels(jnp.ones(1), keys)).any()


# --- what is drawn with them ------------------------------------------------------------------------------------------


def test_what_is_judged_and_sampled_is_drawn_with_them_on_any_number_of_devices() -> None:
    gan, state = two()
    labels = np.repeat(np.arange(4), COUNTS).astype(np.int32)
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), np.uint8)
    data = Dataset("noise", images, labels, images[:20], labels[:20], 4)

    def features(_: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        return images[:, 0, :2, 0].astype(jnp.float32), jnp.zeros((len(images), 0))

    def drawn(state: GANState, devices: int, how: Sampling) -> np.ndarray:
        own = Extractor("two", features, {})
        return Evaluator(gan, data, lambda: own, 60, jax.devices()[:devices], how=how).draw(state)[2]

    how = read(gan, f"standing={N}", "x")
    on_one = drawn(state, 1, how)
    assert_array_equal(drawn(state, 8, how), on_one)
    given = state.replace(averages={"ema": over(7)})
    off_by_one = np.abs(drawn(given, 1, Sampling()).astype(int) - on_one)
    assert off_by_one.max() <= 1
    assert off_by_one.mean() < 0.01
    assert np.abs(drawn(state, 1, Sampling()).astype(int) - on_one).mean() > 5
    samples = [
        sample(gan, one, 3, labels, how=way, counts=COUNTS).astype(int)
        for one, way in ((state, how), (given, Sampling()))
    ]
    assert np.abs(samples[0] - samples[1]).max() <= 1
    assert on_one.std() > 5


@pytest.mark.parametrize("remat", [False, True])
def test_layers_that_a_draw_does_not_use_keep_theirs(remat: bool) -> None:
    config = small("aae")
    config.generator.update({"norm": "batch", "remat": remat})
    gan, hyper = build.build_gan(config)

    def both() -> Any:
        variables = init_state(gan, 0, hyper).ema
        return variables, standing.moments(gan, variables, 0, seed=0, counts=jnp.ones(1))

    variables, found = jax.eval_shape(both)
    before = jax.tree.map(lambda leaf: np.zeros(leaf.shape), variables)
    before["batch_stats"]["encoder"] = {"mean": np.zeros(3)}
    given = standing.with_moments(before, jax.tree.map(lambda leaf: np.ones((2, *leaf.shape)), found))
    assert named_leaves(given).keys() == named_leaves(before).keys()
    renewed = {name.split(".")[1] for name, leaf in named_leaves(given).items() if np.asarray(leaf).any()}
    assert renewed == {"decoder"}


def test_who_has_none_is_told_so_in_one_line() -> None:
    config = small("gan")
    config.eval.standing = 4
    assert of_evaluations(two()[0], config.eval).standing == 4
    assert of_evaluations(two()[0], config.eval, "truncation=.5") == Sampling((("truncation", 0.5),), 4)
    assert of_evaluations(two()[0], config.eval, "standing=0") == Sampling()
    assert str(read(two()[0], "standing=16 truncation=0.5", "x")) == "truncation=0.5 standing=16"
    with pytest.raises(UserError, match=r"x: standing must be a whole number from 0 up, not 1.5"):
        read(two()[0], "standing=1.5", "x")
    without = small("gan")
    without.generator.norm = "none"
    gan, _ = build.build_gan(without)
    said = r"standing=4: this GAN's generator has no statistics of batches, as batch norm has: leave it out"
    with pytest.raises(UserError, match=f"^--sampling: {said}$"):
        read(gan, "standing=4", "--sampling")
    without.eval.standing = 4
    with pytest.raises(UserError, match=rf"^config\.eval\.{said}$"):
        build.build_gan(without)
