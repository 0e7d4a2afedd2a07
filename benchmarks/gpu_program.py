"""What XLA makes of a training step for an H100, which takes its compiler, but no GPU.

    python -m benchmarks.gpu_program --cases=a,c1024,d --precision=float32        # with the extra `cuda`

The trainer's own program (`gan_jax.parallel.compile_chunk`), compiled as on a machine with that card, but for what XLA
chooses by measurement there: the algorithms of cuDNN, and which products go to cuBLAS. Nothing is run and no time is
measured. Of one step:

- convolutions: cuDNN's, forward, gradients of inputs (or transposed) and of weights, with those of images between whose
  pixels there are zeros ("padded"), which cost four times what they should;
- kernels: all others, each of which costs some microseconds however small it is;
- waits: loops whose length the host doesn't know; it waits for the device at each of their turns. The loop over steps
  is one, once a step, but where it is in a CUDA graph (`gan_jax.parallel`), which isn't to be seen here;
- GB: what all of them read and write, and the milliseconds which that takes at the 3.35 TB/s of an H100's memory.
"""

import argparse
import collections
import math
import os
import re
import sys
from dataclasses import dataclass, field
from unittest import mock

import jax
import numpy as np
from jax.experimental import topologies
from ml_collections import ConfigDict

from benchmarks.program import BYTES, CASES, case_config, parts
from gan_jax import parallel

BANDWIDTH = 3.35e12  # bytes/s of an H100 SXM, by its data sheet
_CARD = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_FREE = ("get-tuple-element", "parameter", "bitcast", "tuple", "constant")
_SPACED = re.compile(r" pad\(.*padding=(?:\S*x)?-?\d+_-?\d+_[1-9]")  # with zeros between the pixels
_KINDS = {"Forward": "forward", "ActivationForward": "forward", "BackwardInput": "input", "BackwardFilter": "weights"}


@dataclass
class Step:
    """What a step is made of; see the module."""

    convolutions: collections.Counter[str] = field(default_factory=collections.Counter)
    kernels: int = 0
    waits: int = 0
    bytes: float = 0.0

    def add(self, other: "Step", times: int) -> None:
        """As often."""
        for kind, count in other.convolutions.items():
            self.convolutions[kind] += times * count
        self.kernels += times * other.kernels
        self.waits += times * other.waits
        self.bytes += times * other.bytes

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.convolutions[kind]} {kind}" for kind in ("forward", "input", "weights", "padded"))
        gb = f"{self.bytes / 1e9:6.2f} GB ({1e3 * self.bytes / BANDWIDTH:5.2f} ms)"
        return f"{kinds:<50}{self.kernels:>8} kernels{self.waits:>4} waits  {gb}"


def main() -> int:
    """Compiles and prints."""
    jax.config.update("jax_platforms", "cpu")
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # of a driver that isn't there
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="a,c1024,d", help=f"of {', '.join(CASES)}")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    for name in options.cases.split(","):
        if name not in CASES:
            parser.error(f"there is no case {name}: they are {', '.join(CASES)}")
        config = case_config(name)
        config.compute_dtype = options.precision
        try:
            program = compiled(config)
        except NotImplementedError:
            print("error: JAX's compiler for GPUs is missing: pip install -e '.[cuda]'", file=sys.stderr)
            return 2
        print(f"{name:<8}{step(program)}", flush=True)
    return 0


def compiled(config: ConfigDict) -> str:
    """The optimised program of ``config`` on one H100, as text.

    Raises:
      NotImplementedError: JAX has no compiler for CUDA here.
    """
    config = config.copy_and_resolve_references()
    gan, feed, state = parts(config)
    card = topologies.get_topology_desc("", "cuda", target_config=_CARD, topology="1x1x1").devices
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (feed.data, feed.nothing))
    with mock.patch.object(jax, "default_backend", return_value="gpu"), jax.default_matmul_precision("float32"):
        chunk = parallel.compile_chunk(gan, feed.fetch, feed.capacity, card)
        lowered = chunk.mapped.lower(state, np.int32(1), *shapes)
    return str(lowered.compile().as_text())


def step(program: str) -> Step:
    """Of a program's text, what is in its longest loop that isn't in another."""
    blocks, lines = dict[str, list[str]](), list[str]()
    for line in program.splitlines():
        if opened := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            lines = blocks[opened[1]] = []
        else:
            lines.append(line)
    bodies = [
        body for lines in blocks.values() for line in lines for body in re.findall(r" while\(.*body=%([\w.-]+)", line)
    ]
    found = _counted(max(bodies, key=lambda name: len(blocks[name])), blocks)
    found.waits += 1
    return found


def _counted(name: str, blocks: dict[str, list[str]]) -> Step:
    found, sizes, spaced = Step(), dict[str, int](), set[str]()
    for line in blocks[name]:
        parts = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(.*)$", line)
        if not parts:
            continue
        result, type_, code, operands, rest = parts.groups()
        read = re.findall(r"%([\w.-]+)", operands)
        sizes[result] = _size(type_)
        if code in _FREE:
            if spaced.intersection(read):
                spaced.add(result)
            continue
        if code == "while":
            body = re.search(r"body=%([\w.-]+)", rest)
            turns = re.search(r'known_trip_count":\{"n":"(\d+)"', rest)
            assert body
            found.add(_counted(body[1], blocks), int(turns[1]) if turns else 1)
            found.waits += 0 if turns else 1
            continue
        called = re.search(r"calls=%([\w.-]+)", rest)
        if any(_SPACED.search(inner) for inner in [line, *(blocks.get(called[1], ()) if called else ())]):
            spaced.add(result)
        found.bytes += sizes[result] + sum(sizes.get(x, 0) for x in read)
        if convolution := re.search(r'custom_call_target="__cudnn\$conv(?:Bias)?(\w+)"', rest):
            found.convolutions[_KINDS[convolution[1]]] += 1
            found.convolutions["padded"] += any(x in spaced for x in read)
        else:
            found.kernels += 1
    return found


def _size(type_: str) -> int:
    return sum(
        BYTES.get(dtype, 0) * math.prod(int(side) for side in sides.split(",") if side)
        for dtype, sides in re.findall(r"(\w+)\[([\d,]*)\]", type_)
    )


if __name__ == "__main__":
    sys.exit(main())
