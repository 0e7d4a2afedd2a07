"""R1 and R2 from D's own pass: what they are with D run again for each, for less arithmetic."""

import dataclasses
from functools import cache, partial
from typing import Any

import jax
import pytest

from gan_jax.core import update as core
from gan_jax.core.update import update
from tests.helpers import QUICKLY, distance, small, start

KINDS = ("without", "own pass", "run again")


@cache
def made(kind: str) -> tuple[float, Any]:
    """A step's FLOPs, and what comes of it, in float64; D has batch and spectral norms and sees augmented images."""
    config = small("dcgan")
    config.compute_dtype = "float64"
    config.update({"batch_size": 4, "loss": "relativistic"})
    config.data.image_size, config.discriminator.spectral = 8, True
    config.generator.widths, config.discriminator.widths = (4,), (32, 32)
    config.augment.name = "color,translation"
    for name in ("r1", "r2"):
        config.terms[name].weight = 0.0 if kind == "without" else 0.7
    with jax.enable_x64(True):
        gan, state, batch = start(config)
        if kind == "run again":
            own = tuple(dataclasses.replace(term, gradients=False) for term in gan.d_terms)
            gan = dataclasses.replace(gan, d_terms=own)
        program = jax.jit(partial(update, gan)).lower(state, batch).compile(compiler_options=QUICKLY)
        cost: Any = program.cost_analysis()
        return cost["flops"], jax.device_get(program(state, batch))


def test_both_ways_give_the_same() -> None:
    (state, metrics), (expected, of_them) = made("own pass")[1], made("run again")[1]
    assert distance(metrics, of_them) < 1e-12
    assert metrics["d_r1"] > 0 < metrics["d_r2"]
    for part in ("params", "stats"):
        assert distance(getattr(state.discriminator, part), getattr(expected.discriminator, part)) < 1e-10
        assert distance(getattr(state.generator, part), getattr(expected.generator, part)) < 1e-10


def test_the_own_pass_saves_two_more() -> None:
    without, own, again = (made(kind)[0] for kind in KINDS)
    assert without < own < again
    assert own - without < 0.75 * (again - without)


def test_so_it_does_where_reals_and_fakes_go_through_d_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = made("own pass")[1]
    monkeypatch.setattr(core, "calls", lambda batches: [list(batches)])
    state, metrics = made.__wrapped__("own pass")[1]
    assert distance(metrics, expected[1]) < 1e-12
    assert distance(state.discriminator.params, expected[0].discriminator.params) < 1e-10
