"""Sweeps, and those that come with the configs."""

import importlib

import pytest

from gan_jax.build import build_gan
from gan_jax.sweeps import hyper
from tests.helpers import NAMES


def test_sweeps_are_put_together() -> None:
    seeds, rates = hyper.sweep("seed", range(2)), hyper.sweep("rate", [0.1, 0.2])
    assert seeds == [{"seed": 0}, {"seed": 1}]
    assert hyper.product([seeds, rates]) == [
        {"seed": 0, "rate": 0.1},
        {"seed": 0, "rate": 0.2},
        {"seed": 1, "rate": 0.1},
        {"seed": 1, "rate": 0.2},
    ]
    assert hyper.zipped([seeds, rates]) == [{"seed": 0, "rate": 0.1}, {"seed": 1, "rate": 0.2}]
    assert hyper.chained([seeds, rates]) == [*seeds, *rates]
    assert hyper.product([]) == [{}]


def test_a_sweep_that_cannot_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="seed is swept twice"):
        hyper.product([hyper.sweep("seed", [1]), hyper.sweep("seed", [2])])
    with pytest.raises(ValueError, match="shorter"):
        hyper.zipped([hyper.sweep("a", [1, 2]), hyper.sweep("b", [1])])


@pytest.mark.parametrize("name", NAMES)
def test_every_trial_of_every_configs_sweep_can_be_built(name: str) -> None:
    module = importlib.import_module(f"configs.{name}")
    trials = module.get_hyper(hyper)
    assert len(trials) > 2
    assert len({str(sorted(trial.items())) for trial in trials}) == len(trials)
    for trial in trials:
        config = module.get_config()
        config.lock()
        config.update_from_flattened_dict(trial)
        build_gan(config)
