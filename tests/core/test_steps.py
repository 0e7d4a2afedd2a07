"""Whole training steps of each kind of GAN against PyTorch in float64, live where it is installed, and as recorded."""

import functools

import numpy as np
import pytest

from tests.oracle.cases import CASES, Outcome, assert_digests_agree, assert_same, digest, ours, recorded

SLOW = ("stylegan2", "biggan:cifar10_deep", "biggan", "fastgan")  # take longest to compile
EACH = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES])


@functools.cache
def by_torch(name: str) -> Outcome:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")
    from tests.oracle.record import torch_outcome

    return torch_outcome(name)


@EACH
def test_steps_give_the_numbers_that_pytorch_gave(name: str) -> None:
    """Every metric of both steps, every parameter, running statistic, spectral vector and average after them."""
    assert_digests_agree(digest(ours(name)), recorded(name))


@EACH
def test_steps_agree_with_pytorch(name: str) -> None:
    assert_same(ours(name), by_torch(name), 1e-10)


@EACH
def test_the_record_is_what_pytorch_gives(name: str) -> None:
    """If not: `python -m tests.oracle.record`, where other numbers are meant."""
    assert_digests_agree(digest(by_torch(name)), recorded(name), 1e-10)


def test_the_cases_have_labels_and_weights_that_matter() -> None:
    from tests.oracle.cases import case_config, first_images

    for name in CASES:
        config = case_config(name)
        if config.classes:
            _, labels = first_images(config)
            assert all(len(np.unique(batch)) == config.classes for batch in labels.reshape(-1, config.batch_size))


@EACH
def test_both_players_of_every_case_learn(name: str) -> None:
    """A discriminator whose every unit is at rest passes no gradient on, and hides what is wrong with it."""
    for metrics in ours(name)["metrics"]:
        assert float(metrics["d_grad_norm"]) > 1e-3
        assert float(metrics["g_grad_norm"]) > 1e-3
