"""The convolutions against plain lax ones, and batch normalisation against NumPy."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from gan_jax.layers import (
    BatchNorm,
    Conv,
    StridedConv,
    TransposedConv,
    kernel_gradient,
    strided_conv,
    transposed_conv,
)
from gan_jax.ops import conv as same
from gan_jax.ops import conv4 as layers
from gan_jax.ops import sums, winograd, xla_cpu

Array = Any  # of NumPy or JAX
Bilinear = Callable[[Array, Array], Array]
Shape = tuple[int, int, int, int, int]  # batch, coarse height, coarse width, fine channels, coarse channels

# One for each branch; never square, so that no axis passes for another.
FEW, SMALL, LARGE, TILED = (2, 5, 3, 3, 4), (2, 4, 3, 5, 2), (2, 5, 6, 6, 3), (2, 3, 4, 5, 6)
WHOLE = (2, 3, 5, 5, 6)  # tiled, the sub-pixels between being whole tiles
ON_GPU = {
    "few channels on a GPU": (2, 5, 3, 2, 3),
    "small side on a GPU": (2, 3, 4, 7, 3),
    "large side on a GPU": (2, 5, 3, 7, 3),
}
BRANCHES = {
    "few channels": FEW,
    "small side": SMALL,
    "large side": LARGE,
    "tiled": TILED,
    "whole tiles": WHOLE,
} | ON_GPU
branches = pytest.mark.parametrize("shape", BRANCHES.values(), ids=BRANCHES)
any_shape = st.one_of(
    st.tuples(*map(st.integers, (1, 1, 1, 1, 1), (3, 7, 7, 4, 6))),
    st.tuples(*map(st.integers, (1, 1, 1, 5, 1), (3, 4, 7, 9, 6))),
    st.tuples(*map(st.integers, (1, 5, 1, 5, 1), (3, 7, 7, 9, 6))),
)


@pytest.fixture(autouse=True)
def _off_the_cpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Shapes of `ON_GPU` are convolved as on GPUs, and whatever a test with ``off_cpu`` convolves or normalises."""
    given = getattr(request.node, "callspec", None)
    if given and (given.params.get("shape") in ON_GPU.values() or given.params.get("off_cpu")):
        for module in (layers, sums, xla_cpu):
            monkeypatch.setattr(module, "on_cpu", lambda: False)


@pytest.fixture(autouse=True)
def _tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of the sides of `TILED` and `WHOLE` are convolved by tiles, which otherwise only wide layers are."""
    best_tile = winograd.best_tile

    def chosen(batch: int, sides: tuple[int, int], *rest: Any) -> int:
        return 2 if sides in (TILED[1:3], WHOLE[1:3]) else best_tile(batch, sides, *rest)

    monkeypatch.setattr(winograd, "best_tile", chosen)


def lax_strided(fine: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        fine, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


def lax_transposed(coarse: Array, kernel: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    pad = ((2, 2), (2, 2))
    return lax.conv_transpose(coarse, kernel, (2, 2), pad, None, layout, transpose_kernel=True, precision="highest")


def lax_kernel_gradient(fine: Array, coarse: Array) -> Array:
    kernel = jnp.zeros((4, 4, fine.shape[-1], coarse.shape[-1]), fine.dtype)
    gradient: Array = jax.vjp(lambda kernel: lax_strided(fine, kernel), kernel)[1](coarse)[0]
    return gradient


def operands(shape: Shape, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fine, coarse and kernel in float64."""
    n, h, w, f, c = shape
    sizes = (n, 2 * h, 2 * w, f), (n, h, w, c), (4, 4, f, c)
    fine, coarse, kernel = (np.random.default_rng([seed, i]).standard_normal(size) for i, size in enumerate(sizes))
    return fine, coarse, kernel


