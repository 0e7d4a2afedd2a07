"""Charts of a page, as the numbers that its script draws."""

from collections.abc import Mapping, Sequence
from typing import Any

from gan_jax.runs.figures import bare

Points = Sequence[tuple[float, float]]
_LOWER_IS_BETTER = ("fid", "kid", "mind")  # figures whose lowest point is marked


def chart(
    title: str, series: Mapping[str, Points], styles: Mapping[str, int] | None = None, *, share: bool = False
) -> dict[str, Any] | None:
    """Return lines over steps, or None without points; the lowest FID or KID is marked.

    Args:
      title: above it.
      series: points by name, for lines over each other.
      styles: numbers of the lines' colours and dashes by name, where several charts share them.
      share: whether all values are within 0 and 1, as the axis then is.
    """
    if not any(series.values()):
        return None
    chosen = {name: number for number, name in enumerate(series)} if styles is None else styles
    lines = [{"name": name, "style": chosen[name], "points": [list(p) for p in line]} for name, line in series.items()]
    marks, caption = [], ""
    if _is_lower_better(title):
        judged = {name: line for name, line in series.items() if styles or _is_lower_better(name)}
        name, (step, value) = min(
            ((name, point) for name, line in judged.items() for point in line), key=lambda found: found[1][1]
        )
        whose = f" ({name})" if len(judged) > 1 else ""
        marks = [{"x": step, "y": value, "name": f"best {value:.4g}"}]
        caption = f"best {value:.4g} at step {step:,.0f}{whose}"
    drawn = {"title": title, "kind": "lines", "across": "step", "upwards": "", "share": share}
    return drawn | {"lines": lines, "marks": marks, "caption": caption}


def _is_lower_better(name: str) -> bool:
    return bare(name).partition(" by ")[0].lower() in _LOWER_IS_BETTER


def scatter(title: str, axes: tuple[str, str], points: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Return points of two figures, each with its name, joined from left to right.

    Args:
      title: above it.
      axes: names of the figures, across and upwards.
      points: by name.
    """
    across, upwards = (name.replace("_", " ") for name in axes)
    line = sorted(points.items(), key=lambda point: point[1])
    drawn = [{"name": upwards, "style": 0, "points": [list(point) for _, point in line]}]
    marks = [{"x": x, "y": y, "name": name} for name, (x, y) in line]
    named = {"title": title, "kind": "points", "across": across, "upwards": upwards, "share": False}
    return named | {"lines": drawn, "marks": marks, "caption": f"{upwards} against {across}"}
