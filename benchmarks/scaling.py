"""Many devices: what a step costs at the same work for each, what of it is talk, and what logical shards cost.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.scaling --out=scaling.json

For 1, 2, 4, ... devices, as many as there are: images a second of the compiled step at a fixed batch for each device
against one device's (on virtual devices, which share the cores, 1.0 is ideal; on real ones, their number); the share of
the time that goes when every mean over devices is left out; and images a second with `parallel.logical_shards` against
without. By turns, medians. Beside it, from the step's program: how many bytes devices add up in a step, in how many
operations after XLA has combined them (those in a loop over early D steps once), and what links would make of that.
"""

import argparse
import importlib
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.program import Program
from gan_jax import build, process
from gan_jax.state import GAN, init_state
from gan_jax.update import update

# A device's links (bytes a second that it can send, as its maker has it), its arithmetic in bfloat16 (FLOP/s), and
# seconds that a small all-reduce takes (orders of magnitude, from NCCL's and XLA's own reports).
MACHINES = {"8 x H100, NVLink 4": (450e9, 989e12, 20e-6), "TPU v5e pod, ICI": (200e9, 197e12, 5e-6)}


def main() -> None:
    """Measures, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="dcgan", help="as launch.py's, without configs/ and .py: dcgan:shapes64")
    parser.add_argument("--batch", type=int, default=32, help="for each device")
    parser.add_argument("--steps", type=int, default=5, help="in a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    options = parser.parse_args()
    process.prepare()
    name, _, data = options.config.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(*([data] if data else []))
    config.steps_per_dispatch = options.steps
    rows = measured(config, options.batch, options.shards, options.repeats)
    config.batch_size = options.batch  # a device's work, on paper
    result = {
        "config": options.config,
        "batch_for_each_device": options.batch,
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "rows": rows,
        "on_paper": on_paper(config, operations(config)),
    }
    print(json.dumps(result, indent=2))
    options.out.write_text(json.dumps(result, indent=2) + "\n")


def measured(config: ConfigDict, batch: int, shards: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each number of devices."""
    counts = [n for n in (2**k for k in range(10)) if n <= len(jax.devices())]
    runs: dict[str, Callable[[], Any]] = {}
    for count in counts:
        config.batch_size = batch * count
        runs[f"{count} plain"] = stepper(config, count, 0)
        with mock.patch("jax.lax.pmean", lambda x, axis_name: x):
            runs[f"{count} silent"] = stepper(config, count, 0)
        if shards % count == 0 and config.batch_size % shards == 0:
            runs[f"{count} shards"] = stepper(config, count, shards)
    seconds: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(repeats):
        for key, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[key].append((time.perf_counter() - begin) / config.steps_per_dispatch)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    rows = []
    for count in counts:
        row = {
            "devices": count,
            "batch": batch * count,
            "ms_a_step": round(1e3 * statistics.median(seconds[f"{count} plain"]), 2),
            "images_per_second_to_one_device": round(count * ratio("1 plain", f"{count} plain"), 3),
            "share_of_collectives": round(1 - 1 / ratio(f"{count} plain", f"{count} silent"), 3),
        }
        if f"{count} shards" in runs:
            row["speed_with_logical_shards"] = round(ratio(f"{count} plain", f"{count} shards"), 3)
        rows.append(row)
    return rows


def stepper(config: ConfigDict, count: int, shards: int) -> Callable[[], Any]:
    """A function that makes a chunk of steps, compiled."""
    config.parallel.logical_shards = shards
    program, steps = Program(config, jax.devices()[:count]), config.steps_per_dispatch
    program.run(steps)
    return lambda: program.run(steps)


def operations(config: ConfigDict) -> int:
    """Collective operations in the program for two devices, as XLA made it."""
    config.parallel.logical_shards = 0
    program = Program(config, jax.devices()[:2])
    program.run(0)
    return len(re.findall(r" (?:all-reduce|all-gather|reduce-scatter)(?:-start)?\(", program.chunk.compiled.as_text()))


def on_paper(config: ConfigDict, combined: int) -> dict[str, Any]:
    """Bytes of a step's ``combined`` collective operations, and what `MACHINES` make of them.

    A ring adds up n bytes on D devices by sending 2 (D - 1) / D n from each.
    """
    gan, hyper = build.build_gan(config)
    calls = list(collectives(step(gan, hyper, config.batch_size)))
    lowered = jax.jit(lambda s, b: update(gan, s, b)).lower(*arguments(gan, hyper, config.batch_size))
    flops, total = (lowered.cost_analysis() or {})["flops"], sum(calls)
    found: dict[str, Any] = {"operations": combined, "megabytes": round(total / 1e6, 3), "gflop": flops / 1e9}
    for name, (link, peak, latency) in MACHINES.items():
        talk, work = 2 * total / link + latency * combined, flops / (0.3 * peak)
        found[name] = {
            "us_of_talk_at_most": round(1e6 * talk, 1),
            "us_of_work_at_30_percent_of_peak": round(1e6 * work, 1),
        }
    return found


def arguments(gan: GAN, hyper: Any, batch: int) -> tuple[Any, Any]:
    """Shapes of what `gan_jax.update.update` takes, for one device with ``batch`` examples."""
    state = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    image = jax.ShapeDtypeStruct((gan.d_steps, batch, *gan.image_shape), gan.dtype)
    label = jax.ShapeDtypeStruct((gan.d_steps, batch), np.int32)
    return state, {"image": image, "label": label, "index": jax.ShapeDtypeStruct((batch,), np.int32)}


def step(gan: GAN, hyper: Any, batch: int) -> Any:
    """The step's jaxpr."""
    traced = jax.make_jaxpr(lambda s, b: update(gan, s, b, axis_name="device"), axis_env=[("device", 8)])
    return traced(*arguments(gan, hyper, batch)).jaxpr


def collectives(jaxpr: Any, times: int = 1) -> Iterator[int]:
    """Bytes that each collective operation of a jaxpr puts in; those in a loop as often as it runs."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("psum", "all_gather", "reduce_scatter"):
            for _ in range(times):
                yield sum(x.aval.size * x.aval.dtype.itemsize for x in equation.invars)
        inner_times = times * equation.params["length"] if equation.primitive.name == "scan" else times
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from collectives(inner, inner_times)


if __name__ == "__main__":
    main()
