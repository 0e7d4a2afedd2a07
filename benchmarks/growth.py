"""How a step's time grows with the batch, the resolution, the width and the number of devices.

    python -m benchmarks.growth --out=benchmarks/growth.svg

Of the trainer's compiled step of configs/dcgan.py in float32, with two widths at 28x28, medians by turns. The picture
has a panel for each, time against what grows, both in powers of 2; dashed, what a time in proportion to the arithmetic
(of XLA's count; for devices, at the same batch for each, to their number on this machine's cores) would be, through the
last point.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.program import Program, with_devices
from configs import dcgan
from gan_jax.runtime import environment, resources

_PANEL = 230  # pixels
_DEVICES = (1, 2, 4, 8)


def main() -> None:
    """Measure, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("growth.svg"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", type=int, help="prints the point of so many devices")
    options = parser.parse_args()
    environment.prepare()
    if options.only:
        print(json.dumps(measured([devices(options.only)], 1)))
        return
    found = {name: measured(points, options.repeats) for name, points in axes().items()}
    turns = [[with_devices(n, "benchmarks.growth", f"--only={n}")[0] for n in _DEVICES] for _ in range(options.repeats)]
    found["devices"] = [
        rows[0] | {"ms": statistics.median(row["ms"] for row in rows)} for rows in zip(*turns, strict=True)
    ]
    device = f"{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores, jax {jax.__version__}"
    options.out.write_text(picture(found, device))
    options.out.with_suffix(".json").write_text(json.dumps({"machine": device, **found}, indent=2) + "\n")
    for name, rows in found.items():
        for row in rows:
            print(f"{name:12}{row['x']:6}{row['ms']:10.1f} ms{row['gflop']:10.2f} GFLOP")


def axes() -> dict[str, list[tuple[int, ConfigDict, int]]]:
    """For each, (what grows, config, devices)."""
    sides = {16: (64, 32), 32: (128, 64, 32), 64: (256, 128, 64, 32)}
    return {
        "batch": [(n, config(batch=n), 1) for n in (8, 16, 32, 64, 128, 256)],
        "side": [(side, config("shapes64", side, widths=widths), 1) for side, widths in sides.items()],
        "width": [(n, config(widths=(2 * n, n)), 1) for n in (8, 16, 32, 64, 128)],
    }


def devices(count: int) -> tuple[int, ConfigDict, int]:
    """Return the point of so many devices, each with the same batch."""
    return count, config(batch=32 * count), count


def config(data: str = "mnist5k", side: int = 28, batch: int = 32, widths: tuple[int, ...] = (128, 64)) -> ConfigDict:
    """Return the config of the DCGAN so large."""
    made: ConfigDict = dcgan.get_config(data)
    made.data.image_size = side
    made.batch_size, made.generator.widths, made.discriminator.widths = batch, widths, widths[::-1]
    return made


def measured(points: list[tuple[int, ConfigDict, int]], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of a step, and its arithmetic, at each point."""
    runs: list[dict[str, Any]] = []
    for _, config, count in points:
        program = Program(config, jax.devices()[:count])
        program.run(1)
        begin = time.perf_counter()
        program.run(1)
        steps = int(np.clip(0.7 / (time.perf_counter() - begin), 1, 100))
        cost = resources.cost(program.gan, program.chunk, program.state, config.batch_size, count)
        runs.append({"program": program, "steps": steps, "flops": cost.flops, "seconds": []})
    for _ in range(repeats):
        for run in runs:
            begin = time.perf_counter()
            run["program"].run(run["steps"])
            run["seconds"].append((time.perf_counter() - begin) / run["steps"])
    return [
        {"x": x, "ms": round(1e3 * statistics.median(run["seconds"]), 2), "gflop": round(run["flops"] / 1e9, 3)}
        for (x, _, _), run in zip(points, runs, strict=True)
    ]


def picture(found: dict[str, list[dict[str, Any]]], title: str) -> str:
    """Return an SVG of a panel each."""
    parts = [panel(name, rows, 30 + i * (_PANEL + 60)) for i, (name, rows) in enumerate(found.items())]
    width, height = len(parts) * (_PANEL + 60) + 10, _PANEL + 90
    style = "text{font:12px system-ui,sans-serif;fill:#374151}polyline{fill:none;stroke-width:2}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="white"/><text x="30" y="{height - 8}">milliseconds a step of DCGAN, '
        f"float32; dashed: in proportion to the arithmetic ({title})</text>{''.join(parts)}</svg>\n"
    )


def panel(name: str, rows: list[dict[str, Any]], left: float) -> str:
    """Time against what grows, and the time in proportion to the arithmetic."""
    x, ms, gflop = (np.log2([float(row[key]) for row in rows]) for key in ("x", "ms", "gflop"))
    ideal = gflop - gflop[-1] + ms[-1]
    low, high = min(ms.min(), ideal.min()), max(ms.max(), ideal.max())

    def at(a: float, b: float) -> tuple[float, float]:
        return left + _PANEL * (a - x[0]) / (x[-1] - x[0]), 40 + _PANEL * (1 - (b - low) / (high - low))

    def line(values: np.ndarray, more: str) -> str:
        points = " ".join("{:.1f},{:.1f}".format(*at(a, b)) for a, b in zip(x, values, strict=True))
        return f'<polyline points="{points}" {more}/>'

    parts = [f'<text x="{left}" y="20" font-weight="bold">{name}</text>']
    parts += [line(ideal, 'stroke="#9ca3af" stroke-dasharray="5 4"'), line(ms, 'stroke="#2563eb"')]
    for row, a, b in zip(rows, x, ms, strict=True):
        right, down = at(a, b)
        parts.append(f'<circle cx="{right:.1f}" cy="{down:.1f}" r="3" fill="#2563eb"/>')
        parts.append(f'<text x="{right - 14:.1f}" y="{down - 8:.1f}">{row["ms"]:.3g}</text>')
        parts.append(f'<text x="{right - 8:.1f}" y="{_PANEL + 60}">{row["x"]}</text>')
    return "".join(parts)


if __name__ == "__main__":
    main()
