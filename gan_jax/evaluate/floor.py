"""What images that no generator made come to, by the figures that samples are judged by: the floor."""

import numpy as np

from gan_jax.data.order import shuffled
from gan_jax.evaluate import metrics, monitors
from gan_jax.util import progress

FEWEST = 10  # test images that say anything
_FEWEST_CORRECTED = 100  # that say anything of the FID of more
_PARTS = 4096  # over the number of features: how many parts of the train images the bias is measured on, 4 to 32


def floor(real: np.ndarray, test: np.ndarray, logits: np.ndarray, samples: int) -> dict[str, float]:
    """Return the figures that ``samples`` fresh images would have: no generator is better but by chance, or by heart.

    The fresh images are the test images, as many as there are samples. Where they are fewer, FID is corrected for
    their number (`fresh_fid`). Precision, recall, density, coverage and duplicates compare equal numbers, and hardly
    depend on them; KID has no bias; the parts of the Inception score are as large as those of the samples, if the test
    images suffice.

    Args:
      real: features ``[M, d]`` of the train images that samples are compared with, in an order that mixes the classes.
      test: features ``[T, d]`` of all test images.
      logits: class logits ``[T, k]`` of them; k is 0 or 1 where there are no classes.
      samples: number of samples.

    Returns:
      By a figure's name, and ``images``: the number of test images. Without FID if these are fewer than 100 and than
      the samples; nothing if fewer than 10.
    """
    chosen = shuffled(len(test), 1)[:samples]
    count = min(len(chosen), len(real))
    if count < FEWEST:
        return {}
    fresh = test[chosen]
    with progress.elapsed("what test images come to"):
        found = {
            "kid": metrics.kernel_distance(real, fresh)[0],
            **({"mind": metrics.monge_distance(real, fresh)} if len(fresh) == samples else {}),  # of few it is higher
            **metrics.manifold_metrics(real[:count], fresh[:count]),
            "duplicates": monitors.duplicates(real, fresh),
        }
    if len(fresh) == samples or len(fresh) >= _FEWEST_CORRECTED:
        found["fid"] = fresh_fid(real, fresh, samples)
    if logits.shape[1] > 1:
        parts = max(1, round(len(chosen) * metrics.SPLITS / samples))
        found["inception_score"] = metrics.inception_score(logits[chosen], parts)[0]
    return {**found, "images": float(len(chosen))}


def fresh_fid(real: np.ndarray, fresh: np.ndarray, samples: int) -> float:
    """FID of ``samples`` fresh images, of which ``fresh`` ``[T, d]`` are at hand, T at most ``samples``.

    FID has a bias that falls with the number n of images, in proportion to 1/n (Chong & Forsyth 2020,
    arXiv:1911.07023). That of T images is taken off, and that of ``samples`` put on: see `bias`.
    """
    found = metrics.frechet_distance(*metrics.moments(real), *metrics.moments(fresh))
    return found if len(fresh) == samples else max(0.0, found - bias(real, len(fresh)) + bias(real, samples))


def bias(real: np.ndarray, count: int) -> float:
    """FID of ``count`` of the images ``real`` ``[M, d]`` against all of them.

    The mean over random parts; beyond half of M from parts of that size, on the line through 1/M, where it is 0.
    What it says of two counts differs as FIDs of fresh images do: the number of references is the same in all.
    """
    size = min(count, len(real) // 2)
    whole = metrics.moments(real)
    rng = np.random.default_rng(0)
    parts = (rng.choice(len(real), size, replace=False) for _ in range(int(np.clip(_PARTS // real.shape[1], 4, 32))))
    mean = float(np.mean([metrics.frechet_distance(*whole, *metrics.moments(real[part])) for part in parts]))
    return mean * (1 / count - 1 / len(real)) / (1 / size - 1 / len(real))