def values_and_gradients(fine: Array, coarse: Array, kernel: Array) -> list[tuple[Array, Array, Array]]:
    """Of each of the three functions (transposed, strided, kernel gradient); each must give the same three arrays."""
    down, down_vjp = jax.vjp(strided_conv, fine, kernel)
    up, up_vjp = jax.vjp(transposed_conv, coarse, kernel)
    weight, weight_vjp = jax.vjp(kernel_gradient, fine, coarse)
    (up_1, weight_1), (down_2, weight_2), (up_3, down_3) = down_vjp(coarse), up_vjp(fine), weight_vjp(kernel)
    return [(up, down, weight), (up_1, down_2, weight_1), (up_3, down_3, weight_2)]


def lax_values(fine: Array, coarse: Array, kernel: Array) -> tuple[Array, Array, Array]:
    return lax_transposed(coarse, kernel), lax_strided(fine, kernel), lax_kernel_gradient(fine, coarse)


def assert_close(actual: Any, desired: Any, tolerance: float = 1e-12) -> None:
    """Every leaf, to ``tolerance`` of the largest entry of the leaf that it should equal."""
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(np.abs(y).max(), 1))


def autoencoder_loss(down: Bilinear, up: Bilinear, fine: Array, kernel: Array) -> Array:
    """A scalar whose derivatives of every order depend on everything."""
    return jnp.sin(up(jnp.sin(down(fine, kernel)), kernel)).mean()


def gradient_penalty(down: Bilinear, up: Bilinear, fine: Array, kernel: Array) -> Array:
    """WGAN-GP's (norm - 1)², of the gradients with respect to the image and to the kernel."""
    gradients = jax.grad(autoencoder_loss, (2, 3))(down, up, fine, kernel)
    return sum((jnp.sqrt(jnp.square(g).sum()) - 1) ** 2 for g in gradients)


# --- convolutions -----------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None, derandomize=True)
@example(shape=LARGE, seed=0)
@example(shape=TILED, seed=0)
@example(shape=WHOLE, seed=0)
@example(shape=SMALL, seed=0)
@example(shape=FEW, seed=0)
@given(shape=any_shape, seed=st.integers(0, 99))
@pytest.mark.parametrize("off_cpu", [False, True])
def test_values_and_gradients_are_those_of_lax(off_cpu: bool, shape: Shape, seed: int) -> None:
    with jax.enable_x64(True):
        desired = jax.jit(lax_values)(*operands(shape, seed))
        assert desired[0].dtype == jnp.float64
        # A new function for jit: what it traced of another would have the other branch in it.
        assert_close(jax.jit(lambda *x: values_and_gradients(*x))(*operands(shape, seed)), [desired] * 3)


@branches
def test_gradients_of_a_gradient_penalty_are_those_of_lax(shape: Shape) -> None:
    fine, _, kernel = operands(shape)
    with jax.enable_x64(True):
        gradients = jax.jit(jax.value_and_grad(gradient_penalty, (2, 3)), static_argnums=(0, 1))
        actual = gradients(strided_conv, transposed_conv, fine, kernel)
        desired = gradients(lax_strided, lax_transposed, fine, kernel)
    assert all(np.abs(g).max() > 1e-3 for g in desired[1])
    assert_close(actual, desired)


@branches
def test_the_gradients_of_kernel_gradient_differentiate_again(shape: Shape) -> None:
    fine, coarse, _ = operands(shape)

    def hessian_product(op: Bilinear, fine: Array, coarse: Array) -> Any:
        slope = jax.grad(lambda fine, coarse: jnp.sin(op(fine, coarse) * 0.1).sum(), (0, 1))
        return jax.vjp(slope, fine, coarse)[1]((fine, coarse))

    with jax.enable_x64(True):
        product = jax.jit(hessian_product, static_argnums=0)
        assert_close(product(kernel_gradient, fine, coarse), product(lax_kernel_gradient, fine, coarse))


