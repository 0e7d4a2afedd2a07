"""Is the training healthy? Figures that show collapse, and the verdict at a run's end, each by a stated rule."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gan_jax.evaluate.metrics import nearest

# The rules of `verdict`, in the order in which they are asked.
MAX_LOSS = 1e3  # a mean loss beyond it is divergence; of critics only if it is also so many times as large as before:
GROWTH = 100
FEWEST_UPDATES = 500  # of G, before anything else is said
MAX_DUPLICATES, MAX_CLASS_DISTANCE = 0.3, 0.45  # of the way from what draws from the data have to 1
MAX_ACCURACY = 0.98  # of D on both real and fake
MAX_MEMORISED = 0.1  # ten times what fresh images have; more is a warning beside the verdict
FALLING = 0.95  # a lowest FID of the last fifth that is below this part of the lowest before: G still learns
RISEN = 1.5  # the last FID over the lowest
_LAST = 0.2  # share of the steps that is looked at
_TWIN = 0.1  # of a large distance to the nearest other: what is nearer is the same picture, not one that is alike

NEAREST = 0.01  # share of the test images that are said to be nearer to the data than samples should be
_FEWEST_TESTS = 100  # that have such a share

_SAID = ("d_loss", "g_loss", "class_distance", "duplicates", "memorised", "d_accuracy_real", "d_accuracy_fake")
Records = Sequence[Mapping[str, float]]  # of ``metrics.jsonl``, in order


def duplicates(real: np.ndarray, fake: np.ndarray) -> float:
    """Share of fakes that have a twin: another fake nearer than all but 1 % of different reals have another real.

    So about .01 where fakes spread as reals do, and 1 where all are alike. Reals that are in the data twice, the same
    or nearly, don't count there, as their distance says nothing of others'.

    Args:
      real, fake: features ``[N, d]``, ``[M, d]``, at least two of each.
    """
    size = min(len(real), len(fake))  # nearest neighbours come nearer as there are more
    different = np.unique(real[:size], axis=0)
    if len(different) < 2:
        return 0.0
    among_reals = nearest(different, different, 2)[0][:, 1]
    among_reals = among_reals[among_reals >= _TWIN * np.quantile(among_reals, 0.9)]
    among_fakes = nearest(fake[:size], fake[:size], 2)[0][:, 1]
    return float((among_fakes <= np.quantile(among_reals, 0.01)).mean())


def nearness(real: np.ndarray, test: np.ndarray) -> float | None:
    """Distance to the nearest real that all but 1 % of the test images exceed; None if these are fewer than 100.

    Args:
      real, test: features ``[N, d]``, ``[T, d]``.
    """
    if len(test) < _FEWEST_TESTS:
        return None
    return float(np.quantile(nearest(test, real, 1)[0][:, 0], NEAREST))


def memorised(real: np.ndarray, fake: np.ndarray, limit: float) -> float:
    """Share of fakes nearer to a real than all but 1 % of the test images: about .01 of fresh ones, 1 of copies.

    Meehan et al. 2020 (arXiv:2004.05675, section 2) compare the same distances of samples and of test images to
    training images, by ranks. Here copies count alone: samples that lie farther off than test images make up for none.

    Args:
      real, fake: features ``[N, d]``, ``[M, d]``.
      limit: what `nearness` gives.
    """
    return float((nearest(fake, real, 1)[0][:, 0] < limit).mean())


def class_entropy(logits: np.ndarray) -> float:
    """Entropy of the classes that a classifier sees in the fakes, over that of all classes alike: from 0 to 1."""
    counts = np.bincount(logits.argmax(1), minlength=logits.shape[1])
    p = counts[counts > 0] / counts.sum()
    return float(np.abs((p * np.log(p)).sum()) / np.log(logits.shape[1]))


def class_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Share of fakes that would have to be of another class for all classes to be as frequent as among the reals.

    (The total variation of the two distributions.) So a class that is lost counts by its share of the data.

    Args:
      real, fake: the classes that a classifier sees, ``[N]``, ``[M]``, from 0 up.
    """
    classes = 1 + max(real.max(), fake.max())
    p, q = (np.bincount(seen, minlength=classes) / len(seen) for seen in (real, fake))
    return float(np.abs(p - q).sum() / 2)


def best(records: Records) -> dict[str, tuple[float, int]]:
    """Return the lowest FID by each kind of features, with its step.

    Evaluations with as many samples as the last are compared.
    """
    lowest: dict[str, tuple[float, int]] = {}
    for record in _comparable(records):
        for name, value in record.items():
            if name.startswith("fid[") and value < lowest.get(name, (math.inf, 0))[0]:
                lowest[name] = value, int(record["step"])
    return lowest


def _comparable(records: Records) -> Records:
    """Return ``records`` without evaluations with other numbers of samples than the last: fewer have larger FIDs."""
    last = [record["eval_samples"] for record in records if "eval_samples" in record][-1:]
    return [record for record in records if record.get("eval_samples") in (None, *last)]


