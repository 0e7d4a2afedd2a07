"""The losses against the papers' formulas in naive float64, where these hold, and against their limits, where not."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import losses
from gan_jax.core.losses import Loss, decision_boundary, discriminator_output

Formula = Callable[[np.ndarray, np.ndarray, float, float], tuple[np.ndarray, np.ndarray]]

REAL = np.array([-3.0, -0.7, 0.0, 0.4, 1.0, 2.5, 5.0])
FAKE = np.array([2.0, 1.0, -1.0, 0.3, -4.0, 0.0, -0.9])
LABELLED = [losses.non_saturating, losses.minimax, losses.least_squares]
ALL = [*LABELLED, losses.wasserstein, losses.hinge, losses.relativistic]
every_loss = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.__name__)
cross_entropies = pytest.mark.parametrize("loss", LABELLED[:2], ids=lambda loss: loss.__name__)
labels = pytest.mark.parametrize(("real_label", "fake_label"), [(1.0, 0.0), (0.9, 0.0), (0.8, 0.1), (0.0, 1.0)])


def cross_entropy(x: np.ndarray, label: float) -> np.ndarray:
    probability: np.ndarray = 1 / (1 + np.exp(-x))
    loss: np.ndarray = -label * np.log(probability) - (1 - label) * np.log(1 - probability)
    return loss


def non_saturating(real: np.ndarray, fake: np.ndarray, b: float, a: float) -> tuple[np.ndarray, np.ndarray]:
    return cross_entropy(real, b) + cross_entropy(fake, a), -np.log(1 / (1 + np.exp(-fake)))


def minimax(real: np.ndarray, fake: np.ndarray, b: float, a: float) -> tuple[np.ndarray, np.ndarray]:
    return cross_entropy(real, b) + cross_entropy(fake, a), np.log(1 - 1 / (1 + np.exp(-fake)))


def least_squares(
    real: np.ndarray, fake: np.ndarray, b: float, a: float, c: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    return (real - b) ** 2 / 2 + (fake - a) ** 2 / 2, (fake - c) ** 2 / 2


def wasserstein(real: np.ndarray, fake: np.ndarray, _b: float, _a: float) -> tuple[np.ndarray, np.ndarray]:
    return -(real - fake), -fake


def hinge(real: np.ndarray, fake: np.ndarray, _b: float, _a: float) -> tuple[np.ndarray, np.ndarray]:
    return -np.minimum(0, -1 + real) - np.minimum(0, -1 - fake), -fake


def relativistic(real: np.ndarray, fake: np.ndarray, _b: float, _a: float) -> tuple[np.ndarray, np.ndarray]:
    return -np.log(1 / (1 + np.exp(fake - real))), -np.log(1 / (1 + np.exp(real - fake)))


FORMULAS = [non_saturating, minimax, least_squares, wasserstein, hinge, relativistic]
PAPER: dict[Loss, Formula] = dict(zip(ALL, FORMULAS, strict=True))


@every_loss
def test_a_loss_is_the_formula_of_its_paper_for_each_example(loss: Loss) -> None:
    with jax.enable_x64(True):
        actual = loss(jnp.asarray(REAL), jnp.asarray(FAKE))
    for x, y in zip(actual, PAPER[loss](REAL, FAKE, 1, 0), strict=True):
        assert x.shape == REAL.shape
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13)


@labels
@pytest.mark.parametrize("loss", LABELLED, ids=lambda loss: loss.__name__)
def test_labels_go_where_the_formula_has_them(loss: Loss, real_label: float, fake_label: float) -> None:
    with jax.enable_x64(True):
        actual = loss(jnp.asarray(REAL), jnp.asarray(FAKE), real_label=real_label, fake_label=fake_label)
        traced = jax.jit(loss)(REAL, FAKE, np.float64(real_label), np.float64(fake_label))
    desired = PAPER[loss](REAL, FAKE, real_label, fake_label)
    for x, y, z in zip(actual, desired, traced, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(z, y, rtol=1e-12, atol=1e-13)


def test_least_squares_has_a_target_of_the_generators_own() -> None:
    """Mao et al. 2017, eq. 8: a = -1, b = 1, c = 0."""
    with jax.enable_x64(True):
        actual = losses.least_squares(jnp.asarray(REAL), jnp.asarray(FAKE), 1.0, -1.0, 0.0)
    for x, y in zip(actual, least_squares(REAL, FAKE, 1, -1, 0), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13)


@every_loss
def test_the_losses_of_one_example_depend_on_no_other(loss: Loss) -> None:
    other = np.arange(len(REAL)) != 3
    with jax.enable_x64(True):
        before = loss(jnp.asarray(REAL), jnp.asarray(FAKE))
        after = loss(jnp.asarray(np.where(other, REAL, 9)), jnp.asarray(np.where(other, FAKE, 9)))
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x == y, other)


@every_loss
def test_gradients_are_the_slopes_of_the_formula(loss: Loss) -> None:
    real, fake, step = REAL + 0.01, FAKE + 0.01, 1e-6  # off the hinge's kinks
    with jax.enable_x64(True):
        for player in (0, 1):
            gradients = jax.grad(lambda real, fake: loss(real, fake)[player].sum(), (0, 1))(real, fake)  # noqa: B023
            for gradient, (dr, df) in zip(gradients, [(step, 0), (0, step)], strict=True):
                up, down = (PAPER[loss](real + s * dr, fake + s * df, 1, 0)[player] for s in (1, -1))
                np.testing.assert_allclose(gradient, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


# Discriminator, generator, and the gradients D by (real, fake) and G by fake, at real = x and fake = y.
BIG = 1e4
LIMITS = {
    ("non_saturating", BIG, -BIG): (0, BIG, (0, 0), -1),
    ("non_saturating", -BIG, BIG): (2 * BIG, 0, (-1, 1), 0),
    ("minimax", BIG, -BIG): (0, 0, (0, 0), 0),
    ("minimax", -BIG, BIG): (2 * BIG, -BIG, (-1, 1), -1),
    ("least_squares", BIG, -BIG): (((BIG - 1) ** 2 + BIG**2) / 2, (BIG + 1) ** 2 / 2, (BIG - 1, -BIG), -BIG - 1),
    ("least_squares", -BIG, BIG): (((BIG + 1) ** 2 + BIG**2) / 2, (BIG - 1) ** 2 / 2, (-BIG - 1, BIG), BIG - 1),
    ("wasserstein", BIG, -BIG): (-2 * BIG, BIG, (-1, 1), -1),
    ("wasserstein", -BIG, BIG): (2 * BIG, -BIG, (-1, 1), -1),
    ("hinge", BIG, -BIG): (0, BIG, (0, 0), -1),
    ("hinge", -BIG, BIG): (2 * BIG + 2, -BIG, (-1, 1), -1),
}


@pytest.mark.parametrize(("name", "real", "fake"), LIMITS)
def test_losses_and_gradients_of_huge_logits_are_their_limits_in_float32(name: str, real: float, fake: float) -> None:
    loss = getattr(losses, name)
    discriminator, generator, by_both, by_fake = LIMITS[name, real, fake]
    actual = loss(jnp.float32(real), jnp.float32(fake))
    np.testing.assert_allclose(actual, (discriminator, generator), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda r, f: loss(r, f)[0], (0, 1))(real, fake), by_both, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda r, f: loss(r, f)[1], (0, 1))(real, fake), (0, by_fake), rtol=1e-6)


@cross_entropies
@pytest.mark.parametrize("logit", [-BIG, BIG])
def test_smoothed_cross_entropy_of_huge_logits_is_its_limit(loss: Loss, logit: float) -> None:
    discriminator, _ = loss(jnp.float32(logit), jnp.float32(-BIG), real_label=0.9)
    assert discriminator == pytest.approx(0.1 * BIG if logit > 0 else 0.9 * BIG, rel=1e-5)


@cross_entropies
@labels
def test_cross_entropy_is_stable_and_least_at_the_log_odds_of_the_label(
    loss: Loss, real_label: float, fake_label: float
) -> None:
    logits = np.linspace(-50, 50, 401)
    with jax.enable_x64(True):
        real = loss(logits, np.full_like(logits, -800.0), real_label, 0.0)[0]
        fake = loss(np.full_like(logits, 800.0), logits, 1.0, fake_label)[0]
        for actual, label in ((real, real_label), (fake, fake_label)):
            desired = label * np.logaddexp(0, -logits) + (1 - label) * np.logaddexp(0, logits)
            np.testing.assert_allclose(actual, desired, rtol=1e-12, atol=1e-13)
        if 0 < real_label < 1:
            best = np.log(real_label / (1 - real_label))
            slope = jax.grad(lambda x: loss(x, 0.0, real_label, fake_label)[0])
            assert slope(best) == pytest.approx(0, abs=1e-15)
            assert slope(best - 0.1) < 0 < slope(best + 0.1)


@cross_entropies
def test_an_undecided_discriminator_loses_log_4(loss: Loss) -> None:
    discriminator, _ = loss(jnp.zeros(3), jnp.zeros(3))
    np.testing.assert_allclose(discriminator, np.log(4), rtol=1e-6)


def test_smoothing_leaves_the_generators_cross_entropy_alone() -> None:
    for loss in LABELLED[:2]:
        real, fake = jnp.asarray(REAL, jnp.float32), jnp.asarray(FAKE, jnp.float32)
        np.testing.assert_array_equal(loss(real, fake, 0.9, 0.1)[1], loss(real, fake)[1])


def test_minimax_saturates_where_non_saturating_does_not() -> None:
    losses_and_slopes: list[tuple[Loss, float]] = [
        (losses.minimax, -1 / (1 + np.exp(8))),
        (losses.non_saturating, -1 / (1 + np.exp(-8))),
    ]
    for loss, slope in losses_and_slopes:
        gradient = jax.grad(lambda fake: loss(0.0, fake)[1])(-8.0)  # noqa: B023
        assert gradient == pytest.approx(slope, rel=1e-5)


@every_loss
def test_the_discriminators_output_is_a_probability_where_logits_are_log_odds(loss: Loss) -> None:
    logits = jnp.asarray(REAL, jnp.float32)
    desired = 1 / (1 + np.exp(-REAL)) if loss in LABELLED[:2] else REAL
    np.testing.assert_allclose(discriminator_output(loss, logits), desired, rtol=1e-6)
    assert np.isfinite(discriminator_output(loss, jnp.array([-BIG, BIG]))).all()


@pytest.mark.parametrize(
    ("loss", "given", "boundary"),
    [
        (losses.non_saturating, {"real_label": 0.9, "fake_label": 0.0}, 0.0),
        (losses.minimax, {}, 0.0),
        (losses.hinge, {}, 0.0),
        (losses.least_squares, {}, 0.5),
        (losses.least_squares, {"real_label": 0.9}, 0.45),
        (losses.least_squares, {"real_label": 1.0, "fake_label": -1.0}, 0.0),
        (losses.wasserstein, {}, 2.0),
    ],
)
def test_the_decision_boundary_is_half_way(loss: Loss, given: dict[str, float], boundary: float) -> None:
    labels = {name: jnp.float32(value) for name, value in given.items()}
    actual = decision_boundary(loss, jnp.float32(7), jnp.float32(-3), labels)
    assert float(actual) == pytest.approx(boundary, abs=1e-6)


def test_a_loss_of_ones_own_says_what_its_logits_are() -> None:
    def plain(real_logits: jax.Array, fake_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        return fake_logits, real_logits

    class Odds:
        log_odds = relative = True
        __call__ = staticmethod(plain)

    logits, means = jnp.asarray([0.0, np.log(3.0)]), (jnp.float32(7), jnp.float32(-3))
    np.testing.assert_array_equal(discriminator_output(plain, logits), logits)
    np.testing.assert_allclose(discriminator_output(Odds(), logits), [0.5, 0.75], rtol=1e-6)
    assert float(decision_boundary(plain, *means, {})) == 0
    assert float(decision_boundary(Odds(), *means, {})) == 2


def test_every_loss_of_the_module_is_tested_here() -> None:
    drawn = {"soft_hinge"}  # by its examples' keys: tests/models/test_fastgan.py
    assert {*losses.__all__} == {loss.__name__ for loss in ALL} | drawn
