"""What R1 costs, exact and by finite differences: whole training steps by turns, beside the step without it.

    python -m benchmarks.penalties --cases=b,c64 --repeats=5

Prints, for each case of `benchmarks.program`, the median ratio of step times and that of XLA's counts of
floating-point operations. The exact one differentiates a gradient; the other (``terms.r1.finite_difference``) runs D
once more.
"""

import argparse
import statistics
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.program import Program, case_config
from gan_jax.runtime import environment, resources

STEPS = 4  # in a turn


def variants(case: str) -> dict[str, ConfigDict]:
    """Return the case without R1, with it, and with its finite difference."""
    found = {name: case_config(case) for name in ("without", "exact", "finite difference")}
    for name in ("exact", "finite difference"):
        found[name].terms.r1.update({"weight": 10.0, "finite_difference": name != "exact"})
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", default="b,c64")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    environment.prepare()
    print("| case | R1 | ms a step | time to the step without | operations to the step without |")
    print("|---|---|---|---|---|")
    for case in options.cases.split(","):
        programs = {name: Program(config, jax.devices()[:1]) for name, config in variants(case).items()}
        times: dict[str, list[float]] = {name: [] for name in programs}
        for program in programs.values():
            program.run(1)
        for _ in range(options.repeats):
            for name, program in programs.items():
                begin = time.perf_counter()
                program.run(STEPS)
                times[name].append((time.perf_counter() - begin) / STEPS)
        flops = {
            name: resources.cost(program.gan, program.chunk, program.state, variants(case)[name].batch_size, 1).flops
            for name, program in programs.items()
        }
        for name in programs:
            ratio = statistics.median(np.array(times[name]) / np.array(times["without"]))
            work = flops[name] / flops["without"]
            print(
                f"| {case} | {name} | {1e3 * statistics.median(times[name]):.0f} | {ratio:.2f} | {work:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
