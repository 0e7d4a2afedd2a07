"""Our training step against PyTorch's: the same networks, batch, losses and optimizers, by turns on one machine.

    python -m benchmarks.train_step --cases=a,b --out=train_step.json        # with the extra `oracle`

Ours is the trainer's own program (`gan_jax.parallel.compile_chunk` of a config); PyTorch's is
`benchmarks.torch_reference`, channels last, with fused Adam and D frozen in G's step, eager and by torch.compile, in
float32 and in bfloat16 autocast; on GPUs also by max-autotune (CUDA graphs), and in TF32. Both take real images from
memory and draw noise, make ``d_steps`` D steps and one G step, and average G's weights; ours also computes its metrics.

Cases: a: DCGAN 28x28x1, batch 128; b: 32x32x3, batch 64; c64, c128, c1024 (GPU): 64x64x3 at these batches; d: WGAN-GP,
ResNet 32x32; e: SNGAN, ResNet 32x32. ``--cases=c`` means all that begin so. Augmentation and schedules are left out.

First, from the same weights, images and noise, three steps of each, and of PyTorch in float64: in float32 the losses
may be off those by no more than `TOLERANCE`, or `ROUNDINGS` times what PyTorch's own float32 is off (Adam's first steps
have the size of the rate, whichever way rounding turns a small gradient), or the row says so, isn't timed, and the exit
code is 1. Then turns of ``--steps`` after one that isn't timed. ``--apart`` is for machines of many cores, for all to
compile at once. In the table:

- ms: median over the turns, and half of what lies between their quartiles; images/s: real ones that D sees;
- to same, to any: speed against the fastest PyTorch of the same precision, and of any, medians of the turns' ratios;
- GFLOP/s: arithmetic of the PyTorch step's products and convolutions, the same for all rows of a case; its share of the
  machine's matmul rate at that precision (the faster of JAX's and PyTorch's);
- bandwidth: bytes of the program's operations a second over what copying an array reaches (caches let it exceed 1; by
  XLA's count for ours, by its operations' for eager PyTorch);
- compile: seconds of a first step without caches, beside those of all others if ``--apart``; memory: MB that a step
  takes beside what lies there between steps.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import torch_reference as reference
from benchmarks.program import CASES, Program, case_config
from gan_jax import process, resources
from gan_jax.models import resnet
from gan_jax.state import GAN, GANState, draw_latents, random_key

CHECKED = 3  # steps
TOLERANCE = 1e-4  # of their losses, times the loss where that is above 1
ROUNDINGS = 4
_TYPES = {"float32": "float32", "tf32": "float32", "bfloat16": "bfloat16"}  # of the networks
_COPIED = 2**28  # bytes of the array that is copied


def main() -> int:
    """Measures, prints and saves."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch is on the same GPU
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="a,b,c,d,e")
    parser.add_argument("--precisions", default="float32,tf32,bfloat16")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--steps", type=int, default=5, help="in a turn")
    parser.add_argument("--skip-compile", action="store_true", help="leave torch.compile out")
    apart = "each side in a process of its own: all compile at once, but for no longer than this, then they take turns"
    parser.add_argument("--apart", type=float, metavar="SECONDS", help=apart)
    parser.add_argument("--out", type=Path, default=Path("train_step.json"))
    options = parser.parse_args()
    chosen = [name for name in CASES if name.startswith(tuple(options.cases.split(",")))]
    precisions = options.precisions.split(",")
    if not set(precisions) <= set(_TYPES):
        parser.error(f"--precisions are of {', '.join(_TYPES)}")
    if not on_gpu():  # too slow to wait for, or not to be had
        chosen = [name for name in chosen if name != "c1024"]
        precisions = [name for name in precisions if name != "tf32"]
    elif not torch.cuda.is_available():
        parser.error("JAX has a GPU and PyTorch has none: install PyTorch for CUDA, or set JAX_PLATFORMS=cpu")
    if not chosen or not precisions:
        parser.error(f"nothing to measure: on this machine --cases are of {', '.join(CASES)}, c1024 and tf32 for GPUs")
    settle()
    result: dict[str, Any] = {"machine": machine(), "versions": versions(), "tolerance": TOLERANCE}
    roofs = {name: roof(name) for name in precisions}
    result |= {"matmul_gflop_per_second": roofs, "copy_gb_per_second": copy_rate(), "cases": {}}
    print("; ".join(f"{key}: {value}" for key, value in result.items() if value), flush=True)
    modes = ["", *([] if options.skip_compile else ["default", *(["max-autotune"] if on_gpu() else [])])]
    wanted = [(precision, mode) for precision in precisions for mode in (None, *modes)]

    def made_of(name: str) -> tuple[list[dict[str, Any]], dict[int, Side]]:
        rows: list[dict[str, Any]] = [{"name": Ours.name, "precision": "float32"}]
        with failing(rows[0]):
            return made(case_config(name), wanted, options.steps, options.apart)
        return rows, {}

    for name, (rows, sides) in zip(chosen, each(made_of, chosen, options.apart is not None), strict=True):
        take_turns(rows, sides, options.repeats, options.steps)
        finish(rows, roofs, result["copy_gb_per_second"])
        print(f"\ncase {name}\n{table(rows)}", flush=True)
        result["cases"][name] = rows
        options.out.write_text(json.dumps(result, indent=2) + "\n")
        while sides:
            sides.popitem()[1].end()
    return int(any(row.get("differs") for rows in result["cases"].values() for row in rows))


