"""The training loop: dispatch, log, sample, evaluate, save, stop."""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gan_jax import build, parallel, resources, visualize
from gan_jax.checkpoint import Checkpoints
from gan_jax.config import to_plain
from gan_jax.data import Dataset
from gan_jax.errors import UserError
from gan_jax.evaluate import Evaluator, monitors
from gan_jax.feed import Feed
from gan_jax.report import write_report
from gan_jax.sample import fixed_latents, generate, reconstruct, row_labels
from gan_jax.state import GAN, GANState, init_state, parameter_count
from gan_jax.workdir import Logs, Workdir


def train(config: ConfigDict, path: Path, devices: Sequence[jax.Device] | None = None) -> GANState | None:
    """Trains what ``config`` says in the directory ``path``, from its last checkpoint if there is one, to the end.

    Args:
      config: see `gan_jax.config`.
      path: the workdir; see `gan_jax.workdir.Workdir` for what is written.
      devices: those to train on; all local ones if None.

    Returns:
      The final state, or None if the run was finished already.

    Raises:
      UserError: anything that the user can mend; also a loss that is no longer finite.
    """
    devices = jax.local_devices() if devices is None else devices
    gan, hyper = build.build_gan(config)
    parallel.shard_index(config.batch_size, len(devices))
    workdir = Workdir(path)
    workdir.check(config)
    if workdir.summary():
        print(f"{path} holds a finished run of {config.steps:,} steps: nothing to do")
        return None
    parallel.check_memory(jax.eval_shape(lambda: init_state(gan, config.seed, hyper)), devices)
    dataset = build.build_dataset(config, workdir.cache)
    workdir.claim(config)
    workdir.check_data(dataset.name, dataset.digest)
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir.checkpoints, config.checkpoint.keep))
        state = jax.jit(lambda: init_state(gan, config.seed, hyper))()
        resumed = checkpoints.latest()
        if resumed is not None:
            state = checkpoints.restore(state)
        for warning in dataset.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        feed = build.build_feed(config, gan, dataset, devices)
        evaluator = build.build_evaluator(config, gan, dataset, workdir.cache, devices)
        print(describe(config, gan, state, dataset, feed, evaluator, devices, path, resumed))
        logs = stack.enter_context(workdir.logs(after=resumed if resumed is not None else -1))
        run = Run(config, gan, feed, evaluator, devices, workdir, checkpoints, logs)
        state = run.go(parallel.on_all(state, devices))
    run.finish(state)
    return state


def describe(
    config: ConfigDict,
    gan: GAN,
    state: GANState,
    dataset: Dataset,
    feed: Feed,
    evaluator: Evaluator,
    devices: Sequence[jax.Device],
    path: Path,
    resumed: int | None,
) -> str:
    """What a run says of itself at its start."""
    kind = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    images = f"{len(dataset.train_images):,} train and {len(dataset.test_images):,} test images"
    size = "x".join(map(str, dataset.image_shape))
    classes = f", {dataset.classes} classes" if dataset.classes else ""
    place = f"{'streamed' if feed.streamed else 'on the device'}, {dataset.megabytes:,.1f} MB"
    start = "from the beginning" if resumed is None else f"resumed from the checkpoint of step {resumed:,}"
    return "\n".join(
        f"{name:<14}{text}"
        for name, text in {
            "model": f"{config.model}, loss {config.loss}, {config.compute_dtype}",
            "parameters": f"generator {parameter_count(state.generator.params):,}, "
            f"discriminator {parameter_count(state.discriminator.params):,}",
            "data": f"{dataset.name}, {images} of {size}{classes}; {place}",
            "evaluation": evaluator.description,
            "devices": f"{kind}, batch {config.batch_size} ({config.batch_size // len(devices)} each)",
            "steps": f"{config.steps:,}, {start}",
            "output": str(path),
        }.items()
    )


@dataclasses.dataclass
class Pending:
    """A chunk of steps that has been dispatched and whose metrics nobody has looked at yet."""

    first: int
    count: int
    metrics: Any
    extra: dict[str, float]


