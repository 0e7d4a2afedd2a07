"""The tables of docs/results.md: every config on images at hand, judged by the same evaluation.

    python -m benchmarks.results --table=digits --seeds=1 --workdir=runs/results
    python -m benchmarks.results --table=modern             # those since 2018, half an hour of one core's time each
    python -m benchmarks.results --table=few                # 500 tiles of the Earth: what keeps D from knowing them
    python -m benchmarks.results --table=earth64            # tiles of 64x64, 48,000 images each in batches of 16

Each run is that table's own command with a seed, in a workdir of its own. Called again, it goes on where it was:
finished runs are left alone, the others resume. The table is printed, and written as ``TABLE.md`` beside the runs.
Time is that of the CPU, summed over cores, so that other work on the machine counts for little.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.data import earth

_FEW = 500
_ADA = (
    "--config.augment.name=ada --config.schedules.augment.kind=ada --config.schedules.augment.unit=images"
    " --config.schedules.augment.length=100000"
)
_SMALL = "--config.batch_size=16 --config.steps=3000 --config.eval.every=1000 --config.log.every=100"
# By table and row: the config, and flags beyond it that fit the budget.
TABLES: dict[str, dict[str, str]] = {
    "digits": {
        "dcgan": "dcgan.py --config.steps=7000",
        "gan": "gan.py",
        "lsgan": "lsgan.py --config.steps=7000",
        "wgan": "wgan.py",
        "wgan_gp": "wgan_gp.py",
        "dragan": "dragan.py --config.steps=7000",
        "relativistic": "relativistic.py --config.steps=7000",
        "sngan": "sngan.py",
        "cgan": "cgan.py --config.steps=7000",
        "acgan": "acgan.py --config.steps=7000",
        "projection": "projection.py",
        "improved": "improved.py --config.steps=3500",
        "aae": "aae.py",
    },
    "modern": {
        "dcgan_long": "dcgan.py --config.steps=28000",
        "r3gan": "r3gan.py",
        "stylegan2": "stylegan2.py",
        "sagan": "sagan.py",
        "biggan": "biggan.py",
        "progan": "progan.py",
        "fastgan": "fastgan.py --config.steps=4000",
        "dcgan_earth": "dcgan.py:earth32 --config.steps=6000",
        "r3gan_earth": "r3gan.py:earth32",
        "stylegan2_earth": "stylegan2.py:earth32",
        "sagan_earth": "sagan.py:earth32",
        "biggan_earth": "biggan.py:earth32",
        "progan_earth": "progan.py:earth32",
        "fastgan_earth": "fastgan.py:earth32 --config.steps=2500",
    },
    "few": {
        "few_stylegan2": "stylegan2.py:earth32 --config.terms.r1.weight=0.03 --config.augment.name=none",
        "few_ada": f"stylegan2.py:earth32 --config.terms.r1.weight=0.03 {_ADA}",
        "few_dcgan": "dcgan.py:earth32 --config.augment.name=none --config.batch_size=32",
        "few_dcgan_ada": f"dcgan.py:earth32 --config.batch_size=32 {_ADA}",
        "few_sngan": "sngan.py:earth32 --config.batch_size=32 --config.d_steps=1 --config.g_batches=0"
        " --config.generator.first=96 --config.generator.widths=64,64,32 --config.discriminator.widths=32,64,96",
        "few_r3gan": "r3gan.py:earth32 --config.augment.name=none",
    },
    "earth64": {
        "r3gan_64": f"r3gan.py:earth64 {_SMALL}",
        "stylegan2_64": f"stylegan2.py:earth64 {_SMALL} --config.augment.name=none",
        "ada_64": f"stylegan2.py:earth64 {_SMALL} {_ADA}",
        "dcgan_64": f"dcgan.py:earth64 {_SMALL} --config.generator.widths=128,96,64,32"
        " --config.discriminator.widths=32,64,96,128",
        "sngan_64": f"sngan.py:earth64 {_SMALL} --config.d_steps=1 --config.g_batches=0 --config.generator.first=128"
        " --config.generator.widths=128,96,64,32 --config.discriminator.widths=32,64,96,128,128",
    },
}


def main() -> None:
    """Run what is missing, then print the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/results"))
    parser.add_argument("--table", choices=TABLES, default="digits")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="rows, with commas between them")
    parser.add_argument("--print", action="store_true", help="run nothing")
    options = parser.parse_args()
    rows = TABLES[options.table]
    options.workdir.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for name in options.only.split(",") if options.only else rows:
            if not options.print:
                run(name, [*rows[name].split(), *few(options)], seed, options.workdir)
    finished = {name: found(name, options.workdir) for name in rows}
    text = table([row(rows[name], runs) for name, runs in finished.items() if runs])
    (options.workdir / f"{options.table}.md").write_text(text)
    print(text)


