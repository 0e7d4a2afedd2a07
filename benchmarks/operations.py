"""Where a training step's time goes: our program's operations by kind and by layer, beside PyTorch's kinds.

    python -m benchmarks.operations --case=a        # with the extra `oracle`; cases as in `benchmarks.train_step`

On the CPU, in float32, by the profilers of JAX and PyTorch, which cost some time themselves. In the table of kinds, a
step's milliseconds of each, and the least that ours could take: that of the products is their arithmetic at the rate
of large products of matrices, that of all others their operands and results at the rate of copying; more than all of
it is not to be had with the same operations, less only where caches hold what is copied. PyTorch's convolutions have
in them what ours has around the products: what moves into another layout, and what spreads tiles for
`gan_jax.ops.winograd`.
"""

import argparse
import collections
import dataclasses
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import jax
import torch

from benchmarks.hlo import Instruction, computations
from benchmarks.program import CASES, case_config
from benchmarks.sides import Ours, Torch, torch_side
from benchmarks.train_step import copy_rate, roof
from gan_jax.runtime import environment

KINDS = ("products", "around products", "norms", "activations", "optimizer, average", "data, losses, rest")
_PYTORCH = {  # the first that is found in an operation's name
    "products": ("convolution", "addmm", "aten::mm", "bmm"),
    "norms": ("batch_norm", "layer_norm", "group_norm"),
    "activations": ("relu", "tanh", "sigmoid", "threshold"),
    "optimizer, average": ("adam", "lerp", "foreach"),
}
_OURS = {  # the first that is found in the path of an operation
    "norms": r"Norm_\d",
    "activations": r"relu|tanh|sigmoid|logistic",
    "optimizer, average": r"adam|optimizer|average|ema",
}
_PLAYER = re.compile(r"[(/](Generator|Discriminator)(?:\.\w+)?\)*/")  # in a path, behind the transformations of it
_OUTER = ("while", "call", "conditional")


@dataclasses.dataclass
class Operation:
    """One of a compiled program: what it is, where it is from, its operands' and results' bytes, its arithmetic.

    What is within a layer, and neither a norm nor an activation, is around products.
    """

    code: str
    path: str
    bytes: int
    gflop: float = 0.0

    @property
    def kind(self) -> str:
        """Of `KINDS`."""
        if self.gflop:
            return "products"
        named = next((kind for kind, path in _OURS.items() if re.search(path, self.path)), "")
        return named or ("around products" if self.layer else KINDS[-1])

    @property
    def layer(self) -> str:
        """Player and layer, with what is around that, and whether it is the backward pass's; empty for none."""
        if not (found := _PLAYER.search(self.path)):
            return ""
        *within, _ = self.path[found.end() :].split("/")  # layers, methods and functions, and the operation
        layers = ".".join(name for name in within if re.fullmatch(r"\w+", name))
        backward = " backward" if "transpose(" in self.path[: found.end()] else ""
        return f"{found[1]} {layers}{backward}" if layers else ""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default="a", choices=CASES)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    environment.prepare()
    if jax.default_backend() != "cpu":
        print("error: reads the CPU's profiles alone; set JAX_PLATFORMS=cpu", file=sys.stderr)
        return 2
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    ours = Ours(case_config(options.case), "float32", options.steps)
    theirs = torch_side(ours, "float32")
    rates = roof("float32"), copy_rate()
    print(report(profile(ours, options.steps), profile_torch(theirs, options.steps), *rates))
    return 0


def operations(program: str) -> dict[str, Operation]:
    """By name, those of an optimised program; a fusion has the arithmetic of what it fuses."""
    found: dict[str, Operation] = {}
    within: dict[str, float] = collections.defaultdict(float)
    for inside, instructions in computations(program).items():
        for x in instructions:
            gflop = _gflop(x) + (within[x.called] if x.code == "fusion" else 0)
            within[inside] += gflop
            found[x.name] = Operation(x.code, x.path, sum(each.nbytes for each in (x, *x.operands)), gflop)
    return found


