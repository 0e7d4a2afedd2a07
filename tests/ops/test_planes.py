"""Maps with channels before pixels: against products of pixels, and `resample`, which is tested against SciPy."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import grouped, planes, resample
from tests.ops.test_grouped import twice

Array = Any
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("pixels", "shape"), [(20, (6, 8, 1)), (40, (3, 8, 2)), (10**6, (1, 8, 6))])
def test_convolutions_next_to_it_are_products_of_pixels(
    monkeypatch: pytest.MonkeyPatch, pixels: int, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(planes, "_PIXELS", pixels)
    x, *kernels = (RNG.normal(size=size) for size in ((6, 4, 5, 3), (3, 8), (8, 7), (7, 2)))

    def block(x: Array, first: Array, middle: Array, last: Array) -> Array:
        return planes.leave(jnp.tanh(planes.within(planes.enter(x, first), middle)), last)

    def plain(x: Array, first: Array, middle: Array, last: Array) -> Array:
        return jnp.tanh(x @ first @ middle) @ last

    with jax.enable_x64(True):
        assert jax.eval_shape(lambda *a: planes.enter(*a), x, kernels[0]).shape == (*shape, 4, 5)
        ours, theirs = (jax.jit(partial(twice, function))(x, *kernels) for function in (block, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), ours, theirs)


@pytest.mark.parametrize("pixels", [20, 100, 10**6])  # so that the larger map has more parts, and as many
@pytest.mark.parametrize("name", ["up", "down"])
def test_resampling_is_that_of_images(monkeypatch: pytest.MonkeyPatch, name: str, pixels: int) -> None:
    monkeypatch.setattr(planes, "_PIXELS", pixels)
    x = RNG.normal(size=(6, 4, 6, 3))

    def ours(x: Array) -> Array:
        return planes.plain(getattr(planes, name)(planes.laid(x)))

    with jax.enable_x64(True):
        mine, theirs = (jax.jit(partial(twice, function))(x) for function in (ours, getattr(resample, name)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), mine, theirs)


def test_elsewhere_a_map_is_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "on_cpu", lambda: False)
    x, kernel = jnp.asarray(RNG.normal(size=(6, 4, 6, 3))), jnp.asarray(RNG.normal(size=(3, 2)))
    assert planes.channels() == 3
    for found, expected in (
        (planes.laid(x), x),
        (planes.plain(x), x),
        (planes.within(x, kernel), planes.enter(x, kernel)),
        (planes.up(x), resample.up(x)),
        (planes.down(x), resample.down(x)),
    ):
        np.testing.assert_array_equal(found, expected)


def test_bfloat16_is_rounded_once() -> None:
    """Values and gradients are float32's, within a rounding."""

    def slope(shape: tuple[int, ...]) -> Array:
        return jnp.cos(jnp.arange(math.prod(shape))).reshape(shape).astype(jnp.bfloat16)

    def close(function: Any, *arrays: Array) -> None:
        def both(*arrays: Array) -> Any:
            out, pull_back = jax.vjp(function, *arrays)
            return out, *pull_back(slope(out.shape).astype(out.dtype))

        narrow = [jnp.asarray(array, jnp.bfloat16) for array in arrays]
        wide = both(*(x.astype(jnp.float32) for x in narrow))
        for ours, exact in zip(both(*narrow), wide, strict=True):
            assert ours.dtype == jnp.bfloat16
            off = np.abs(np.asarray(ours, np.float32) - np.asarray(exact))
            np.testing.assert_array_less(off, 2**-6 * np.abs(np.asarray(exact)).max())

    x, first, last = RNG.normal(size=(2, 4, 6, 3)), RNG.normal(size=(3, 6)), RNG.normal(size=(6, 2))
    inside = np.asarray(planes.enter(jnp.asarray(x), jnp.asarray(first)))
    close(planes.enter, x, first)
    close(grouped.grouped_conv, inside, RNG.normal(size=(3, 3, 2, 6)))
    close(planes.within, inside, last)
    close(planes.leave, inside, last)
    close(planes.up, inside)
    close(planes.down, inside)
    narrow = [jnp.asarray(array, jnp.bfloat16) for array in (x, first)]
    once = planes.enter(*(array.astype(jnp.float32) for array in narrow)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(planes.enter(*narrow), np.float32), np.asarray(once, np.float32))


def test_a_prime_number_of_images_is_not_cut_into_single_ones() -> None:
    def shape(n: int, side: int) -> Any:
        return jax.eval_shape(planes.enter, jnp.zeros((n, side, side, 2)), jnp.zeros((2, 4))).shape

    assert shape(32, 32) == (2, 4, 16, 32, 32)
    assert shape(31, 32) == (1, 4, 31, 32, 32)
    assert shape(3, 256) == (3, 4, 1, 256, 256)
