"""Means between log lines: the same bits however their steps are cut, and wherever the run was stopped."""

import json

import numpy as np
import pytest

from gan_jax.training.means import Means


def test_means_are_those_of_the_steps_since_they_were_taken() -> None:
    means = Means({"lazy": 4})
    means.add(0, {"a": np.array([1.0, 2.0, 6.0]), "lazy": np.array([8.0, 0.0, 0.0])})
    assert means.take() == {"a": 3.0, "lazy": 8.0}
    assert means.kept() == {}
    means.add(3, {"a": np.array([5.0]), "lazy": np.array([0.0])})
    assert means.take() == {"a": 5.0}  # no step had the other
    means.add(4, {"a": np.arange(9.0), "lazy": np.array([1.0, 0, 0, 0, 3.0, 0, 0, 0, 5.0])})
    assert means.take() == {"a": 4.0, "lazy": 3.0}
    means.add(13, {"a": np.array([]), "lazy": np.array([])})
    assert (means.kept(), means.take()) == ({}, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_cut_changes_a_bit(dtype: type) -> None:
    """Neither into dispatches, nor by a process that ends and leaves what it has as JSON."""
    rng = np.random.default_rng(0)
    values = (10.0 ** rng.uniform(-6, 6, 1000) * rng.choice([-1, 1], 1000)).astype(dtype)
    whole = Means({"lazy": 16})
    whole.add(5, {"a": values, "lazy": values})
    desired = whole.take()
    assert desired["a"] == pytest.approx(float(np.mean(values.astype(np.longdouble))), rel=1e-9)
    assert desired["lazy"] == pytest.approx(float(np.mean(values[11::16].astype(np.longdouble))), rel=1e-9)
    for seed in range(20):
        cuts = np.sort(np.random.default_rng(seed).integers(0, 1001, seed))
        means, first = Means({"lazy": 16}), 5
        for part in np.split(values, cuts):
            means.add(first, {"a": part, "lazy": part})
            first += len(part)
            means = Means({"lazy": 16}, json.loads(json.dumps(means.kept())))
        assert means.take() == desired
