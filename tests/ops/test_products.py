"""Products of matrices in bfloat16 against NumPy's in float64."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import conv, conv4, products
from gan_jax.ops.xla_cpu import for_any_machine
from gan_jax.runtime import program

Array = jax.Array
ROUNDING = 2**-8  # relative, of bfloat16: half a unit in the last of 8 bits
KINDS = {"nn": "ik,kj->ij", "nt": "ik,jk->ij", "tn": "ki,kj->ij"}


def drawn(*shape: int, seed: int = 0) -> Array:
    """Numbers that bfloat16 has."""
    return jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16)


def wide(x: Array) -> np.ndarray:
    return np.asarray(x, np.float64)


def factors(kind: str, rows: int) -> tuple[Array, Array]:
    """Of a product ``[rows, 24]`` over 40, and for tn over ``rows``."""
    return {
        "nn": (drawn(rows, 40), drawn(40, 24, seed=1)),
        "nt": (drawn(rows, 40), drawn(24, 40, seed=1)),
        "tn": (drawn(rows, 40), drawn(rows, 24, seed=1)),
    }[kind]


@pytest.mark.parametrize("rows", [16, 64, 37])  # a block, whole blocks, and neither
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_rounded_once(kind: str, rows: int) -> None:
    a, b = factors(kind, rows)
    exact = np.einsum(KINDS[kind], wide(a), wide(b))
    for found, roundings in ((products.product(a, b, kind), 1), (products.unrounded(a, b, kind), 0)):
        assert found.dtype == (jnp.bfloat16 if roundings else jnp.float32)
        np.testing.assert_allclose(wide(found), exact, rtol=roundings * ROUNDING, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_products_to_any_order(kind: str) -> None:
    a, b = factors(kind, 32)
    g = drawn(*np.einsum(KINDS[kind], wide(a), wide(b)).shape, seed=2)
    left, right = KINDS[kind].split("->")[0].split(",")
    back = jax.vjp(lambda a, b: products.product(a, b, kind), a, b)[1]
    expected = (
        np.einsum(f"ij,{right}->{left}", wide(g), wide(b)),
        np.einsum(f"{left},ij->{right}", wide(a), wide(g)),
    )
    for found, exact in zip(back(g), expected, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(wide(found), exact, rtol=ROUNDING, atol=1e-4)
    # The gradient by the first factor is linear in g; its transpose, of the first factor, is the product again.
    again = jax.vjp(lambda g: back(g)[0], g)[1](a)[0]
    np.testing.assert_allclose(wide(again), np.einsum(KINDS[kind], wide(a), wide(b)), rtol=ROUNDING, atol=1e-4)


def test_more_axes_than_two_and_other_types_are_multiplied_as_they_are() -> None:
    a, b = drawn(2, 3, 5), drawn(5, 4)
    assert products.product(a, b).shape == (2, 3, 4)
    np.testing.assert_allclose(wide(products.product(a, b)), wide(a) @ wide(b), rtol=ROUNDING, atol=1e-4)
    full = a.astype(jnp.float32), b.astype(jnp.float32)
    assert (products.product(*full) == full[0] @ full[1]).all()
    assert not products.narrow(full[0])
    assert products.product(a[:0], b).shape == (0, 3, 4)
    with for_any_machine():
        assert not products.narrow(a)


def test_few_results_are_in_memory_at_once() -> None:
    x, kernel = drawn(8, 18, 18, 16), drawn(3, 3, 16, 32, seed=1)
    one = 8 * 16 * 16 * 32 * 4  # bytes, in float32
    taken = jax.jit(products.conv).lower(x, kernel).compile(compiler_options=program._WITHOUT).memory_analysis()
    assert taken is not None
    assert taken.temp_size_in_bytes < 7 * one  # a row's three, their sum and what they are made of, not all nine


@pytest.mark.parametrize(("side", "height", "width"), [(1, 4, 5), (2, 3, 5), (3, 4, 4)])
def test_convolutions_are_those_of_the_definition(side: int, height: int, width: int) -> None:
    x, kernel = drawn(16, height + side - 1, width + side - 1, 6), drawn(side, side, 6, 8, seed=1)
    y = drawn(16, height, width, 8, seed=2)
    windows = np.lib.stride_tricks.sliding_window_view(wide(x), (side, side), (1, 2))  # [N, H, W, f, r, r]
    exact = np.einsum("nhwfij,ijfc->nhwc", windows, wide(kernel))
    np.testing.assert_allclose(wide(products.conv(x, kernel)), exact, rtol=ROUNDING, atol=1e-4)
    exact = np.einsum("nhwfij,nhwc->ijfc", windows, wide(y))
    np.testing.assert_allclose(wide(products.kernel_gradient(x, y)), exact, rtol=ROUNDING, atol=1e-4)
    exact = np.zeros(x.shape)
    for i in range(side):
        for j in range(side):
            exact[:, i : i + height, j : j + width] += wide(y) @ wide(kernel[i, j]).T
    np.testing.assert_allclose(wide(products.adjoint(y, kernel)), exact, rtol=ROUNDING, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 8])
def test_layers_are_made_of_products_with_float32_sums(channels: int) -> None:
    fine, coarse = drawn(4, 8, 8, channels), drawn(4, 4, 4, 16)
    kernel, square = drawn(4, 4, channels, 16), drawn(3, 3, 16, 16)
    calls: dict[Callable[..., Array], tuple[Array, ...]] = {
        conv4.strided_conv: (fine, kernel),
        conv4.transposed_conv: (coarse, kernel),
        conv4.kernel_gradient: (fine, coarse),
        conv.conv: (coarse, square),  # too small for tiles
        conv.kernel_gradient: (coarse, coarse, square),
        conv.patches_conv: (coarse, square),
    }
    for function, arguments in calls.items():
        program = jax.jit(function).lower(*arguments).as_text()
        assert "stablehlo.convolution" not in program
        dots = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        assert dots, function
        assert all("xf32>" in line.rpartition("->")[2] for line in dots), function