@branches
@pytest.mark.parametrize(("dtype", "roundings"), [(jnp.float32, 8), (jnp.bfloat16, 3)])
def test_low_precision_is_within_a_few_roundings_of_the_exact_sums(shape: Shape, dtype: Any, roundings: int) -> None:
    low = [jnp.asarray(x, dtype) for x in operands(shape)]
    with jax.enable_x64(True):
        exact = [np.asarray(x, np.float64) for x in low]
        desired = map(np.asarray, jax.jit(lax_values)(*exact))
        sizes = map(np.asarray, jax.jit(lax_values)(*map(np.abs, exact)))  # rounding errors are proportional to these
    for i, (d, size) in enumerate(zip(desired, sizes, strict=True)):
        for actual in jax.jit(values_and_gradients)(*low):
            assert actual[i].dtype == dtype
            error = np.abs(np.asarray(actual[i], np.float64) - d) / size
            assert error.max() < roundings * jnp.finfo(dtype).eps


@branches
def test_gradient_descent_in_a_scan_is_that_of_lax(shape: Shape) -> None:
    fine, _, kernel = operands(shape)

    def descend(down: Bilinear, up: Bilinear, fine: Array, kernel: Array) -> Any:
        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            loss, gradients = jax.value_and_grad(autoencoder_loss, (2, 3))(down, up, *carry)
            return jax.tree.map(lambda x, g: x - 0.5 * g, carry, gradients), loss

        return lax.scan(step, (fine, kernel), length=3)

    with jax.enable_x64(True):
        run = jax.jit(descend, static_argnums=(0, 1))
        actual = run(strided_conv, transposed_conv, fine, kernel)
        desired = run(lax_strided, lax_transposed, fine, kernel)
    assert np.ptp(desired[1]) > 1e-4
    assert_close(actual, desired)


@branches
def test_the_body_of_a_fori_loop_computes_what_it_does_outside(shape: Shape) -> None:
    fine, coarse, kernel = operands(shape)

    def body(i: Array, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, values_and_gradients(fine * (i + 1.0), coarse, kernel))

    with jax.enable_x64(True):
        up, down, weight = jax.jit(lax_values)(fine, coarse, kernel)
        zeros = [tuple(map(jnp.zeros_like, (up, down, weight)))] * 3
        actual = jax.jit(lambda steps: lax.fori_loop(0, steps, body, zeros))(3)
        assert_close(actual, [(3 * up, 6 * down, 6 * weight)] * 3)


@branches
def test_a_vmapped_function_is_the_function_of_each(shape: Shape) -> None:
    each = [operands(shape, seed) for seed in range(3)]
    stacked = [np.stack(arrays) for arrays in zip(*each, strict=True)]
    with jax.enable_x64(True):
        actual = jax.jit(jax.vmap(values_and_gradients))(*stacked)
        alone = [jax.jit(lax_values)(*one) for one in each]
        assert_close(actual, [jax.tree.map(lambda *xs: jnp.stack(xs), *alone)] * 3)


@branches
def test_a_pmapped_function_is_the_function_of_each_device(shape: Shape) -> None:
    each = [operands(shape, seed) for seed in range(2)]
    stacked = [np.stack(arrays) for arrays in zip(*each, strict=True)]
    with jax.enable_x64(True):
        actual = jax.pmap(values_and_gradients, devices=jax.devices()[:2])(*stacked)
        alone = [jax.jit(lax_values)(*one) for one in each]
        assert_close(jax.device_get(actual), [jax.tree.map(lambda *xs: np.stack(xs), *alone)] * 3)


@branches
def test_transposed_conv_is_the_adjoint_of_strided_conv(shape: Shape) -> None:
    fine, coarse, kernel = operands(shape)
    with jax.enable_x64(True):
        left = np.vdot(strided_conv(fine, kernel), coarse)
        assert np.vdot(fine, transposed_conv(coarse, kernel)) == pytest.approx(left, rel=1e-12)
        assert np.vdot(kernel, kernel_gradient(fine, coarse)) == pytest.approx(left, rel=1e-12)


def one_by_one(how: str, function: Any, *operands: Any) -> Any:
    """A function of stacked operands, applied to each in one of the ways that programs do."""
    if how == "jit":
        return jax.tree.map(
            lambda *xs: jnp.stack(xs), *(jax.jit(function)(*each) for each in zip(*operands, strict=True))
        )
    if how == "scan":
        return jax.jit(lambda *stacked: lax.scan(lambda _, each: ((), function(*each)), (), stacked)[1])(*operands)
    return {"vmap": lambda: jax.jit(jax.vmap(function)), "pmap": lambda: jax.pmap(function)}[how]()(*operands)


