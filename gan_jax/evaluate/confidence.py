"""How sure figures are: intervals about them; and FID as of infinitely many samples.

The data stands still: an interval says how far a figure goes if other samples of the same generator are judged.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.evaluate import metrics
from gan_jax.runtime.pairs import of_pairs

_HALVES = 50  # random ones, for recall
WIDTH = 1.959964  # standard deviations to each side of 95 % of a normal distribution
_SIZES = 5  # of parts for `fid_infinity`: all samples, halves, ... fifths
_SMALLEST = 5000 / 2048  # samples a feature in the smallest part: the fewest that Chong & Forsyth use
_NEAR = 24  # neighbours of which, in a half of the samples, 3 are left but once in 50,000
_K, _K_DENSITY = 3, 5  # of `metrics.manifold_metrics`
# What a figure can't be below and above.
_BOUNDS = {
    **dict.fromkeys(("precision", "recall", "coverage"), (0.0, 1.0)),
    **dict.fromkeys(("density", "fid", "fid_infinity", "mind"), (0.0, np.inf)),
    "inception_score": (1.0, np.inf),
}


class Rooted(NamedTuple):
    """Moments of the data, of which many distances are taken: mean, covariance and its root."""

    mean: np.ndarray
    covariance: np.ndarray
    root: np.ndarray

    def distance(self, features: np.ndarray) -> float:
        """Return the FID of ``features`` ``[N, d]``."""
        return metrics.frechet_from_root(self.root, (self.mean, self.covariance), metrics.moments(features))

    def error(self, features: np.ndarray) -> float:
        """Return the standard error of `distance` over samples: the spread of their influences, over ``N^.5``.

        That is the infinitesimal jackknife (Efron & Tibshirani 1993, ch. 21), the limit of the bootstrap's for many
        samples, by one decomposition in place of fifty.
        """
        found = metrics.frechet_influences(self.root, self.mean, features)
        return float(found.std() / len(found) ** 0.5)


def rooted(moments: tuple[np.ndarray, np.ndarray]) -> Rooted:
    """Return `Rooted` of a mean and a covariance."""
    return Rooted(*moments, metrics.root(moments[1]))


def fid_infinity(real: Rooted, fake: np.ndarray) -> float | None:
    """FID as of infinitely many samples (Chong & Forsyth 2020, arXiv:1911.07023, section 4).

    The FIDs of N, N/2, ... N/5 samples are on a line over 1/N; where it meets 1/N = 0 is the result. They draw 15
    random sets of several sizes. Here each size is that of disjoint parts, and counts by their mean: all sizes have the
    same samples, and the line doesn't move by chance.

    Args:
      real: of the data, which stays as it is.
      fake: features ``[N, d]`` in a random order.

    Returns:
      None if there are too few samples: the line is straight only where a part has 2.4 samples a feature or more.
    """
    sizes = min(_SIZES, int(len(fake) / (_SMALLEST * fake.shape[1])))
    if sizes < 2:
        return None
    inverse, means = [], []
    for parts in range(1, sizes + 1):
        size = len(fake) // parts
        found = [real.distance(fake[part * size : (part + 1) * size]) for part in range(parts)]
        inverse.append(1 / size)
        means.append(np.mean(found))
    return float(np.polynomial.polynomial.polyfit(inverse, means, 1)[0])


def intervals(
    figures: Mapping[str, float], real: Rooted, features: np.ndarray, fake: tuple[np.ndarray, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """95 % intervals of ``figures``, by their names: each and 1.96 standard errors to both sides (`errors`).

    FID as of infinitely many samples varies as FID does, in which the samples are all the same.

    Args:
      figures: by names without features in brackets.
      real: of the data.
      features: of the data ``[M, d]``.
      fake: features ``[N, d]`` and logits ``[N, k]`` of the samples.
    """
    found = errors(real, features, fake)
    found["fid_infinity"] = found["fid"]
    if "kid" in figures:  # is the mean of random subsets, and varies by chance too
        found["kid"] = float(np.hypot(found["kid"], figures.get("kid_std", 0.0) / metrics.SUBSETS**0.5))
    known = {name: found[name] for name in figures if name in found}
    return {name: _about(name, figures[name], WIDTH * error) for name, error in known.items()}


def _about(name: str, value: float, width: float) -> tuple[float, float]:
    low, high = _BOUNDS.get(name, (-np.inf, np.inf))
    return float(max(low, value - width)), float(min(high, value + width))


def errors(real: Rooted, features: np.ndarray, fake: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Return standard errors of figures over samples, by name.

    - FID, MIND and the Inception score: the infinitesimal jackknife (Efron & Tibshirani 1993, ch. 21), from how much
      each sample moves the figure;
    - precision and density, which are means over samples: what infinitely many resamples give, s / N^.5;
    - KID: likewise of its linear part, the mean kernel of each sample with the others and with the data;
    - recall: the standard deviation of 50 random halves without replacement (the delete-half jackknife, Shao & Wu
      1989), as a sample that is there twice would be its own neighbour;
    - coverage: the jackknife, which leaves out each sample in turn: some reals are covered by that one alone. It is too
      large rather than too small (Efron & Stein 1981): 1.6 times where nearly all reals are covered.
    """
    samples, logits = fake
    size = min(len(features), len(samples))
    found = {"fid": real.error(samples), "kid": _kernel_error(features[: len(samples)], samples)}
    influences = metrics.monge_influences(features, samples)
    found["mind"] = float(influences.std() / len(influences) ** 0.5)
    if min(size, len(samples)) > _K_DENSITY:
        found |= _manifold_errors(features[:size], samples[:size])
    if logits.shape[1] > 1:
        found["inception_score"] = _score_error(metrics.divergences(logits))
    return found


