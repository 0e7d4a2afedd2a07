"""The run's report: one HTML file with everything in it, that opens without a network."""

import base64
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import Any

import gan_jax
from gan_jax import stages
from gan_jax.runs import origin, page
from gan_jax.runs.charts import chart, scatter
from gan_jax.runs.figures import Row, bare, by, costs, features, grouped, is_share, named, shown, titled, worded
from gan_jax.runs.visualize import evenly, png_within
from gan_jax.runs.workdir import Workdir, told
from gan_jax.util.errors import counted

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
_APART = ("floor", "verdict", "why", "resources")  # of the summary, shown elsewhere on the page
# Columns of a sweep's trials on its page; sweep.csv has all.
_SHOWN = (
    *("verdict", "fid", "best_fid", "best_fid_step", "kid", "precision", "recall", "coverage", "inception_score"),
    *("duplicates", "memorised", "class_distance", "d_loss", "g_loss", "steps"),
)
_CLASSES = 50  # that are listed
_ARRAYS = 200  # likewise, not taken from another run
_GRIDS = 7  # shown through time
_POINTS = 300  # of a curve
_CURVES = {
    "Losses": ("d_loss", "g_loss"),
    "D's output": ("d_real", "d_fake", "d_seen", "d_unseen"),
    "D's margin": ("d_margin",),
    "D's accuracy": ("d_accuracy_real", "d_accuracy_fake"),
    "Gradient norms": ("d_grad_norm", "g_grad_norm"),
    "Images per second": ("images_per_second",),
    "FID": ("fid", "fid_current"),
    "KID": ("kid",),
    "Precision and recall": ("precision", "recall", "coverage"),
    "Collapse": ("duplicates", "class_distance"),
    "Learnt by heart": ("memorised",),
}
# A chart each on a sweep's page, where the lines are the trials'.
_COMPARED = (
    *("fid", "kid", "precision", "recall", "coverage", "duplicates", "class_distance", "d_loss", "g_loss", "d_margin"),
    *("d_accuracy_real", "d_accuracy_fake", "d_grad_norm", "g_grad_norm"),
)


def write_report(workdir: Workdir) -> Path:
    """Write ``report.html`` of the run in ``workdir`` from what lies there, and return its path."""
    summary, records = workdir.summary() or {}, workdir.records()
    config = workdir.config().to_dict()
    steps = f"{records[-1]['step'] if records else 0:,}"
    if records and "steps" not in summary and records[-1]["step"] < config["steps"]:
        steps += f" of {config['steps']:,}"
    drawn: list[dict[str, Any]] = []
    sections = {
        "Samples": _samples(workdir),
        "Figures": _figures(summary) if "steps" in summary else _so_far(records, steps),
        "The same latents through training": {"pictures": _through_training(workdir)},
        "Unseen images beside their reconstructions": _last(workdir, "reconstructions", 640),
        "Curves": {"charts": _added(drawn, _curves(records, config))},
        "Samples, each before the training images nearest to it": _last(workdir, "neighbours", 420),
        "Classes of the data": {"table": _classes(workdir)},
        "What it cost": {"figures": {"": costs(summary["resources"])} if "resources" in summary else {}},
        "Truncation": {"charts": _added(drawn, [scatter(*one) for one in _truncations(workdir.evaluations())])},
        "Evaluations": {"figures": _evaluations(workdir)},
        "Changed on the way": {"lines": told(workdir.changes())},
        "Weights at the start": {"lines": _origin(workdir)},
        "Config": {"text": json.dumps(config, indent=1)},
        "Versions": {"table": {"gan_jax": gan_jax.__version__} | {name: version(name) for name in _PACKAGES}},
    }
    return page.write(
        workdir.path / "report.html",
        "run.html",
        title=workdir.path.name,
        verdict=str(summary.get("verdict", "not finished")),
        why=str(summary.get("why", "")),
        best=worded(summary.get("best_checkpoint", ""), features(summary)),
        kind=f"{config['model']}, {config['loss']}",
        steps=steps,
        sections={name: _NOTHING | section for name, section in sections.items() if any(section.values())},
        charts=drawn,
    )


_NOTHING: dict[str, Any] = {
    **{"pictures": [], "figures": {}, "charts": [], "table": {}, "lines": [], "text": "", "note": ""}
}