@pytest.mark.parametrize(("f", "c", "side"), [(9, 2, 3), (4, 1, 5), (2, 9, 3), (3, 5, 3), (6, 4, 5), (20, 12, 3)])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_layers_to_and_of_few_channels_are_those_of_lax(f: int, c: int, side: int, dtype: str) -> None:
    """Values, and what both gradients are."""
    draw = np.random.default_rng(0).standard_normal
    with jax.enable_x64(True):
        x, y, kernel = (jnp.asarray(draw(s), dtype) for s in ((2, 5, 4, f), (2, 5, 4, c), (side, side, f, c)))
        mine, lax_s = (
            jax.jit(lambda x, y, kernel, op=op: (op(x, kernel), *jax.vjp(op, x, kernel)[1](y)))(x, y, kernel)
            for op in (same.conv, same.conv_lax)
        )
        for one, other in zip(mine, lax_s, strict=True):
            assert one.dtype == other.dtype == dtype
            within = 20 * float(jnp.finfo(dtype).eps) * float(abs(other).max())
            assert float(abs(one - other).max()) <= within


@settings(max_examples=2, deadline=None, derandomize=True)
@example(2, 5, 3, 3, 4, 3)
@example(2, *TILED[1:3], 2, 3, 3)
@example(2, 5, 3, 9, 2, 3)  # few channels of many
@example(1, 4, 6, 4, 1, 5)
@example(2, 5, 3, 2, 9, 3)  # many of few
@given(
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([1, 3, 5]),
)
@pytest.mark.parametrize(
    "how", ["scan", *(pytest.param(how, marks=pytest.mark.slow) for how in ("jit", "vmap", "pmap"))]
)
def test_a_conv_of_stride_1_has_the_values_and_derivatives_of_lax(
    how: str, n: int, h: int, w: int, f: int, c: int, side: int
) -> None:
    """To the gradient of a gradient penalty, in float64; values in float32 and bfloat16 too."""
    draw = np.random.default_rng(0).standard_normal
    x, y, kernel = (draw((2, *size)) for size in ((n, h, w, f), (n, h, w, c), (side, side, f, c)))

    def values(op: Bilinear, x: Array, y: Array, kernel: Array) -> Any:
        value, back = jax.vjp(op, x, kernel)
        return value, back(y)

    def everything(op: Bilinear, x: Array, y: Array, kernel: Array) -> Any:
        def penalty(x: Array, kernel: Array) -> Array:
            gradients = jax.grad(lambda x, kernel: jnp.vdot(jnp.sin(op(x, kernel)), y), (0, 1))(x, kernel)
            return sum(jnp.sin(g).sum() for g in gradients)

        return values(op, x, y, kernel), jax.grad(penalty, (0, 1))(x, kernel)

    with jax.enable_x64(True):
        actual, desired = (one_by_one(how, partial(everything, op), x, y, kernel) for op in (same.conv, same.conv_lax))
        assert_close(jax.device_get(actual), jax.device_get(desired), 1e-11)
    for dtype in (jnp.float32, jnp.bfloat16):
        low = [jnp.asarray(array, dtype) for array in (x, y, kernel)]
        actual, desired = (one_by_one(how, partial(values, op), *low) for op in (same.conv, same.conv_lax))
        for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
            assert one.dtype == dtype
            size = max(1, float(jnp.abs(other).max()))
            assert float(jnp.abs(one - other).max()) <= 20 * size * float(jnp.finfo(dtype).eps)


@branches
@pytest.mark.parametrize("form", ["lax", "columns", "subpixel"])
def test_every_formulation_is_right_at_every_shape(shape: Shape, form: str) -> None:
    _, coarse, kernel = operands(shape)
    with jax.enable_x64(True):
        actual = jax.jit(getattr(layers, f"_transposed_conv_{form}"))(coarse, kernel)
        assert_close(actual, jax.jit(lax_transposed)(coarse, kernel))


