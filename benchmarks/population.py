"""Populations against the same trials one by one: what a sweep in one program saves.

    python -m benchmarks.population --out=population.json

For the GANs of configs/gan.py and configs/dcgan.py, and 4, 16 and 64 trials of each: steps a second of one population
(at once, and in turn) against the same trials in one process, one whole run after another, each already compiled; and
seconds from launch to end of a sweep of short runs against as many launches of one run, with nothing to evaluate. By
turns, medians.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.program import Program
from configs import dcgan, gan
from gan_jax.core.state import init_state
from gan_jax.runtime import environment, placement
from gan_jax.runtime.program import Population

CONFIGS: dict[str, Callable[[], ConfigDict]] = {"gan": gan.get_config, "dcgan": dcgan.get_config}
STEPS = {"gan": 20, "dcgan": 5}  # of each trial in a turn
LAUNCHED = {"gan": 500, "dcgan": 20}  # steps of a launched run


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("population.json"))
    parser.add_argument("--trials", default="4,16,64")
    parser.add_argument("--configs", default="gan,dcgan")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--launches", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    environment.prepare()
    rows = []
    for name in options.configs.split(","):
        for trials in map(int, options.trials.split(",")):
            row: dict[str, Any] = {"config": name, "trials": trials, **steps(name, trials, options.repeats)}
            if options.launches:
                row |= launches(name, trials, options.repeats)
            print(json.dumps(row), flush=True)
            rows.append(row)
    machine = {"device": jax.devices()[0].device_kind, "cores": len(os.sched_getaffinity(0))}
    versions = {"python": platform.python_version(), "jax": jax.__version__}
    options.out.write_text(json.dumps({**machine, **versions, "results": rows}, indent=2) + "\n")


def steps(name: str, trials: int, repeats: int) -> dict[str, float]:
    """Measure steps a second, all trials together, and both populations' ratio to the sequence."""
    config, devices = CONFIGS[name](), jax.local_devices()[:1]
    program = Program(config, devices)
    network, feed, one = program.gan, program.feed, program.chunk
    data, share = feed.data, {key: np.asarray(array)[0] for key, array in feed.nothing.items()}
    begin = [jax.device_get(init_state(network, seed, program.hyper)) for seed in range(trials)]
    alone = [placement.replicated(state, devices) for state in begin]
    count = STEPS[name]

    def sequence() -> None:
        for number, state in enumerate(alone):
            alone[number] = jax.block_until_ready(one(state, count, data, feed.nothing)[0])

    def population(together: bool) -> Callable[[], None]:
        trained = Population(network, feed.fetch, feed.capacity, devices, trials, together)
        states = trained.put(begin)

        def run() -> None:
            states[:] = jax.block_until_ready(trained(states, count, data, share)[0])

        return run

    runs = {"sequence": sequence, "in_turn": population(False), "at_once": population(True)}
    seconds = by_turns(runs, repeats)
    found = {key: round(trials * count / statistics.median(times), 2) for key, times in seconds.items()}
    for key in ("in_turn", "at_once"):
        ratios = [a / b for a, b in zip(seconds["sequence"], seconds[key], strict=True)]
        found[f"{key}_ratio"] = round(statistics.median(ratios), 3)
    return found


def by_turns(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, after a first call."""
    seconds: dict[str, list[float]] = {key: [] for key in runs}
    for turn in range(repeats + 1):
        for key, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn:
                seconds[key].append(time.perf_counter() - begin)
    return seconds


def launches(name: str, trials: int, repeats: int) -> dict[str, float]:
    """Seconds of a sweep, and of as many launches as it has trials (one launch's, times their number)."""
    flags = [f"--config.steps={LAUNCHED[name]}", "--config.eval.features=none"]
    flags += [f"--config.{key}.every={LAUNCHED[name]}" for key in ("sample", "eval", "checkpoint", "log")]

    def launch(*more: str) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "launch.py", f"--config=configs/{name}.py", f"--workdir={folder}/run"]
                subprocess.run([*command, *flags, *more], check=True, capture_output=True)

        return run

    seeds = ",".join(map(str, range(trials)))
    seconds = by_turns({"one": launch(), "sweep": launch("--mode=sweep", f"--sweep=seed={seeds}")}, repeats)
    one, sweep = (statistics.median(seconds[key]) for key in ("one", "sweep"))
    ratio = round(one * trials / sweep, 2)
    return {"launch_seconds": round(one, 2), "sweep_seconds": round(sweep, 2), "sweep_to_launches_ratio": ratio}


if __name__ == "__main__":
    main()
