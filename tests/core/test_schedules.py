"""Schedules and averages: each against its formula in plain Python, within a step of training and alone."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from numpy.testing import assert_allclose

from gan_jax.build import build_gan
from gan_jax.config import average, schedule
from gan_jax.core.averages import AVERAGES
from gan_jax.core.schedules import SCHEDULES
from gan_jax.core.state import hyperparams_now, init_state
from gan_jax.core.update import update
from gan_jax.util.errors import UserError
from tests.helpers import small, start


def course(kind: str, configured: float, steps: int, **numbers: float) -> list[float]:
    """The values of a schedule that remembers nothing, in the first ``steps``."""
    given = {name: jnp.float32(value) for name, value in numbers.items()}
    return [float(SCHEDULES[kind].value(jnp.float32(configured), given, {}, jnp.int32(step))) for step in range(steps)]


def test_courses_are_their_formulas() -> None:
    given = {"final": 1.0, "begin": 2.0, "length": 4.0}
    assert_allclose(course("linear", 5.0, 8, **given), [5, 5, 5, 4, 3, 2, 1, 1], rtol=1e-6)
    half = [1 + 4 * 0.5 * (1 + math.cos(math.pi * min(max(step - 2, 0), 4) / 4)) for step in range(8)]
    assert_allclose(course("cosine", 5.0, 8, **given), half, rtol=1e-6)
    given["final"] = 0.0
    assert_allclose(course("warm_up", 2.0, 8, **given), [0, 0, 0, 0.5, 1, 1.5, 2, 2], atol=1e-7)


def test_a_critic_comes_first_as_wgan_has_it() -> None:
    """Two moves of G, each the last of three steps; then four in a row, and one more that is the last of three."""
    moved = course("critic_first", 1.0, 18, moves=2.0, factor=3.0, period=4.0)
    assert moved == [0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0]


def test_ada_moves_towards_the_target_every_few_steps_and_stays_within_bounds() -> None:
    """Karras et al. 2020: by the steps since over ``length``, up where the mean sign lies above the target."""
    ada = SCHEDULES["ada"]
    numbers = {name: jnp.float32(v) for name, v in {"target": 0.6, "every": 2, "length": 10, "most": 0.5}.items()}
    memory, p, signs = ada.init(numbers), 0.0, []
    for step, accuracy in enumerate([0.9, 0.9, 1.0, 0.7, 0.1, 0.2, *[1.0] * 8]):
        assert_allclose(ada.value(jnp.float32(0), numbers, memory, jnp.int32(step)), p, atol=1e-6)
        memory = ada.update(numbers, memory, {"d_accuracy_real": jnp.float32(accuracy)})
        signs.append(2 * accuracy - 1)
        if len(signs) == 2:
            p = min(max(p + math.copysign(2 / 10, sum(signs) / 2 - 0.6), 0), 0.5)
            signs = []
    assert_allclose(p, 0.5)


def test_averages_have_the_decay_of_their_rule() -> None:
    decay, half_life = (AVERAGES[name].decay for name in ("decay", "half_life"))
    numbers = {"decay": jnp.float32(0.9), "start": jnp.float32(2)}
    found = [float(decay(numbers, jnp.int32(step))) for step in range(90)]
    assert_allclose(found, [0 if s < 2 else min(0.9, (1 + s) / (10 + s)) for s in range(90)], rtol=1e-6)
    for ramp in (0.0, 0.5):
        numbers = {"half_life": jnp.float32(8), "ramp_up": jnp.float32(ramp)}
        found = [float(half_life(numbers, jnp.int32(step))) for step in range(30)]
        lengths = [min(8, ramp * (s + 1)) if ramp else 8 for s in range(30)]
        assert_allclose(found, [0.5 ** (1 / length) for length in lengths], rtol=1e-6)


def test_averages_follow_parameters_and_batch_statistics_alone() -> None:
    collections = ("params", "batch_stats", "moving", "noise")
    before, newest = ({name: {"a": jnp.float32(value)} for name in collections} for value in (1, 5))
    numbers = {"decay": jnp.float32(0.75), "start": jnp.float32(0)}
    after = AVERAGES["decay"](numbers, jnp.int32(1000), (before, newest))
    assert {name: float(own["a"]) for name, own in after.items()} == dict(
        zip(collections, (2.0, 2.0, 5.0, 5.0), strict=True)
    )


def tried(config: ConfigDict, steps: int) -> list[Any]:
    """This step's hyperparameters, in each of the first ``steps``."""
    gan, state, batch = start(config)
    step, now = jax.jit(partial(update, gan)), jax.jit(partial(hyperparams_now, gan))
    found = []
    for _ in range(steps):
        found.append(jax.device_get(now(state)))
        state, _ = step(state, batch)
    return found