def _score_error(parts: Sequence[np.ndarray]) -> float:
    """Of the mean over parts of ``exp(mean KL)``: a sample moves its part's mean by its own KL, and no more, because
    ``p(y)`` is where the mean KL is least."""
    errors = [np.exp(part.mean()) * part.std() / len(part) ** 0.5 for part in parts if len(part)]
    return float(np.sqrt(np.square(errors).sum()) / len(parts))


def _kernel_error(real: np.ndarray, fake: np.ndarray) -> float:
    """Of the squared MMD: 2 s / N^.5, s that of h(x) = E k(x, x') - E k(x, y) (Gretton et al. 2012, section 6)."""
    x, y = (jnp.asarray(features, jnp.float32) for features in (fake, real))
    n = len(x)
    blocks = [np.asarray(_mean_kernels(x[start : start + 1000], x, y)) for start in range(0, n, 1000)]
    within, own, between = np.concatenate(blocks, 1).astype(np.float64)
    h = (within * n - own) / max(n - 1, 1) - between
    return float(2 * h.std() / n**0.5)


@jax.jit
def _mean_kernels(rows: Any, x: Any, y: Any) -> Any:
    def kernel(products: Any) -> Any:
        return (products / rows.shape[1] + 1) ** 3

    own = kernel(jnp.square(rows).sum(1))
    return jnp.stack([kernel(of_pairs(rows, x)).mean(1), own, kernel(of_pairs(rows, y)).mean(1)])


def _manifold_errors(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    near, pairs = metrics.manifold_pairs(real, fake, (_K, _K_DENSITY), _NEAR)
    n = len(fake)
    precise, density = np.zeros(n), np.zeros(n)
    precise[pairs.precise] = 1
    np.add.at(density, pairs.covered[1], 1 / _K_DENSITY)
    rng = np.random.default_rng(0)
    halves = []
    for _ in range(_HALVES):
        chosen = np.zeros(n, bool)
        chosen[rng.permutation(n)[: n // 2]] = True
        halves.append(_recall(chosen, near, pairs))
    return {
        "precision": float(precise.std() / n**0.5),
        "density": float(density.std() / n**0.5),
        "recall": float(np.std(halves, ddof=1)),
        "coverage": float(_without_each(n, pairs).std() * (n - 1) ** 0.5),
    }


def _recall(chosen: np.ndarray, near: tuple[np.ndarray, np.ndarray], pairs: metrics.Pairs) -> float:
    """Share of reals in a ball of a chosen fake, which reaches its third nearest chosen one."""
    squared, numbers = near
    count = chosen[numbers].cumsum(1)
    at = np.minimum((count < _K).sum(1), numbers.shape[1] - 1)
    radii = squared[np.arange(len(squared)), at]
    real, fake, distances = pairs.near
    within = chosen[fake] & (distances <= radii[fake])
    return len(np.unique(real[within])) / pairs.reals


def _without_each(fakes: int, pairs: metrics.Pairs) -> np.ndarray:
    """By how much the coverage falls without each of the fakes."""
    real, fake = pairs.covered
    alone = np.bincount(real, minlength=pairs.reals)[real] == 1
    return np.bincount(fake[alone], minlength=fakes) / pairs.reals
