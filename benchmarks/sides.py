"""The sides of `benchmarks.train_step`: our step and PyTorch's, in this process or in one of their own."""

import ctypes
import multiprocessing
import os
import re
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from benchmarks import torch_biggan
from benchmarks import torch_reference as reference
from benchmarks.program import Program, cycle
from gan_jax.config import changed
from gan_jax.core.draw import latents
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import GANState
from gan_jax.models import resnet
from gan_jax.runtime import environment, resources

CHECKED = 3  # steps
TYPES = {"float32": "float32", "tf32": "float32", "bfloat16": "bfloat16"}  # of the networks


class Side:
    """What makes steps and can be timed.

    Attributes:
      name, precision: of the row.
      figures: of the row, as far as they are this side's to know.
      cycle: steps after which terms that not all steps have are due again.
    """

    name = "gan_jax"
    cycle = 1

    def __init__(self, precision: str) -> None:
        self.precision, self.figures = precision, dict[str, Any]()

    def run(self, steps: int) -> None:
        """Make ``steps`` steps and wait for them."""
        raise NotImplementedError

    def first(self) -> list[list[float]]:
        """Return the losses of D and of G in the first `CHECKED` steps, ``[[d, g], ...]``; take ``compile_seconds``."""
        raise NotImplementedError

    def turn(self, steps: int) -> float:
        """Seconds that each of ``steps`` steps takes, after one that isn't timed."""
        self.run(1)
        begin = time.perf_counter()
        self.run(steps)
        return (time.perf_counter() - begin) / steps

    def memory(self) -> float | None:
        """MB at the peak of a cycle's steps, over what lies in memory before it; of the host, where it can be had."""
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is
        except OSError:
            return None
        resident = _resident("VmRSS")
        self.run(self.cycle)
        return max(_resident("VmHWM") - resident, 0.0)

    def count(self) -> tuple[float, float]:
        """Return the FLOPs and bytes of a step of eager PyTorch, the mean over a cycle."""
        with Counter() as count:
            self.run(self.cycle)
        return count.flops / self.cycle, count.bytes / self.cycle

    def end(self) -> None:
        """Let go of what it holds outside this process."""


class Ours(Side):
    """The trainer's program of ``config``."""

    def __init__(self, config: ConfigDict, precision: str, steps: int) -> None:
        super().__init__(precision)
        own = {"compute_dtype": TYPES[precision], "steps_per_dispatch": max(steps, CHECKED)}
        self.config = config = changed(config, own)
        self.program = Program(config, jax.devices()[:1])
        self.gan, self.chunk = self.program.gan, self.program.chunk
        self.cycle = cycle(config)
        self.start: GANState = jax.tree.map(np.array, self.program.state)

    def run(self, steps: int) -> None:
        """See `Side`."""
        self.program.run(steps)

    def first(self) -> list[list[float]]:
        """See `Side`."""
        with matmul_precision(self.precision):
            begin = time.perf_counter()
            self.program.run(0)
            self.figures["compile_seconds"] = time.perf_counter() - begin
        cost = resources.cost(self.gan, self.chunk, self.program.state, self.config.batch_size, 1)
        temporary = self.chunk.compiled.memory_analysis().temp_size_in_bytes
        self.figures |= {"xla_temporary_mb": temporary / 2**20}
        self.figures |= {"gb_per_step": cost.bytes / 1e9, "xla_gflop_per_step": cost.flops / 1e9}
        metrics = self.program.run(CHECKED)
        return [[float(metrics[key][i]) for key in ("d_loss", "g_loss")] for i in range(CHECKED)]

    def memory(self) -> float | None:
        """See `Side`; of a GPU, by XLA's count."""
        return float(self.figures["xla_temporary_mb"]) if on_gpu() else super().memory()

    @cached_property
    def inputs(self) -> list[tuple[np.ndarray, ...]]:
        """Real images ``[d_steps, B, H, W, C]``, latents, WGAN-GP's mix, the latents of G's own, ``[g_batches * B,
        latent_dim]``, and labels ``[d_steps, B]``, of each of the steps from the first."""
        gan, index = self.gan, jnp.arange(self.config.batch_size, dtype=jnp.int32)
        more = jnp.arange(gan.g_batches * len(index), dtype=jnp.int32)

        def of(step: Any, data: Any) -> Any:
            key = [[random_key(self.start.seed, what, step, i) for i in range(gan.d_steps)] for what in _DRAWN]
            mix = [jax.vmap(lambda i, k=k: jax.random.uniform(jax.random.fold_in(k, i)))(index) for k in key[1]]
            real = self.program.feed.fetch(data, {"index": index}, self.start.seed, step)
            own = latents(gan, example_keys(random_key(self.start.seed, "latents", step, gan.d_steps), more))
            drawn = jnp.stack([latents(gan, example_keys(k, index)) for k in key[0]])
            return real["image"], drawn, jnp.stack(mix), own, real["label"]

        draw = jax.jit(of)
        return [jax.tree.map(np.array, draw(step, self.program.feed.data)) for step in range(CHECKED)]


