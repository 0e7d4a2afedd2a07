"""Terms and schedules that remember: the same on any number of devices, in logical shards, and across an end."""

from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax.config import schedule
from gan_jax.core.state import GANState
from tests.helpers import assert_identical, charts_of, distance, records, run, run_until, small, trained


def remembering() -> ConfigDict:
    """Dense networks with every term and schedule that has a memory, or runs G or D again; one is lazy."""
    config = small("gan")
    config.generator.widths, config.discriminator.widths = (8,), (8,)
    config.data.image_size = 8
    config.augment.name = "translation"
    config.terms.lecam.update({"weight": 0.3, "start": 1.0})
    config.terms.path_length.update({"weight": 2.0, "every": 2})
    config.terms.consistency.weight = config.terms.orthogonal.weight = config.terms.drift.weight = 0.1
    config.schedules.strength = schedule("augment.p", "ada", every=1.0, length=8.0, target=-2.0)
    return config


def alike(config: ConfigDict, devices: int) -> GANState:
    """The state after four steps on one device, in float64; on so many it must be the same."""
    config.compute_dtype = "float64"
    with jax.enable_x64(True):
        one, several = (trained(config, count, steps=4) for count in (1, devices))
    for part in ("generator", "discriminator", "memory"):
        assert distance(getattr(one, part), getattr(several, part)) < 1e-10
    return one


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_memories_are_the_same_on_any_number_of_devices(devices: int) -> None:
    one = alike(remembering(), devices)
    assert {*one.memory["terms"]} == {"lecam", "path_length"}
    assert float(one.memory["schedules"]["strength"]["p"]) == 0.5
    assert all(float(np.abs(leaf)) > 0 for leaf in jax.tree.leaves(one.memory["terms"]))


def adaptive() -> ConfigDict:
    """Every transform of ADA, with a p that always grows."""
    config = small("gan")
    config.generator.widths, config.discriminator.widths = (8,), (8,)
    config.data.image_size, config.augment.name = 8, "ada"
    config.augment.ada.update({"filter": 1.0, "noise": 1.0, "cutout": 1.0})
    config.schedules.augment.update({"kind": "ada", "every": 1.0, "length": 8.0, "target": -2.0})
    return config


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_adas_images_are_the_same_on_any_number_of_devices(devices: int) -> None:
    one = alike(adaptive(), devices)
    assert float(one.memory["schedules"]["augment"]["p"]) == 0.5


@pytest.mark.slow
def test_ada_is_the_same_to_the_bit_in_logical_shards() -> None:
    config = adaptive()
    config.parallel.logical_shards = 4
    states = [trained(config, devices, steps=4) for devices in (1, 4)]
    assert_identical(states[0], states[1])


@pytest.mark.slow
def test_a_run_with_ada_ends_as_one_never_stopped_and_logs_its_p(tmp_path: Path) -> None:
    config, one = adaptive(), jax.devices()[:1]
    config.checkpoint.every = 3
    whole = run(config, tmp_path / "whole", one)
    run_until(config, tmp_path / "cut", one, "pause", at=6)
    assert_identical(run(config, tmp_path / "cut", one), whole)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    logged = {line["step"]: line["schedule_augment"] for line in records(tmp_path / "whole")}
    assert logged == {step: min((step - 1) / 8, 1) for step in logged}
    assert "schedule augment" in [chart["title"] for chart in charts_of(tmp_path / "whole" / "report.html")]


@pytest.mark.slow
def test_memories_are_the_same_to_the_bit_in_logical_shards() -> None:
    config = remembering()
    config.parallel.logical_shards = 4
    states = [trained(config, devices, steps=4) for devices in (1, 2, 4)]
    for other in states[1:]:
        assert_identical(states[0], other)


@pytest.mark.slow
def test_a_run_that_remembers_ends_as_one_never_stopped(tmp_path: Path) -> None:
    config, one = remembering(), jax.devices()[:1]
    config.checkpoint.every = 3
    whole = run(config, tmp_path / "whole", one)
    run_until(config, tmp_path / "cut", one, "pause", at=6)
    assert_identical(run(config, tmp_path / "cut", one), whole)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
