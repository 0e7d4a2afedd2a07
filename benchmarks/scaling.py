"""Many devices: what a step costs at the same work for each, what of it is talk, and what logical shards cost.

    python -m benchmarks.scaling --devices=1,2,4,8 --out=scaling.json

For each number of devices, in processes of as many: images a second of the compiled step at a fixed batch for each
device against one device's (on a CPU's virtual devices, which share the cores, 1.0 is ideal; on real ones, their
number); the share of the time that goes when every mean over devices is left out; and images a second with
`parallel.logical_shards` against without. By turns, medians.

    python -m benchmarks.scaling --paper --config=dcgan:shapes64 --batch=128        # with the extra `cuda`

measures nothing: from the step's program for 8 H100s (`benchmarks.gpu_program`), how many bytes they add up in a step,
in how many operations after XLA has combined them, and what links would make of that.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import jax
from ml_collections import ConfigDict

from benchmarks import gpu_program
from benchmarks.program import Program, named_config, parts, with_devices
from gan_jax.runtime import environment
from gan_jax.runtime.resources import flops_before_compilation
from gan_jax.util import progress

# A device's links (bytes a second that it can send, as its maker has it), its arithmetic in bfloat16 (FLOP/s), and
# seconds that a small all-reduce takes (orders of magnitude, from NCCL's and XLA's own reports).
MACHINES = {"8 x H100, NVLink 4": (450e9, 989e12, 20e-6), "TPU v5e pod, ICI": (200e9, 197e12, 5e-6)}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="dcgan", help="as launch.py's, without configs/ and .py: dcgan:shapes64")
    parser.add_argument("--batch", type=int, default=32, help="for each device")
    parser.add_argument("--steps", type=int, default=5, help="in a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--devices", default="1,2,4,8", help="the first is what the others are compared with")
    parser.add_argument("--only", type=int, help="prints the seconds of a step on so many devices")
    parser.add_argument("--paper", action="store_true", help="what links would make of a program for H100s: see there")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    options = parser.parse_args()
    if options.paper:
        gpu_program.prepare()
        print(json.dumps(on_paper(named_config(options.config), options.batch), indent=2))
        return
    environment.prepare()
    config = named_config(options.config)
    config.steps_per_dispatch = options.steps
    if options.only:
        print(json.dumps(seconds(config, options.only, options.batch, options.shards)))
        return
    same = [f"--{key}={getattr(options, key)}" for key in ("config", "batch", "steps", "shards")]
    rows = measured([int(count) for count in options.devices.split(",")], options.batch, options.repeats, same)
    result = {
        "config": options.config,
        "batch_for_each_device": options.batch,
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "rows": rows,
    }
    print(json.dumps(result, indent=2))
    options.out.write_text(json.dumps(result, indent=2) + "\n")


def measured(counts: list[int], batch: int, repeats: int, same: list[str]) -> list[dict[str, Any]]:
    """Return a row for each number of devices, whose processes get the ``same`` flags."""
    turns: list[dict[int, Any]] = [{} for _ in range(repeats)]
    for turn, count in progress.bar([*product(turns, counts)], desc="processes"):
        turn[count] = with_devices(count, "benchmarks.scaling", *same, f"--only={count}")

    def ratio(a: int, one: str, b: int, other: str) -> float:
        return float(statistics.median(turn[a][one] / turn[b][other] for turn in turns))

    rows = []
    for count in counts:
        row = {
            "devices": count,
            "batch": batch * count,
            "ms_a_step": round(1e3 * statistics.median(turn[count]["plain"] for turn in turns), 2),
            "images_per_second_to_one_device": round(count / counts[0] * ratio(counts[0], "plain", count, "plain"), 3),
            "share_of_collectives": round(1 - ratio(count, "silent", count, "plain"), 3),
        }
        if "shards" in turns[0][count]:
            row["speed_with_logical_shards"] = round(ratio(count, "plain", count, "shards"), 3)
        rows.append(row)
    return rows


def seconds(config: ConfigDict, count: int, batch: int, shards: int) -> dict[str, float]:
    """Of a step on ``count`` devices: as it is, without means over devices, and with logical shards if they fit."""
    config.batch_size = batch * count
    runs = {"plain": stepper(config, count, 0)}
    with mock.patch("jax.lax.pmean", lambda x, axis_name: x):
        runs["silent"] = stepper(config, count, 0)
    if shards % count == 0 and config.batch_size % shards == 0:
        runs["shards"] = stepper(config, count, shards)
    found = {}
    for key, run in runs.items():
        begin = time.perf_counter()
        run()
        found[key] = (time.perf_counter() - begin) / config.steps_per_dispatch
    return found


def stepper(config: ConfigDict, count: int, shards: int) -> Callable[[], Any]:
    """Return a function that makes a chunk of steps, compiled."""
    config.parallel.logical_shards = shards
    program, steps = Program(config, jax.devices()[:count]), config.steps_per_dispatch
    program.run(steps)
    return lambda: program.run(steps)


def on_paper(config: ConfigDict, batch: int) -> dict[str, Any]:
    """Return the sums over devices in a step for 8 H100s, each with ``batch`` images, and what `MACHINES` make of them.

    A ring adds up n bytes on D devices by sending 2 (D - 1) / D n from each.
    """
    config.batch_size = 8 * batch
    found = gpu_program.step(str(gpu_program.compiled(config, 8).as_text()))
    gan, _, state = parts(config)
    with mock.patch("jax.default_backend", return_value="gpu"):  # plain convolutions
        flops = flops_before_compilation(gan, state, batch)
    row: dict[str, Any] = {"sums": found.sums, "megabytes": round(found.summed / 1e6, 3), "gflop": flops / 1e9}
    for name, (link, peak, latency) in MACHINES.items():
        talk, work = 2 * found.summed / link + latency * found.sums, flops / (0.3 * peak)
        row[name] = {
            "us_of_talk_at_most": round(1e6 * talk, 1),
            "us_of_work_at_30_percent_of_peak": round(1e6 * work, 1),
        }
    return row


if __name__ == "__main__":
    main()
