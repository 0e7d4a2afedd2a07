"""Convolutions with FIR resampling against the filter and the convolution, one after the other."""

from typing import Any

import jax
import numpy as np
import pytest

from gan_jax.ops import fir_conv, resample
from tests.oracle.cases import assert_same

RNG = np.random.default_rng(0)


def valid(x: Any, kernel: Any, stride: int) -> Any:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=layout)


PAIRS: dict[str, Any] = {
    "up": (fir_conv.up_conv, lambda x, kernel: valid(resample.up(x, 1), kernel, 1)),
    "down": (fir_conv.down_conv, lambda x, kernel: valid(resample.blur(x, (2, 2)), kernel, 2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_two_derivatives_are_those_of_filter_and_kernel(name: str) -> None:
    x: Any
    kernel: Any
    with jax.enable_x64(True):
        x, kernel = RNG.normal(size=(2, 6, 4, 3)), RNG.normal(size=(3, 3, 3, 2))
        found = []
        for function in PAIRS[name]:

            def penalty(x: Any, kernel: Any, function: Any = function) -> Any:
                slope = jax.grad(lambda x: (function(x, kernel) ** 3).sum())(x)
                return (slope**2).sum()

            value = function(x, kernel)
            found.append((value, jax.jit(jax.grad(penalty, (0, 1)))(x, kernel)))
    assert_same(found[0], found[1], 1e-12)
