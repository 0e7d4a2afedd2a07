"""Charts of a report, as SVG within its HTML."""

import html
from collections.abc import Callable, Mapping, Sequence

# Of a chart's lines: each colour with the first pattern, then each with the next.
_COLOURS = (
    *("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed"),
    *("#0891b2", "#db2777", "#65a30d", "#78350f", "#4b5563"),
)
_DASHES = ("", "7 3", "2 2", "9 3 2 3")
_LOWER_IS_BETTER = ("fid", "kid")  # figures whose lowest point is marked
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 420, 190, 52, 20


def _short(value: float) -> str:
    """A number in as few characters as an axis has room for."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def chart(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], styles: Mapping[str, int] | None = None
) -> str:
    """A line chart as SVG, or nothing without points; the lowest FID or KID is marked.

    Args:
      title: above it.
      series: points by name, for lines over each other.
      styles: the numbers of the lines' styles (`_line_style`) by name, where a legend of all stands elsewhere.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    end = max(x for x, _ in points) or 1
    drawn, place = _axes((0, end), _padded([y for _, y in points]))
    drawn.append(f'<text x={_WIDTH - 8} y={_HEIGHT} text-anchor="end">step {end:,.0f}</text>')
    chosen = {name: number for number, name in enumerate(series)} if styles is None else styles
    for name, line in series.items():
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        (x, y), colour = place(*line[0]), _COLOURS[chosen[name] % len(_COLOURS)]
        mark = f'<circle r="2.5" fill="{colour}" cx={x} cy={y} />'
        hover = f"<title>{html.escape(name)}</title>"
        curve = f'<polyline fill="none" {_line_style(chosen[name])} points="{path}">{hover}</polyline>'
        drawn.append(mark if len(line) == 1 else curve)
    if title.lower().partition("[")[0] in _LOWER_IS_BETTER:
        judged = {name: line for name, line in series.items() if styles or name.partition("[")[0] in _LOWER_IS_BETTER}
        drawn.append(_best_mark(judged, place))
    return _figure(title, drawn, f"<figcaption>{legend(chosen)}</figcaption>" if styles is None else "")


def scatter(title: str, axes: tuple[str, str], points: Mapping[str, tuple[float, float]]) -> str:
    """Points of two figures as SVG, each with its name, joined from left to right.

    Args:
      title: above it.
      axes: names of the figures, across and upwards.
      points: by name.
    """
    line = sorted(points.items(), key=lambda point: point[1])
    across = _padded([x for _, (x, _) in line])
    drawn, place = _axes(across, _padded([y for _, (_, y) in line]))
    path = " ".join(f"{x},{y}" for x, y in (place(*point) for _, point in line))
    drawn.append(f'<polyline fill="none" {_line_style(0)} points="{path}"/>')
    for name, point in line:
        x, y = place(*point)
        side = "end" if x > _WIDTH - 80 else "start"
        drawn.append(f'<circle r="3" fill="{_COLOURS[0]}" cx={x} cy={y} />')
        drawn.append(
            f'<text x={x + (6 if side == "start" else -6)} y={y - 5} text-anchor="{side}">{html.escape(name)}</text>'
        )
    for number, x in enumerate(across):
        at = (_LEFT, _WIDTH - 8)[number]
        drawn.append(f'<text x={at} y={_HEIGHT} text-anchor="{("start", "end")[number]}">{_short(x)}</text>')
    told = f"{axes[1]} against {axes[0]}".replace("_", " ")
    return _figure(title, drawn, f"<figcaption>{html.escape(told)}</figcaption>")


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: a little beyond the values, but not below 0 nor above 1 where none is."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1
    return max(low - pad, 0) if low >= 0 else low - pad, min(high + pad, 1) if 0 < high <= 1 else high + pad


def _axes(
    across: tuple[float, float], upwards: tuple[float, float]
) -> tuple[list[str], Callable[[float, float], tuple[float, float]]]:
    """Lines and numbers of the axis upwards, and where in the picture a point lies."""
    (left, right), (low, high) = across, upwards

    def place(x: float, y: float) -> tuple[float, float]:
        at = _LEFT + (_WIDTH - _LEFT - 8) * (x - left) / (right - left)
        return round(at, 1), round((_HEIGHT - _BOTTOM) * (high - y) / (high - low) + 4, 1)

    drawn = []
    for i in range(5):
        y = low + (high - low) * i / 4
        at = place(left, y)[1]
        drawn.append(f'<line x1={_LEFT} x2={_WIDTH - 8} y1={at} y2={at} stroke="#e5e7eb"/>')
        drawn.append(f'<text x={_LEFT - 5} y={at + 4} text-anchor="end">{_short(y)}</text>')
    return drawn, place


def _figure(title: str, drawn: Sequence[str], caption: str) -> str:
    picture = f'<svg viewBox="0 -4 {_WIDTH} {_HEIGHT + 8}" width={_WIDTH} role=img>{"".join(drawn)}</svg>'
    return f"<figure style=width:{_WIDTH}px><b>{html.escape(title)}</b><br>{picture}{caption}</figure>"


def _best_mark(
    series: Mapping[str, Sequence[tuple[float, float]]], place: Callable[[float, float], tuple[float, float]]
) -> str:
    """A ring about the lowest point of all, with its value and step, and whose it is, of several."""
    name, (step, value) = min(((name, p) for name, line in series.items() for p in line), key=lambda found: found[1][1])
    (x, y), whose = place(step, value), f" ({name})" if len(series) > 1 else ""
    side = "start" if x < (_LEFT + _WIDTH) / 2 else "end"
    text = html.escape(f"best {value:.4g} at step {step:,.0f}{whose}")
    return (
        f'<circle r="4" fill="none" stroke="#111827" cx={x} cy={y} />'
        f'<text x={x} y={max(y - 8, 12)} text-anchor="{side}" class=best>{text}</text>'
    )


def _line_style(number: int) -> str:
    """Attributes of a line: colours by turns, and when all were used, the next pattern of dashes."""
    dashes = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="1.5"{pattern}'


def legend(styles: Mapping[str, int]) -> str:
    """What lines in these styles are."""
    sample = "<span><svg width=26 height=8><line x1=0 x2=26 y1=4 y2=4"
    entries = (f"{sample} {_line_style(number)} /></svg> {html.escape(name)}</span>" for name, number in styles.items())
    return f"<div class=legend>{''.join(entries)}</div>"
