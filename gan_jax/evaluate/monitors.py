"""Is the training healthy? Figures that show collapse, and the verdict at a run's end, each by a stated rule."""

from collections.abc import Mapping, Sequence

import numpy as np

from gan_jax.evaluate.metrics import nearest

# The rules of `verdict`, in the order in which they are asked.
MAX_LOSS = 1e3  # a mean loss beyond it is divergence
MIN_ENTROPY = 0.6  # of the classes, where 1 is all alike
MAX_DUPLICATES = 0.3
MAX_ACCURACY = 0.98  # of D on both real and fake
_LAST = 0.2  # share of the run that is looked at


def duplicates(real: np.ndarray, fake: np.ndarray) -> float:
    """Share of fakes that have a twin: another fake nearer than all but 1 % of the reals have another real.

    So about .01 where fakes spread as reals do, and 1 where all are alike.

    Args:
      real, fake: features ``[N, d]``, ``[M, d]``, at least two of each.
    """
    size = min(len(real), len(fake))  # nearest neighbours come nearer as there are more
    among_reals = nearest(real[:size], real[:size], 2)[0][:, 1]
    among_fakes = nearest(fake[:size], fake[:size], 2)[0][:, 1]
    return float((among_fakes <= np.quantile(among_reals, 0.01)).mean())


def class_entropy(logits: np.ndarray) -> float:
    """Entropy of the classes that a classifier sees in the fakes, over that of all classes alike: from 0 to 1."""
    counts = np.bincount(logits.argmax(1), minlength=logits.shape[1])
    p = counts[counts > 0] / counts.sum()
    return float(np.abs((p * np.log(p)).sum()) / np.log(logits.shape[1]))


def verdict(records: Sequence[Mapping[str, float]]) -> tuple[str, str]:
    """What a run's log says of its end.

    Rules, over the means of the last fifth of the logged steps, the first that holds:

    - ``diverged``: a loss beyond ±1000;
    - ``too short to say``: fewer than five steps were logged;
    - ``collapsed``: ``class_entropy`` below .6 or ``duplicates`` above .3 (at the evaluations among them, or the last);
    - ``D won``: D judges more than 98 % of the reals and of the fakes rightly;
    - ``healthy``: none of these.

    Args:
      records: of ``metrics.jsonl``, in order.

    Returns:
      The verdict, and the figures that say so.
    """
    last = records[-max(1, round(len(records) * _LAST)) :]

    def mean(name: str) -> float | None:
        found = [r[name] for r in last if name in r] or [r[name] for r in records if name in r][-1:]
        return float(np.mean(found)) if found else None

    figures = {name: mean(name) for name in ("d_loss", "g_loss", "class_entropy", "duplicates")}
    figures |= {name: mean(name) for name in ("d_accuracy_real", "d_accuracy_fake")}
    known = {name: value for name, value in figures.items() if value is not None}
    losses = [abs(known[name]) for name in ("d_loss", "g_loss") if name in known]
    accuracies = [known[name] for name in ("d_accuracy_real", "d_accuracy_fake") if name in known]
    if not all(loss <= MAX_LOSS for loss in losses):  # nor is NaN
        name = "diverged"
    elif len(records) * _LAST < 1:
        name = "too short to say"
    elif known.get("class_entropy", 1) < MIN_ENTROPY or known.get("duplicates", 0) > MAX_DUPLICATES:
        name = "collapsed"
    elif accuracies and min(accuracies) > MAX_ACCURACY:
        name = "D won"
    else:
        name = "healthy"
    said = ", ".join(f"{figure.replace('_', ' ')} {value:.3g}" for figure, value in known.items())
    return name, f"{said} (means of the last fifth of the log)"


def oscillation(records: Sequence[Mapping[str, float]], name: str = "g_loss") -> float:
    """Standard deviation of a metric over the last fifth of the log, over its mean size there."""
    last = [r[name] for r in records[-max(2, round(len(records) * _LAST)) :] if name in r]
    size = float(np.mean(np.abs(last))) if last else 0.0
    return float(np.std(last)) / size if size else 0.0
