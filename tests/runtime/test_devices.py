"""The number of devices changes nothing but the time it takes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import build, layers
from gan_jax.core import randomness
from gan_jax.core.state import GANState, init_state
from gan_jax.data import feed
from gan_jax.data.order import sample_index
from gan_jax.runtime import placement, program
from gan_jax.util.errors import UserError
from tests.helpers import FOUNDING, distance, small, trained


@pytest.fixture
def float64(config: ConfigDict) -> Any:
    """``config`` in float64, and JAX in 64-bit mode while the test runs."""
    config.compute_dtype = "float64"
    with jax.enable_x64(True):
        yield config


@pytest.mark.parametrize(
    ("config", "counts"),
    [("gan", (8,)), *(pytest.param(name, (2, 4, 8), marks=pytest.mark.slow) for name in FOUNDING)],
    indirect=["config"],
)
def test_float64_training_is_the_same_on_1_2_4_and_8_devices(float64: ConfigDict, counts: tuple[int, ...]) -> None:
    reference = trained(float64, 1)
    assert jax.tree.leaves(reference.generator.params)[0].dtype == np.float64
    for devices in counts:
        final = trained(float64, devices)
        for part in ("generator", "discriminator", "ema"):
            assert distance(getattr(reference, part), getattr(final, part)) < 1e-10, f"{part} on {devices} devices"


@pytest.mark.parametrize(
    ("devices", "key", "value"),
    [
        (2, "parallel.logical_shards", 4),
        (2, "seed", 1),
        (1, "data.device_budget_mb", 1),
    ],
)
@pytest.mark.slow
def test_what_is_chosen_for_all_steps_at_once_is_what_each_step_chooses(
    devices: int, key: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def final() -> GANState:
        config = small("gan")
        config.update_from_flattened_dict({key: value})
        return trained(config, devices)

    step_by_step = final()
    monkeypatch.setattr(program, "on_cpu", lambda: False)
    assert distance(step_by_step, final()) == 0


def keyed_to_the_device(keys: Callable[..., Any]) -> Callable[..., Any]:
    """``keys`` by the index within the device in place of the global one: the fault that the test above is for."""
    return lambda key, index: keys(key, jnp.arange(index.shape[0], dtype=index.dtype))


@pytest.mark.slow
def test_noise_keyed_to_the_device_is_noticed(float64: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = trained(float64, 1)
    monkeypatch.setattr("gan_jax.core.gan.example_keys", keyed_to_the_device(randomness.example_keys))
    assert distance(reference.generator.params, trained(float64, 2).generator.params) > 1e-4


@pytest.mark.slow
def test_data_keyed_to_the_device_is_noticed(float64: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = trained(float64, 1)
    honest = sample_index

    def by_place(step: Any, index: Any, *rest: Any, **others: Any) -> Any:
        return honest(step, jnp.arange(index.shape[0]), *rest, **others)

    monkeypatch.setattr(feed, "sample_index", by_place)
    assert distance(reference.generator.params, trained(float64, 2).generator.params) > 1e-4


@pytest.mark.slow
def test_float32_divergence_is_reported(config: ConfigDict, record_property: Callable[[str, object], None]) -> None:
    """Measured, not asserted: rounding flips activations near a kink, and Adam's first steps are sign-like."""
    one, eight = trained(config, 1), trained(config, 8)
    figure = distance(one.generator.params, eight.generator.params)
    record_property("float32_divergence_1_to_8_devices", figure)
    print(f"{config.model}: float32, 10 steps, 1 against 8 devices: parameters differ by {figure:.2e} of the largest")
    assert np.isfinite(figure)


def test_a_batch_that_the_devices_do_not_divide_names_the_nearest_that_they_do() -> None:
    with pytest.raises(UserError, match=r"batch_size 100 .* 8 devices.* 96 or 104"):
        placement.shard_index(100, 8)
    with pytest.raises(UserError, match="nearest that is: 8"):
        placement.shard_index(3, 8)


def test_a_mean_over_devices_is_that_of_every_leaf_and_small_ones_go_as_one() -> None:
    rng = np.random.default_rng(0)
    tree = {
        "few": rng.normal(size=(4, 3, 5)).astype(np.float32),
        "many": rng.normal(size=(4, 101, 100)).astype(np.float32),
        "half": rng.integers(-8, 8, (4, 6)).astype(jnp.bfloat16),  # whose means are exact
        "one": np.arange(4, dtype=np.float32),
        "none": (),
    }
    over = jax.pmap(partial(layers.cross_device_mean, axis_name="d"), "d", devices=jax.devices()[:4])
    found = jax.device_get(over(tree))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    for mean, each in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        expected = np.broadcast_to(each.astype(np.float64).mean(0), each.shape)
        np.testing.assert_allclose(mean.astype(np.float64), expected, rtol=0, atol=1e-6)
    assert over.lower(tree).as_text().count("stablehlo.all_reduce") == 2
    assert over({"many": tree["many"]}).keys() == {"many"}  # no small ones
    assert layers.cross_device_mean(tree, None) is tree


def test_the_state_has_no_device_axis_and_is_donated() -> None:
    config = small("gan")
    gan, hyper = build.build_gan(config)
    devices = jax.devices()[:2]
    fed = build.build_feed(config, gan, build.build_dataset(config, None), devices)
    chunk = program.compile_chunk(gan, fed.fetch, fed.capacity, devices)
    before = placement.replicated(init_state(gan, 0, hyper), devices)
    shapes = jax.tree.map(jnp.shape, before)
    after, _ = chunk(before, 1, fed.data, fed.nothing)
    assert jax.tree.map(jnp.shape, after) == shapes
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.generator.params))
