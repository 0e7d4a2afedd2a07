"""Intervals hold what they promise, tried on many sets of samples of one known distribution; so does FID's limit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from gan_jax.evaluate import confidence, metrics
from gan_jax.evaluate.confidence import errors, fid_infinity, intervals, rooted
from tests.evaluate.test_metrics import frechet_by_scipy, manifold_by_hand

MIXED = np.random.default_rng(0).normal(size=(8, 8)) / 8**0.5


def features(count: int, seed: int, shift: float = 0.1) -> np.ndarray:
    """As if of images of one kind."""
    x: np.ndarray = np.maximum(np.random.default_rng(seed).normal(size=(count, 8)) @ MIXED + 0.3 + shift, 0)
    return x.astype(np.float32)


REAL = features(600, 1, 0)
ROOTED = rooted(metrics.moments(REAL))
NONE = np.zeros((200, 0))


def test_fid_of_infinite_samples_has_no_bias_where_fid_has_much() -> None:
    truth = frechet_by_scipy(REAL, features(400_000, 7))
    sets = [features(200, 100 + i) for i in range(40)]
    biased, found = (np.asarray([f(x) for x in sets]) for f in (ROOTED.distance, lambda x: fid_infinity(ROOTED, x)))
    deviation = found.std(ddof=1) / len(sets) ** 0.5
    assert biased.mean() - truth > 6 * deviation
    assert abs(found.mean() - truth) < 3 * deviation


def test_fid_of_infinite_samples_is_where_a_line_through_parts_meets_0() -> None:
    fake = features(100, 3)
    means = [np.mean([frechet_by_scipy(REAL, part) for part in np.split(fake[:n], k)]) for k, n in _parts(100)]
    line = np.polyfit([k / 100 if 100 % k == 0 else 1 / (100 // k) for k in range(1, 6)], means, 1)
    assert fid_infinity(ROOTED, fake) == pytest.approx(line[1], rel=1e-6)


def _parts(count: int) -> list[tuple[int, int]]:
    """How many parts, of how many samples in all."""
    return [(k, count // k * k) for k in range(1, 6)]


@pytest.mark.parametrize(("count", "known"), [(39, False), (40, True)])
def test_too_few_samples_say_nothing_of_infinitely_many(count: int, known: bool) -> None:
    """Halves need 2.44 samples a feature."""
    assert (fid_infinity(ROOTED, features(count, 3)) is not None) == known


@pytest.fixture(scope="module")
def many() -> tuple[dict[str, float], dict[str, float]]:
    """Of 50 sets of samples of one distribution the standard deviations of figures, and the mean of what one says."""
    told: list[dict[str, Any]] = []
    found = []
    for i in range(50):
        fake = features(200, 100 + i)
        told.append(
            {
                "fid": ROOTED.distance(fake),
                "fid_infinity": fid_infinity(ROOTED, fake),
                "kid": _mmd(REAL[:200].astype(float), fake.astype(float)),
                **manifold(fake),
            }
        )
        found.append(errors(ROOTED, REAL, (fake, NONE)) if i < 5 else {})
    spread = {name: float(np.std([one[name] for one in told], ddof=1)) for name in told[0]}
    return spread, {name: float(np.mean([one[name] for one in found[:5]])) for name in found[0]}


def manifold(fake: np.ndarray) -> dict[str, float]:
    return metrics.manifold_metrics(REAL[: len(fake)], fake)


def _mmd(x: Any, y: Any) -> float:
    """The unbiased squared distance of the kernel, of all pairs."""
    a, b, c = ((p @ q.T / 8 + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    n = len(x)
    within: float = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (a, b))
    return within - 2 * float(c.mean())


@pytest.mark.parametrize("figure", ["fid", "kid", "precision", "recall", "density", "coverage"])
def test_one_set_of_samples_says_how_far_sets_differ(figure: str, many: Any) -> None:
    """Within what 50 sets tell of a standard deviation (10 % and more), and resampling's own error."""
    spread, found = many
    assert 0.65 < found[figure] / spread[figure] < (2 if figure == "coverage" else 1.5)


