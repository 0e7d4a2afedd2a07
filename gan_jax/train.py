"""The training loop of one run."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from gan_jax import build, distributed, parallel, resources
from gan_jax.checkpoint import Checkpoints
from gan_jax.data import Dataset
from gan_jax.evaluate import Evaluator
from gan_jax.feed import Feed
from gan_jax.report import write_report
from gan_jax.state import GAN, GANState, init_state, parameter_count
from gan_jax.trial import Pending, Trial, chunks, due
from gan_jax.workdir import Onlooker, Workdir


def train(config: ConfigDict, path: Path, devices: Sequence[jax.Device] | None = None) -> GANState | None:
    """Trains what ``config`` says in the directory ``path``, from its last checkpoint if there is one, to the end.

    Args:
      config: see `gan_jax.config`.
      path: the workdir; see `gan_jax.workdir.Workdir` for what is written.
      devices: those to train on; all, of all processes of the run, if None.

    Returns:
      The final state, or None if the run was finished already.

    Raises:
      UserError: anything that the user can mend; also a loss that is no longer finite.
    """
    devices = parallel.everywhere() if devices is None else devices
    own = parallel.own(devices)
    gan, hyper = build.build_gan(config)
    parallel.shard_index(config.batch_size, len(devices), config.parallel.logical_shards)
    workdir = Workdir(path) if distributed.is_first() else Onlooker(path)
    with distributed.first_goes_first():  # to the files: the others find the data decoded, the classifier trained
        workdir.check(config)
        if distributed.agreed(bool(workdir.summary())):
            if not (path / "report.html").exists():
                write_report(workdir)
            print(f"{path} holds a finished run of {config.steps:,} steps: nothing to do")
            return None
        parallel.check_memory(jax.eval_shape(lambda: init_state(gan, config.seed, hyper)), own)
        dataset = build.build_dataset(config, workdir.cache)
        workdir.claim(config)
        workdir.check_data(dataset.name, dataset.digest)
        evaluator = build.build_evaluator(config, gan, dataset, workdir.cache, own)
    distributed.meet()
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir.checkpoints, config.checkpoint.keep))
        state = jax.jit(lambda: init_state(gan, config.seed, hyper))()
        resumed = distributed.agreed(checkpoints.latest())
        if resumed is not None:
            state = checkpoints.restore(state, resumed)
        for warning in dataset.warnings if distributed.is_first() else ():
            print(f"warning: {warning}", file=sys.stderr)
        feed = build.build_feed(config, gan, dataset, devices)
        print(describe(config, gan, state, dataset, feed, evaluator, devices, path, resumed))
        logs = stack.enter_context(workdir.logs(after=resumed if resumed is not None else -1))
        trial = Trial(config, gan, evaluator, workdir, checkpoints, logs, resumed or 0)
        state, used = steps(trial, feed, parallel.on_all(state, devices), devices)
    if distributed.is_first():
        print(trial.finish(used))
    distributed.meet()  # nobody leaves before all is written
    print(f"finished: {config.steps:,} steps; see {path / 'report.html'}")
    return state


def steps(trial: Trial, feed: Feed, state: GANState, devices: Sequence[jax.Device]) -> tuple[GANState, dict[str, Any]]:
    """Trains ``trial`` to its last step.

    Returns:
      The final state, and what the steps cost (`gan_jax.resources.figures`).
    """
    config = trial.config
    chunk = parallel.compile_chunk(trial.gan, feed.fetch, feed.capacity, devices, config.parallel.logical_shards)
    begin = time.perf_counter()
    state, _ = jax.block_until_ready(chunk(state, 0, feed.data, feed.nothing))
    compiling = {"compile_seconds": round(time.perf_counter() - begin, 3)}
    trial.start(parallel.on_first(state))
    pending: Pending | None = None
    plan = list(chunks(config, trial.first, feed.capacity))
    with (
        tqdm(total=config.steps, initial=trial.first, unit="step", dynamic_ncols=True) as bar,
        closing(feed.shares(plan)) as shares,
    ):

        def show(pending: Pending, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(pending.count)

        for (step, count), share in zip(plan, shares, strict=True):
            state, metrics = chunk(state, count, feed.data, share)
            if pending:  # looked at while the next chunk runs
                show(pending, trial.report(pending))
            pending = Pending(step, count, metrics)
            if due(config, step + count):
                show(pending, trial.pause(step + count, parallel.on_first(state), pending))
                pending = None
    programs = config.parallel.logical_shards or len(devices)  # XLA counts the loop over shards once
    cost = resources.cost(trial.gan, chunk, state, config.batch_size, programs)
    used = resources.figures(cost, trial.rates, trial.images_per_step, devices, config.compute_dtype)
    return state, compiling | used


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
