"""What the training core computes is what was recorded; see `tests.recorded`."""

import json

import jax
import numpy as np
import pytest

from tests.helpers import NAMES
from tests.recorded import FILE, Numbers, observed

QUICK = ("relativistic", "aae")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_six_steps_give_the_recorded_numbers(name: str) -> None:
    recorded: Numbers = json.loads(FILE.read_text())[name]
    with jax.enable_x64(True):
        found = observed(name)
    assert found.keys() == recorded.keys()
    for key, values in recorded.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-12, atol=1e-12, err_msg=key)