def verdict(
    records: Records,
    updates: int,
    data: Mapping[str, float] | None = None,
    *,
    critic: bool = False,
    scale: float = 1.0,
) -> tuple[str, str]:
    """Return what a run's log says of its end.

    Rules, over the means of the last fifth of the steps, the first that holds:

    - ``diverged``: a loss beyond ±1000 times the largest weight in it. A critic's scores have no scale of their own:
      its losses must also be a hundred times as large as in the median line before.
    - ``too short to say``: G was updated less than 500 times;
    - ``collapsed``: ``duplicates`` further than .3 of the way from what as many draws from the data have to 1, or
      ``class_distance`` further than .45 of it (at the evaluations among them, or the last);
    - ``D won``: D judges more than 98 % of the reals and of the fakes rightly, and no FID there is 5 % lower than all
      before. Not asked of a critic, whom it becomes to tell all apart.
    - ``past its best``: the last FID is half as large again as the lowest;
    - ``healthy``: none of these.

    Whichever holds, the figures begin with a warning if `memorised` is more than .1.

    Args:
      records: each with its ``step``; losses and accuracies are means since the one before.
      updates: of G, up to the last.
      data: `duplicates` and `class_distance` of draws from the data, as many as there were samples; 0 if not known.
      critic: whether D gives scores whose offset and scale mean nothing (`gan_jax.core.losses.wasserstein`).
      scale: the largest weight in the losses, 1 or more.

    Returns:
      The verdict, and the figures that say so.
    """
    early, late = _parted(records)
    known = _means(early, late)
    losses = {name: abs(known[name]) for name in ("d_loss", "g_loss") if name in known}
    accuracies = [known[name] for name in ("d_accuracy_real", "d_accuracy_fake") if name in known]
    if not all(_bounded(loss, [r[name] for r in early if name in r], critic, scale) for name, loss in losses.items()):
        found = "diverged"
    elif updates < FEWEST_UPDATES:
        found = "too short to say"
    elif any(
        _beyond(known.get(name, 0), (data or {}).get(name, 0)) > limit
        for name, limit in {"duplicates": MAX_DUPLICATES, "class_distance": MAX_CLASS_DISTANCE}.items()
    ):
        found = "collapsed"
    elif accuracies and min(accuracies) > MAX_ACCURACY and not critic and not _falling(*_parted(_comparable(records))):
        found = "D won"
    elif _risen(records):
        found = "past its best"
    else:
        found = "healthy"
    beside = {name: f" (draws from the data {value:.3g})" for name, value in (data or {}).items()}
    said = ", ".join(f"{name.replace('_', ' ')} {value:.3g}{beside.get(name, '')}" for name, value in known.items())
    share = known.get("memorised", 0.0)
    warning = (
        f"warning: {100 * share:.0f} % of the samples are nearer to a training image than 99 % of the test images are: "
        "learnt by heart? see neighbours/ after --mode=evaluate; "
    )
    return found, f"{warning if share > MAX_MEMORISED else ''}{said} (means of the last fifth of the steps)"


def _parted(records: Records) -> tuple[Records, Records]:
    """Those before the last fifth of the steps, and those of it."""
    begin = (1 - _LAST) * records[-1]["step"] if records else 0
    return [r for r in records if r["step"] <= begin], [r for r in records if r["step"] > begin]


def _means(early: Records, late: Records) -> dict[str, float]:
    """Means over the steps of the ``late`` records; of what none of them has, the last before."""
    steps = np.diff([early[-1]["step"] if early else 0, *(r["step"] for r in late)])  # that each line is of
    known = {}
    for name in _SAID:
        found = [(r[name], n) for r, n in zip(late, steps, strict=True) if name in r]
        found = found or [(r[name], 1) for r in early if name in r][-1:]
        if found:
            known[name] = float(np.average([value for value, _ in found], weights=[n for _, n in found]))
    return known


def _bounded(loss: float, before: Sequence[float], critic: bool, scale: float) -> bool:
    """Whether a loss's size is no sign of divergence; NaN's is."""
    if loss <= MAX_LOSS * (1 if critic else scale):
        return True
    return critic and math.isfinite(loss) and (not before or loss <= GROWTH * float(np.median(np.abs(before))))


def _beyond(value: float, own: float) -> float:
    """How far on the way from ``own`` to 1; 0 where that leaves no room."""
    return (value - own) / (1 - own) if own < 1 else 0.0


def _falling(early: Records, late: Records) -> bool:
    """Whether a FID of the ``late`` records is clearly lower than all before."""
    before, now = best(early), best(late)
    return any(now[name][0] < FALLING * before[name][0] for name in now.keys() & before.keys())


def _risen(records: Records) -> bool:
    """Whether a FID is now far above its lowest."""
    last = {name: value for record in records for name, value in record.items() if name.startswith("fid[")}
    return any(last[name] > RISEN * value for name, (value, _) in best(records).items())


def oscillation(records: Records, name: str = "g_loss") -> float:
    """Return the standard deviation of a metric's lines over the last fifth of the steps, over its mean size there."""
    last = [r[name] for r in _parted(records)[1] if name in r]
    size = float(np.mean(np.abs(last))) if last else 0.0
    return float(np.std(last)) / size if size else 0.0