def each(function: Callable[[Any], Any], arguments: Sequence[Any], together: bool) -> Iterator[Any]:
    """``map``, all calls at once if ``together``, else each when it is asked for."""
    if not together:
        return map(function, arguments)
    with ThreadPoolExecutor(len(arguments)) as pool:
        return iter(list(pool.map(function, arguments)))


def settle() -> None:
    """Sets a process up to measure in."""
    process.prepare()
    jax.config.update("jax_enable_compilation_cache", False)
    torch.set_num_threads(len(os.sched_getaffinity(0)))


# --- the two sides ----------------------------------------------------------------------------------------------------


class Side:
    """What makes steps and can be timed.

    Attributes:
      name, precision: of the row.
      figures: of the row, as far as they are this side's to know.
    """

    name = "gan_jax"

    def __init__(self, precision: str) -> None:
        self.precision, self.figures = precision, dict[str, Any]()

    def run(self, steps: int) -> None:
        """Makes ``steps`` steps and waits for them."""
        raise NotImplementedError

    def first(self) -> list[list[float]]:
        """The losses of D and of G in the first `CHECKED` steps, ``[[d, g], ...]``; takes ``compile_seconds`` too."""
        raise NotImplementedError

    def turn(self, steps: int) -> float:
        """Seconds that each of ``steps`` steps takes, after one that isn't timed."""
        self.run(1)
        begin = time.perf_counter()
        self.run(steps)
        return (time.perf_counter() - begin) / steps

    def memory(self) -> float | None:
        """See `step_memory`."""
        return step_memory(self)

    def count(self) -> tuple[float, float]:
        """The FLOPs and bytes of a step of eager PyTorch."""
        with Counter() as count:
            self.run(1)
        return count.flops, count.bytes

    def end(self) -> None:
        """Lets go of what it holds outside this process."""


