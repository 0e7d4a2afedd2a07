"""Our training step against PyTorch's: the same networks, batch, losses and optimizers, by turns on one machine.

    python -m benchmarks.train_step --cases=a,b --out=train_step.json        # with the extra `oracle`

Ours is the trainer's own program (`gan_jax.runtime.program.compile_chunk` of a config); PyTorch's is
`benchmarks.torch_reference`, channels last, or for R3GAN and StyleGAN2 `benchmarks.torch_modern`, with fused Adam and D
frozen in G's step, eager and by torch.compile, in float32 and in bfloat16 autocast; on GPUs also by max-autotune (CUDA
graphs), and in TF32. Both take real images from memory and draw noise, make ``d_steps`` D steps and one G step, and
average G's weights; ours also computes its metrics.

Cases: a: DCGAN 28x28x1, batch 128; b: 32x32x3, batch 64; c64, c128, c1024 (GPU): 64x64x3 at these batches; d: WGAN-GP,
ResNet 32x32; e: SNGAN, ResNet 32x32; f32, f64: R3GAN's small presets, batch 32 and 16, with R1 and R2 in every step;
g32, g64: StyleGAN2's, batch 32, with R1 in every 16th step and the path length in every 4th, so that turns have a
multiple of 16 steps. ``--cases=c`` means all that begin so. Augmentation and schedules are left out.

First, from the same weights, images and noise, three steps of each, and of PyTorch in float64: in float32 the losses
may be off those by no more than `TOLERANCE`, or `ROUNDINGS` times what PyTorch's own float32 is off (Adam's first steps
have the size of the rate, whichever way rounding turns a small gradient), or the row says so, isn't timed, and the exit
code is 1. Then turns of ``--steps`` after one that isn't timed. In the table:

- ms: median over the turns, and half of what lies between their quartiles; images/s: real ones that D sees;
- to same, to any: speed against the fastest PyTorch of the same precision, and of any, medians of the turns' ratios;
- GFLOP/s: arithmetic of the PyTorch step's products and convolutions, the same for all rows of a case; its share of the
  machine's matmul rate at that precision (the faster of JAX's and PyTorch's);
- bandwidth: bytes of the program's operations a second over what copying an array reaches (caches let it exceed 1; by
  XLA's count for ours, by its operations' for eager PyTorch);
- compile: seconds of a first step without caches; memory: MB that a step takes beside what lies there between steps
  (CUDA graphs keep theirs).

``--apart`` is for machines of many cores: each side has a process of its own, for all to compile at once. What chooses
by measuring (XLA, cuDNN, max-autotune) does so while the others use the same GPU.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks.program import CASES, FOR_GPUS, case_config, cycle
from benchmarks.sides import (
    CHECKED,
    TYPES,
    Apart,
    Ours,
    Side,
    failing,
    matmul_precision,
    name_of,
    on_gpu,
    settle,
    torch_device,
    torch_side,
)
from gan_jax.runtime import resources

TOLERANCE = 1e-4  # of their losses, times the loss where that is above 1
ROUNDINGS = 8  # of case a PyTorch's own are 1.5e-4 off on one core and 6.2e-4 on two, ours 6.2e-4 and 4.9e-4
_COPIED = 2**28  # bytes of the array that is copied


def main() -> int:
    """Measure, print and save."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch is on the same GPU
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="a,b,c,d,e")
    parser.add_argument("--precisions", default="float32,tf32,bfloat16")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--steps", type=int, default=5, help="in a turn")
    parser.add_argument("--skip-compile", action="store_true", help="leave torch.compile out")
    apart = "each side in a process of its own: all compile at once, but for no longer than this, then they take turns"
    parser.add_argument("--apart", type=float, metavar="SECONDS", help=apart)
    parser.add_argument("--out", type=Path, default=Path("train_step.json"))
    options = parser.parse_args()
    settle()
    chosen = [name for name in CASES if name.startswith(tuple(options.cases.split(",")))]
    precisions = options.precisions.split(",")
    if not set(precisions) <= set(TYPES):
        parser.error(f"--precisions are of {', '.join(TYPES)}")
    if not on_gpu():  # too slow to wait for, or not to be had
        chosen = [name for name in chosen if name not in FOR_GPUS]
        precisions = [name for name in precisions if name != "tf32"]
    elif not torch.cuda.is_available():
        parser.error("JAX has a GPU and PyTorch has none: install PyTorch for CUDA, or set JAX_PLATFORMS=cpu")
    if not chosen or not precisions:
        gpus = ", ".join((*FOR_GPUS, "tf32"))
        parser.error(f"nothing to measure: on this machine --cases are of {', '.join(CASES)}; for GPUs are {gpus}")
    result: dict[str, Any] = {"machine": machine(), "versions": versions(), "tolerance": TOLERANCE}
    roofs = {name: roof(name) for name in precisions}
    result |= {"matmul_gflop_per_second": roofs, "copy_gb_per_second": copy_rate(), "cases": {}}
    print("; ".join(f"{key}: {value}" for key, value in result.items() if value), flush=True)
    modes = ["", *([] if options.skip_compile else ["default", *(["max-autotune"] if on_gpu() else [])])]
    wanted = [(precision, mode) for precision in precisions for mode in (None, *modes)]

    def steps_of(name: str) -> int:
        """In a turn: whole cycles of the terms that not all steps have."""
        own = cycle(case_config(name))
        return int(own * -(-options.steps // own))

    def made_of(name: str) -> tuple[list[dict[str, Any]], dict[int, Side]]:
        rows: list[dict[str, Any]] = [{"name": Ours.name, "precision": "float32"}]
        with failing(rows[0]):
            return made(case_config(name), wanted, steps_of(name), options.apart)
        return rows, {}

    try:
        for name, (rows, sides) in zip(chosen, each(made_of, chosen, options.apart is not None), strict=True):
            take_turns(rows, sides, options.repeats, steps_of(name))
            finish(rows, roofs, result["copy_gb_per_second"])
            print(f"\ncase {name}\n{table(rows)}", flush=True)
            result["cases"][name] = rows
            options.out.write_text(json.dumps(result, indent=2) + "\n")
            while sides:
                sides.popitem()[1].end()
    finally:
        end_all()
    fine = [
        not any("differs" in row for row in rows) and any("ms" in row for row in rows)
        for rows in result["cases"].values()
    ]
    return int(not all(fine))


def each(function: Callable[[Any], Any], arguments: Sequence[Any], together: bool) -> Iterator[Any]:
    """``map``, all calls at once if ``together``, else each when it is asked for."""
    if not together:
        return map(function, arguments)
    with ThreadPoolExecutor(len(arguments)) as pool:
        try:
            return iter(list(pool.map(function, arguments)))
        except BaseException:
            end_all()  # else the pool waits for them
            raise


def end_all() -> None:
    """End all processes."""
    for side in list(Apart.living):
        side.end()


class Ready(NamedTuple):
    """A row, what it is of, and the losses of its first steps."""

    row: dict[str, Any]
    side: Side | None
    losses: list[list[float]]


def made(
    config: ConfigDict, wanted: Sequence[tuple[str, str | None]], steps: int, apart: float | None = None
) -> tuple[list[dict[str, Any]], dict[int, Side]]:
    """Return a row for each of those ``wanted``, and which of them are to be timed.

    Args:
      config: of the case.
      wanted: precisions, with a mode of `Torch` or None for ours.
      steps: in a turn.
      apart: how many seconds each may take to get ready in a process of its own; None: all are in this one, in turn.
    """
    torch._dynamo.reset()
    base = Ours(config, "float32", steps) if apart is None else None

    def side(precision: str, mode: str | None) -> Side:
        if base is None:
            return Apart(config, precision, mode, steps, apart)
        if mode is not None:
            return torch_side(base, precision, mode)
        return base if precision == "float32" else Ours(config, precision, steps)

    def ready(precision: str, mode: str | None) -> Ready:
        row: dict[str, Any] = {"name": name_of(mode), "precision": precision}
        one, losses = None, list[list[float]]()
        with failing(row):
            one = side(precision, mode)
            losses = one.first()
            row |= one.figures
        return Ready(row, one, losses)

    references = [("float64", ""), ("float32", "")]
    exact, rounded, *found = each(lambda of: ready(*of), [*references, *wanted], apart is not None)
    unchecked = exact.row.get("error") or rounded.row.get("error")
    allowed = 0.0 if unchecked else max(TOLERANCE, ROUNDINGS * difference(rounded.losses, exact.losses))
    rows, sides = [], dict[int, Side]()
    for i, (row, one, losses) in enumerate(found):
        rows.append(row)
        row["images_per_step"] = config.batch_size * config.d_steps
        if one is None or "error" in row:
            continue
        if unchecked:
            row["unchecked"] = unchecked
        else:
            row["losses_off"] = difference(losses, exact.losses)
        if row["precision"] == "float32" and not row.get("losses_off", np.inf) <= allowed:
            off = f"{row['losses_off']:.1e}" if not unchecked else "it isn't known how much"
            what = f"losses of {CHECKED} steps are {off} off those in float64, {allowed:.1e} being allowed"
            row |= {"differs": True, "error": what}
        else:
            sides[i] = one
    for one in {one.side for one in (exact, rounded, *found)} - {None, *sides.values()}:
        one.end()
    return rows, sides


def take_turns(rows: list[dict[str, Any]], sides: dict[int, Side], repeats: int, steps: int) -> None:
    """Measure the memory of each, count, and time ``repeats`` turns of ``steps`` steps."""
    for i, side in sides.items():
        with failing(rows[i]):
            side.run(1)
            rows[i]["memory_mb"] = side.memory()
    arithmetic(rows, sides)
    for row in rows:
        row["milliseconds"] = []
    for _ in range(repeats):
        for i, side in list(sides.items()):
            with failing(rows[i]):
                rows[i]["milliseconds"].append(1e3 * side.turn(steps))
            if "error" in rows[i]:
                sides.pop(i).end()


def difference(found: list[list[float]], expected: list[list[float]]) -> float:
    """Return the largest difference, relative to what is expected where that is above 1; NaN counts as infinite."""
    a, b = np.asarray(found), np.asarray(expected)
    return float(np.nan_to_num(np.abs(a - b) / np.maximum(np.abs(b), 1), nan=np.inf).max())


def arithmetic(rows: list[dict[str, Any]], sides: dict[int, Side]) -> None:
    """Count the operations of PyTorch's eager step: its FLOPs for all rows, its bytes for its own."""
    for i in [i for i, side in sides.items() if side.name == "PyTorch eager"]:
        with failing(rows[i]):
            flops, size = sides[i].count()
            rows[i]["gb_per_step"] = size / 1e9
            for row in rows:
                row.setdefault("gflop_per_step", flops / 1e9)


def roof(precision: str) -> float:
    """GFLOP/s of the faster of JAX's and PyTorch's square matrix products."""
    with matmul_precision(precision):
        ours = resources.matmul_rate(jax.devices()[:1], jnp.dtype(TYPES[precision]))
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    side = 8192 if on_gpu() else 1024
    a = torch.ones(side, side, dtype=getattr(torch, TYPES[precision]), device=torch_device())
    return max(ours, 2 * side**3 / best_seconds(lambda: a @ a)) / 1e9


def copy_rate() -> float:
    """GB/s, read and written."""
    a = torch.ones(_COPIED // 4, device=torch_device())
    b = torch.empty_like(a)
    return 2 * _COPIED / best_seconds(lambda: b.copy_(a)) / 1e9


def best_seconds(call: Callable[[], Any], repeats: int = 6) -> float:
    """Of PyTorch's ``call``."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def finish(rows: list[dict[str, Any]], roofs: dict[str, float], copy: float) -> None:
    """Add to the rows what follows from their times."""
    timed = [row for row in rows if row["milliseconds"] and "error" not in row]
    for row in timed:
        low, row["ms"], high = (float(x) for x in np.percentile(row["milliseconds"], (25, 50, 75)))
        row |= {"spread_ms": (high - low) / 2, "images_per_second": 1e3 * row["images_per_step"] / row["ms"]}
        if "gflop_per_step" in row:
            row["gflop_per_second"] = 1e3 * row["gflop_per_step"] / row["ms"]
            row["share_of_matmul"] = row["gflop_per_second"] / roofs[row["precision"]]
        if "gb_per_step" in row:
            row["share_of_bandwidth"] = 1e3 * row["gb_per_step"] / row["ms"] / copy
    for row in timed:
        for key, precisions in (("ratio_same", {row["precision"]}), ("ratio_any", set(roofs))):
            others = [r for r in timed if r["name"] != Ours.name and r["precision"] in precisions]
            if others:
                best = min(others, key=lambda r: r["ms"])["milliseconds"]
                row[key] = statistics.median(b / a for a, b in zip(row["milliseconds"], best, strict=True))


_COLUMNS = {
    "ms": ("ms", "{:.1f}"),
    "spread_ms": ("±", "{:.1f}"),
    "images_per_second": ("images/s", "{:,.0f}"),
    "ratio_same": ("to same", "{:.2f}"),
    "ratio_any": ("to any", "{:.2f}"),
    "gflop_per_second": ("GFLOP/s", "{:,.0f}"),
    "share_of_matmul": ("of matmul", "{:.2f}"),
    "share_of_bandwidth": ("bandwidth", "{:.2f}"),
    "compile_seconds": ("compile s", "{:.1f}"),
    "memory_mb": ("memory MB", "{:,.0f}"),
}


def table(rows: list[dict[str, Any]]) -> str:
    """In words."""
    lines = [f"{'':30}{'':10}" + "".join(f"{title:>10}" for title, _ in _COLUMNS.values())]
    for row in rows:
        cells = [form.format(row[key]) if row.get(key) is not None else "-" for key, (_, form) in _COLUMNS.items()]
        text = row["error"] if "error" in row else "".join(f"{cell:>10}" for cell in cells)
        lines.append(f"{row['name']:30}{row['precision']:10}{text}")
    lines += sorted({f"unchecked, since PyTorch fails: {row['unchecked']}" for row in rows if "unchecked" in row})
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Whose figures these are."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0))
    return {"device": jax.devices()[0].device_kind, "cpu": cpu[1] if cpu else platform.machine(), "cores": cores}


def versions() -> dict[str, str]:
    """Of what was measured."""
    return {"python": platform.python_version(), "jax": jax.__version__, "torch": torch.__version__}


if __name__ == "__main__":
    sys.exit(main())
