"""Large GANs on many devices, on paper: from counts of the program itself, without compiling or running it.

    python -m benchmarks.paper                                  # the table of docs/scale.md
    python -m benchmarks.paper --only=r3gan:imagenet64 --devices=8,64

Of one step, each counted and none measured:

- arithmetic: XLA's count before compilation, lazy terms by their share of the steps;
- state: parameters, moments and averages, in bytes of a device that has all of them;
- activations: what `jax.vjp` keeps of D's step and of G's for the way back, an upper bound, because a compiler computes
  cheap things anew;
- sums: gradients, which a ring of D devices adds up by sending 2 (D - 1) / D of their bytes from each;
- images read: as uint8.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks.program import named_config
from gan_jax import build
from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState, parameter_count, state_shapes
from gan_jax.core.update import update
from gan_jax.runtime.resources import flops_before_compilation

CONFIGS = ("r3gan:imagenet64", "stylegan2:paper1024")
SHARE = 0.3  # of the peak that arithmetic reaches
COLUMNS = (
    *("device", "devices", "images each", "GB each", "of it state, GB"),
    *("ms of arithmetic", "ms of sums", "images/s at most"),
)


class Machine(NamedTuple):
    """What a device has, as its makers say.

    Attributes:
      peak: FLOP/s in bfloat16.
      memory: bytes.
      near: bytes a second that it can send to devices of its own host, or of its pod.
      far: to those of other hosts.
      near_devices: how many are near.
    """

    peak: float
    memory: float
    near: float
    far: float
    near_devices: int


MACHINES = {
    "H100": Machine(989e12, 80e9, 450e9, 50e9, 8),  # NVLink 4; a 400 Gbit/s link a GPU
    "TPU v5e": Machine(197e12, 16e9, 200e9, 200e9, 256),
}


@dataclasses.dataclass(frozen=True)
class Counts:
    """Of one step.

    Attributes:
      batch: images in it, as published.
      flops: of an image.
      activations: bytes kept for the way back, of an image.
      state: bytes.
      gradients: bytes that devices add up.
      reads: bytes of real images, for an image drawn.
    """

    batch: int
    flops: float
    activations: float
    state: int
    gradients: int
    reads: float


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(CONFIGS))
    parser.add_argument("--devices", default="8,64,512")
    parser.add_argument("--remat", action="store_true", help="with blocks computed again on the way back")
    options = parser.parse_args()
    for name in options.only.split(","):
        found = counts(name, options.remat)
        print(f"\n{name}: {json.dumps({key: float(f'{x:.4g}') for key, x in dataclasses.asdict(found).items()})}\n")
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
        for device, machine in MACHINES.items():
            for devices in map(int, options.devices.split(",")):
                print(row(device, machine, devices, found))


def row(device: str, machine: Machine, devices: int, found: Counts) -> str:
    """Return a line of the table: the published batch, spread over ``devices``."""
    if devices > found.batch:
        return f"| {device} | {devices} | more devices than images | | | | | |"
    each = found.batch / devices
    work = each * found.flops / (SHARE * machine.peak)
    talk = seconds_of_sums(found.gradients, devices, machine)
    held = found.state + found.gradients + each * found.activations
    return (
        f"| {device} | {devices} | {each:g} | {held / 1e9:.1f} | {found.state / 1e9:.2f} | {1e3 * work:.1f} "
        f"| {1e3 * talk:.1f} | {found.batch / max(work, talk):,.0f} |"
    )


def seconds_of_sums(size: int, devices: int, machine: Machine) -> float:
    """Of a ring within each host, and one between hosts of what a device of each has added up by then."""
    near = min(devices, machine.near_devices)
    hosts = math.ceil(devices / near)
    return 2 * size * (near - 1) / near / machine.near + 2 * size / near * (hosts - 1) / hosts / machine.far


def counts(name: str, remat: bool = False) -> Counts:
    """Count the step of a config, with ``remat`` in both players or as it is."""
    config = named_config(name)
    config.generator.remat = config.discriminator.remat = remat
    config.parallel.logical_shards = 0
    gan, hyper = build.build_gan(config)
    state = state_shapes(gan, hyper)
    with mock.patch("jax.default_backend", return_value="gpu"):  # plain convolutions
        flops = sum(share * (flops_of(one, state, hyper) - lower) for share, one, lower in variants(gan, state, hyper))
        activations = kept(gan, state)
    height, width, channels = gan.image_shape
    players = (state.generator, state.discriminator)
    sizes = [4 * parameter_count(player.params) for player in players]
    return Counts(
        batch=config.batch_size,
        flops=flops,
        activations=activations,
        state=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
        gradients=sizes[0] + gan.d_steps * sizes[1],
        reads=gan.d_steps * height * width * channels,
    )


def variants(gan: GAN, state: GANState, hyper: Any) -> Iterator[tuple[float, GAN, float]]:
    """Yield GANs with lazy terms in each step, by the share of steps that have them, and what to take off."""
    each_step: dict[str, Any] = {key: tuple(t for t in getattr(gan, key) if t.every == 1) for key in _TERMS}
    bare = dataclasses.replace(gan, **each_step)
    yield 1.0, bare, 0.0
    base = flops_of(bare, state, hyper)
    for key in _TERMS:
        for term in getattr(gan, key):
            if term.every > 1:
                with_it: dict[str, Any] = {key: (*each_step[key], dataclasses.replace(term, every=1))}
                yield 1 / term.every, dataclasses.replace(bare, **with_it), base


_TERMS = ("d_terms", "g_terms")
_BATCH = 8  # counted; as many as a group of minibatch standard deviation and half a batch of path lengths need


def flops_of(gan: GAN, state: GANState, hyper: Any) -> float:
    """Of an image drawn."""
    return flops_before_compilation(gan, state_shapes(gan, hyper), _BATCH) / _BATCH


def kept(gan: GAN, state: GANState) -> float:
    """Bytes that the way back keeps of an image, the most of any player's step, with G's own beside D's."""
    found: dict[int, list[float]] = {}
    for batch in (_BATCH, 2 * _BATCH):
        with recorded() as sizes:
            batches = {
                "image": jax.ShapeDtypeStruct((gan.d_steps, batch, *gan.image_shape), gan.dtype),
                "label": jax.ShapeDtypeStruct((gan.d_steps, batch), jnp.int32),
                "index": jax.ShapeDtypeStruct((batch,), jnp.int32),
            }
            jax.eval_shape(partial(update, gan), state, batches)
        found[batch] = sizes
    # Parameters are kept, too: by two sizes they drop out.
    return max(b - a for a, b in zip(found[_BATCH], found[2 * _BATCH], strict=True)) / _BATCH


@contextmanager
def recorded() -> Iterator[list[float]]:
    """Collect what each gradient of a player's loss keeps for its way back, in bytes, while a step is traced."""
    sizes: list[float] = []

    def value_and_grad(function: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
        def both(*arguments: Any) -> tuple[Any, Any]:
            several = argnums if isinstance(argnums, tuple) else (argnums,)

            def of(*chosen: Any) -> Any:
                filled = list(arguments)
                for number, argument in zip(several, chosen, strict=True):
                    filled[number] = argument
                return function(*filled)

            value, pull_back, aux = jax.vjp(of, *(arguments[number] for number in several), has_aux=True)
            leaves = [leaf for leaf in jax.tree.leaves(pull_back) if hasattr(leaf, "dtype")]
            sizes.append(float(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)))
            gradients = pull_back(jnp.ones_like(value))
            return (value, aux), gradients if isinstance(argnums, tuple) else gradients[0]

        assert has_aux
        return both

    with mock.patch("jax.value_and_grad", value_and_grad):
        yield sizes


if __name__ == "__main__":
    main()
