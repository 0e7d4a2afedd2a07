"""The run's report: one HTML file with everything in it, that opens without a network."""

import base64
import html
import json
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import Any

import gan_jax
from gan_jax import stages
from gan_jax.runs import origin
from gan_jax.runs.charts import chart, legend, scatter
from gan_jax.runs.visualize import evenly, png_within
from gan_jax.runs.workdir import Workdir, told
from gan_jax.util.files import write_atomically

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
_APART = ("floor", "verdict", "why", "resources")  # of the summary, shown elsewhere on the page
# Columns of a sweep's trials on its page; sweep.csv has all.
_SHOWN = (
    *("verdict", "fid", "best_fid", "best_fid_step", "kid", "precision", "recall", "coverage", "inception_score"),
    *("duplicates", "class_distance", "d_loss", "g_loss", "steps"),
)
_CLASSES = 50  # that are listed
_ARRAYS = 200  # likewise, not taken from another run
_GRIDS = 6  # shown through time, besides the last
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
}
# A chart each on a sweep's page, where the lines are the trials'.
_COMPARED = (
    *("fid", "kid", "precision", "recall", "coverage", "duplicates", "class_distance", "d_loss", "g_loss", "d_margin"),
    *("d_accuracy_real", "d_accuracy_fake", "d_grad_norm", "g_grad_norm"),
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1f2937;max-width:1360px;margin:24px auto;padding:0 20px}
h1{font-size:24px;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:17px;margin:28px 0 8px;border-bottom:1px solid #e5e7eb}
.verdict{display:inline-block;padding:1px 10px;border-radius:10px;background:#fee2e2;color:#991b1b}
.healthy{background:#d1fae5;color:#065f46}.row{display:flex;flex-wrap:wrap;gap:18px}.row>*{max-width:100%}
figure{margin:0}figcaption{font-size:13px;color:#4b5563}img{image-rendering:pixelated;max-width:100%}
.scroll{overflow-x:auto}.scroll td,.scroll th{white-space:nowrap}b{overflow-wrap:anywhere}
.figures td:first-child{overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:13px;color:#4b5563}
.why{font-size:13px;color:#4b5563;margin:4px 0}svg{max-width:100%;height:auto}a{color:#1d4ed8}
table{border-collapse:collapse;font-size:13px}th{text-align:left;padding-right:14px}
td{padding:2px 14px 2px 0;border-bottom:1px solid #f3f4f6}
td.n{text-align:right;min-width:70px;font-variant-numeric:tabular-nums}pre{font-size:12px;background:#f9fafb;padding:10px;overflow:auto}
svg text{font:11px system-ui,sans-serif;fill:#6b7280}
svg .best{fill:#111827;stroke:#fff;stroke-width:3px;paint-order:stroke}
"""

# Sorts a table by the column whose head was clicked, as numbers where they are; again: the other way round.
_SORT = """
for (const head of document.querySelectorAll('th')) head.onclick = () => {
  const table = head.closest('table'), at = [...head.parentNode.children].indexOf(head), way = head.way = -(head.way
  || -1); const key = row => { const text = row.children[at].textContent, n = parseFloat(text.replace(/,/g, ''));
                       return isNaN(n) ? text : n; };
  [...table.rows].slice(1).sort((a, b) => way * (key(a) > key(b) ? 1 : key(a) < key(b) ? -1 : 0))
    .forEach(row => table.tBodies[0].append(row));
}
"""


def write_report(workdir: Workdir) -> Path:
    """Writes ``report.html`` of the run in ``workdir`` from what lies there, and returns its path."""
    summary, records = workdir.summary() or {}, workdir.records()
    config = workdir.config().to_dict()
    verdict = str(summary.get("verdict", "not finished"))
    grids, again, beside = (workdir.grids(folder) for folder in ("samples", "reconstructions", "neighbours"))
    ends = {f"step_{stage.end:08d}" for stage in stages.plan(workdir.config())}
    curves = _CURVES | {name.replace("_", " ", 1): (name,) for name in _moved(records)}
    picked = evenly(grids, _GRIDS + 1)
    chosen = [grid for grid in grids[:-1] if grid in picked or grid.stem in ends]
    last = "".join(_picture(grid, 640, f"{_step(grid)}, the last") for grid in grids[-1:])
    sections = {
        "Samples": f"<div class=row>{last}{_table(_figures(summary))}</div>",
        "The same latents through training": _row(
            _picture(grid, 200, f"step {int(grid.stem[5:]):,}") for grid in chosen
        ),
        "Unseen images beside their reconstructions": "".join(_picture(grid, 640, _step(grid)) for grid in again[-1:]),
        "Curves": _row(chart(title, _series(records, names)) for title, names in curves.items()),
        "Samples, each before the training images nearest to it": "".join(
            _picture(grid, 420, _step(grid)) for grid in beside[-1:]
        ),
        "Classes of the data": _table(_classes(workdir)),
        "What it cost": _table(summary.get("resources", {})),
        "Truncation": _row(scatter(*one) for one in _truncations(workdir.evaluations())),
        "Evaluations": _row(_table(_figures(evaluation)) for evaluation in workdir.evaluations()),
        "Changed on the way": "".join(f"{html.escape(line)}<br>" for line in told(workdir.changes())),
        "Weights at the start": "".join(f"{html.escape(line)}<br>" for line in _origin(workdir)),
        "Config": f"<pre>{html.escape(json.dumps(config, indent=1))}</pre>",
        "Versions": _table({"gan_jax": gan_jax.__version__} | {name: version(name) for name in _PACKAGES}),
    }
    kind = "healthy" if verdict == "healthy" else ""
    why = f"<p class=why>{html.escape(str(summary['why']))}" if "why" in summary else ""
    text = "".join(f"<h2>{title}</h2>{content}" for title, content in sections.items() if content)
    page = f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{html.escape(workdir.path.name)}</title><style>{_STYLE}</style>
<h1>{html.escape(workdir.path.name)}</h1><span class="verdict {kind}">{html.escape(verdict)}</span>
{html.escape(str(config["model"]))}, {html.escape(str(config["loss"]))},
{records[-1]["step"] if records else 0:,} steps{why}{text}</html>"""
    path = workdir.path / "report.html"
    write_atomically(path, lambda file: file.write(page.encode(errors="backslashreplace")))
    return path


def _moved(records: Sequence[Mapping[str, float]]) -> list[str]:
    """The metrics that are values of schedules."""
    return sorted({name for record in records for name in record if name.startswith("schedule_")})


def _origin(workdir: Workdir) -> list[str]:
    found = origin.kept(workdir)
    return origin.described(found, _ARRAYS) if found else []


def _truncations(evaluations: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[str, str], dict[str, Any]]]:
    """What `scatter` shows of evaluations that differ in ``truncation`` alone: FID against the inception score, or,
    where the features name no classes, against precision (Brock et al. 2019, arXiv:1809.11096, figure 16)."""
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
    shown = {
        f"{label}: {one['name']}": f"{one['train']:,} to train on, {one['test']:,} to test on"
        for label, one in enumerate(found[:_CLASSES])
    }
    return shown | ({"and more": f"{len(found) - _CLASSES:,}"} if len(found) > _CLASSES else {})


def counted(things: Sequence[Any], what: str) -> str:
    """How many there are, in words: "1 trial", "2 trials"."""
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"


def write_sweep_report(path: Path, rows: Sequence[Mapping[str, Any]], swept: Sequence[str], planned: int = 0) -> Path:
    """Writes ``report.html`` of the sweep in ``path``, and returns its path.

    Args:
      path: the directory of the sweep.
      rows: of ``sweep.csv``; ``trial`` is the name of a trial's workdir in ``path``.
      swept: the keys that were swept.
      planned: how many trials there will be, if not all have begun.
    """
    names = [str(row["trial"]) for row in rows]
    records = {name: Workdir(path / name).records() for name in names}
    styles = {name: number for number, name in enumerate(names)}
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}  # of each figure, by each kind of features
    compared = [*_COMPARED, *_moved([record for name in names for record in records[name]])]
    for name in names:
        for figure, line in _series(records[name], compared).items():
            charts.setdefault(figure, {})[name] = line
    order = sorted(charts, key=lambda figure: compared.index(figure.partition("[")[0]))
    shared = _shared(order)
    curves = _row(chart(figure.replace(shared, ""), charts[figure], styles) for figure in order)
    last = {name: Workdir(path / name).grids()[-1:] for name in names}
    pictures = (_picture(grid, 200, trial) for trial, grids in last.items() for grid in grids)
    done = sum(row.get("verdict") != "not finished" for row in rows)
    state = f"{done} of {counted(range(planned), 'trial')}" if planned > done else counted(rows, "trial")
    ended = ", ".join(f"{sum(row.get('verdict') == end for row in rows)} {end}" for end in ("diverged", "pruned"))
    best = "".join(f"<br>{html.escape(line)}" for line in best_trials(rows, swept))
    links = {name: f"{name}/report.html" for name in names if (path / name / "report.html").exists()}
    page = f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{html.escape(path.name)}</title><style>{_STYLE}th{{cursor:pointer}}</style>
<h1>{html.escape(path.name)}</h1>{state}, {ended}{best}
<h2>Settings, over their seeds</h2>{_grid(_settings(rows, swept))}
<h2>Trials (a click on a head sorts; all figures are in sweep.csv)</h2>{_grid(_trials(rows, swept), links)}
<h2>Curves</h2>{_measured_by(shared)}{legend(styles)}{curves}
<h2>Last samples</h2>{_row(pictures)}<script>{_SORT}</script></html>"""
    report = path / "report.html"
    write_atomically(report, lambda file: file.write(page.encode(errors="backslashreplace")))
    return report


def best_trials(rows: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> list[str]:
    """For each FID (those of different features don't compare) the trial with the lowest, in words.

    First the lowest of all steps, then that of the ends, unless it is the same.
    """
    lines = []
    for name in dict.fromkeys(key.removeprefix("best_") for row in rows for key in row if _is_distance(key)):
        lowest, end = _lowest(rows, f"best_{name}"), _lowest(rows, name)
        if lowest is not None:
            at = lowest.get(f"best_fid_step{name.removeprefix('fid')}")
            when = f" at step {at:,}" if at is not None else ""
            lines.append(f"lowest {name}: {lowest[f'best_{name}']:.4g}{when}, of {_setting(lowest, swept)}")
        if end is not None and not (end is lowest and end[name] == lowest[f"best_{name}"]):
            lines.append(f"lowest {name} at the end: {end[name]:.4g}, of {_setting(end, swept)}")
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
    columns = dict.fromkeys(key for row in rows for key in row)
    named = [column for name in _SHOWN for column in columns if column.partition("[")[0] == name]
    chosen = dict.fromkeys(("trial", *swept, *named))
    return [{key: row[key] for key in chosen if key in row} for row in rows]


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


def _grid(rows: Sequence[Mapping[str, Any]], links: Mapping[str, str] | None = None) -> str:
    """A table with a column for every key of any row; features that all of them share are named once, above.

    ``links`` are for the cells of the column ``trial``.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    shared = _shared(columns)

    def cell(column: str, value: Any) -> str:
        text = html.escape(_shown(value))
        link = (links or {}).get(str(value)) if column == "trial" else None
        return f'<td><a href="{html.escape(link)}">{text}</a>' if link else f"<td>{text}"

    head = "".join(f"<th>{html.escape(column.replace(shared, ''))}" for column in columns)
    lines = "".join("<tr>" + "".join(cell(column, row.get(column, "")) for column in columns) for row in rows)
    return f"{_measured_by(shared)}<div class=scroll><table><tr>{head}{lines}</table></div>"


def _shared(figures: Collection[str]) -> str:
    """What is in the brackets of all ``figures`` that have such, the features, with the brackets; or nothing."""
    features = {figure[figure.index("[") : figure.rindex("]") + 1] for figure in figures if "[" in figure}
    return features.pop() if len(features) == 1 else ""


def _measured_by(shared: str) -> str:
    return f"measured by {html.escape(shared[1:-1])}" if shared else ""


def _step(grid: Path) -> str:
    return f"step {int(grid.stem.removeprefix('step_')):,}"


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    fresh = dict(summary.get("floor", {}))
    count = fresh.pop("images", 0.0)
    floor = {f"{name} of fresh images (floor)": value for name, value in fresh.items()}
    floor |= {"test images that the floor is made of": count} if fresh else {}
    return {name: value for name, value in summary.items() if name not in _APART} | floor


def _table(rows: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    cells = (f"<tr><td>{html.escape(k)}<td class=n>{html.escape(_shown(v))}" for k, v in rows.items())
    return f"<table class=figures>{''.join(cells)}</table>"


def _shown(value: Any) -> str:
    return f"{value:,.5g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _row(parts: Any) -> str:
    joined = "".join(parts)
    return f"<div class=row>{joined}</div>" if joined else ""


def _picture(path: Path, width: int, caption: str) -> str:
    data = base64.b64encode(png_within(path, 2 * width)).decode()
    image = f'<img width={width} alt="{caption or path.stem}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


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