@pytest.mark.parametrize("off_cpu", [True])
@pytest.mark.parametrize(
    ("fine", "down", "up", "back"), [(1, 1, 1, 1), (4, 1, 1, 1), (5, 2, 2, 1), (64, 2, 2, 1), (65, 2, 2, 2)]
)
def test_off_the_cpu_narrow_layers_take_pixels_together(
    off_cpu: bool, fine: int, down: int, up: int, back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Array) -> Array:
        raise AssertionError("a formulation for the CPU")

    for name in ("_transposed_conv_columns", "_transposed_conv_winograd", "_patches"):
        monkeypatch.setattr(layers, name, refuse)
    monkeypatch.setattr(lax, "optimization_barrier", refuse)
    arrays = operands((2, 3, 5, fine, 3))
    with jax.enable_x64(True):
        desired = jax.jit(lax_values)(*arrays)
        # A new function for jit: what it traced for another test has the other branch in it.
        assert_close(jax.jit(lambda *arrays: values_and_gradients(*arrays))(*arrays), [desired] * 3)

    def convolution(function: Any, key: str, *arrays: Array) -> int:
        return max(map(int, re.findall(rf"{key}=\((\d), \d\)", str(jax.make_jaxpr(function)(*arrays)))))

    x, y, kernel = arrays
    assert convolution(lambda x, w: strided_conv(x, w), "window_strides", x, kernel) == down
    assert convolution(lambda y, w: transposed_conv(y, w), "lhs_dilation", y, kernel) == up
    gradient = jax.vjp(lambda x: strided_conv(x, kernel), x)[1]
    assert convolution(gradient, "lhs_dilation", y) == back