class Ours(Side):
    """The trainer's program of ``config``."""

    def __init__(self, config: ConfigDict, precision: str, steps: int) -> None:
        super().__init__(precision)
        self.config = config = config.copy_and_resolve_references()
        config.compute_dtype, config.steps_per_dispatch = _TYPES[precision], max(steps, CHECKED)
        self.program = Program(config, jax.devices()[:1])
        self.gan, self.chunk = self.program.gan, self.program.chunk
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

    @cached_property
    def inputs(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Real images ``[d_steps, B, H, W, C]``, latents and WGAN-GP's mix of each of the steps from the first."""
        gan, index = self.gan, jnp.arange(self.config.batch_size, dtype=jnp.int32)

        def of(step: Any, data: Any) -> Any:
            key = [[random_key(self.start.seed, what, step, i) for i in range(gan.d_steps)] for what in _DRAWN]
            mix = [jax.vmap(lambda i, k=k: jax.random.uniform(jax.random.fold_in(k, i)))(index) for k in key[1]]
            real = self.program.feed.fetch(data, {"index": index}, self.start.seed, step)["image"]
            return real, jnp.stack([draw_latents(gan, k, index) for k in key[0]]), jnp.stack(mix)

        draw = jax.jit(of)
        return [jax.tree.map(np.array, draw(step, self.program.feed.data)) for step in range(CHECKED)]


_DRAWN = ("latents", "penalty")


def matmul_precision(precision: str) -> Any:
    """What JAX compiles in: on GPUs its default for float32 is TF32, elsewhere it is as the trainer has it."""
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
        self.ours, self.mode, self.name = ours, mode, name_of(mode)
        self.device = torch_device()
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        gan, start, config = ours.gan, ours.start, ours.config
        nets = networks(gan)
        for net, of in zip(nets, (start.generator, start.discriminator), strict=True):
            net.to(self.device, self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for layer in net.modules():
                if isinstance(layer, torch.nn.ConvTranspose2d) and layer.stride == (1, 1):  # of latents, 1x1
                    # Its gradient by cuDNN is channels first in any case, at which torch.compile 2.11 fails.
                    layer.weight.data = layer.weight.data.contiguous()
            reference.copy_to_torch({"params": of.params, **of.stats}, net)

        def half() -> Any:
            return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16")

        def adam(player: str) -> dict[str, Any]:
            given = config.optimizer[player]
            assert (given.name, given.schedule, given.clip, given.historical_averaging) == ("adam", "constant", 0, 0)
            return {"lr": given.learning_rate, "betas": (given.b1, given.b2), "fused": True}

        self.trainer = reference.Trainer(
            *nets,
            config.loss,
            (config.labels.real, config.labels.fake),
            adam("generator"),
            adam("discriminator"),
            penalty=config.penalty.weight if gan.penalties else 0.0,
            penalty_every=config.penalty.every,
            ema=config.ema.decay,
            compile=self._compiled if mode else lambda net: net,
            autocast=half,
        )
        assert [p.__name__ for p in gan.penalties] in ([], ["wgan_gp"])
        assert config.ema.start == 0
        images = ours.program.dataset.train_images
        self.images = torch.from_numpy(images[np.arange(len(images))]).to(self.device)
        self.order, self.at = torch.randperm(len(self.images), device=self.device), 0

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
                z = torch.randn(gan.d_steps, batch, gan.latent_dim, device=self.device)
                mix = torch.rand(gan.d_steps, batch, device=self.device) if gan.penalties else None
                self._step(real, z, mix)
            self._wait()

    def first(self) -> list[list[float]]:
        """See `Side`."""
        losses = []
        with self._settings():
            for real, z, mix in self.ours.inputs:
                begin = time.perf_counter()
                images, *noise = (torch.from_numpy(x).to(self.device, self.dtype) for x in (real, z, mix))
                found = self._step(images.permute(0, 1, 4, 2, 3).unbind(), *noise)
                self._wait()
                self.figures.setdefault("compile_seconds", time.perf_counter() - begin)
                losses.append([found.d_loss.item(), found.g_loss.item()])
        return losses

    def _step(self, real: Sequence[torch.Tensor], z: torch.Tensor, mix: torch.Tensor | None) -> reference.Found:
        if self.mode == "max-autotune":
            torch.compiler.cudagraph_mark_step_begin()
        return self.trainer.step(real, z, mix if self.ours.gan.penalties else None)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @contextmanager
    def _settings(self) -> Iterator[None]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        torch.backends.cudnn.benchmark = True
        yield


def name_of(mode: str | None) -> str:
    """A mode of `Torch`, or ours if None, in the table."""
    if mode is None:
        return Ours.name
    return f"PyTorch compile, {mode}" if mode else "PyTorch eager"


class Ready(NamedTuple):
    """A row, what it is of, and the losses of its first steps."""

    row: dict[str, Any]
    side: Side | None
    losses: list[list[float]]


class Apart(Side):
    """A side in a process of its own, to which its methods' calls go.

    Args:
      config, precision, steps: as for `Ours`.
      mode: as for `Torch`; None: ours.
      patience: how many seconds `first` may take.
    """

    def __init__(
        self, config: ConfigDict, precision: str, mode: str | None, steps: int, patience: float | None = None
    ) -> None:
        super().__init__(precision)
        self.name = name_of(mode)
        self.patience, spawning = patience, multiprocessing.get_context("spawn")
        self._here, there = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(there, config, precision, mode, steps), daemon=True)
        self._process.start()
        there.close()

    def first(self) -> list[list[float]]:
        """See `Side`.

        Raises:
          TimeoutError: it takes longer than ``patience``.
        """
        found: list[list[float]] = self._ask("first", seconds=self.patience)
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
        """See `Side`."""
        self._process.kill()
        self._process.join()

    def _ask(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        try:
            self._here.send((method, arguments))
            late = not self._here.poll(seconds)
            self.figures, answer, error = ({}, None, None) if late else self._here.recv()
        except (EOFError, OSError) as gone:
            raise RuntimeError(f"the process ended: exit code {self._process.exitcode}") from gone
        if late:
            self.end()
            raise TimeoutError(f"{method} takes longer than {seconds:.0f} s")
        if error:
            raise RuntimeError(error)
        return answer


def _serve(connection: Any, config: ConfigDict, precision: str, mode: str | None, steps: int) -> None:
    """What the process of an `Apart` does."""
    settle()
    side: Side | None = None
    while True:
        method, arguments = connection.recv()
        answer: Any = None
        row: dict[str, Any] = {}
        with failing(row):
            if side is None:
                base = Ours(config, precision if mode is None else "float32", steps)
                side = base if mode is None else Torch(base, precision, mode)
            answer = getattr(side, method)(*arguments)
        figures = side.figures if side else {}
        connection.send((figures, answer, row.get("error")))


def networks(gan: GAN) -> tuple[torch.nn.Sequential, torch.nn.Sequential]:
    """G and D of ``gan`` in PyTorch."""
    g, d = gan.generator, gan.discriminator
    side, _, channels = gan.image_shape
    if isinstance(g, resnet.Generator):
        first = g.first or g.widths[0]
        return (
            reference.residual_generator(gan.latent_dim, first, g.widths, side, channels),
            reference.residual_discriminator(d.widths, d.downs, channels, d.spectral),
        )
    return (
        reference.dcgan_generator(gan.latent_dim, g.widths, side, channels),
        reference.dcgan_discriminator(d.widths, side, channels),
    )


# --- measuring --------------------------------------------------------------------------------------------------------


def made(
    config: ConfigDict, wanted: Sequence[tuple[str, str | None]], steps: int, apart: float | None = None
) -> tuple[list[dict[str, Any]], dict[int, Side]]:
    """A row for each of those ``wanted``, and which of them are to be timed.

    Args:
      config: of the case.
      wanted: precisions, with a mode of `Torch` or None for ours.
      steps: in a turn.
      apart: how many seconds each may take to get ready in a process of its own; None: all are in this one, in turn.
    """
    torch._dynamo.reset()
    base = Ours(config, "float32", steps) if apart is None else None

    def side(precision: str, mode: str | None) -> Side:
        if base is None:
            return Apart(config, precision, mode, steps, apart)
        if mode is not None:
            return Torch(base, precision, mode)
        return base if precision == "float32" else Ours(config, precision, steps)

    def ready(precision: str, mode: str | None) -> Ready:
        row: dict[str, Any] = {"name": name_of(mode), "precision": precision}
        one, losses = None, list[list[float]]()
        with failing(row):
            one = side(precision, mode)
            losses = one.first()
            row |= one.figures
        return Ready(row, one, losses)

    references = [("float64", ""), ("float32", "")]
    exact, rounded, *found = each(lambda of: ready(*of), [*references, *wanted], apart is not None)
    unchecked = exact.row.get("error") or rounded.row.get("error")
    allowed = 0.0 if unchecked else max(TOLERANCE, ROUNDINGS * difference(rounded.losses, exact.losses))
    rows, sides = [], dict[int, Side]()
    for i, (row, one, losses) in enumerate(found):
        rows.append(row)
        row["images_per_step"] = config.batch_size * config.d_steps
        if not unchecked and losses:
            row["losses_off"] = difference(losses, exact.losses)
        if row["precision"] == "float32" and losses and (unchecked or row["losses_off"] > allowed):
            off = f"are {row.get('losses_off', 0):.1e} off those in float64, {allowed:.1e} being allowed"
            why = f"can't be compared: PyTorch in float64 or float32: {unchecked}" if unchecked else off
            row |= {"differs": True, "error": f"losses of {CHECKED} steps {why}"}
        if one and "error" not in row:
            sides[i] = one
    for one in {ready.side for ready in (exact, rounded, *found)} - {None, *sides.values()}:
        one.end()
    return rows, sides


def take_turns(rows: list[dict[str, Any]], sides: dict[int, Side], repeats: int, steps: int) -> None:
    """Measures the memory of each, counts, and times ``repeats`` turns of ``steps`` steps."""
    for i, side in sides.items():
        with failing(rows[i]):
            side.run(1)
            rows[i]["memory_mb"] = side.memory()
    arithmetic(rows, sides)
    for row in rows:
        row["milliseconds"] = []
    for _ in range(repeats):
        for i, side in list(sides.items()):
            with failing(rows[i]):
                rows[i]["milliseconds"].append(1e3 * side.turn(steps))
            if "error" in rows[i]:
                sides.pop(i).end()


@contextmanager
def failing(row: dict[str, Any]) -> Iterator[None]:
    """Makes of an error a line of the table."""
    try:
        yield
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:150]}"