def few(options: argparse.Namespace) -> list[str]:
    """Return flags for a part of the Earth's tiles, in a file that is written here."""
    if options.table != "few":
        return []
    path = options.workdir / f"earth_{_FEW}.npz"
    if not path.exists():
        images, labels, test_images, test_labels = earth.tiles(32)
        chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:_FEW])
        np.savez(path, images=images[chosen], labels=labels[chosen], test_images=test_images, test_labels=test_labels)
    at = [
        "--config.data.source=npz",
        "--config.data.name=",
        f"--config.data.dir={path.resolve()}",
        "--config.data.labels=True",
    ]
    return [*at, "--config.steps=5000", "--config.eval.every=1000", "--config.log.every=100"]


def run(name: str, call: list[str], seed: int, workdir: Path) -> None:
    """Run one, or what is missing of it, and add up the time that it takes."""
    place = workdir / f"{name}_{seed}"
    flags = [f"--config=configs/{call[0]}", f"--workdir={place}", *call[1:], *([f"--config.seed={seed}"] * (seed > 0))]
    if (place / "summary.json").exists():
        return
    before, clock = seconds(), place / "cpu_seconds.txt"
    try:
        subprocess.run([sys.executable, "launch.py", *flags], check=True)
    finally:
        if place.exists():
            clock.write_text(str(seconds() - before + (float(clock.read_text()) if clock.exists() else 0.0)))


def seconds() -> float:
    """CPU time of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def found(name: str, workdir: Path) -> list[tuple[dict[str, Any], list[float], float]]:
    """Summary, FID at every evaluation and CPU time of each finished run of a row.

    A run that grows is judged at every side, by features of that side; those of its last side count.
    """
    runs = []
    for path in sorted(workdir.glob(f"{name}_*/summary.json")):
        if not path.parent.name.removeprefix(f"{name}_").isdecimal():
            continue
        records = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        judged = [(key, value) for record in records for key, value in record.items() if key.startswith("fid[")]
        fids = [value for key, value in judged if key == judged[-1][0]]
        clock = path.parent / "cpu_seconds.txt"
        runs.append((json.loads(path.read_text()), fids, float(clock.read_text()) if clock.exists() else math.nan))
    return runs


def row(call: str, runs: list[tuple[dict[str, Any], list[float], float]]) -> str:
    """Return a line of the table."""
    final, best = ([of(fids) for _, fids, _ in runs] for of in (lambda fids: fids[-1], min))
    minutes = statistics.median(time for *_, time in runs) / 60
    recall = statistics.median(v for s, *_ in runs for k, v in s.items() if k.startswith("recall["))
    precision = statistics.median(v for s, *_ in runs for k, v in s.items() if k.startswith("precision["))
    verdicts = ", ".join(sorted({summary["verdict"] for summary, *_ in runs}))
    steps = f"{runs[0][0]['steps']:,}"
    figures = f"{spread(final)} | {spread(best)} | {precision:.2f} / {recall:.2f} | {verdicts}"
    return f"| `configs/{call}` | {steps} | {minutes:.1f} | {figures} |"


def spread(values: list[float]) -> str:
    """Return the median, and from where to where the values go if there are several."""
    middle = f"{statistics.median(values):.1f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.1f} to {max(values):.1f})"


def table(rows: list[str]) -> str:
    """Return the rows under their head."""
    columns = "steps", "CPU minutes", "FID at the end", "best FID", "precision / recall", "verdict"
    head = f"| `python launch.py --config=` | {' | '.join(columns)} |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    main()