_DRAWN = ("latents", "penalty")


def matmul_precision(precision: str) -> Any:
    """Return the context that JAX compiles in: on GPUs its default for float32 is TF32, elsewhere the trainer's."""
    exact = {"float32": "float32", "tf32": "tensorfloat32"}.get(precision) if on_gpu() else None
    return jax.default_matmul_precision(exact)


def torch_device() -> torch.device:
    """Of the same kind."""
    return torch.device("cuda" if on_gpu() else "cpu")


def on_gpu() -> bool:
    """Whether JAX's first device is one."""
    return bool(jax.devices()[0].platform == "gpu")


class Torch(Side):
    """PyTorch's step, from the same weights.

    Args:
      ours: what to do as.
      precision: float32, tf32, bfloat16 or float64.
      mode: of torch.compile; empty: eager.
    """

    def __init__(self, ours: Ours, precision: str, mode: str = "") -> None:
        super().__init__(precision)
        self.ours, self.mode, self.name, self.cycle = ours, mode, name_of(mode), ours.cycle
        self.device = torch_device()
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self.trainer = self._trainer()
        images, labels = ours.program.dataset.train_images, ours.program.dataset.train_labels
        self.images = torch.from_numpy(images[np.arange(len(images))]).to(self.device)
        self.labels = torch.from_numpy(np.asarray(labels, np.int64)).to(self.device)
        self.order, self.at = torch.randperm(len(self.images), device=self.device), 0

    def _half(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _adam(self, player: str) -> dict[str, Any]:
        given = self.ours.config.optimizer[player]
        assert (given.name, given.clip, given.historical_averaging) == ("adam", 0, 0)
        return {"lr": given.learning_rate, "betas": (given.b1, given.b2), "fused": True}

    def _trainer(self) -> Any:
        gan, start, config = self.ours.gan, self.ours.start, self.ours.config
        nets, copy = networks(self.ours)
        for net, of in zip(nets, (start.generator, start.discriminator), strict=True):
            net.to(self.device, self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for layer in net.modules():
                if isinstance(layer, torch.nn.ConvTranspose2d) and layer.stride == (1, 1):  # of latents, 1x1
                    # Its gradient by cuDNN is channels first in any case, at which torch.compile 2.11 fails.
                    layer.weight.data = layer.weight.data.contiguous()
            copy({"params": of.params, **of.stats}, net)

        assert [term.name for term in gan.d_terms] in ([], ["wgan_gp"])
        assert config.averages.ema.start == 0
        return reference.Trainer(
            *nets,
            config.loss,
            (config.labels.real, config.labels.fake, config.labels.generator),
            self._adam("generator"),
            self._adam("discriminator"),
            penalty=config.terms.wgan_gp.weight,
            penalty_every=config.terms.wgan_gp.every,
            ema=config.averages.ema.decay,
            compile=self._compiled if self.mode else lambda net: net,
            autocast=self._half,
        )

    def _compiled(self, net: torch.nn.Module) -> Any:
        import torch._inductor.config as inductor

        inductor.force_disable_caches = True
        inductor.layout_optimization = False  # all is channels last; else it fails at the gradient for 1x1 latents
        torch._dynamo.config.trace_autograd_ops = True  # the gradient of the penalty
        torch._dynamo.config.recompile_limit = 64  # all networks here are one class, and so share that of 8
        return torch.compile(net, mode=self.mode, dynamic=False)

    def run(self, steps: int) -> None:
        """See `Side`."""
        gan, batch = self.ours.gan, self.ours.config.batch_size
        count = gan.d_steps * batch
        with self._settings():
            for _ in range(steps):
                if self.at + count > len(self.order):
                    self.order, self.at = torch.randperm(len(self.images), device=self.device), 0
                chosen, self.at = self.order[self.at : self.at + count], self.at + count
                real = (self.images[chosen].float() / 127.5 - 1).permute(0, 3, 1, 2).split(batch)
                self._step(real, *self._noise(), *self._told(self.labels[chosen].reshape(-1, batch)))
            self._wait()

    def _told(self, label: torch.Tensor) -> tuple[Any, ...]:
        """Return what a step takes behind the noise: labels ``[d_steps, B]``."""
        return (label if self.ours.gan.classes else None,)

    def _noise(self) -> Any:
        """Of one step, behind the real images."""
        gan, batch = self.ours.gan, self.ours.config.batch_size
        z = torch.randn(gan.d_steps, batch, gan.latent_dim, device=self.device)
        mix = torch.rand(gan.d_steps, batch, device=self.device) if gan.d_terms else None
        return z, mix, torch.randn(gan.g_batches * batch, gan.latent_dim, device=self.device)

    def _inputs(self) -> list[Any]:
        """Real images and noise of the first steps."""
        return self.ours.inputs

    def first(self) -> list[list[float]]:
        """See `Side`."""
        losses = []
        with self._settings():
            for inputs in self._inputs():
                begin = time.perf_counter()
                images, *noise = tree_map(self._given, inputs)
                found = self._step(images.permute(0, 1, 4, 2, 3).unbind(), *noise)
                self._wait()
                self.figures.setdefault("compile_seconds", time.perf_counter() - begin)
                losses.append([found.d_loss.item(), found.g_loss.item()])
        return losses

    def _given(self, x: np.ndarray) -> torch.Tensor:
        given = torch.from_numpy(x).to(self.device)
        return given.to(self.dtype) if given.is_floating_point() else given.long()

    def memory(self) -> float | None:
        """See `Side`; of a GPU, by PyTorch's count."""
        if self.device.type != "cuda":
            return super().memory()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.run(self.cycle)
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def _step(self, real: Sequence[torch.Tensor], *noise: Any) -> reference.Found:
        """One step on ``real`` ``[b, C, H, W]`` of each of D's."""
        if self.mode == "max-autotune":
            torch.compiler.cudagraph_mark_step_begin()
        return self._trained(real, *noise)

    def _trained(self, real: Sequence[torch.Tensor], *noise: Any) -> reference.Found:
        z, mix, own, label = noise
        gan = self.ours.gan
        found: reference.Found = self.trainer.step(
            real, z, mix if gan.d_terms else None, own if len(own) else None, label if gan.classes else None
        )
        return found

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @contextmanager
    def _settings(self) -> Iterator[None]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        torch.backends.cudnn.benchmark = True
        yield


def torch_side(ours: Ours, precision: str, mode: str = "") -> Torch:
    """Return the `Torch` for networks like ``ours``."""
    from benchmarks.modern_side import MODELS, Modern  # which is a `Torch`

    kind = Modern if ours.config.model in MODELS else Torch
    return kind(ours, precision, mode)


def name_of(mode: str | None) -> str:
    """Return the name of a mode of `Torch`, or of ours if None, in the table."""
    if mode is None:
        return Ours.name
    return f"PyTorch compile, {mode}" if mode else "PyTorch eager"


class Apart(Side):
    """A side in a process of its own, to which its methods' calls go.

    Args:
      config, precision, steps: as for `Ours`.
      mode: as for `Torch`; None: ours.
      patience: how many seconds a call may take; None: any number.
    """

    living: ClassVar[set["Apart"]] = set()

    def __init__(
        self, config: ConfigDict, precision: str, mode: str | None, steps: int, patience: float | None = None
    ) -> None:
        super().__init__(precision)
        self.name, self.patience, spawning = name_of(mode), patience, multiprocessing.get_context("spawn")
        self._here, there = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(there, config, precision, mode, steps), daemon=True)
        self._process.start()
        self.living.add(self)
        there.close()

    def first(self) -> list[list[float]]:
        """See `Side`."""
        found: list[list[float]] = self._ask("first")
        return found

    def run(self, steps: int) -> None:
        """See `Side`."""
        self._ask("run", steps)

    def turn(self, steps: int) -> float:
        """See `Side`."""
        return float(self._ask("turn", steps))

    def memory(self) -> float | None:
        """See `Side`."""
        found: float | None = self._ask("memory")
        return found

    def count(self) -> tuple[float, float]:
        """See `Side`."""
        flops, size = self._ask("count")
        return flops, size

    def end(self) -> None:
        """Kill the process and those that it started, as PyTorch's compiler does."""
        assert self._process.pid
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self.living.discard(self)

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Return what the process says; raise `SideError` if it fails, ends, or takes longer than ``patience``."""
        try:
            self._here.send((method, arguments))
            late = not self._here.poll(self.patience)
            self.figures, answer, error = ({}, None, None) if late else self._here.recv()
        except (EOFError, OSError) as gone:
            self._process.join(10)
            raise SideError(f"the process ended: exit code {self._process.exitcode}") from gone
        if late:
            self.end()
            raise SideError(f"{method} takes longer than {self.patience:.0f} s")
        if error:
            raise SideError(error)
        return answer


def _serve(connection: Any, config: ConfigDict, precision: str, mode: str | None, steps: int) -> None:
    """Do what the process of an `Apart` does."""
    os.setpgid(0, 0)
    settle()
    side: Side | None = None
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        answer: Any = None
        row: dict[str, Any] = {}
        with failing(row):
            if side is None:
                base = Ours(config, precision if mode is None else "float32", steps)
                side = base if mode is None else torch_side(base, precision, mode)
            answer = getattr(side, method)(*arguments)
        connection.send((side.figures if side else {}, answer, row.get("error")))


def networks(ours: Ours) -> tuple[tuple[torch.nn.Module, torch.nn.Module], Any]:
    """G and D of ``ours`` in PyTorch, and what copies our variables to them."""
    gan, config = ours.gan, ours.config
    g, d = gan.generator, gan.discriminator
    side, _, channels = gan.image_shape
    if config.generator.get("attention"):
        return (torch_biggan.Generator(config), torch_biggan.Discriminator(config)), torch_biggan.copy_to_torch
    if isinstance(g, resnet.Generator):
        first = g.first or g.widths[0]
        nets = (
            reference.residual_generator(gan.latent_dim, first, g.widths, side, channels),
            reference.residual_discriminator(d.widths, d.downs, channels, d.spectral, d.pooling == "mean", d.wide),
        )
        return nets, reference.copy_to_torch
    nets = (
        reference.dcgan_generator(gan.latent_dim, g.widths, side, channels),
        reference.dcgan_discriminator(d.widths, side, channels),
    )
    return nets, reference.copy_to_torch


def settle() -> None:
    """Set a process up to measure in."""
    environment.prepare()
    jax.config.update("jax_enable_compilation_cache", False)
    torch.set_num_threads(len(os.sched_getaffinity(0)))


class SideError(Exception):
    """What its words say."""


@contextmanager
def failing(row: dict[str, Any]) -> Iterator[None]:
    """Turn an error into a line of the table; where it came from goes to stderr."""
    try:
        yield
    except SideError as error:
        row["error"] = str(error)
    except Exception as error:
        traceback.print_exc()
        row["error"] = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:150]}"


class Counter(TorchDispatchMode):
    """Counts the arithmetic of products and convolutions, and the bytes of all operations' arguments and results, views
    left out. (PyTorch's own FlopCounterMode fails at the gradient of a gradient.)"""

    bytes: float = 0
    flops: float = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it; this is called for every one."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        if not func.is_view:
            leaves = torch.utils._pytree.tree_leaves((args, kwargs, out))
            self.bytes += sum(x.nbytes for x in leaves if isinstance(x, torch.Tensor))
        return out


def _resident(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 2**10