def test_fid_of_infinite_samples_varies_as_fid_does(many: Any) -> None:
    spread, _ = many
    assert spread["fid_infinity"] == pytest.approx(spread["fid"], rel=0.25)


def bootstrap(figure: Callable[[np.ndarray], float], samples: np.ndarray, resamples: int = 400) -> float:
    """The plain bootstrap: the standard deviation over resamples with replacement."""
    rng = np.random.default_rng(0)
    return float(np.std([figure(samples[rng.integers(0, len(samples), len(samples))]) for _ in range(resamples)]))


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_fids_error_is_the_plain_bootstraps_where_samples_are_many(shift: float) -> None:
    fake = features(800, 11, shift)
    assert ROOTED.error(fake) == pytest.approx(bootstrap(ROOTED.distance, fake), rel=0.12)


@pytest.mark.parametrize("count", [5, 60])
def test_a_samples_influence_is_the_derivative_by_its_share(count: int) -> None:
    """By differences, of weighted moments, by SciPy; also of fewer samples than features."""
    fake = features(count, 12, 0.4).astype(float)

    def weighted(shares: np.ndarray) -> float:
        mean = shares @ fake
        centred = (fake - mean) * shares[:, None] ** 0.5
        covariance = centred.T @ centred * count / (count - 1)
        values = scipy.linalg.eigvalsh(ROOTED.root.T @ covariance @ ROOTED.root)
        apart = ((mean - ROOTED.mean) ** 2).sum() + np.trace(covariance) + np.trace(ROOTED.covariance)
        return float(apart - 2 * np.sqrt(values.clip(0)).sum())

    even, step, found = np.full(count, 1 / count), 1e-4, []
    for i in range(count):
        ahead, behind = ((1 - s) * even + s * np.eye(count)[i] for s in (step, -step))
        found.append((weighted(ahead) - weighted(behind)) / (2 * step))
    ours = metrics.frechet_influences(ROOTED.root, ROOTED.mean, fake)
    assert_allclose(ours - ours.mean(), np.asarray(found) - np.mean(found), rtol=1e-4, atol=1e-4)
    assert ROOTED.error(fake) == pytest.approx(np.std(found) / count**0.5, rel=1e-4)


@pytest.mark.parametrize("bad", ["data", "samples"])
@pytest.mark.parametrize("features", [3, 20])
def test_features_that_are_not_finite_have_no_distance_and_no_error(features: int, bad: str) -> None:
    sets = dict(zip(("data", "samples"), np.random.default_rng(0).normal(size=(2, 50, features)), strict=True))
    sets[bad][7, 1] = np.nan
    known = rooted(metrics.moments(sets["data"]))
    assert np.isnan(known.distance(sets["samples"]))
    assert np.isnan(known.error(sets["samples"]))


def test_the_inception_scores_error_is_the_plain_bootstraps() -> None:
    logits = features(1000, 13) @ np.random.default_rng(5).normal(size=(8, 4)) * 2
    found = errors(ROOTED, REAL, (features(20, 1), logits))["inception_score"]
    assert found == pytest.approx(bootstrap(lambda x: metrics.inception_score(x)[0], logits, 200), rel=0.15)


def test_errors_of_means_are_s_over_the_root_of_their_number() -> None:
    """Of precision and density, by the balls as the definition has them."""
    fake = features(120, 9, 0.5)
    found = errors(rooted(metrics.moments(REAL)), REAL, (fake, NONE[:120]))
    alone = [manifold_by_hand(REAL[:120], np.concatenate([one[None]] * 6), 3, 5) for one in fake]
    for name in ("precision", "density"):
        values = np.array([one[name] for one in alone])
        assert found[name] == pytest.approx(values.std() / 120**0.5, rel=1e-6)


def test_coverages_error_is_the_jackknifes() -> None:
    fake = features(60, 9, 0.5)
    found = errors(ROOTED, REAL, (fake, NONE[:60]))["coverage"]
    without = [manifold_by_hand(REAL[:60], np.delete(fake, i, 0), 3, 5)["coverage"] for i in range(60)]
    assert found == pytest.approx(np.std(without) * 59**0.5, rel=1e-6)


