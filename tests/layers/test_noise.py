"""Noise in layers: each example's own, wherever it is computed; and parameters that stay as they are."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from gan_jax.core import optimizers
from gan_jax.core.draw import options_of
from gan_jax.core.networks import call
from gan_jax.core.randomness import example_keys
from gan_jax.layers.noise import Noise


class Two(nn.Module):
    """Two layers of noise, whose strengths are 1."""

    @nn.compact
    def __call__(self, x: Any, *, train: bool, keys: Any = None, noise_mode: str = "random") -> Any:
        return Noise(name="first")(x, keys, noise_mode), Noise(name="second")(x, keys, noise_mode)


KEYS = example_keys(jax.random.key(3), jnp.arange(8))
X = jnp.zeros((8, 16, 16, 2))


@pytest.fixture(scope="module")
def variables() -> Any:
    begun = Two().init(jax.random.key(0), X, train=True, keys=KEYS)
    assert all(float(leaf) == 0 for leaf in jax.tree.leaves(begun["params"]))
    return {**begun, "params": jax.tree.map(jnp.ones_like, begun["params"])}


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_noise_is_the_same_on_any_number_of_devices(devices: int, variables: Any) -> None:
    def apply(x: Any, keys: Any) -> Any:
        return call(Two(), variables, x, train=True, keys=keys, axis_name="d")

    spread = [leaf.reshape(devices, -1, *leaf.shape[1:]) for leaf in (X, KEYS)]
    found = jax.pmap(apply, "d", devices=jax.devices()[:devices])(*spread)
    for ours, whole in zip(found, jax.jit(partial(apply))(X, KEYS), strict=True):
        assert_array_equal(np.reshape(ours, whole.shape), whole)


def test_each_layer_and_each_example_has_a_map_of_its_own_one_for_all_channels(variables: Any) -> None:
    first, second = call(Two(), variables, X, train=True, keys=KEYS)
    assert_array_equal(first[..., 0], first[..., 1])
    maps = np.concatenate([np.asarray(one[..., 0]).reshape(8, -1) for one in (first, second)])
    assert np.abs(np.corrcoef(maps) - np.eye(16)).max() < 0.25
    assert stats.kstest(maps.ravel(), "norm").pvalue > 0.01


def test_noise_can_be_one_map_for_all_or_none(variables: Any) -> None:
    const = call(Two(), variables, X, train=False, noise_mode="const")[0]
    assert_array_equal(const, np.broadcast_to(const[:1], const.shape))
    assert np.asarray(const).std() > 0.5
    assert_array_equal(call(Two(), variables, X, train=False, noise_mode="none")[0], X)
    with pytest.raises(ValueError, match="noise_mode must be one of random, const, none"):
        call(Two(), variables, X, train=False, keys=KEYS, noise_mode="some")


def test_frozen_parameters_stay_and_others_move_as_without() -> None:
    params = {"Conv_0": {"kernel": jnp.ones(3)}, "Dense_0": {"kernel": jnp.ones(3), "bias": jnp.ones(2)}}
    gradient = jax.tree.map(lambda p: 0.5 + 0 * p, params)

    def moved(**options: Any) -> Any:
        optimizer = optimizers.Recipe("sgd", **options)(0.1)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    free, held = moved(), moved(frozen=("Conv_0", r".*\.bias"))
    assert_array_equal(held["Conv_0"]["kernel"], params["Conv_0"]["kernel"])
    assert_array_equal(held["Dense_0"]["bias"], params["Dense_0"]["bias"])
    assert_allclose(held["Dense_0"]["kernel"], free["Dense_0"]["kernel"])
    assert_allclose(free["Conv_0"]["kernel"], 0.95)


def test_options_of_drawing_are_the_priors_and_the_networks() -> None:
    from gan_jax.build import build_gan
    from tests.helpers import small

    gan, _ = build_gan(small("gan"))
    assert options_of(gan) == ({"truncation": None}, {})