def test_any_number_moves_within_training_and_the_configured_ones_stay() -> None:
    config = small("gan")
    config.terms.r1.weight = 8.0
    config.schedules.generator_rate.kind = "linear"
    config.schedules.gamma = schedule("terms.r1.weight", "cosine", final=0.5, length=32.0, unit="images")  # two steps
    config.schedules.memory = schedule("optimizer.generator.b2", "linear", final=0.99, length=2.0)
    found = tried(config, 4)
    rates = [hyper["optimizer"]["generator"]["learning_rate"] for hyper in found]
    assert_allclose(rates, 2e-4 * np.asarray([1, 0.9, 0.8, 0.7]), rtol=1e-5)
    assert_allclose([hyper["terms"]["r1"]["weight"] for hyper in found], [8, 4.25, 0.5, 0.5], rtol=1e-5)
    assert_allclose([hyper["optimizer"]["generator"]["b2"] for hyper in found], [0.999, 0.9945, 0.99, 0.99], rtol=1e-5)
    assert {float(hyper["optimizer"]["discriminator"]["learning_rate"]) for hyper in found} == {np.float32(2e-4)}


def test_a_pause_leaves_a_player_and_its_moments_as_they_were() -> None:
    config = small("gan")
    config.schedules.late = schedule("optimizer.generator.active", "critic_first", moves=1.0, factor=2.0, period=9.0)
    gan, before, batch = start(config)
    step = jax.jit(partial(update, gan))
    one, _ = step(before, batch)
    two, _ = step(one, batch)

    def same(a: Any, b: Any) -> bool:
        return all(bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    assert same((before.generator.params, before.generator.opt_state), (one.generator.params, one.generator.opt_state))
    assert not same(before.discriminator.params, one.discriminator.params)
    assert not same(one.generator.params, two.generator.params)


def test_the_strength_of_augmentation_is_remembered_and_used() -> None:
    config = small("gan")
    config.augment.name = "translation"
    config.schedules.strength = schedule("augment.p", "ada", every=1.0, length=4.0, target=-2.0)  # so it always grows
    gan, state, batch = start(config)
    assert gan.augment.by_chance
    step = jax.jit(partial(update, gan))
    for expected in (0.25, 0.5, 0.75):
        state, metrics = step(state, batch)
        assert_allclose(metrics["schedule_strength"], expected - 0.25, atol=1e-7)  # that of the step, before it moved
        assert_allclose(state.memory["schedules"]["strength"]["p"], expected, rtol=1e-6)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(400, 8, 8, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 400)
    moved = jax.vmap(lambda image, key: gan.augment(image, key, {"p": 0.3}))(images, keys)
    share = float((moved != images).any((1, 2, 3)).mean())  # of those drawn, 1 in 9 or so moves by nothing
    assert 0.15 < share < 0.35


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (schedule("optimizer.generator.learning", "linear"), "did you mean"),
        (schedule("terms.r1", "linear"), "a number of this run"),
        (schedule("optimizer.generator.learning_rate", "linaer"), "linear"),
        (schedule("averages.ema.decay", "linear", unit="epochs"), "steps"),
        (schedule("averages.ema.decay", "linear", fnal=3.0), "did you mean 'final'"),
        (schedule("averages.ema.decay", "linear", final="3"), "config.schedules.mine.final must be a number, not '3'"),
    ],
)
def test_what_cant_move_is_said_in_one_line(entry: ConfigDict, said: str) -> None:
    config = small("gan")
    config.schedules.mine = entry
    with pytest.raises(UserError, match=said):
        build_gan(config)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({**average(), "decai": 0.5}, "did you mean 'decay'"),
        ({"rule": "decay", "decay": 0.5}, "config.averages.mine.half_life is missing"),
        ({**average(), "rule": "mean"}, "unknown config.averages.mine.rule 'mean'"),
    ],
)
def test_what_is_no_average_is_said_in_one_line(entry: dict[str, Any], said: str) -> None:
    config = small("gan")
    config.averages.mine = ConfigDict(entry)
    with pytest.raises(UserError, match=said):
        build_gan(config)


@pytest.mark.slow
def test_several_averages_follow_at_once_and_the_first_is_drawn_with() -> None:
    config = small("gan")
    config.averages.long = average("half_life", half_life=64.0, ramp_up=0.0)  # four steps
    gan, hyperparams = build_gan(config)
    state = init_state(gan, 0, hyperparams)
    assert [name for name, _ in gan.averages] == ["ema", "long"]
    _, _, batch = start(config)
    after, _ = jax.jit(partial(update, gan))(state, batch)
    kept = 0.5 ** (1 / 4)
    jax.tree.map(
        lambda a, old, new: assert_allclose(a, kept * old + (1 - kept) * new, rtol=1e-5, atol=1e-7),
        after.averages["long"],
        state.averages["long"],
        after.generator.variables,
    )