# --- modules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(7, 7), (7, 4), (4, 7), (8, 8)])
def test_a_strided_conv_pads_odd_sides_by_one_at_their_end(height: int, width: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, height, width, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).standard_normal((4, 4, 3, 5)).astype(np.float32)
    actual: Array = StridedConv(5).apply({"params": {"kernel": kernel}}, x)
    even = np.zeros((2, height + height % 2, width + width % 2, 3), np.float32)
    even[:, :height, :width] = x
    assert actual.shape == (2, -(-height // 2), -(-width // 2), 5)
    np.testing.assert_allclose(actual, lax_strided(even, kernel), atol=1e-5)


def test_a_transposed_conv_doubles_the_sides() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    kernel = np.random.default_rng(1).standard_normal((4, 4, 6, 4)).astype(np.float32)
    actual: Array = TransposedConv(6).apply({"params": {"kernel": kernel}}, x)
    assert actual.shape == (2, 6, 10, 6)
    np.testing.assert_allclose(actual, lax_transposed(x, kernel), atol=1e-5)


@pytest.mark.parametrize(("resample", "sides"), [("up", (3, 5)), ("down", (6, 10))])
def test_a_conv_that_resamples_is_one_after_doubling_or_before_averaging(resample: str, sides: tuple[int, int]) -> None:
    draw = np.random.default_rng(0).standard_normal
    x, kernel, bias = draw((2, *sides, 4)), draw((3, 3, 4, 6)), draw(6)

    def plain(x: Array, kernel: Array) -> Array:
        if resample == "up":
            return same.conv_lax(x.repeat(2, 1).repeat(2, 2), kernel) + bias
        y = same.conv_lax(x, kernel)
        return (y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, 1::2]) / 4 + bias

    def ours(x: Array, kernel: Array) -> Array:
        module = Conv(6, resample=resample, use_bias=True, dtype=jnp.float64)
        return module.apply({"params": {"kernel": kernel, "bias": bias}}, x)

    with jax.enable_x64(True):
        out, back = jax.vjp(ours, x, kernel)
        assert out.shape == (2, 3 * (2 if resample == "up" else 1), 5 * (2 if resample == "up" else 1), 6)
        desired, desired_back = jax.vjp(plain, x, kernel)
        g = draw(out.shape)
        assert_close([out, *back(g)], [desired, *desired_back(g)])


def test_a_conv_with_a_kernel_of_one_pixel_is_a_product_of_matrices() -> None:
    x, kernel = np.random.default_rng(0).standard_normal((2, 3, 5, 4)), np.arange(24.0).reshape(1, 1, 4, 6)
    actual: Array = Conv(6, kernel_size=1).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(actual, np.einsum("nhwf,fc->nhwc", x, kernel[0, 0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("module", [StridedConv, TransposedConv])
def test_a_conv_computes_in_its_dtype_from_float32_parameters(module: Any) -> None:
    x = jnp.ones((1, 4, 4, 64), jnp.float32)
    y, variables = jax.jit(module(64, dtype=jnp.bfloat16).init_with_output)(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]
    assert (y.dtype, kernel.dtype, list(variables["params"])) == (jnp.bfloat16, jnp.float32, ["kernel"])
    assert kernel.mean() == pytest.approx(0, abs=4 * 0.02 / kernel.size**0.5)
    assert kernel.std() == pytest.approx(0.02, rel=4 / (2 * kernel.size) ** 0.5)


def images(shape: tuple[int, ...] = (8, 3, 5, 6)) -> np.ndarray:
    return np.random.default_rng(1).normal(np.arange(shape[-1]) - 2.0, 1.5, shape)


def batch_norm_by_hand(
    x: np.ndarray, params: dict[str, np.ndarray], stats: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Training output and the new running moments, in float64."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    y = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * params["scale"] + params["bias"]
    batch = {"mean": flat.mean(0), "var": flat.var(0, ddof=1)}
    return y, {name: 0.9 * stats[name] + 0.1 * batch[name] for name in batch}


def batch_norm_variables(features: int = 6) -> dict[str, dict[str, np.ndarray]]:
    scale, bias, mean, var = np.random.default_rng(2).uniform(0.5, 2, (4, features))
    return {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}


@pytest.mark.parametrize("off_cpu", [False, True])
@pytest.mark.parametrize("shape", [(8, 3, 5, 6), (7, 6), (1, 6), (8, 24, 25, 6)])
def test_batch_norm_in_training_is_that_of_numpy(shape: tuple[int, ...], off_cpu: bool) -> None:
    x, variables = images(shape), batch_norm_variables()
    if len(x) == 1:  # no unbiased variance of one value: it counts as 0
        x_numpy, repeated = x, np.repeat(x, 2, 0)
        desired = variables["params"]["bias"] + 0 * x_numpy, batch_norm_by_hand(repeated, **unpack(variables))[1]
    else:
        desired = batch_norm_by_hand(x, **unpack(variables))
    with jax.enable_x64(True):
        module = BatchNorm(jnp.float64, jnp.float64)
        y, new = module.apply(variables, x, train=True, mutable=["batch_stats"])
    assert_close((y, new["batch_stats"]), desired)


def unpack(variables: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    return {"params": variables["params"], "stats": variables["batch_stats"]}


def test_batch_norm_in_evaluation_uses_the_running_moments_and_leaves_them() -> None:
    x, variables = images(), batch_norm_variables()
    params, stats = variables["params"], variables["batch_stats"]
    with jax.enable_x64(True):
        module = BatchNorm(jnp.float64, jnp.float64)
        y, new = module.apply(variables, x, train=False, mutable=["batch_stats"])
    assert_close(y, (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"])
    assert_close(new["batch_stats"], stats, 0)


def test_a_new_batch_norm_has_seen_nothing_and_scales_by_about_one() -> None:
    x = jnp.asarray(images((4, 4096)), jnp.float32)
    variables = jax.jit(lambda key: BatchNorm(gain_spread=0.02).init(key, x, train=True))(jax.random.key(0))
    params, stats = variables["params"], variables["batch_stats"]
    assert not stats["mean"].any()
    assert not params["bias"].any()
    assert (stats["var"] == 1).all()
    assert params["scale"].mean() == pytest.approx(1, abs=4 * 0.02 / 64)
    assert params["scale"].std() == pytest.approx(0.02, rel=0.05)


def test_batch_norm_of_bfloat16_takes_float32_moments() -> None:
    x = jnp.asarray(np.random.default_rng(3).normal(1, 0.3, (4096, 6)), jnp.bfloat16)
    variables = jax.tree.map(jnp.float32, batch_norm_variables())
    y, new = BatchNorm(jnp.bfloat16).apply(variables, x, train=True, mutable=["batch_stats"])
    wide = np.asarray(x, np.float64)
    desired_y, desired = batch_norm_by_hand(wide, **unpack(jax.tree.map(np.float64, variables)))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float64), desired_y, rtol=2**-8, atol=1e-4)
    for name, value in new["batch_stats"].items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, desired[name], rtol=1e-5)


@pytest.mark.parametrize("off_cpu", [False, True])
@pytest.mark.parametrize("devices", [2, 4])
def test_batch_norm_over_devices_is_batch_norm_of_the_whole_batch(devices: int, off_cpu: bool) -> None:
    x, variables = images(), batch_norm_variables()

    def run(x: Array, axis_name: str | None) -> Any:
        def loss(x: Array) -> Any:
            y, new = module.apply(variables, x, train=True, axis_name=axis_name, mutable=["batch_stats"])
            return jnp.sin(y).sum(), (y, new["batch_stats"])

        gradient, (y, stats) = jax.grad(loss, has_aux=True)(x)
        return (y, gradient), stats

    with jax.enable_x64(True):
        module = BatchNorm(jnp.float64, jnp.float64)
        spread = jax.pmap(lambda x: run(x, "device"), "device", devices=jax.devices()[:devices])
        sharded, stats = spread(x.reshape(devices, -1, *x.shape[1:]))
        whole, whole_stats = jax.jit(lambda x: run(x, None))(x)
        assert np.abs(whole[1]).max() > 1e-2
        assert_close([part.reshape(x.shape) for part in sharded], list(whole))
        assert_close(stats, jax.tree.map(lambda value: jnp.stack([value] * devices), whole_stats))


@pytest.mark.parametrize("off_cpu", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(
    "shape", [(6, 3, 5, 4), *(pytest.param(own, marks=pytest.mark.slow) for own in ((6, 4), (6, 24, 25, 2)))]
)
def test_batch_norm_of_three_batches_in_one_call_is_that_of_three_calls(
    shape: tuple[int, ...], classes: int, off_cpu: bool
) -> None:
    x = np.concatenate([images(shape) * factor + factor for factor in (1.0, 0.3, 2.0)])
    label = np.arange(18) % 3
    rng = np.random.default_rng(4)
    module = BatchNorm(jnp.float64, jnp.float64, classes=classes)

    def at_once(params: Any, stats: Any, x: Array) -> Any:
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, train=True, label=label, batches=3, mutable=["batch_stats"])

    def by_calls(params: Any, stats: Any, x: Array) -> Any:
        out = list[Array]()
        for own, its in zip(jnp.split(x, 3), np.split(label, 3), strict=True):
            variables = {"params": params, "batch_stats": stats}
            y, new = module.apply(variables, own, train=True, label=its, mutable=["batch_stats"])
            out, stats = [*out, y], new["batch_stats"]
        return jnp.concatenate(out), {"batch_stats": stats}

    def penalty(function: Any, params: Any, stats: Any, x: Array) -> Array:
        slopes = jax.grad(lambda params, x: jnp.sin(function(params, stats, x)[0]).sum(), (0, 1))(params, x)
        return sum(jnp.square(slope - 1).sum() for slope in jax.tree.leaves(slopes))

    with jax.enable_x64(True):
        variables = module.init(jax.random.key(0), x, train=True, label=label)
        variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape), variables)
        params, stats = variables["params"], variables["batch_stats"]
        one, three = (jax.jit(function)(params, stats, x) for function in (at_once, by_calls))
        assert_close(one, three)
        one, three = (
            jax.jit(jax.value_and_grad(partial(penalty, function), (0, 2)))(params, stats, x)
            for function in (at_once, by_calls)
        )
        assert all(np.abs(leaf).max() > 1e-2 for leaf in jax.tree.leaves(three))
        assert_close(one, three, 1e-10)