def difference(found: list[list[float]], expected: list[list[float]]) -> float:
    """The largest, relative to what is expected where that is above 1; NaN counts as infinite."""
    a, b = np.asarray(found), np.asarray(expected)
    return float(np.nan_to_num(np.abs(a - b) / np.maximum(np.abs(b), 1), nan=np.inf).max())


def arithmetic(rows: list[dict[str, Any]], sides: dict[int, Side]) -> None:
    """Counts the operations of PyTorch's eager step: its FLOPs for all rows, its bytes for its own."""
    for i in [i for i, side in sides.items() if side.name == "PyTorch eager"]:
        with failing(rows[i]):
            flops, size = sides[i].count()
            rows[i]["gb_per_step"] = size / 1e9
            for row in rows:
                row.setdefault("gflop_per_step", flops / 1e9)


class Counter(TorchDispatchMode):
    """Counts the arithmetic of products and convolutions, and the bytes of all operations' arguments and results, views
    left out. (PyTorch's own FlopCounterMode fails at the gradient of a gradient.)"""

    bytes: float = 0
    flops: float = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for every operation."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        if not func.is_view:
            leaves = torch.utils._pytree.tree_leaves((args, kwargs, out))
            self.bytes += sum(x.nbytes for x in leaves if isinstance(x, torch.Tensor))
        return out


