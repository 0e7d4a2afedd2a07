"""What a training step takes of a GPU's memory beside its state: XLA's count, and PyTorch's for the same networks.

    python -m benchmarks.memory --cases=g256,i128        # with the extras `cuda` and `oracle`; no GPU is needed

Ours is the temporary memory of the trainer's program, as XLA plans it for an H100 (`benchmarks.gpu_program`). PyTorch's
is the most that its eager step's tensors take at once, over what they take between steps. They are followed without
computing anything, since they are fake. What cuDNN takes in either isn't counted. Batch, losses,
penalties and optimizers are as in `benchmarks.train_step`; a cycle of steps has each lazy term once, and counts at its
most.
"""

import argparse
import weakref
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import jax
import numpy as np
import torch
from ml_collections import ConfigDict
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import gpu_program
from benchmarks.program import cycle, named_config
from benchmarks.sides import TYPES, Ours, Torch, torch_side
from gan_jax import build
from gan_jax.core.state import state_shapes


def main() -> None:
    """Count and print."""
    gpu_program.prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="g256,i128", help="as of benchmarks.train_step")
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--remat", action="store_true", help="ours computes blocks again on the way back")
    options = parser.parse_args()
    print(f"{'case':<12}{'precision':<12}{'gan_jax, MB':>12}{'PyTorch, MB':>12}{'ratio':>8}")
    for name in options.cases.split(","):
        for precision in options.precisions.split(","):
            config = named_config(name)
            theirs = of_pytorch(config, precision)
            config.compute_dtype = TYPES[precision]
            config.generator.remat = config.discriminator.remat = options.remat
            taken = gpu_program.compiled(config).memory_analysis()
            assert taken
            ours = taken.temp_size_in_bytes
            print(f"{name:<12}{precision:<12}{ours / 1e6:12,.0f}{theirs / 1e6:12,.0f}{ours / theirs:8.2f}", flush=True)


def of_pytorch(config: ConfigDict, precision: str) -> int:
    """Return the bytes that PyTorch's eager step takes at most, over what lies there between steps."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with mock.patch.object(torch.nn.Module, "to", lambda module, *_, **__: module):  # fakes can't be moved
            side = torch_side(_stands_for_ours(config), precision)
        return _taken(side)


def _taken(side: Torch) -> int:
    """Return the bytes that a cycle of steps of ``side`` takes at most, after the first."""
    side.run(1)  # the optimizers' moments come with the first step
    for optimizer in (side.trainer.g_optimizer, side.trainer.d_optimizer):
        optimizer.zero_grad()
    with Live(_held(side)) as live:
        side.run(side.cycle)
    return int(live.most)


class Live(TorchDispatchMode):
    """Follows the bytes of tensors that live at once.

    Args:
      held: tensors that lie there already and don't count.

    Attributes:
      now, most: bytes; the most so far.
    """

    def __init__(self, held: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self._known = weakref.WeakKeyDictionary({x.untyped_storage(): None for x in held})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the memory of what comes out; this is called for every one."""
        out = func(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage() not in self._known:
                storage = x.untyped_storage()
                self._known[storage] = None
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return out

    def _add(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


def _held(side: Torch) -> Iterator[torch.Tensor]:
    """Yield what stays from step to step: weights, moments, averages and data."""
    trainer = side.trainer
    for of in (side, trainer):
        for x in torch.utils._pytree.tree_leaves(list(vars(of).values())):
            if isinstance(x, torch.nn.Module):
                yield from (*x.parameters(), *x.buffers())
            elif isinstance(x, torch.Tensor):
                yield x
    for optimizer in (trainer.g_optimizer, trainer.d_optimizer):
        yield from (x for own in optimizer.state.values() for x in own.values())


def _stands_for_ours(config: ConfigDict) -> Ours:
    """Return what a `Torch` asks of an `Ours`: the config, the GAN, its variables, as zeros, and data."""
    config = config.copy_and_resolve_references()
    gan, hyper = build.build_gan(config)
    start = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state_shapes(gan, hyper))
    count = config.batch_size * config.d_steps
    data = SimpleNamespace(train_images=np.zeros((count, *gan.image_shape), np.uint8), train_labels=np.zeros(count))
    program = SimpleNamespace(dataset=data)
    return cast(Ours, SimpleNamespace(config=config, gan=gan, start=start, program=program, cycle=cycle(config)))


if __name__ == "__main__":
    main()
