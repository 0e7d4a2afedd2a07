"""Figures of runs in words: what each is called, what it means, and which belong together."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_QUALITY, _COLLAPSE, _LOSSES, _OUTPUT, _RUN = "Quality", "Collapse", "Losses and terms", "D's output", "The run"
_OTHER = "Other"
# By name: what it is called, where it stands, and what it means.
_KNOWN: dict[str, tuple[str, str, str]] = {
    "fid": ("FID", _QUALITY, "Fréchet distance of features to the real images'; lower is better"),
    "fid_infinity": ("FID, infinite samples", _QUALITY, "without the bias that few samples have"),
    "fid_reference": ("FID to a reference", _QUALITY, "of --reference, in place of the run's own images"),
    "fid_reference_infinity": ("FID to a reference, infinite samples", _QUALITY, "likewise"),
    "fid_current": ("FID, newest weights", _QUALITY, "of weights that aren't averaged"),
    "fid_within": ("FID within classes", _QUALITY, "mean over the classes"),
    "kid": ("KID", _QUALITY, "kernel distance of features, without bias; lower is better"),
    "mind": ("MIND", _QUALITY, "sliced transport of features; lower is better, higher of few samples"),
    "kid_std": ("KID, standard deviation", _QUALITY, "over subsets"),
    "precision": ("precision", _QUALITY, "share of samples near to real images"),
    "recall": ("recall", _QUALITY, "share of real images near to samples"),
    "density": ("density", _QUALITY, "real neighbours of a sample, over their expected number"),
    "coverage": ("coverage", _QUALITY, "share of real images with a sample among their neighbours"),
    "inception_score": ("inception score", _QUALITY, "sure of each sample's class, of many classes; higher is better"),
    "inception_score_std": ("inception score, standard deviation", _QUALITY, "over parts"),
    "ppl_z": ("path length in z", _QUALITY, "LPIPS along a path in latent space, over eps²; lower is smoother"),
    "ppl_w": ("path length in w", _QUALITY, "likewise in w"),
    "ppl_w_end": ("path length in w, ends", _QUALITY, "likewise, at the begin of each path"),
    "duplicates": ("duplicates", _COLLAPSE, "share of samples with a twin among the samples"),
    "memorised": (
        "memorised",
        _COLLAPSE,
        "share of samples nearer to a training image than 99 % of test images; fresh ones have .01",
    ),
    "class_entropy": ("class entropy", _COLLAPSE, "of the samples' classes, 1 if all are alike frequent"),
    "class_distance": ("class distance", _COLLAPSE, "of the samples' classes from the data's, 0 to 1"),
    "d_loss": ("D's loss", _LOSSES, ""),
    "g_loss": ("G's loss", _LOSSES, ""),
    "g_loss_oscillation": ("oscillation of G's loss", _LOSSES, ""),
    "d_real": ("on reals", _OUTPUT, "in training, augmented if images are"),
    "d_fake": ("on fakes", _OUTPUT, "likewise"),
    "d_seen": ("on training images", _OUTPUT, "far above those unseen: D knows them by heart"),
    "d_unseen": ("on unseen images", _OUTPUT, ""),
    "d_margin": ("margin", _OUTPUT, "logits of reals above those of fakes"),
    "d_accuracy_real": ("accuracy on reals", _OUTPUT, ""),
    "d_accuracy_fake": ("accuracy on fakes", _OUTPUT, ""),
    "d_grad_norm": ("norm of D's gradient", _LOSSES, ""),
    "g_grad_norm": ("norm of G's gradient", _LOSSES, ""),
    "d_param_norm": ("norm of D's parameters", _LOSSES, ""),
    "g_param_norm": ("norm of G's parameters", _LOSSES, ""),
    "steps": ("steps", _RUN, ""),
    "images": ("real images seen", _RUN, ""),
    "seconds": ("seconds", _RUN, "steps, evaluations, pictures; not the start, nor what evaluations prepare once"),
    "images_per_second": ("images a second", _RUN, ""),
    "eval_samples": ("samples of an evaluation", _RUN, ""),
    "eval_references": ("real images it compares with", _RUN, ""),
    "best_checkpoint": ("best checkpoint", _RUN, "--step=best"),
    "ended_early": ("ended early", _RUN, ""),
    "patience": ("patience", _RUN, "evaluations"),
}
# What training cost, likewise.
_COSTS: dict[str, tuple[str, str]] = {
    "trials": ("trials in one program", ""),
    "compile_seconds": ("compiling, seconds", "of what trains, before the clock starts"),
    "images_per_second_median": ("images a second, median", "of dispatches: steps alone"),
    "images_per_second_quartiles": ("images a second, quartiles", "half of the dispatches lie between"),
    "gflop_per_step": ("GFLOP a step", "as XLA counts them"),
    "gb_per_step": ("GB a step", "read and written, as XLA counts them"),
    "gflop_per_second": ("GFLOP a second", "at the median speed"),
    "matmul_gflop_per_second": ("GFLOP a second, matrix product", "a plain one, on the same devices"),
    "share_of_matmul_rate": ("share of that rate", "which the training reaches"),
    "device_memory_mb": ("memory of a device, MiB", "at its peak"),
    "host_memory_mb": ("memory of the process, MiB", "at its peak"),
}
_SHARES = frozenset(
    (
        *("precision", "recall", "coverage", "duplicates", "memorised", "class_entropy", "class_distance"),
        *("d_accuracy_real", "d_accuracy_fake"),
    )
)
_SHORT = {
    _QUALITY: "quality",
    _COLLAPSE: "collapse",
    _LOSSES: "losses",
    _OUTPUT: "output",
    _RUN: "run",
    _OTHER: "other",
}
_ORDER = (_QUALITY, _COLLAPSE, _LOSSES, _OUTPUT, _RUN, _OTHER)


class Row(NamedTuple):
    """A figure.

    Attributes:
      key: as the log has it.
      name: in words.
      value: at the end.
      interval: in which 95 % of other samples of the same generator would have it.
      best: of all evaluations, and at which step.
      fresh: what as many fresh images come to.
      what: it means.
    """

    key: str
    name: str
    value: str
    interval: str = ""
    best: str = ""
    fresh: str = ""
    what: str = ""


def shown(value: Any) -> str:
    """Return a number, or whatever it is, for people."""
    if isinstance(value, float):
        return f"{value:,.5g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def bare(key: str) -> str:
    """Return a figure's name without what stands in brackets, the features that it is by."""
    return key.partition("[")[0]