def step_memory(side: Side) -> float | None:
    """MB at the peak of one step, over what lies in memory before it."""
    if isinstance(side, Ours):
        if on_gpu():
            return float(side.figures["xla_temporary_mb"])
    elif isinstance(side, Torch) and side.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side.run(1)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is
    except OSError:
        return None
    resident = _resident("VmRSS")
    side.run(1)
    return max(_resident("VmHWM") - resident, 0.0)


def _resident(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 2**10


def roof(precision: str) -> float:
    """GFLOP/s of the faster of JAX's and PyTorch's square matrix products."""
    with matmul_precision(precision):
        ours = resources.matmul_rate(jax.devices()[:1], jnp.dtype(_TYPES[precision]))
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    side = 8192 if on_gpu() else 1024
    a = torch.ones(side, side, dtype=getattr(torch, _TYPES[precision]), device=torch_device())
    return max(ours, 2 * side**3 / best_seconds(lambda: a @ a)) / 1e9


def copy_rate() -> float:
    """GB/s, read and written."""
    a = torch.ones(_COPIED // 4, device=torch_device())
    b = torch.empty_like(a)
    return 2 * _COPIED / best_seconds(lambda: b.copy_(a)) / 1e9


def best_seconds(call: Callable[[], Any], repeats: int = 6) -> float:
    """Of PyTorch's ``call``."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def finish(rows: list[dict[str, Any]], roofs: dict[str, float], copy: float) -> None:
    """Adds to the rows what follows from their times."""
    timed = [row for row in rows if row["milliseconds"] and "error" not in row]
    for row in timed:
        low, row["ms"], high = (float(x) for x in np.percentile(row["milliseconds"], (25, 50, 75)))
        row |= {"spread_ms": (high - low) / 2, "images_per_second": 1e3 * row["images_per_step"] / row["ms"]}
        if "gflop_per_step" in row:
            row["gflop_per_second"] = 1e3 * row["gflop_per_step"] / row["ms"]
            row["share_of_matmul"] = row["gflop_per_second"] / roofs[row["precision"]]
        if "gb_per_step" in row:
            row["share_of_bandwidth"] = 1e3 * row["gb_per_step"] / row["ms"] / copy
    for row in timed:
        for key, precisions in (("ratio_same", {row["precision"]}), ("ratio_any", set(roofs))):
            others = [r for r in timed if r["name"] != Ours.name and r["precision"] in precisions]
            if others:
                best = min(others, key=lambda r: r["ms"])["milliseconds"]
                row[key] = statistics.median(b / a for a, b in zip(row["milliseconds"], best, strict=True))


_COLUMNS = {
    "ms": ("ms", "{:.1f}"),
    "spread_ms": ("±", "{:.1f}"),
    "images_per_second": ("images/s", "{:,.0f}"),
    "ratio_same": ("to same", "{:.2f}"),
    "ratio_any": ("to any", "{:.2f}"),
    "gflop_per_second": ("GFLOP/s", "{:,.0f}"),
    "share_of_matmul": ("of matmul", "{:.2f}"),
    "share_of_bandwidth": ("bandwidth", "{:.2f}"),
    "compile_seconds": ("compile s", "{:.1f}"),
    "memory_mb": ("memory MB", "{:,.0f}"),
}


def table(rows: list[dict[str, Any]]) -> str:
    """In words."""
    lines = [f"{'':26}{'':10}" + "".join(f"{title:>10}" for title, _ in _COLUMNS.values())]
    for row in rows:
        cells = [form.format(row[key]) if row.get(key) is not None else "-" for key, (_, form) in _COLUMNS.items()]
        text = row["error"] if "error" in row else "".join(f"{cell:>10}" for cell in cells)
        lines.append(f"{row['name']:26}{row['precision']:10}{text}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Whose figures these are."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0))
    return {"device": jax.devices()[0].device_kind, "cpu": cpu[1] if cpu else platform.machine(), "cores": cores}


def versions() -> dict[str, str]:
    """Of what was measured."""
    return {"python": platform.python_version(), "jax": jax.__version__, "torch": torch.__version__}


if __name__ == "__main__":
    sys.exit(main())