def _gflop(x: Instruction) -> float:
    if x.code == "dot":
        contracted = x.attribute(r"lhs_contracting_dims=\{([\d,]*)\}").split(",")
        return 2e-9 * math.prod(x.shapes[0]) * math.prod(x.operands[0].shapes[0][int(d)] for d in contracted)
    if x.code == "convolution":
        kernel, order = x.operands[1].shapes[0], x.attribute(r"dim_labels=\w+_(\w+)->")
        return 2e-9 * math.prod(x.shapes[0]) * math.prod(kernel) / kernel[order.index("o")]
    return 0.0


def profile(ours: Ours, steps: int) -> list[tuple[Operation, float]]:
    """Our program's operations, as often as a step makes each, and a step's milliseconds of them."""
    ours.run(steps)
    known = operations(ours.chunk.compiled.as_text())
    spent: dict[str, float] = collections.defaultdict(float)
    times: dict[str, int] = collections.Counter()
    with tempfile.TemporaryDirectory() as place:
        with jax.profiler.trace(place):
            ours.run(steps)
        events = sorted(x for x in _events(Path(place)) if x[1] in known and known[x[1]].code not in _OUTER)
    busy = ""
    for (begin, name, duration), (end, _, _) in pairwise(events):
        # Convolutions and products go on in other threads when their events have ended: theirs is the time in which
        # nothing else runs.
        busy = name if known[name].gflop or not busy else busy
        times[name] += 1
        spent[name] += min(duration, end - begin)
        spent[busy] += max(end - begin - duration, 0)
    return [(_times(known[name], times[name] / steps), value / 1e6 / steps) for name, value in spent.items()]


def _times(one: Operation, times: float) -> Operation:
    return dataclasses.replace(one, bytes=round(one.bytes * times), gflop=one.gflop * times)


def _events(place: Path) -> Iterator[tuple[float, str, float]]:
    """Yield starts and durations in ns, and names between."""
    for path in place.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    yield event.start_ns, event.name, event.duration_ns


def profile_torch(theirs: Torch, steps: int) -> dict[str, float]:
    """Return a step's milliseconds of each kind."""
    theirs.run(steps)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as traced:
        theirs.run(steps)
    spent = dict.fromkeys(KINDS, 0.0)
    for event in traced.key_averages():
        kind = next((k for k, names in _PYTORCH.items() if any(n in event.key.lower() for n in names)), KINDS[-1])
        spent[kind] += event.self_cpu_time_total / 1e3 / steps
    return spent


def report(ours: list[tuple[Operation, float]], theirs: dict[str, float], gflops: float, gbps: float) -> str:
    """Return the two tables; rates in GFLOP/s and GB/s."""

    def row(title: str, some: list[tuple[Operation, float]], beside: str = "") -> str:
        least = sum(1e3 * (o.gflop / gflops if o.gflop else o.bytes / 1e9 / gbps) for o, _ in some)
        return f"{title:46}{len(some):12}{sum(ms for _, ms in some):8.1f}{least:8.1f}{beside:>12}"

    head = f"{'':46}{'operations':>12}{'ms':>8}{'least':>8}"
    lines = [f"products {gflops:.0f} GFLOP/s, copies {gbps:.1f} GB/s", "", f"{head}{'PyTorch ms':>12}"]
    for kind in KINDS:
        lines.append(row(kind, [x for x in ours if x[0].kind == kind], f"{theirs[kind]:.1f}"))
    lines += [row("all", ours, f"{sum(theirs.values()):.1f}"), "", f"{head}{'GFLOP/s':>12}"]
    for layer in sorted({o.layer for o, _ in ours} - {""}):
        for title, wanted in ((layer, True), (f"{layer}, around", False)):
            some = [x for x in ours if x[0].layer == layer and bool(x[0].gflop) == wanted]
            ms, gflop = sum(x[1] for x in some), sum(x[0].gflop for x in some)
            if ms >= 0.5:
                lines.append(row(title, some, f"{1e3 * gflop / ms:.0f}" if gflop else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
