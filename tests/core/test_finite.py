"""Whether a state is finite."""

from typing import Any

import jax
import numpy as np
import pytest

from gan_jax.core.state import finite

_SHAPES = {
    "large": (300, 200),
    "alike": (200, 300),
    "alone": (70_001,),
    "small": (7,),
    "scalar": (),
    "filters": (3, 3, 8, 8),
}


def _tree() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in _SHAPES.items()}


@pytest.mark.parametrize("name", _SHAPES)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(name: str, bad: float) -> None:
    tree = {**_tree(), "whole": np.arange(5), "half": np.ones(3, np.float16)}
    assert jax.jit(finite)(tree)
    tree[name] = tree[name].copy()
    tree[name].reshape(-1)[-1] = bad
    assert not jax.jit(finite)(tree)


def test_the_largest_numbers_are_finite() -> None:
    most = np.finfo(np.float32).max
    assert jax.jit(finite)({name: np.full(shape, most, np.float32) for name, shape in _SHAPES.items()})