class Run:
    """One run's loop and the figures it keeps of itself."""

    def __init__(
        self,
        config: ConfigDict,
        gan: GAN,
        feed: Feed,
        evaluator: Evaluator,
        devices: Sequence[jax.Device],
        workdir: Workdir,
        checkpoints: Checkpoints,
        logs: Logs,
    ) -> None:
        self.config, self.gan, self.workdir, self.checkpoints, self.logs = config, gan, workdir, checkpoints, logs
        self.feed, self.evaluator = feed, evaluator
        self.chunk = parallel.compile_chunk(gan, feed.fetch, feed.capacity, devices)
        self.devices = devices
        self.latents = fixed_latents(gan, config.seed, config.sample.rows**2)
        self.labels = row_labels(gan, config.sample.rows**2, config.sample.rows)
        self.images_per_step = config.batch_size * config.d_steps
        self.compile_seconds = 0.0
        self.first = 0  # the step that this process starts from
        self.begin = 0.0  # when it started, on the clock of time.perf_counter
        self.reported = 0.0  # when the chunk before was done; 0: other work came in between
        self.rates: list[float] = []  # images/s of each chunk

    def go(self, state: GANState) -> GANState:
        """From the state's step to the last."""
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(self.chunk(state, 0, self.feed.data, self.feed.nothing))
        self.compile_seconds = time.perf_counter() - begin
        self.first = int(state.step)
        if self.first == 0:
            self.draw(0, state)
        self.begin = time.perf_counter()
        pending: Pending | None = None
        plan = list(self.chunks())
        with (
            tqdm(total=self.config.steps, initial=self.first, unit="step", dynamic_ncols=True) as bar,
            closing(self.feed.shares(plan)) as shares,
        ):
            for (step, count), share in zip(plan, shares, strict=True):
                state, metrics = self.chunk(state, count, self.feed.data, share)
                if pending:  # looked at while the next chunk runs
                    self.report(pending, bar)
                pending = Pending(step, count, metrics, {})
                if self.due(step + count):
                    self.pause(step + count, state, pending, bar)
                    pending, self.reported = None, 0.0
        return state

    def chunks(self) -> Iterator[tuple[int, int]]:
        """``(step, count)`` of each dispatch, none of which runs past a step at which something is due."""
        step = self.first
        while step < self.config.steps:
            stop = min(step + self.feed.capacity, self.config.steps)
            for every in (self.config.sample.every, self.config.eval.every, self.config.checkpoint.every):
                stop = min(stop, (step // every + 1) * every)
            yield step, stop - step
            step = stop

    def due(self, step: int) -> bool:
        """Whether the loop must look at the state after ``step`` steps."""
        c = self.config
        return any(step % every == 0 for every in (c.sample.every, c.eval.every, c.checkpoint.every)) or step == c.steps

    def pause(self, step: int, state: GANState, pending: Pending, bar: tqdm) -> None:
        """What is due after ``step`` steps. The metrics come first, so that no bad state is ever saved."""
        last = step == self.config.steps
        if step % self.config.eval.every == 0 or last:
            pending.extra |= self.evaluator.figures(parallel.on_first(state))
        self.report(pending, bar)
        if step % self.config.sample.every == 0 or last:
            self.draw(step, state)
        if step % self.config.checkpoint.every == 0 or last:
            self.checkpoints.save(step, state, to_plain(self.config))

    def report(self, pending: Pending, bar: tqdm) -> None:
        """Checks a chunk's metrics, moves the bar, and logs the steps that are due."""
        metrics = {name: values[: pending.count] for name, values in jax.device_get(pending.metrics).items()}
        for name, values in metrics.items():
            if not np.isfinite(values).all():
                step = pending.first + int(np.flatnonzero(~np.isfinite(values))[0]) + 1
                raise UserError(self.diverged(name, step))
        end, now = pending.first + pending.count, time.perf_counter()
        seconds = now - self.begin
        if self.reported:
            self.rates.append(pending.count * self.images_per_step / (now - self.reported))
        self.reported = now
        rate = (end - self.first) * self.images_per_step / seconds
        for i in range(pending.count):
            step = pending.first + i + 1
            if step % self.config.log.every == 0 or (step == end and pending.extra):
                values = {name: float(array[i]) for name, array in metrics.items()}
                timing = {"seconds": round(self.logs.seconds_before + seconds, 3), "images_per_second": round(rate, 1)}
                self.logs.write({"step": step, **timing, **values, **(pending.extra if step == end else {})})
        losses = f"D loss {metrics['d_loss'][-1]:.3f}, G loss {metrics['g_loss'][-1]:.3f}"
        bar.set_postfix_str(f"{rate:,.0f} images/s, {losses}", refresh=False)
        bar.update(pending.count)

    def diverged(self, name: str, step: int) -> str:
        """What is said when a metric is no longer finite."""
        good = self.checkpoints.latest()
        kept = f"the last good checkpoint is that of step {good}" if good is not None else "there is no checkpoint yet"
        return f"{name} is not finite at step {step}: the training diverged; {kept} in {self.workdir.checkpoints}"

    def draw(self, step: int, state: GANState) -> None:
        """Saves the grid of the fixed latents; of an autoencoder also unseen images beside their reconstructions."""
        state, rows = parallel.on_first(state), self.config.sample.rows
        picture = visualize.grid(np.asarray(generate(self.gan, state, self.latents, self.labels)), rows)
        self.workdir.save_grid(step, picture)
        self.logs.write_picture(step, picture)
        if self.gan.game.reconstruct:
            images, labels = (of[: rows * (rows // 2)] for of in self.evaluator.unseen)
            pairs = np.stack([images, reconstruct(self.gan, state, images, labels)], 1)
            beside = visualize.grid(pairs.reshape(-1, *images.shape[1:]), rows // 2 * 2)
            self.workdir.save_grid(step, beside, "reconstructions")

    def finish(self, state: GANState) -> None:
        """The animation, and the figures of the whole run; those of its last step are the last logged ones."""
        self.workdir.save_animation()
        records = self.workdir.records()
        last, (verdict, why) = records[-1], monitors.verdict(records)
        steps = int(state.step)
        cost = resources.cost(self.gan, self.chunk, state, self.config.batch_size, len(self.devices))
        dtype = self.config.compute_dtype
        summary = {
            "steps": steps,
            "images": steps * self.images_per_step,
            "seconds": last["seconds"],
            "images_per_second": round(steps * self.images_per_step / last["seconds"], 1),
            "resources": {
                "compile_seconds": round(self.compile_seconds, 3),
                **resources.figures(cost, self.rates, self.images_per_step, self.devices, dtype),
            },
            "verdict": verdict,
            "g_loss_oscillation": monitors.oscillation(records),
            "floor": self.evaluator.floor,
            **{name: value for name, value in last.items() if name not in ("step", "seconds", "images_per_second")},
        }
        self.workdir.save_summary(summary)
        report = write_report(self.workdir)
        print(f"{verdict}: {why}")
        print(f"finished: {steps:,} steps in {last['seconds']:,.0f} s; see {report}")