def test_half_of_the_samples_recalls_what_the_definition_says() -> None:
    fake = features(70, 9, 1.2)
    near, pairs = metrics.manifold_pairs(REAL[:70], fake, (3, 5), 24)
    chosen = np.zeros(70, bool)
    chosen[np.random.default_rng(3).permutation(70)[:35]] = True
    by_hand = manifold_by_hand(REAL[:70], fake[chosen], 3, 5)
    assert confidence._recall(chosen, near, pairs) == pytest.approx(by_hand["recall"])
    assert 0.1 < by_hand["recall"] < 0.95


def test_intervals_are_about_the_figures_and_within_what_they_can_be() -> None:
    fake, logits = features(200, 3), np.random.default_rng(4).normal(size=(200, 4))
    told = {"fid": 0.3, "fid_infinity": 0.2, "kid": 0.0, "kid_std": 0.5, "precision": 0.999, "inception_score": 1.001}
    found = intervals({**told, "duplicates": 0.1}, ROOTED, REAL, (fake, logits))
    assert set(found) == set(told) - {"kid_std"}
    known = errors(ROOTED, REAL, (fake, logits))
    assert_allclose(found["fid"], (max(0, 0.3 - 1.96 * known["fid"]), 0.3 + 1.96 * known["fid"]), rtol=1e-4)
    assert found["fid_infinity"][1] - 0.2 == pytest.approx(found["fid"][1] - 0.3)
    assert found["kid"][1] == pytest.approx(1.96 * (known["kid"] ** 2 + 0.05**2) ** 0.5, rel=1e-4)
    assert found["precision"][1] == 1
    assert found["inception_score"][0] == 1
    assert all(low <= told[name] <= high for name, (low, high) in found.items())


def test_the_inception_scores_error_is_that_of_sets_of_samples() -> None:
    weights = np.random.default_rng(5).normal(size=(8, 4)) * 2
    scores = [metrics.inception_score(features(300, 200 + i) @ weights)[0] for i in range(30)]
    fake = features(300, 200)
    found = errors(ROOTED, REAL, (fake, fake @ weights))["inception_score"]
    assert 0.6 < found / np.std(scores, ddof=1) < 1.6


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_minds_error_is_the_plain_bootstraps(shift: float) -> None:
    fake = features(600, 14, shift)
    found = errors(ROOTED, REAL, (fake, np.zeros((600, 0))))["mind"]
    assert found == pytest.approx(bootstrap(lambda x: metrics.monge_distance(REAL, x), fake, 100), rel=0.2)


def test_a_samples_influence_on_mind_is_the_derivative_by_its_share() -> None:
    """On one line, by differences of the cost between quantiles of weighted samples."""
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(7, 1)).astype(np.float32), 0.3 + 1.5 * rng.normal(size=(7, 1)).astype(np.float32)
    x, order = np.sort(real[:, 0]).astype(float), np.argsort(fake[:, 0])

    def cost(shares: np.ndarray) -> float:
        ends, fixed = np.cumsum(shares[order]), np.arange(1, 8) / 7
        levels = np.sort(np.concatenate([[0.0], ends, fixed]))
        middle = (levels[1:] + levels[:-1]) / 2
        at = [np.minimum(np.searchsorted(sides, middle), 6) for sides in (ends, fixed)]
        return float((np.diff(levels) * (fake[order, 0][at[0]] - x[at[1]]) ** 2).sum())

    even, step, found = np.full(7, 1 / 7), 1e-4, []
    for i in range(7):
        ahead, behind = ((1 - s) * even + s * np.eye(7)[i] for s in (step, -step))
        found.append((cost(ahead) - cost(behind)) / (2 * step))
    ours = metrics.monge_influences(real, fake, 4)
    assert_allclose(ours - ours.mean(), 3 * (np.asarray(found) - np.mean(found)), rtol=1e-3, atol=1e-3)
