"""What samples are drawn with: averages of the generator's parameters and statistics (`GANState.ema`)."""

import importlib
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from numpy.testing import assert_allclose

from gan_jax import build, data
from gan_jax.core.gan import GAN, with_leaf
from gan_jax.core.state import GANState, init_state
from gan_jax.core.update import update
from gan_jax.evaluate import Evaluator, find, sample
from gan_jax.evaluate.held_out import held_out
from gan_jax.util.errors import UserError
from tests.helpers import MEANS, NAMES, data_options, small, start


def with_all_kinds(name: str) -> ConfigDict:
    """A GAN of dense layers whose generator has parameters, running statistics and singular vectors."""
    config = small(name)
    config.generator.update({"norm": "batch", "spectral": True})
    config.averages.ema.decay = 0.15
    return config


@pytest.mark.parametrize("name", NAMES)
def test_averages_are_short_beside_the_run(name: str) -> None:
    """Half of an average is of the last 4 % of the steps or less, and of 10 steps or more."""
    module = importlib.import_module(f"configs.{name}")
    for dataset in ("mnist5k", "cifar10", "folder", "folder@128"):
        try:
            config = module.get_config(dataset)
        except UserError:  # it has no networks of that side
            continue
        own = config.averages.ema
        half = math.log(0.5) / math.log(own.decay)
        if own.rule == "half_life":
            ends = [entry.final for entry in config.schedules.values() if entry.key == "averages.ema.half_life"]
            half = (*ends, own.half_life)[0] / config.batch_size / config.d_steps
        if name in ("r3gan", "biggan") and dataset != "mnist5k":
            continue  # whose average is as long as published
        assert 10 < half < 0.04 * config.steps


def averages_alone(name: str) -> tuple[GAN, GANState]:
    """A state whose generator is of no use: who needs it finds NaN. Its averages are what no training made."""
    gan, hyper = build.build_gan(with_all_kinds(name))
    state = init_state(gan, 0, hyper)
    rng = np.random.default_rng(0)
    ema = jax.tree.map(lambda leaf: leaf + np.abs(rng.normal(scale=0.3, size=leaf.shape)).astype(leaf.dtype), state.ema)
    return gan, state.replace(
        averages={"ema": ema}, generator=jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.generator)
    )


def as_uint8(images: Any) -> np.ndarray:
    found: np.ndarray = np.clip(np.round((np.asarray(images, np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)
    return found


def assert_same_pictures(one: Any, other: np.ndarray) -> None:
    """But for a rounding here and there; and they show something."""
    difference = np.abs(np.asarray(one).astype(int) - other)
    assert difference.max() <= 1
    assert difference.mean() < 0.01
    assert other.std() > 5


def test_all_that_draws_draws_with_the_averages() -> None:
    gan, state = averages_alone("gan")
    labels = np.zeros(40, np.int32)
    z = sample.fixed_latents(gan, 3, 40)
    desired = as_uint8(jax.jit(lambda z: gan.generator.apply(state.ema, z, train=False))(z))
    assert_same_pictures(sample.grid(gan, state, 3, labels), desired)  # of a run's grids
    assert_same_pictures(sample.sample(gan, state, 3, labels), desired)
    assert_same_pictures(sample.interpolate(gan, state, 3, labels, columns=40)[[0, 39]], desired[:2])
    dataset = data.load(data_options(), None)
    judge = Evaluator(gan, dataset, find(MEANS, dataset, None), 40, jax.devices()[:1])
    features, _, images = judge.draw(state)
    drawn = np.asarray(images, np.float64).reshape(40, 4, 7, 4, 7).mean((2, 4)).reshape(40, 16)
    assert_allclose(features, drawn, rtol=1e-5)
    assert images.std() > 5


def test_reconstructions_are_by_the_averages() -> None:
    gan, state = averages_alone("aae")
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 1), np.uint8)
    code = jax.jit(lambda x: gan.generator.apply(state.ema, x, method="encode"))(images / np.float32(127.5) - 1)
    desired = as_uint8(jax.jit(lambda code: gan.generator.apply(state.ema, code, train=False))(code))
    assert_same_pictures(sample.reconstruct(gan, state, images, np.zeros(9, np.int32)), desired)


def test_what_d_says_is_of_the_newest_codes() -> None:
    """D plays against the newest encoder, whatever the average of it is."""
    gan, hyper = build.build_gan(with_all_kinds("aae"))
    state = init_state(gan, 0, hyper)
    lost = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.ema)
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 1), np.uint8)
    labelled = images, np.zeros(9, np.int32)
    found = held_out(gan, state.replace(averages={"ema": lost}), labelled, labelled)
    assert found == held_out(gan, state, labelled, labelled)
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("name", ["gan", "aae"])
def test_parameters_and_statistics_have_one_decay_and_singular_vectors_follow_their_average(name: str) -> None:
    """By NumPy, step by step; an autoencoder's encoder is part of it."""
    gan, state, batch = start(with_all_kinds(name))
    step = jax.jit(partial(update, gan))
    for t, decay in enumerate((0.15, 0.15, 0.0)):
        numbers = with_leaf(state.hyperparams, "averages.ema.decay", np.float32(decay))
        before = state.replace(hyperparams=numbers)
        state, _ = step(before, batch)
        d = min(decay, (1 + t) / (10 + t))
        for kind in ("params", "batch_stats"):
            old, new = before.generator.variables[kind], state.generator.variables[kind]
            desired = jax.tree.map(lambda a, p, d=d: d * a + (1 - d) * p, *jax.device_get((before.ema[kind], new)))
            jax.tree.map(partial(assert_allclose, rtol=1e-5, atol=1e-7), state.ema[kind], desired)
            assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), old, new)))
        leaves = jax.tree_util.tree_leaves_with_path(state.ema["params"])
        kernels = [(path[:-1], np.asarray(leaf, np.float64)) for path, leaf in leaves if path[-1].key == "kernel"]
        assert len(kernels) == len(jax.tree.leaves(state.ema["spectral"])) / 2
        for path, kernel in kernels:
            old, new = before.ema["spectral"], state.ema["spectral"]
            for key in path:
                old, new = old[key.key], new[key.key]
            v = kernel @ np.asarray(old["u"], np.float64)
            v /= np.linalg.norm(v)
            u = v @ kernel
            assert_allclose(new["v"], v, rtol=1e-4, atol=1e-5)
            assert_allclose(new["u"], u / np.linalg.norm(u), rtol=1e-4, atol=1e-5)
            assert np.abs(np.asarray(new["u"]) - np.asarray(old["u"])).max() > 1e-4
