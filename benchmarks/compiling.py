"""What the trainer's program takes to compile, cold: seconds, and the kernels that XLA makes of it.

    python -m benchmarks.compiling --cases=dcgan,a,b,c64,e,d        # cases and configs as of benchmarks.gpu_program

Each program in a process of its own, without a cache, on one device. XLA compiles equal kernels once, so "different
ones" tells more than their number. "CPU" is of all threads while it is compiled.
"""

import argparse
import json
import re
import time

import jax

from benchmarks.hlo import Instruction, computations
from benchmarks.program import named_config, parts, with_devices
from gan_jax.runtime import environment, program

_COLUMNS = ("fused kernels", "different ones", "traced, s", "compiled, s", "CPU, s")


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="dcgan,a,b,c64", help="cases, or configs")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # a process of its own
    options = parser.parse_args()
    if options.only:
        print(json.dumps(taken(options.only)))
        return
    print(f"| program | {' | '.join(_COLUMNS)} |\n|{'---|' * (len(_COLUMNS) + 1)}")
    for name in options.cases.split(","):
        found = with_devices(1, "benchmarks.compiling", f"--only={name}")
        print(f"| {name} | {' | '.join(f'{found[column]:,}' for column in _COLUMNS)} |", flush=True)


def taken(name: str) -> dict[str, float]:
    """Compile the program of a case or config; return by column what it is, and what that took."""
    environment.prepare()
    jax.config.update("jax_enable_compilation_cache", False)
    gan, feed, state = parts(named_config(name))
    chunk = program.compile_chunk(gan, feed.fetch, feed.capacity, jax.devices()[:1])
    begin = time.perf_counter()
    lowered = chunk.lower(state, feed.data, feed.nothing)
    traced, cpu = time.perf_counter(), time.process_time()
    done = program.compiled(lowered, chunk.options)
    seconds = traced - begin, time.perf_counter() - traced, time.process_time() - cpu
    return dict(zip(_COLUMNS, (*kernels(done.as_text()), *(round(each, 1) for each in seconds)), strict=True))


def kernels(text: str) -> tuple[int, int]:
    """How many fused kernels an optimised program has, and how many of them are different."""
    found = computations(text)

    def content(kernel: list[Instruction]) -> str:  # but for names, and where it is from
        names = {x.name: str(number) for number, x in enumerate(kernel)}

        def unnamed(name: re.Match[str]) -> str:
            return names.get(name[1]) or (content(found[name[1]]) if name[1] in found else "")

        lines = (re.sub(r", (metadata|backend_config|frontend_attributes|origin)=.*", "", x.line) for x in kernel)
        return "\n".join(re.sub(r"%([\w.-]+)", unnamed, line) for line in lines)

    fused = [found[x.called] for each in found.values() for x in each if x.code == "fusion"]
    return len(fused), len(set(map(content, fused)))


if __name__ == "__main__":
    main()
