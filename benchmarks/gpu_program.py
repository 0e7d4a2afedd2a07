"""What XLA makes of a training step for an H100, which takes its compiler, but no GPU.

    python -m benchmarks.gpu_program --cases=a,c1024,d --precision=float32        # with the extra `cuda`

The trainer's own program (`gan_jax.runtime.program.compile_chunk`), compiled as on a machine with that card, but for
what XLA chooses by measurement there: the algorithms of cuDNN, and which products go to cuBLAS. Nothing is run and no
time is measured. Of one step:

- convolutions: cuDNN's, forward, gradients of inputs (or transposed) and of weights, with those of images between whose
  pixels there are zeros ("padded"), which cost four times what they should;
- kernels: all others, each of which costs some microseconds however small it is;
- sums: operations that add up over the devices, where there are several, and the bytes that a device puts in;
- waits: loops whose length the host doesn't know; it waits for the device at each of their turns. The loop over steps
  is one, once a step, but where it is in a CUDA graph (`gan_jax.runtime.program`), which isn't to be seen here;
- GB: what all kernels read and write, and the milliseconds which that takes at the 3.35 TB/s of an H100's memory;
- MB: what the program takes of that memory, data and state included.
"""

import argparse
import collections
import os
import re
import sys
from dataclasses import dataclass, field
from unittest import mock

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from benchmarks.hlo import Instruction, computations
from benchmarks.program import named_config, parts
from gan_jax.runtime import placement, program
from gan_jax.util.errors import UserError

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
_FREE = ("get-tuple-element", "parameter", "bitcast", "tuple", "constant", "all-reduce-done")
_SUMS = ("all-reduce", "all-reduce-start")
_BODY = r"body=%([\w.-]+)"
_SPACED = re.compile(r" pad\(.*padding=(?:\S*x)?-?\d+_-?\d+_[1-9]")  # with zeros between the pixels
_KINDS = {"Forward": "forward", "ActivationForward": "forward", "BackwardInput": "input", "BackwardFilter": "weights"}


@dataclass
class Step:
    """What a step is made of; see the module."""

    convolutions: collections.Counter[str] = field(default_factory=collections.Counter)
    kernels: int = 0
    sums: int = 0
    summed: float = 0.0
    waits: int = 0
    bytes: float = 0.0

    def add(self, other: "Step", times: int) -> None:
        """As often."""
        for kind, count in other.convolutions.items():
            self.convolutions[kind] += times * count
        self.kernels += times * other.kernels
        self.sums += times * other.sums
        self.summed += times * other.summed
        self.waits += times * other.waits
        self.bytes += times * other.bytes

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.convolutions[kind]} {kind}" for kind in ("forward", "input", "weights", "padded"))
        gb = f"{self.bytes / 1e9:6.2f} GB ({1e3 * self.bytes / BANDWIDTH:5.2f} ms)"
        sums = f"{self.sums:>4} sums of {self.summed / 1e6:.1f} MB" if self.sums else ""
        return f"{kinds:<50}{self.kernels:>8} kernels{sums}{self.waits:>4} waits  {gb}"


def main() -> None:
    """Compile and print."""
    prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="a,c1024,d", help="as of benchmarks.train_step, or configs: dcgan:shapes64")
    parser.add_argument("--devices", type=int, default=1, help="cards that share the batch")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    for name in options.cases.split(","):
        config = named_config(name)
        config.compute_dtype = options.precision
        try:
            executable = compiled(config, options.devices)
            taken = executable.memory_analysis()
            memory = f"  {taken.peak_memory_in_bytes / 1e6:5,.0f} MB" if taken else ""
            print(f"{name:<16}{step(str(executable.as_text()))}{memory}", flush=True)
        except UserError as error:
            sys.exit(f"error: {error}")


def prepare() -> None:
    """For a machine without a GPU, before anything else of JAX."""
    jax.config.update("jax_platforms", "cpu")
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # of a driver that isn't there


def compiled(config: ConfigDict, devices: int = 1) -> jax.stages.Compiled:
    """Return the optimised program of ``config`` on so many H100s. Exit if JAX has no compiler for them here."""
    config = config.copy_and_resolve_references()
    gan, feed, state = parts(config)
    try:
        cards = topologies.get_topology_desc("", "cuda", target_config=_CARD, topology=f"1x1x{devices}").devices
    except NotImplementedError:
        sys.exit("error: JAX's compiler for GPUs is missing: pip install -e '.[cuda]'")
    data, share = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (feed.data, feed.nothing))
    each = placement.shard_index(config.batch_size, devices).shape
    share = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*each, *x.shape[2:]), x.dtype), share)
    with mock.patch.object(jax, "default_backend", return_value="gpu"), jax.default_matmul_precision("float32"):
        chunk = program.compile_chunk(gan, feed.fetch, feed.capacity, cards)
        lowered = chunk.lower(state, data, share)
    executable: jax.stages.Compiled = lowered.compile()
    return executable


def step(program: str) -> Step:
    """Of a program's text, what is in its longest loop that isn't in another."""
    blocks = computations(program)
    bodies = [x.attribute(_BODY) for block in blocks.values() for x in block if x.code == "while"]
    found = _counted(max(bodies, key=lambda name: len(blocks[name])), blocks)
    found.waits += 1
    return found


def _counted(name: str, blocks: dict[str, list[Instruction]]) -> Step:
    found, spaced = Step(), set[Instruction]()
    for x in blocks[name]:
        if x.code in _FREE:
            if spaced.intersection(x.operands):
                spaced.add(x)
            continue
        if x.code == "while":
            turns = x.attribute(r'known_trip_count":\{"n":"(\d+)"')
            found.add(_counted(x.attribute(_BODY), blocks), int(turns or 1))
            found.waits += not turns
            continue
        if any(_SPACED.search(inner.line) for inner in [x, *blocks.get(x.called, ())]):
            spaced.add(x)
        read = sum(operand.nbytes for operand in x.operands)
        if x.code in _SUMS:
            found.sums += 1
            found.summed += read
            continue
        found.bytes += x.nbytes + read
        if convolution := x.attribute(r'custom_call_target="__cudnn\$conv(?:Bias)?(\w+)"'):
            found.convolutions[_KINDS[convolution]] += 1
            found.convolutions["padded"] += not spaced.isdisjoint(x.operands)
        else:
            found.kernels += 1
    return found


if __name__ == "__main__":
    main()