def _added(drawn: list[dict[str, Any]], charts: Sequence[dict[str, Any] | None]) -> list[int]:
    """Numbers in ``drawn``, the charts of a page, of those that are added to them."""
    found = [chart for chart in charts if chart]
    drawn += found
    return list(range(len(drawn) - len(found), len(drawn)))


def _samples(workdir: Workdir) -> dict[str, Any]:
    grids, real = workdir.grids("samples")[-1:], workdir.grids("real")[-1:]
    pictures = [_picture(grid, 560, f"samples, {_step(grid)}") for grid in grids]
    return {"pictures": pictures + [_picture(grid, 560, "real images") for grid in real]}


def _through_training(workdir: Workdir) -> list[dict[str, Any]]:
    grids = workdir.grids("samples")
    ends = {f"step_{stage.end:08d}" for stage in stages.plan(workdir.config())}
    picked = evenly(grids, _GRIDS)
    chosen = [grid for grid in grids if grid in picked or grid.stem in ends]
    return [_picture(grid, 200, _step(grid)) for grid in chosen] if len(grids) > 1 else []


def _last(workdir: Workdir, folder: str, width: int) -> dict[str, Any]:
    return {"pictures": [_picture(grid, width, _step(grid)) for grid in workdir.grids(folder)[-1:]]}


