"""Distances between sets of features, against SciPy, NumPy by the definitions, and torch-fidelity."""

import types
from typing import Any

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from numpy.testing import assert_allclose

from gan_jax.evaluate import metrics
from tests.helpers import fidelity_without_torchvision


def features(count: int, size: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Correlated, skewed, positive, as activations are."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) / size**0.5
    positive: np.ndarray = np.maximum(mixed + 0.3 + shift, 0).astype(np.float32)
    return positive


REAL, FAKE = features(700, 24, 0), features(600, 24, 1, 0.1)


def test_moments_are_numpys_whatever_the_batches_and_however_large_the_mean() -> None:
    data = features(1000, 16, 0).astype(np.float64) + 1e6
    for cuts in ([], [1, 2, 500], [999]):
        sums = metrics.Moments()
        for batch in np.split(data, cuts):
            sums.add(batch)
        mean, covariance = sums.result()
        assert mean.dtype == covariance.dtype == np.float64
        assert_allclose(mean, data.mean(0), rtol=1e-14)
        assert_allclose(covariance, np.cov(data.T), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="needs two samples"):
        metrics.moments(data[:1])


def test_the_process_stays_in_32_bits() -> None:
    metrics.moments(REAL)
    assert jax.numpy.zeros(3).dtype == np.float32


def frechet_by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T))
    difference = x.mean(0) - y.mean(0)
    return float(difference @ difference + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root.real))


def test_frechet_distance_is_scipys() -> None:
    for x, y in ((REAL, FAKE), (REAL, REAL[:300]), (100 * REAL, 1e-2 * FAKE)):
        ours = metrics.frechet_distance(*metrics.moments(x), *metrics.moments(y))
        assert_allclose(ours, frechet_by_scipy(x, y), rtol=1e-6)
    assert abs(metrics.frechet_distance(*metrics.moments(REAL), *metrics.moments(REAL))) < 1e-10


def test_frechet_distance_of_gaussians_with_commuting_covariances_is_known() -> None:
    mean, a, b = np.arange(5.0), np.diag([1.0, 4, 9, 16, 25]), np.diag([4.0, 4, 1, 0, 9])
    ours = metrics.frechet_distance(mean, a, mean + 2, b)
    assert_allclose(ours, 5 * 4 + ((np.sqrt(np.diag(a)) - np.sqrt(np.diag(b))) ** 2).sum(), rtol=1e-12)


def test_frechet_distance_with_fewer_samples_than_features_is_finite_and_right() -> None:
    x, y = features(20, 64, 0), features(25, 64, 1)
    ours = metrics.frechet_distance(*metrics.moments(x), *metrics.moments(y))
    values = np.linalg.eigvals(np.cov(x.T.astype(np.float64)) @ np.cov(y.T.astype(np.float64)))
    root = np.sqrt(np.maximum(values.real, 0)).sum()
    traces = np.trace(np.cov(x.T.astype(np.float64)) + np.cov(y.T.astype(np.float64)))
    difference = x.astype(np.float64).mean(0) - y.astype(np.float64).mean(0)
    assert_allclose(ours, difference @ difference + traces - 2 * root, rtol=1e-6)


