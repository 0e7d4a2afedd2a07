"""Convolutions by tiles, in all three forms, against those of lax."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from gan_jax.ops import winograd
from tests.helpers import distance, small, trained

Array = Any  # of NumPy or JAX
Forms = tuple[Array, Array, Array]
KINDS = [(2, 2), (4, 2), (2, 3), (4, 3)]  # tile and kernel's side


def operands(
    tile: int, side: int, n: int, tiles: tuple[int, int], f: int, c: int, lacks: tuple[int, int] = (0, 0)
) -> Forms:
    draw = np.random.default_rng(0).standard_normal
    h, w = tile * tiles[0] - lacks[0], tile * tiles[1] - lacks[1]
    return draw((n, h + side - 1, w + side - 1, f)), draw((n, h, w, c)), draw((side, side, f, c))


def by_tiles(tile: int, x: Array, y: Array, kernel: Array) -> Forms:
    """The convolution, its adjoint and its weight gradient."""
    down, up = winograd.conv(x, kernel, tile), winograd.adjoint(y, kernel, tile)
    return down, up, winograd.kernel_gradient(x, y, len(kernel), tile)


def by_lax(x: Array, y: Array, kernel: Array) -> Forms:
    def conv(x: Array, kernel: Array) -> Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout, precision="highest")

    out, back = jax.vjp(conv, x, kernel)
    return out, *back(y)


@pytest.mark.parametrize(("tile", "side"), KINDS)
@settings(max_examples=1, deadline=None, derandomize=True)
@example(2, (3, 2), 3, 4, (0, 0))
@example(2, (2, 1), 3, 4, (1, 1))
@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 6),
    st.integers(1, 6),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_every_form_is_that_of_lax(
    tile: int, side: int, n: int, tiles: tuple[int, int], f: int, c: int, lacks: tuple[int, int]
) -> None:
    with jax.enable_x64(True):
        arrays = operands(tile, side, n, tiles, f, c, lacks)
        actual, desired = jax.jit(by_tiles, static_argnums=0)(tile, *arrays), jax.jit(by_lax)(*arrays)
        for one, other in zip(actual, desired, strict=True):
            assert one.dtype == jnp.float64
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())


@pytest.mark.parametrize(("tile", "side"), KINDS)
@pytest.mark.parametrize(("dtype", "roundings"), [(jnp.float32, 8), (jnp.bfloat16, 2)])
def test_low_precision_is_within_a_few_roundings_of_the_exact_sums(
    tile: int, side: int, dtype: Any, roundings: int
) -> None:
    """Of the sums of the terms' sizes, to which rounding errors are proportional, as for plain convolutions."""
    low = [jnp.asarray(x, dtype) for x in operands(tile, side, 4, (4, 4), 32, 32)]
    with jax.enable_x64(True):
        exact = [np.asarray(x, np.float64) for x in low]
        desired, sizes = (list(map(np.asarray, jax.jit(by_lax)(*xs))) for xs in (exact, [np.abs(x) for x in exact]))
    for one, other, size in zip(jax.jit(by_tiles, static_argnums=0)(tile, *low), desired, sizes, strict=True):
        assert one.dtype == dtype
        assert (np.abs(np.asarray(one, np.float64) - other) / size).max() < roundings * jnp.finfo(dtype).eps


@pytest.mark.parametrize(("tile", "side"), KINDS)
def test_a_tile_takes_no_more_products_than_it_should(tile: int, side: int) -> None:
    """Counted in the program: (m + r - 1)² for m² r² products of channels, and (2 (m + r - 1) - 1)² for 2 m - 1 outputs
    along each dimension."""
    for lacks in ((0, 0), (1, 1)):
        x, _, kernel = (x.astype(np.float32) for x in operands(tile, side, 8, (2, 2), 64, 64, lacks))
        lowered = jax.jit(winograd.conv, static_argnums=2).lower(x, kernel, tile)
        rows = re.findall(r"dot_general.*tensor<(\d+)x64xf32>, tensor<64x64xf32>", lowered.as_text() or "")
        assert sum(map(int, rows)) == 8 * (2 * (tile + side - 1) - lacks[0]) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcgan", "wgan_gp", "sngan"])
@pytest.mark.parametrize("devices", [1, 2])
def test_training_by_tiles_is_training(name: str, devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where rounding hides nothing."""
    config = small(name)
    config.compute_dtype = "float64"
    with jax.enable_x64(True):
        plain = trained(config, devices, steps=3)
        monkeypatch.setattr(winograd, "best_tile", lambda *_: 2)
        assert 0 < distance(plain, trained(config, devices, steps=3)) < 1e-9


def test_only_wide_layers_are_convolved_by_tiles() -> None:
    assert winograd.best_tile(64, (8, 8), 2, (512, 256)) == 4  # DCGAN's at 64x64
    assert winograd.best_tile(64, (4, 4), 2, (1024, 512)) == 2  # where a kernel is larger than the images
    assert winograd.best_tile(64, (16, 16), 3, (256, 256)) == 4
    assert winograd.best_tile(32, (14, 14), 3, (64, 64)) == 0
    assert winograd.best_tile(1, (8, 8), 2, (512, 256)) == 0
    assert winograd.best_tile(128, (7, 7), 2, (256, 128)) == 4
    assert winograd.best_tile(128, (7, 7), 2, (128, 64)) == 0
    assert winograd.best_tile(128, (7, 7), 2, (128, 64), direct=8 * 8 * 8) == 4  # where it would take more otherwise


@pytest.mark.parametrize(
    ("sides", "tile", "missing"), [((8, 4), 4, (0, 0)), ((7, 5), 4, (0, 3)), ((6, 2), 4, (2, 2)), ((7, 4), 2, (0, 0))]
)
def test_padding_completes_tiles(sides: tuple[int, int], tile: int, missing: tuple[int, int]) -> None:
    assert winograd.padding(sides, tile) == missing
