"""Distances between two sets of features: sums in float64, distances between pairs in float32.

What is in float64 is NumPy's and LAPACK's, on the host: on two CPU cores two to three times as fast as XLA's. Pairs are
compared on the device, and where that is the CPU, NumPy multiplies them.

Each takes features as arrays ``[N, d]``, made by whatever extractor; figures of different extractors don't compare.
"""

import math
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import pairwise
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.runtime.pairs import of_pairs, placed
from gan_jax.util import progress

P = ParamSpec("P")
R = TypeVar("R")
MeanCovariance = tuple[np.ndarray, np.ndarray]
_SEED = 2020  # torch-fidelity's
SPLITS = 10  # of the samples for an Inception score
SUBSETS = 100  # for KID
PROJECTIONS = 1000  # for MIND
_AT_ONCE = 100  # of these
_ROWS = 1000  # of a matrix of distances that are made at a time


def _in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` with 64-bit types, whatever the program around it does."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapped


class Moments:
    """Mean and covariance of features that come in batches, summed in float64 about the first batch's mean.

    So no digit is lost to a large mean, and neither order nor size of the batches shows in the first 12.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift: np.ndarray | None = None
        self._sum: Any = 0.0
        self._products: Any = 0.0

    def add(self, features: np.ndarray) -> None:
        """Add ``[n, d]``."""
        batch = np.asarray(features, np.float64)
        if self._shift is None:
            self._shift = batch.mean(0)
        centred = batch - self._shift
        self.count += len(batch)
        self._sum = self._sum + centred.sum(0)
        self._products = self._products + centred.T @ centred  # of which NumPy computes one half

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean ``[d]`` and unbiased covariance ``[d, d]``, float64.

        Raises:
          ValueError: fewer than two rows were added.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs two samples or more, not {self.count}")
        mean = self._sum / self.count
        covariance = (self._products - self.count * np.outer(mean, mean)) / (self.count - 1)
        return np.asarray(self._shift + mean), np.asarray(covariance)


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[d]`` and unbiased covariance ``[d, d]`` of features ``[N, d]``."""
    sums = Moments()
    for start in range(0, len(features), 10 * _ROWS):
        sums.add(features[start : start + 10 * _ROWS])
    return sums.result()


def frechet_distance(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """FID (Heusel et al. 2017, arXiv:1706.08500), ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``.

    The trace of the root is the sum of the roots of the eigenvalues of ``F' C2 F`` with ``F F' = C1``, which is
    symmetric: no general matrix root, no imaginary parts, nothing added to the diagonal where samples are fewer than
    features.
    """
    return frechet_from_root(root(covariance1), (mean1, covariance1), (mean2, covariance2))


def root(covariance: np.ndarray) -> np.ndarray:
    """Return a root F ``[d, d]`` of a covariance, ``F F' = C``: Cholesky's, or where it has none the symmetric one.

    Cholesky's takes a tenth of the time, and is there unless samples are about as few as features, or fewer. Of a
    covariance that isn't finite, no number of the root is.
    """
    covariance = np.asarray(covariance, np.float64)
    if not np.isfinite(covariance).all():
        return np.full_like(covariance, np.nan)
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def frechet_from_root(
    root1: np.ndarray, one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> float:
    """`frechet_distance` of two pairs of mean and covariance, where the first's `root` is at hand."""
    (mean1, covariance1), (mean2, covariance2) = one, other
    product = root1.T @ covariance2 @ root1
    if not np.isfinite(product).all():
        return math.nan
    between = np.linalg.eigvalsh(product)
    trace = np.trace(covariance1) + np.trace(covariance2) - 2 * np.sqrt(np.maximum(between, 0)).sum()
    return float(np.square(mean1 - mean2).sum() + trace)


def frechet_influences(root1: np.ndarray, mean1: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return by how much each of ``features`` ``[N, d]`` moves their `frechet_from_root`, ``[N]``, up to a constant.

    That is the derivative with respect to its share among them, the influence of Hampel 1974: with x about the mean m
    of all, C their covariance and R the other one's `root`, ``2 x.(m - m1) + |x|^2 - x' R (R'C R)^(-1/2) R'x``, the
    squares times ``N / (N - 1)``. Where samples are fewer than features, no x goes where C has nothing, and the inverse
    is that of the rest.
    """
    mean, covariance = moments(features)
    product = root1.T @ covariance @ root1
    if not np.isfinite(product).all():
        return np.full(len(features), np.nan)
    values, vectors = np.linalg.eigh(product)
    some = values > values[-1] * len(values) * np.finfo(values.dtype).eps
    turned = root1 @ vectors * np.where(some, np.where(some, values, 1) ** -0.25, 0)
    unbiased, found = len(features) / (len(features) - 1), []
    for start in range(0, len(features), 10 * _ROWS):
        x = np.asarray(features[start : start + 10 * _ROWS], np.float64) - mean
        spread = np.square(x).sum(1) - np.square(x @ turned).sum(1)
        found.append(2 * x @ (mean - mean1) + spread * unbiased)
    return np.concatenate(found)


@_in_float64
def kernel_distance(
    real: np.ndarray, fake: np.ndarray, subsets: int = SUBSETS, size: int = 1000
) -> tuple[float, float]:
    """KID (Binkowski et al. 2018, arXiv:1801.01401): unbiased squared MMD of the kernel ``(x.y / d + 1)^3``.

    Args:
      real, fake: features ``[N, d]`` and ``[M, d]``.
      subsets: random subsets of both that are compared.
      size: of a subset; at most the size of the smaller set.

    Returns:
      Mean and standard deviation over the subsets, which are those that torch-fidelity chooses.
    """
    size = min(size, len(real), len(fake))
    generator = np.random.RandomState(_SEED)
    real, fake = (np.asarray(features, np.float32) for features in (real, fake))
    estimates = []
    for _ in progress.bar(range(subsets), desc="KID", unit="subset", delay=2, leave=False):
        x, y = (placed(features[generator.choice(len(features), size, replace=False)]) for features in (fake, real))
        estimates.append(_mmd(x, y))
    found = np.asarray(estimates)
    return float(found.mean()), float(found.std())


def monge_distance(real: np.ndarray, fake: np.ndarray, projections: int = PROJECTIONS) -> float:
    """MIND (Berthet et al. 2026, arXiv:2605.06797): the sliced Wasserstein distance, squared, times 3 d.

    Features are projected on random unit vectors; on each the transport is that of the sorted projections, and its cost
    the mean square of what these are apart. The factor is the paper's, and torch-fidelity's.

    Args:
      real, fake: features ``[N, d]`` and ``[M, d]`` in a random order; of the larger set as many as of the smaller.
      projections: how many unit vectors; 1,000 as in torch-fidelity.
    """
    costs = []
    for x, y in _projected(real, fake, projections):
        costs.append(np.square(np.sort(x, 0) - np.sort(y, 0), dtype=np.float64).mean(0))
    return float(3 * real.shape[1] * np.concatenate(costs).mean())


def monge_influences(real: np.ndarray, fake: np.ndarray, projections: int = PROJECTIONS) -> np.ndarray:
    """Return by how much each of the samples moves their `monge_distance`, ``[min(N, M)]``, up to a constant.

    On a line that is the potential of the transport (Kantorovich's), whose slope at a sample y that goes to x is
    ``2 (y - x)``: summed from sample to sample in their order, by the mean slope between two.

    Args:
      real, fake, projections: as of `monge_distance`.
    """
    size = min(len(real), len(fake))
    total = np.zeros(size)
    for x, y in _projected(real, fake, projections):
        order = np.argsort(y, 0)
        apart = np.take_along_axis(y, order, 0).astype(np.float64)
        steps = np.diff(apart, axis=0)
        apart -= np.sort(x, 0)
        potential = np.zeros_like(apart)
        np.cumsum(steps * (apart[1:] + apart[:-1]), 0, out=potential[1:])
        own = np.empty_like(potential)
        np.put_along_axis(own, order, potential - potential.mean(0), 0)
        total += own.sum(1)
    found: np.ndarray = 3 * real.shape[1] * total / projections
    return found


def _projected(real: np.ndarray, fake: np.ndarray, projections: int) -> Iterator[list[np.ndarray]]:
    """Equal numbers of both on random lines, float32 ``[n, lines]``, some lines at a time."""
    size, d = min(len(real), len(fake)), real.shape[1]
    vectors = np.random.RandomState(_SEED).normal(size=(d, projections))
    vectors = (vectors / np.linalg.norm(vectors, axis=0)).astype(np.float32)
    for start in range(0, projections, _AT_ONCE):
        some = vectors[:, start : start + _AT_ONCE]
        yield [np.asarray(features[:size], np.float32) @ some for features in (real, fake)]


def _mmd(x: Any, y: Any) -> float:
    n, d = x.shape
    if n < 2:
        return math.nan
    # Kernels in float32, whose rounding averages out over n^2 pairs: sums of a million change in the eleventh digit.
    (of_x, own_x), (of_y, own_y), (of_both, _) = (_cubes(of_pairs(a, b), d) for a, b in ((x, x), (y, y), (x, y)))
    return float((of_x - own_x + of_y - own_y) / (n * (n - 1)) - 2 * of_both / n**2)


def _cubes(found: Any, d: int) -> tuple[Any, Any]:
    """Return the sums of the kernel over all pairs whose products ``found`` are, and over those on the diagonal."""
    root = found / d + 1
    kernel = root * root * root
    return kernel.sum(dtype=np.float64), kernel.trace(dtype=np.float64)


def inception_score(logits: np.ndarray, splits: int = SPLITS) -> tuple[float, float]:
    """Salimans et al. 2016 (arXiv:1606.03498), ``exp E KL(p(y|x) || p(y))``, of class logits ``[N, classes]``.

    Returns:
      Mean and standard deviation over ``splits`` equal parts of the samples, those that torch-fidelity makes.
    """
    scores = [np.exp(part.mean()) for part in divergences(logits, splits)]
    return float(np.mean(scores)), float(np.std(scores))


@_in_float64
def divergences(logits: np.ndarray, splits: int = SPLITS) -> list[np.ndarray]:
    """Return what an Inception score is made of: ``KL(p(y|x) || p(y))`` of each sample, part by part."""
    logs = jax.nn.log_softmax(jnp.asarray(logits, jnp.float64))
    order = np.random.RandomState(_SEED).permutation(len(logs))
    bounds = [i * len(logs) // splits for i in range(splits + 1)]
    found = []
    for start, stop in pairwise(bounds):
        log_p = logs[order[start:stop]]
        p = jnp.exp(log_p)
        found.append(np.asarray((p * (log_p - jnp.log(p.mean(0)))).sum(1)))
    return found


def manifold_metrics(real: np.ndarray, fake: np.ndarray, k: int = 3, k_density: int = 5) -> dict[str, float]:
    """Return what nearest neighbours say of two sets of features.

    With B_k(x) the ball about x that reaches its k-th nearest neighbour in its own set:

    - ``precision``: share of fakes in some real B_k; ``recall``: share of reals in some fake B_k (Kynkaanniemi et al.
      2019, arXiv:1904.06991);
    - ``density``: number of real balls B_k' that a fake lies in, over k', on average; ``coverage``: share of real balls
      B_k' with a fake in them (Naeem et al. 2020, arXiv:2002.09797).

    Args:
      real, fake: features ``[N, d]``, ``[M, d]``, more of each than k and k'.
      k: of precision and recall.
      k_density: k', of density and coverage.

    Raises:
      ValueError: there are too few features.
    """
    if min(len(real), len(fake)) <= max(k, k_density):
        raise ValueError(f"{min(len(real), len(fake))} samples are too few for {max(k, k_density)} neighbours")
    x, y = _centred(real, fake)
    total = 3 * (-(-len(x) // _ROWS)) + -(-len(y) // _ROWS)
    with progress.bar(total=total, desc="neighbours", unit="block", delay=2, leave=False) as bar:
        real_radii = np.concatenate([_radii(rows, x, (k, k_density)) for rows in _blocks(x, bar)])
        fake_radii = np.concatenate([_radii(rows, y, (k,)) for rows in _blocks(y, bar)])
        in_fake, in_real, balls, covered = [], np.zeros(len(y), bool), np.zeros(len(y), int), []
        for start, rows in zip(range(0, len(x), _ROWS), _blocks(x, bar), strict=True):
            distances = np.asarray(_distances(rows, y))
            radii = real_radii[start : start + _ROWS]
            in_fake.append((distances <= fake_radii[None, :, 0]).any(1))
            in_real |= (distances <= radii[:, :1]).any(0)
            within = distances < radii[:, 1:]
            balls += within.sum(0)
            covered.append(within.any(1))
    return {
        "precision": float(in_real.mean()),
        "recall": float(np.concatenate(in_fake).mean()),
        "density": float(balls.mean() / k_density),
        "coverage": float(np.concatenate(covered).mean()),
    }


class Pairs(NamedTuple):
    """Which reals and fakes are near to each other, by their numbers.

    Attributes:
      reals: how many there are.
      near: reals, fakes and squared distances, where a real is no farther from a fake than that one's last neighbour.
      covered: reals and fakes, where the fake is in the real's ball of the larger k.
      precise: fakes in a real's ball of the smaller k.
    """

    reals: int
    near: tuple[np.ndarray, np.ndarray, np.ndarray]
    covered: tuple[np.ndarray, np.ndarray]
    precise: np.ndarray


def manifold_pairs(
    real: np.ndarray, fake: np.ndarray, ks: tuple[int, int], count: int
) -> tuple[tuple[np.ndarray, np.ndarray], Pairs]:
    """Return what `manifold_metrics` are made of: the ``count`` nearest fakes of each fake, and `Pairs`.

    Args:
      real, fake: features ``[N, d]``, ``[M, d]``, more of each than ``ks``.
      ks: of the reals' balls.
      count: of neighbours; at most all others.

    Returns:
      Squared distances and numbers of the neighbours, ``[M, count]``, nearest first; and the pairs.
    """
    x, y = _centred(real, fake)
    count = min(count, len(y) - 1)
    squared, numbers = [], []
    for start in range(0, len(y), _ROWS):
        rows = _distances(y[start : start + _ROWS], y)
        own = start + jnp.arange(len(rows))
        values, index = jax.lax.top_k(-rows.at[jnp.arange(len(rows)), own].set(jnp.inf), count)
        squared.append(-np.asarray(values))
        numbers.append(np.asarray(index))
    neighbours = np.concatenate(squared), np.concatenate(numbers)
    reach = neighbours[0][:, -1]
    near, covered, precise = [], [], []
    for start in range(0, len(x), _ROWS):
        rows = x[start : start + _ROWS]
        distances, radii = np.asarray(_distances(rows, y)), _radii(rows, x, ks)
        r, f = np.nonzero(distances <= reach)
        near.append((start + r, f, distances[r, f]))
        r, f = np.nonzero(distances < radii[:, 1:])
        covered.append((start + r, f))
        precise.append(np.flatnonzero((distances <= radii[:, :1]).any(0)))
    joined = tuple(np.concatenate(part) for part in zip(*near, strict=True))
    own_balls = tuple(np.concatenate(part) for part in zip(*covered, strict=True))
    return neighbours, Pairs(len(x), joined, own_balls, np.unique(np.concatenate(precise)))  # type: ignore[arg-type]


def nearest(queries: np.ndarray, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k of ``points`` ``[N, d]`` nearest to each of ``queries`` ``[M, d]``.

    The result is their distances and their numbers, both ``[M, k]``.
    """
    x, y = _centred(points, queries)
    distances, numbers = [], []
    for start in range(0, len(y), _ROWS):
        values, index = jax.lax.top_k(-_distances(y[start : start + _ROWS], x), k)
        distances.append(np.sqrt(-np.asarray(values)))
        numbers.append(np.asarray(index))
    return np.concatenate(distances), np.concatenate(numbers)


def _centred(one: np.ndarray, other: np.ndarray) -> tuple[Any, Any]:
    """Both in float32 about the mean of ``one``: distances stay as they are, and lose no digits to a large mean."""
    mean = np.mean(one, 0, dtype=np.float64)
    x, y = (placed(np.asarray(features - mean, np.float32)) for features in (one, other))
    return x, y


def _blocks(features: Any, bar: Any) -> Iterator[Any]:
    for start in range(0, len(features), _ROWS):
        yield features[start : start + _ROWS]
        bar.update(1)


def _distances(a: Any, b: Any) -> Any:
    """Squared, ``[len(a), len(b)]``, from 0 up."""
    return _squares(of_pairs(a, b), a, b)


@jax.jit
def _squares(found: Any, a: Any, b: Any) -> Any:
    return jnp.maximum(jnp.square(a).sum(1)[:, None] + jnp.square(b).sum(1) - 2 * found, 0)


def _radii(rows: Any, whole: Any, ks: tuple[int, ...]) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other one, ``[rows, len(ks)]``."""
    smallest = -jax.lax.top_k(-_distances(rows, whole), max(ks) + 1)[0]  # the nearest is the row itself
    return np.asarray(smallest[:, np.asarray(ks)])