def test_kernel_distance_is_its_definition() -> None:
    x, y = FAKE[:50].astype(np.float64), REAL[:50].astype(np.float64)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 24 + 1) ** 3)

    within = sum(k(a, b) for s in (x, y) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (50 * 49)
    between = sum(k(a, b) for a in x for b in y) / 50**2
    mean, spread = metrics.kernel_distance(REAL[:50], FAKE[:50], subsets=2)
    assert_allclose(mean, within - 2 * between, rtol=2e-7)  # products in float32
    assert spread == pytest.approx(0, abs=1e-12)


def test_inception_score_is_its_definition_and_knows_its_ends() -> None:
    logits = np.random.default_rng(0).normal(size=(500, 10)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    desired = np.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert_allclose(metrics.inception_score(logits, splits=1)[0], desired, rtol=1e-10)
    sure_and_even = 1000.0 * np.eye(10)[np.arange(500) % 10]
    assert_allclose(metrics.inception_score(sure_and_even, splits=1), (10, 0), rtol=1e-10)
    assert_allclose(metrics.inception_score(np.zeros((500, 10))), (1, 0), rtol=1e-10, atol=1e-10)


def manifold_by_hand(real: np.ndarray, fake: np.ndarray, k: int, k_density: int) -> dict[str, float]:
    real, fake = real.astype(np.float64), fake.astype(np.float64)

    def radius(points: np.ndarray, k: int) -> np.ndarray:
        return np.array([np.sort(np.linalg.norm(points - p, axis=1))[k] for p in points])

    between = np.array([[np.linalg.norm(r - f) for f in fake] for r in real])
    dense = between < radius(real, k_density)[:, None]
    return {
        "precision": (between <= radius(real, k)[:, None]).any(0).mean(),
        "recall": (between <= radius(fake, k)[None]).any(1).mean(),
        "density": dense.sum(0).mean() / k_density,
        "coverage": dense.any(1).mean(),
    }


@pytest.mark.parametrize("rows", [7, 1000])
def test_manifold_metrics_are_their_definitions(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_ROWS", rows)
    real, fake = features(60, 6, 0), features(50, 6, 1, 0.4)
    ours = metrics.manifold_metrics(real, fake, k=3, k_density=5)
    assert ours == pytest.approx(manifold_by_hand(real, fake, 3, 5), rel=1e-9)
    assert 0.05 < ours["precision"] < 0.95
    assert ours["coverage"] > 0.05


def test_manifold_metrics_know_their_ends() -> None:
    assert metrics.manifold_metrics(REAL, REAL)["precision"] == 1
    assert metrics.manifold_metrics(REAL, REAL)["coverage"] == 1
    apart = metrics.manifold_metrics(REAL, REAL + 1000)
    assert set(apart.values()) == {0}
    collapsed = metrics.manifold_metrics(REAL, np.repeat(REAL[:1], 700, 0) + 1e-3 * FAKE[:1])
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.01
    assert collapsed["coverage"] < 0.05
    with pytest.raises(ValueError, match="5 samples are too few for 5 neighbours"):
        metrics.manifold_metrics(REAL, FAKE[:5])


def test_nearest_are_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_ROWS", 7)
    distances, numbers = metrics.nearest(FAKE[:20], REAL, 3)
    direct = np.linalg.norm(REAL[None].astype(np.float64) - FAKE[:20, None], axis=-1)
    np.testing.assert_array_equal(numbers, np.argsort(direct, 1)[:, :3])
    assert_allclose(distances, np.sort(direct, 1)[:, :3], rtol=1e-6)


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torch-fidelity's metrics."""
    fidelity_without_torchvision(monkeypatch)
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    return types.SimpleNamespace(fid=metric_fid, isc=metric_isc, kid=metric_kid, prc=metric_prc)


@pytest.mark.filterwarnings("ignore")
def test_all_agree_with_torch_fidelity(fidelity: Any) -> None:
    import torch

    fake, real = torch.tensor(FAKE).double(), torch.tensor(REAL).double()
    theirs = fidelity.fid.fid_statistics_to_metric(
        fidelity.fid.fid_features_to_statistics(fake), fidelity.fid.fid_features_to_statistics(real), False
    )
    ours = metrics.frechet_distance(*metrics.moments(REAL), *metrics.moments(FAKE))
    assert_allclose(ours, theirs["frechet_inception_distance"], rtol=1e-6)

    settings = {"kid_subsets": 7, "kid_subset_size": 100, "verbose": False, "rng_seed": 2020}
    kid = fidelity.kid.kid_features_to_metric(fake, real, **settings)
    assert_allclose(metrics.kernel_distance(REAL, FAKE, 7, 100), list(kid.values()), rtol=1e-6)

    isc = fidelity.isc.isc_features_to_metric(fake)
    assert_allclose(metrics.inception_score(FAKE), list(isc.values()), rtol=1e-6)

    prc = fidelity.prc.prc_features_to_metric(fake, real, verbose=False)
    ours_prc = metrics.manifold_metrics(REAL, FAKE)
    assert ours_prc["precision"] == pytest.approx(prc["precision"], rel=1e-6)
    assert ours_prc["recall"] == pytest.approx(prc["recall"], rel=1e-6)


# --- MIND -------------------------------------------------------------------------------------------------------------


def test_mind_is_the_cost_of_the_best_transport_on_each_line() -> None:
    """By SciPy's assignment of points on a line, which knows nothing of sorting; three times the dimension."""
    real, fake = REAL[:25, :3], FAKE[:30, :3]
    lines = np.random.RandomState(2020).normal(size=(3, 40))
    costs = []
    for line in (lines / np.sqrt((lines**2).sum(0))).T:
        apart = ((real @ line)[:, None] - (fake[:25] @ line)[None]) ** 2
        costs.append(apart[scipy.optimize.linear_sum_assignment(apart)].mean())
    assert metrics.monge_distance(real, fake, 40) == pytest.approx(9 * np.mean(costs), rel=1e-4)
    assert metrics.monge_distance(fake, real, 40) == pytest.approx(9 * np.mean(costs), rel=1e-4)


def test_mind_of_a_shift_is_three_times_its_square() -> None:
    """On a random line of d dimensions a shift has the square of its length over d, and all samples go as far."""
    shift = np.random.default_rng(3).normal(size=24)
    found = metrics.monge_distance(REAL, REAL + shift)
    assert found == pytest.approx(3 * (shift**2).sum(), rel=0.1)
    assert metrics.monge_distance(REAL, REAL[::-1]) < 1e-6