def features(keys: Any) -> str:
    """Return what stands in the brackets of all ``keys`` that have some, if it is the same; else nothing."""
    found = {key[key.index("[") + 1 : key.rindex("]")] for key in keys if "[" in key and not _apart(key)}
    return found.pop() if len(found) == 1 else ""


def _apart(key: str) -> bool:
    """Whether a figure is measured by a network, or data, of its own, which its name must say."""
    return key.startswith(("ppl_", "fid_reference"))


def named(key: str) -> str:
    """Return what the figure ``key`` is called."""
    name = bare(key)
    if name in _KNOWN:
        return _KNOWN[name][0]
    if name.startswith("best_"):
        best = name.removeprefix("best_")
        return f"step of the best {named(best[:-5])}" if best.endswith("_step") else f"best {named(best)}"
    if name.startswith("fid_of_"):
        return f"FID of {name.removeprefix('fid_of_')}"
    player, _, rest = name.partition("_")
    if player in ("d", "g") and rest:
        return f"{player.upper()}'s {rest.replace('_', ' ')}"
    return name.replace("schedule_", "").replace("_", " ")


def titled(key: str, shared: str = "") -> str:
    """Return what the figure ``key`` is called where no head stands above it; what is no figure as it is.

    Args:
      key: of a figure, or a column of a table.
      shared: features that are named elsewhere, and left out.
    """
    name = bare(key)
    if name.startswith("schedule_"):
        return name.replace("_", " ", 1)
    if name not in _KNOWN and "[" not in key:
        return key
    return ("D's output: " if _group(name) == _OUTPUT else "") + named(name) + by(key, shared)


def by(key: str, shared: str = "") -> str:
    """Return what the figure ``key`` is by, unless it's ``shared``, and what follows, as in ``fid[x], median``."""
    inside, _, after = key[len(bare(key)) :].removeprefix("[").rpartition("]")
    return (f" by {inside}" if inside and inside != shared else "") + after


def worded(text: str, shared: str = "") -> str:
    """Return the ``text`` of a summary with the figure in it, as ``step 8, fid[x] 4``, by its name; see `titled`."""
    return re.sub(r"\w+\[.*\]", lambda found: titled(found[0], shared), text)


def costs(resources: Mapping[str, Any]) -> list[Row]:
    """Return rows of what `gan_jax.runtime.resources` found."""
    rows = []
    for key, value in resources.items():
        name, what = _COSTS.get(key, (named(key), ""))
        text = " to ".join(map(shown, value)) if isinstance(value, list) else shown(value)
        rows.append(Row(key, name, text, what=what))
    return rows


def is_share(key: str) -> bool:
    """Return whether the figure ``key`` is within 0 and 1 by what it is."""
    return bare(key) in _SHARES


def group(key: str) -> str:
    """Return the short name of the group of the figure ``key``: quality, collapse, losses, output, rates or run."""
    name = bare(key)
    if name.startswith("schedule_"):
        return "schedules"
    return _SHORT[_group(name)]


def _group(name: str) -> str:
    return _KNOWN[name][1] if name in _KNOWN else _LOSSES if name[:2] in ("d_", "g_") else _OTHER


def grouped(
    summary: Mapping[str, Any], floor: Mapping[str, Any], intervals: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, list[Row]]:
    """Return rows of ``summary``'s figures, those that belong together under one head.

    Args:
      summary: values by key; ``best_fid[...]`` and ``best_fid_step[...]`` go with ``fid[...]``.
      floor: what as many fresh images come to, by the same keys.
      intervals: two ends each, by the same keys.
    """
    groups: dict[str, list[Row]] = {name: [] for name in _ORDER}
    shared = features(summary)
    for key, value in summary.items():
        if key.startswith(("best_fid[", "best_fid_step[")):
            continue
        name = bare(key)
        what = _KNOWN[name][2] if name in _KNOWN else ""
        best = summary.get(f"best_{key}")
        at = summary.get(f"best_fid_step{key.removeprefix('fid')}")
        best_text = (
            "" if best is None else shown(best) if at is None else f"{shown(best)} (step\N{NO-BREAK SPACE}{at:,})"
        )
        fresh = shown(floor[key]) if key in floor else ""
        told = named(key) + by(key, "" if _apart(key) else shared)
        interval = " to ".join(f"{end:.4g}" for end in intervals[key]) if key in intervals else ""
        text = worded(value, shared) if isinstance(value, str) else shown(value)
        groups[_group(name)].append(Row(key, told, text, interval, best_text, fresh, what))
    order = list(_KNOWN)
    for rows in groups.values():
        rows.sort(key=lambda row: order.index(bare(row.key)) if bare(row.key) in order else len(order))
    return {name: rows for name, rows in groups.items() if rows}
