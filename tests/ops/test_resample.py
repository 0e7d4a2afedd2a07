"""FIR resampling against SciPy's `upfirdn` and PyTorch's convolutions, values and derivatives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import upfirdn

from gan_jax.ops import resample

Array = Any
RNG = np.random.default_rng(0)
TAPS = [(1, 3, 3, 1), (1.0, 2.0, 5.0), (0.3, 1.0, -0.2, 2.0, 0.7, 0.1)]  # the last two aren't symmetric


def by_scipy(x: Array, taps: Any, gain: float, factors: tuple[int, int], padding: tuple[int, int]) -> Array:
    """Along each axis: zeros inserted (behind each pixel), padding, true convolution without borders, decimation."""
    weights = np.asarray(taps, float) * gain / np.sum(taps)
    for axis in (1, 2):
        spread = np.zeros([size * (factors[0] if i == axis else 1) for i, size in enumerate(x.shape)])
        spread[tuple(slice(None, None, factors[0] if i == axis else 1) for i in range(4))] = x
        padded = np.pad(spread, [padding if i == axis else (0, 0) for i in range(4)])
        full = upfirdn(weights, padded, axis=axis)
        valid = np.take(full, range(len(weights) - 1, padded.shape[axis]), axis)
        x = np.take(valid, range(0, valid.shape[axis], factors[1]), axis)
    return x


@pytest.mark.parametrize("taps", TAPS, ids=str)
def test_values_and_two_derivatives_are_those_of_scipys_matrices(taps: Any) -> None:
    """A linear map's derivatives are known by its matrix, which SciPy gives column by column."""
    k, size = len(taps), (6, 4)
    pads = (k + 1) // 2, (k - 2) // 2
    operations: dict[str, tuple[Callable[[Array], Array], Any]] = {
        "up": (lambda x: resample.up(x, 0, taps), (2, (2, 1), pads)),
        "up with a margin": (lambda x: resample.up(x, 2, taps), (2, (2, 1), (pads[0] + 2, pads[1] + 2))),
        "down": (lambda x: resample.down(x, taps), (1, (1, 2), ((k - 1) // 2, (k - 2) // 2))),
        "blur": (lambda x: resample.blur(x, (3, 2), taps), (1, (1, 1), (3, 2))),
    }

    def penalty(x: Array, function: Any) -> Array:
        """Whose gradient has derivatives of a gradient in it."""
        return (jax.grad(lambda x: (function(x) ** 3).sum())(x) ** 2).sum()

    def found(x: Array) -> dict[str, tuple[Array, Array]]:
        return {name: (of(x), jax.grad(penalty)(x, of)) for name, (of, _) in operations.items()}

    basis = np.eye(24).reshape(24, *size, 1)
    x = RNG.normal(size=(2, *size, 3))
    columns = x.transpose(1, 2, 0, 3).reshape(24, 6)  # of each image and channel
    with jax.enable_x64(True):
        results = jax.device_get(jax.jit(found)(x))
    for name, (value, slope) in results.items():
        images = by_scipy(basis, taps, *operations[name][1])
        matrix = images.reshape(24, -1).T
        out = matrix @ columns
        first = matrix.T @ (3 * out**2)
        second = 2 * matrix.T @ (6 * out * (matrix @ first))
        for ours, theirs, shape in ((value, out, images.shape[1:3]), (slope, second, size)):
            expected = theirs.reshape(*shape, 2, 3).transpose(2, 0, 1, 3)
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * np.abs(expected).max(), err_msg=name)


def test_sides_are_as_convolutions_after_them_want_them() -> None:
    x = jax.ShapeDtypeStruct((1, 5, 8, 2), jnp.bfloat16)
    sides = {
        (10, 16): resample.up,
        (12, 18): lambda x: resample.up(x, 1),  # then 3x3 without padding: 10, 16
        (2, 4): lambda x: resample.down(x[:, 1:]),
        (6, 9): lambda x: resample.blur(x, (2, 2)),
    }
    for expected, function in sides.items():
        found = jax.eval_shape(function, x)
        assert (found.shape, found.dtype) == ((1, *expected, 2), jnp.bfloat16)


def test_both_3x3_convolutions_with_resampling_are_pytorchs() -> None:
    """Of a doubled image, and halving: zeros put in, padded once, the filter, the convolution without padding."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")
    functional = torch.nn.functional
    x, kernel = RNG.normal(size=(2, 8, 8, 3)), RNG.normal(size=(3, 3, 3, 4))
    fir = np.outer(resample.TAPS, resample.TAPS) / 64
    image = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1), requires_grad=True)
    depthwise = torch.tensor(fir)[None, None].expand(3, 1, 4, 4)

    def theirs(up: bool) -> Any:
        if up:
            spread = torch.zeros(2, 3, 16, 16, dtype=torch.float64)
            spread[..., ::2, ::2] = image
            blurred = functional.conv2d(functional.pad(spread, (3, 2, 3, 2)), 4 * depthwise, groups=3)
            return functional.conv2d(blurred, weight)
        blurred = functional.conv2d(functional.pad(image, (2, 2, 2, 2)), depthwise, groups=3)
        return functional.conv2d(blurred, weight, stride=2)

    def ours(x: Array, kernel: Array, up: bool) -> Array:
        y = resample.up(x, 1) if up else resample.blur(x, (2, 2))
        stride, layout = (1, 1) if up else (2, 2), ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(y, kernel, stride, "VALID", dimension_numbers=layout)

    def penalty(x: Array, kernel: Array, up: bool) -> Array:
        return (jax.grad(lambda x: jnp.tanh(ours(x, kernel, up)).sum())(x) ** 2).sum()

    with jax.enable_x64(True):
        for up in (True, False):
            both = jax.value_and_grad(partial(penalty, up=up), (0, 1))
            value, found = jax.device_get(jax.jit(both)(x, kernel))
            out = theirs(up)
            (slope,) = torch.autograd.grad(out.tanh().sum(), image, create_graph=True)
            first, second = torch.autograd.grad((slope**2).sum(), (image, weight))
            np.testing.assert_allclose(value, (slope**2).sum().item(), rtol=1e-12)
            np.testing.assert_allclose(found[0], first.permute(0, 2, 3, 1), atol=1e-10)
            np.testing.assert_allclose(found[1], second.permute(2, 3, 1, 0), atol=1e-10)