def _curves(records: Sequence[Mapping[str, float]], config: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """Return a chart for each group of metrics, each term of a loss, and each value that a schedule moves."""
    logged = {name for record in records for name in record}
    known = {name for names in _CURVES.values() for name in names}
    terms = [name for name in sorted(logged) if name[:2] in ("d_", "g_") and name[2:] in config["terms"]]
    single = [name for name in (*terms, *_moved(records)) if name not in known]
    curves = _CURVES | {named(name) if name in terms else titled(name): (name,) for name in single}
    shared = features(logged)

    def own(series: Mapping[str, Any]) -> dict[str, Any]:
        return {named(key) + by(key, shared): line for key, line in series.items()}

    lines = {title: _series(records, names) for title, names in curves.items()}
    return [chart(title, own(found), share=all(map(is_share, found))) for title, found in lines.items()]


def _evaluations(workdir: Workdir) -> dict[str, list[Row]]:
    """Each ``--mode=evaluate``, a table."""
    found = {}
    for evaluation in workdir.evaluations():
        floor, intervals = evaluation.get("floor", {}), evaluation.get("intervals", {})
        groups = grouped(_without(evaluation, "floor", "intervals"), floor, intervals)
        rows = [row for group in groups.values() for row in group]
        sampling = evaluation.get("sampling", "")
        found[f"step {evaluation['step']:,}{f', {sampling}' if sampling else ''}"] = rows
    return found


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    floor = dict(summary.get("floor", {}))
    by, count = features(summary), floor.pop("images", None)
    notes = [f"Quality is measured by {by}." if by else ""]
    notes.append(f"Fresh images: as many as samples, made of {count:,.0f} test images." if count and floor else "")
    return {"figures": grouped(_without(summary, *_APART), floor), "note": " ".join(filter(None, notes))}


def newest(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the figures of a run that isn't finished, each from the last of its ``records`` that has it."""
    judged = next((record for record in reversed(records) if "eval_samples" in record), {})
    return _without({**judged, **records[-1], "steps": records[-1]["step"]}, "step", "ended") if records else {}


def _so_far(records: Sequence[Mapping[str, float]], steps: str) -> dict[str, Any]:
    """Return the figures of a run that isn't finished, after so many ``steps``, in words."""
    known = newest(records)
    found = _figures(known | {"steps": steps} if known else {})
    judged = next((record["step"] for record in reversed(records) if "eval_samples" in record), None)
    when = "" if judged is None else f"Evaluated at step {judged:,}."
    return found | {"note": " ".join(filter(None, [found["note"], when]))}


def _without(figures: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in names}


def _moved(records: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the metrics that are values of schedules."""
    return sorted({name for record in records for name in record if name.startswith("schedule_")})


def _origin(workdir: Workdir) -> list[str]:
    found = origin.kept(workdir)
    return origin.described(found, _ARRAYS) if found else []


def _truncations(evaluations: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[str, str], dict[str, Any]]]:
    """Return what `scatter` shows of evaluations that differ in ``truncation`` alone.

    It is FID against the inception score, or, where the features name no classes, against precision (Brock et al. 2019,
    arXiv:1809.11096, figure 16).
    """
    curves: dict[tuple[str, ...], dict[str, tuple[float, float]]] = {}
    for found in evaluations:
        options = dict(part.split("=", 1) for part in str(found.get("sampling", "")).split())
        value = options.pop("truncation", "as usual")
        named = {key.partition("[")[0]: figure for key, figure in found.items() if "[" in key}
        across = "inception_score" if "inception_score" in named else "precision"
        if "fid" in named and across in named:
            beside = "".join(f", {name}={other}" for name, other in options.items())
            shared = f"step {found['step']:,}, {found['samples']:,} samples by {found['features']}{beside}"
            curves.setdefault((shared, across), {})[value] = (named[across], named["fid"])
    return [(shared, (across, "fid"), line) for (shared, across), line in curves.items() if len(line) > 1]


def _classes(workdir: Workdir) -> dict[str, str]:
    found = workdir.classes()
    names = (one["name"] if one["name"] == str(label) else f"{label}: {one['name']}" for label, one in enumerate(found))
    counts = (f"{one['train']:,} to train on, {one['test']:,} to test on" for one in found[:_CLASSES])
    shown = dict(zip(names, counts, strict=False))
    return shown | ({"and more": f"{len(found) - _CLASSES:,}"} if len(found) > _CLASSES else {})


def write_sweep_report(path: Path, rows: Sequence[Mapping[str, Any]], swept: Sequence[str], planned: int = 0) -> Path:
    """Write ``report.html`` of the sweep in ``path``, and return its path.

    Args:
      path: the directory of the sweep.
      rows: of ``sweep.csv``; ``trial`` is the name of a trial's workdir in ``path``.
      swept: the keys that were swept.
      planned: how many trials there will be, if not all have begun.
    """
    names = [str(row["trial"]) for row in rows]
    done = sum(row.get("verdict") != "not finished" for row in rows)
    state = f"{done} of {counted(planned, 'trial')}" if planned > done else counted(len(rows), "trial")
    ended = ", ".join(f"{sum(row.get('verdict') == end for row in rows)} {end}" for end in ("diverged", "pruned"))
    links = {name: f"{name}/report.html" for name in names if (path / name / "report.html").exists()}
    trials = table(_trials(rows, swept), links)
    trials["note"] = " ".join(filter(None, [trials["note"], "A click on a head sorts; all figures are in sweep.csv."]))
    tables = {"Settings, over their seeds": table(_settings(rows, swept)), "Trials": trials}
    called = partial(titled, shared=features(dict.fromkeys(key for row in rows for key in row)))
    found = {
        "title": path.name,
        "state": f"{state}, {ended}",
        "best": best_trials(rows, swept, called),
        "tables": tables,
    }
    return page.write(path / "report.html", "several.html", **found, **together({name: path / name for name in names}))


def together(runs: Mapping[str, Path]) -> dict[str, Any]:
    """Return curves of runs over each other, and their last samples, for ``several.html``; workdirs by name."""
    records = {name: Workdir(path).records() for name, path in runs.items()}
    styles = {name: number for number, name in enumerate(runs)}
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {}  # of each figure, by each kind of features
    compared = [*_COMPARED, *_moved([record for name in runs for record in records[name]])]
    for name in runs:
        for figure, line in _series(records[name], compared).items():
            lines.setdefault(figure, {})[name] = line
    order = sorted(lines, key=lambda figure: compared.index(bare(figure)))
    shared = features(order)
    drawn: list[dict[str, Any]] = []
    _added(drawn, [chart(titled(key, shared), lines[key], styles, share=is_share(key)) for key in order])
    last = {name: Workdir(path).grids()[-1:] for name, path in runs.items()}
    pictures = [_picture(grid, 200, name) for name, grids in last.items() for grid in grids]
    return {"charts": drawn, "shown": range(len(drawn)), "pictures": pictures, "note": measured_by(shared)}


def best_trials(
    rows: Sequence[Mapping[str, Any]], swept: Sequence[str], called: Callable[[str], str] = str
) -> list[str]:
    """For each FID (those of different features don't compare) the trial with the lowest, in words.

    First the lowest of all steps, then that of the ends, unless it is the same. A figure is ``called`` by its key.
    """
    lines = []
    for name in dict.fromkeys(key.removeprefix("best_") for row in rows for key in row if _is_distance(key)):
        lowest, end = _lowest(rows, f"best_{name}"), _lowest(rows, name)
        if lowest is not None:
            at = lowest.get(f"best_fid_step{name.removeprefix('fid')}")
            when = f" at step {at:,}" if at is not None else ""
            lines.append(f"lowest {called(name)}: {lowest[f'best_{name}']:.4g}{when}, of {_setting(lowest, swept)}")
        if end is not None and not (end is lowest and end[name] == lowest[f"best_{name}"]):
            lines.append(f"lowest {called(name)} at the end: {end[name]:.4g}, of {_setting(end, swept)}")
    return lines


def _is_distance(key: str) -> bool:
    return key.startswith(("fid[", "best_fid["))


def _lowest(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    return min((row for row in rows if math.isfinite(row.get(name, math.nan))), key=itemgetter(name), default=None)


def _setting(row: Mapping[str, Any], swept: Sequence[str]) -> str:
    setting = ", ".join(f"{key}={row[key]}" for key in swept if key in row)
    return f"trial {row['trial']}{f' ({setting})' if setting else ''}"


def _trials(rows: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> list[dict[str, Any]]:
    """`rows` with the columns that people compare."""
    return [{key: row[key] for key in columns(rows, ("trial", *swept)) if key in row} for row in rows]


def columns(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> list[str]:
    """Return the columns of ``rows`` that people compare, after those that come ``first``."""
    found = dict.fromkeys(key for row in rows for key in row)
    named = [column for name in _SHOWN for column in found if bare(column) == name]
    return list(dict.fromkeys((*first, *named)))


def _settings(rows: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> list[dict[str, Any]]:
    """For each setting of the swept keys but the seed: trials, how many diverged, median and range of each FID."""
    keys = [key for key in swept if key != "seed"]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr([row.get(key, "") for key in keys]), []).append(row)
    found = []
    for members in groups.values():
        line: dict[str, Any] = {key: members[0].get(key, "") for key in keys} | {"trials": len(members)}
        line["diverged"] = sum(row.get("verdict") == "diverged" for row in members)
        for name in dict.fromkeys(key for row in members for key in row if _is_distance(key)):
            values = sorted(row[name] for row in members if name in row)
            line[f"{name}, median"] = float(statistics.median(values))
            line[f"{name}, range"] = f"{values[0]:.4g} to {values[-1]:.4g}"
        found.append(line)
    return found


def table(rows: Sequence[Mapping[str, Any]], links: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a table with a column for every key of any row; features that all of them share are named once, above.

    Figures have their names, whatever else keeps its key.

    ``links`` are for the cells of the first column.
    """
    found = list(dict.fromkeys(key for row in rows for key in row))
    shared = features(found)
    cells = [[shown(row.get(column, "")) for column in found] for row in rows]
    heads = [titled(column, shared) for column in found]
    return {"columns": heads, "rows": cells, "links": links or {}, "note": measured_by(shared)}


def measured_by(shared: str) -> str:
    """Return a note of the features that all figures share, or nothing."""
    return f"Measured by {shared}." if shared else ""


def _step(grid: Path) -> str:
    return f"step {int(grid.stem.removeprefix('step_')):,}"


def _picture(path: Path, width: int, caption: str) -> dict[str, Any]:
    data = base64.b64encode(png_within(path, 2 * width)).decode()
    return {"width": width, "caption": caption or path.stem, "data": data}


def _series(records: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Points (step, value) of each metric that was logged, also of those with a feature extractor's name behind.

    Of many points some are left out, but neither the first, the last nor the lowest.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for key, value in record.items():
            if key.partition("[")[0] in names and math.isfinite(value):
                found.setdefault(key, []).append((record["step"], value))
    lowest = {key: min(points, key=itemgetter(1)) for key, points in found.items()}
    return {key: sorted({*evenly(points, _POINTS), lowest[key]}) for key, points in found.items()}
