"""What a large batch in parts costs: ``parallel.logical_shards=N`` on one device, beside the batch as a whole.

    python -m benchmarks.accumulation --cases=b,plain --batch=256 --shards=4,16 --repeats=5

For each case and number of shards N: the temporary memory of a step by XLA's count, and the time of a step by turns
(medians of ratios), beside the step of the whole batch. ``parts`` is N steps of a batch of 1/N, each with its
optimizers' updates: no way of adding up gradients by parts can do with less arithmetic, so it says what a plain
accumulation of gradients could win at best. ``plain`` is case b without batch norm, where a plain accumulation would be
exact, too.
"""

import argparse
import statistics
import time

import jax
from ml_collections import ConfigDict

from benchmarks.program import Program, case_config
from gan_jax.runtime import environment


def config_of(case: str, batch: int, shards: int = 0) -> ConfigDict:
    """Return a case with another batch, in ``shards`` logical shards."""
    config = case_config("b" if case == "plain" else case)
    if case == "plain":
        config.generator.norm = config.discriminator.norm = "none"
    config.batch_size, config.steps_per_dispatch, config.parallel.logical_shards = batch, 4, shards
    return config


def seconds(program: Program, steps: int) -> float:
    """Of ``steps`` steps."""
    begin = time.perf_counter()
    for _ in range(steps):
        program.run(1)
    return time.perf_counter() - begin


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", default="b,plain")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--shards", default="4,16")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    environment.prepare()
    devices = jax.devices()[:1]
    print("| case | shards | step, s | time to the whole's | time to the parts' | MB of a step | MB of the whole's |")
    print("|---|---|---|---|---|---|---|")
    for case in options.cases.split(","):
        whole = Program(config_of(case, options.batch), devices)
        for shards in map(int, options.shards.split(",")):
            cut = Program(config_of(case, options.batch, shards), devices)
            part = Program(config_of(case, options.batch // shards), devices)
            for program in (whole, cut, part):
                program.run(1)
            times = [(seconds(whole, 1), seconds(cut, 1), seconds(part, shards)) for _ in range(options.repeats)]
            step, to_whole, to_parts = (
                statistics.median(values)
                for values in zip(*((cut, cut / one, cut / parts) for one, cut, parts in times), strict=True)
            )
            mb = [p.chunk.compiled.memory_analysis().temp_size_in_bytes / 2**20 for p in (cut, whole)]
            print(
                f"| {case} | {shards} | {step:.2f} | {to_whole:.2f} | {to_parts:.2f} | {mb[0]:,.0f} | {mb[1]:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
