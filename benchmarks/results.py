"""The table of results in docs/gans.md: every config on the embedded digits, judged by the same evaluation.

    python -m benchmarks.results --seeds=1 --workdir=runs/results

Each run is that table's own command with a seed, in a workdir of its own, at most about 5 minutes of 2 CPU cores.
Called again, it goes on where it was: finished runs are left alone, the others resume. The table is printed, and
written to ``results.md`` beside the runs.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

# By config: flags beyond it that fit the budget, and say so in the row.
BUDGET = {
    "dcgan": "--config.steps=7000",
    "gan": "",
    "lsgan": "--config.steps=7000",
    "wgan": "",
    "wgan_gp": "",
    "dragan": "--config.steps=7000",
    "relativistic": "--config.steps=7000",
    "sngan": "",
    "cgan": "--config.steps=7000",
    "acgan": "--config.steps=7000",
    "projection": "",
    "improved": "--config.steps=3500",
    "aae": "",
}


def main() -> None:
    """Runs what is missing, then prints the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/results"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="configs, with commas between them")
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(BUDGET)
    for seed in range(options.seeds):
        for name in chosen:
            if not options.table:
                subprocess.run([sys.executable, *command(name, seed, options.workdir)], check=True)
    options.workdir.mkdir(parents=True, exist_ok=True)
    text = table([row(name, found(name, options.workdir)) for name in BUDGET if found(name, options.workdir)])
    (options.workdir / "results.md").write_text(text)
    print(text)


def command(name: str, seed: int, workdir: Path) -> list[str]:
    """What ``python`` is called with for one run."""
    flags = [*BUDGET[name].split(), *([f"--config.seed={seed}"] if seed else [])]
    return ["launch.py", f"--config=configs/{name}.py", f"--workdir={workdir / f'{name}_{seed}'}", *flags]


def found(name: str, workdir: Path) -> list[tuple[dict[str, Any], list[float]]]:
    """Summary, and FID at every evaluation, of each finished run of a config."""
    runs = []
    for path in sorted(workdir.glob(f"{name}_*/summary.json")):
        if not path.parent.name.removeprefix(f"{name}_").isdecimal():
            continue
        records = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
        fids = [value for record in records for key, value in record.items() if key.startswith("fid[")]
        runs.append((json.loads(path.read_text()), fids))
    return runs


def row(name: str, runs: list[tuple[dict[str, Any], list[float]]]) -> str:
    """A line of the table."""
    final, best = ([of(fids) for _, fids in runs] for of in (lambda fids: fids[-1], min))
    seconds = min(summary["seconds"] for summary, _ in runs)  # of the one least disturbed
    recall = statistics.median(v for s, _ in runs for k, v in s.items() if k.startswith("recall["))
    precision = statistics.median(v for s, _ in runs for k, v in s.items() if k.startswith("precision["))
    verdicts = ", ".join(sorted({summary["verdict"] for summary, _ in runs}))
    call = " ".join(f"configs/{name}.py {BUDGET[name]}".split())
    steps = f"{runs[0][0]['steps']:,}"
    figures = f"{spread(final)} | {spread(best)} | {precision:.2f} / {recall:.2f} | {verdicts}"
    return f"| `{call}` | {steps} | {seconds:,.0f} | {figures} |"


def spread(values: list[float]) -> str:
    """The median, and from where to where if there are several."""
    middle = f"{statistics.median(values):.1f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.1f} to {max(values):.1f})"


def table(rows: list[str]) -> str:
    """The rows under their head."""
    head = (
        "| `python launch.py --config=` | steps | seconds | FID at the end | best FID | precision / recall | verdict |"
    )
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    main()
