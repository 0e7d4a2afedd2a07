"""One run, from its last checkpoint to its end."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.assemble import frozen
from gan_jax.config import is_leaf
from gan_jax.core.gan import GAN, Hyperparams
from gan_jax.core.state import GANState, named_leaves, parameter_count
from gan_jax.data.feed import Feed
from gan_jax.runs import origin
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.onlooker import Onlooker
from gan_jax.runs.report import write_report
from gan_jax.runs.workdir import Workdir, told
from gan_jax.runtime import distributed, placement
from gan_jax.runtime.signals import Stop
from gan_jax.stages import at, lengthens, that_made
from gan_jax.training import stages
from gan_jax.training.alone import Alone
from gan_jax.training.classes import with_classes
from gan_jax.training.run import Run, impatient
from gan_jax.training.stages import Part
from gan_jax.util.errors import DivergedError, EndedError, UserError, listed
from gan_jax.util.files import keep

_FOR_GPUS = 20_000_000  # parameters from which on networks are no matter for a CPU
_ROLLBACKS = 3  # that one run may make
_GOLDEN = 0x9E3779B1  # 2^32 over the golden ratio: seeds that many times it apart are far apart


def train(
    config: ConfigDict,
    path: Path,
    devices: Sequence[jax.Device] | None = None,
    *,
    stop: Stop | None = None,
    fallback: Path | None = None,
    change: bool = False,
) -> GANState | None:
    """Train what ``config`` says in the directory ``path``, from its last checkpoint if there is one, to the end.

    Args:
      config: see `gan_jax.config`.
      path: the workdir; see `gan_jax.runs.workdir.Workdir` for what is written.
      devices: those to train on; all, of all processes of the run, if None.
      stop: asks for an early end.
      fallback: a directory for the state in memory, where the workdir can't be written any more.
      change: whether a begun run may go on with other leaves of the state (`gan_jax.config.LEAVES`), which is recorded.

    Returns:
      The final state, or None if the run was finished already.

    Raises:
      UserError: anything that the user can mend; also a loss or a state that is no longer finite.
      EndedError: ``stop`` asked for an early end, and the state was saved.
    """
    devices = placement.all_devices() if devices is None else devices
    workdir = Workdir(path) if distributed.is_first() else Onlooker(path)
    with distributed.first_goes_first():
        config, counted = with_classes(config, workdir)
    parts = stages.parts(config, workdir.cache, placement.local_devices(devices))
    if counted is not None:
        parts[0].dataset = counted  # it isn't read again
    for part in parts:
        build.check_batch(part.config, len(devices))
    with ExitStack() as stack:
        with distributed.first_goes_first():  # to the files: the others find the data decoded, the classifier trained
            try:
                changes = changed_leaves(config, parts, workdir) if change else []
                workdir.check(config, changes)
            except UserError:
                build.check_data_place(config)  # if that is mistaken, it is what is to be said
                raise
            if distributed.broadcast(workdir.finished(config.steps)):
                if changes:
                    raise UserError(
                        f"{path} holds a run that has ended, which {_listed(changes)} can't change any more"
                    )
                if not (path / "report.html").exists():
                    keep(lambda: write_report(workdir), f"the report in {path}")
                print(f"{path} holds {_ending(config, workdir)}")
                return None
            if why := distributed.broadcast(_without_patience(config, workdir)):
                hint = "nothing to do; --config.checkpoint.patience=0 goes on"
                print(f"{path} holds a run that ended early ({why}): {hint}")
                return None
            if config.init_from and not workdir.saved():
                origin.check(config.init_from, parts[0].shapes)
            if known := path.is_dir():  # else not before it is clear that the run can start
                stack.enter_context(workdir.locked())
            stages.check(parts[:1])
            dataset = parts[0].dataset
            if not known:
                stack.enter_context(workdir.locked())
                workdir.check(config, changes)
            stages.check(parts[1:])
            workdir.check_data(
                dataset.name, dataset.digest, len(dataset.train_images), dataset.class_counts, dataset.conditions
            )
            workdir.record_changes(config, max(workdir.saved(), default=None))  # before the config that it explains
            workdir.claim(config)
        distributed.barrier()
        for warning in dataset.warnings if distributed.is_first() else ():
            print(f"warning: {warning}", file=sys.stderr)
        attempt = partial(_attempt, config, parts, workdir, devices, stop or Stop(), fallback)
        while True:
            try:
                return attempt()
            except DivergedError as error:
                if config.on_divergence != "rollback":
                    raise
                go_back(config, workdir, error)


def changed_leaves(config: ConfigDict, parts: Sequence[Part], workdir: Workdir) -> list[str]:
    """Return the keys that ``config`` has otherwise than the run in ``workdir``, all of them leaves of the state.

    Raises:
      UserError: one of them isn't; names it.
    """
    if not workdir.holds_run() or not (differing := workdir.differing(config)):
        return []
    fixed = [key for key in differing if not is_leaf(key) and not (key == "steps" and config.steps > workdir.reached())]
    before = build.build_stages(workdir.config())
    if [_program(gan, hyper) for _, gan, hyper in before] != [_program(part.gan, part.hyper) for part in parts]:
        fixed = fixed or list(differing)
    if fixed:
        said = listed((differing[key] for key in fixed), between="; ")
        raise UserError(
            f"--change: a run keeps its program, its networks and its data ({said}); "
            f"rates, betas, weights of terms, labels and averages can change: leave out {_listed(fixed)}, or give "
            "another --workdir"
        )
    return list(differing)


def _program(gan: GAN, hyper: Hyperparams) -> tuple[GAN, Any]:
    """Return what makes another program when it changes."""
    return gan, jax.tree.structure(hyper)


def _listed(keys: Sequence[str]) -> str:
    return listed(key if key.startswith("code.") else f"--config.{key}" for key in keys)


def _without_patience(config: ConfigDict, workdir: Workdir) -> str:
    """Why the run here has ended for want of patience, and would again; nothing if it goes on."""
    summary = workdir.summary() or {}
    why: str = summary.get("ended_early", "")
    lasting = config.checkpoint.patience and config.checkpoint.patience <= summary.get("patience", 0)
    return why if lasting else ""


def _ending(config: ConfigDict, workdir: Workdir) -> str:
    """Return, in words, what a run is that has ended."""
    if workdir.made() is None:
        summary = workdir.summary() or {}
        verdict, why = summary.get("verdict", "ended"), summary.get("why", "summary.json has no steps")
        return f"a run that {verdict} before its last step ({why}): nothing to do"
    more = "; more steps make it longer" if lengthens(config) else ""
    return f"a finished run of {config.steps:,} steps: nothing to do{more}"


def _attempt(
    config: ConfigDict,
    parts: Sequence[Part],
    workdir: Workdir,
    devices: Sequence[jax.Device],
    stop: Stop,
    fallback: Path | None,
) -> GANState:
    """From the last checkpoint to the end."""
    stop.looked_at = False  # nothing is lost until there are steps
    if stop.asked:
        raise EndedError(f"{stop.asked}: ended before the first step of this attempt; the same command resumes")
    with ExitStack() as stack:
        checkpoints = Checkpoints(workdir.checkpoints, config.checkpoint.keep, workdir.damaged)
        stack.enter_context(checkpoints)
        resumed = distributed.broadcast(checkpoints.latest())
        part, begun = parts[0], list[str]()
        if resumed is None:
            seeds = [rollback["seed"] for rollback in workdir.rollbacks(0)]
            seed = int(seeds[-1] if seeds else config.seed)
            state: GANState | Callable[[], GANState] = (later := part.beginning(seed))
            if config.init_from:
                state, begun = origin.begin(origin.read(config.init_from), later(), workdir)
        else:
            found = checkpoints.restore(lambda step: that_made(parts, step).shapes)
            resumed = int(found.step)
            seeds = [rollback["seed"] for rollback in workdir.rollbacks(resumed) if rollback["to"] == resumed]
            found = found.replace(seed=np.uint32(seeds[-1])) if seeds else found
            part, before = at(parts, resumed), that_made(parts, resumed)
            state = found.replace(hyperparams=part.hyper) if part is before else part.entered(found)[0]
            seed = int(found.seed)
        for other in parts:
            if other is not part:
                other.close()
        for line in told(workdir.record_changes(config, resumed)):
            print(f"{'changed':<14}{line}")
        feed = part.feed(devices, seed)
        print(describe(config, parts, feed, devices, workdir.path, resumed))
        if heavy := too_heavy(part.shapes, devices):
            print(f"warning: {heavy}", file=sys.stderr)
        for number, line in enumerate(begun):
            print(f"{'' if number else 'init_from':<14}{line}")
        logs = stack.enter_context(workdir.logs(resumed if resumed is not None else -1, config))
        run = Run(config, part.gan, part.evaluator, workdir, checkpoints, logs, resumed or 0, stop, fallback)
        stack.enter_context(run.kept)
        if resumed:
            run.lose_patience(resumed)
        final, used = Alone(run, parts, devices).go(state, feed)
    if distributed.is_first():
        print(run.finish(used))
    distributed.barrier()  # nobody leaves before all is written
    if run.over:
        print(f"ended early: {impatient(config, str(run.kept))}")
    print(f"finished: {run.over or config.steps:,} steps; see {workdir.path / 'report.html'}")
    return final


def go_back(config: ConfigDict, workdir: Workdir, error: DivergedError) -> None:
    """Prepare another attempt from the last checkpoint, with another order of the data and other noise.

    Raises:
      DivergedError: there were too many already.
    """
    with Checkpoints(workdir.checkpoints) as checkpoints:
        to = checkpoints.latest() or 0
    number = len(workdir.rollbacks(to)) + 1
    if number > _ROLLBACKS:
        raise DivergedError(f"{error}; {_ROLLBACKS} rollbacks did not help") from error
    seed = (config.seed + number * _GOLDEN) % 2**32
    distributed.barrier()  # all have counted
    workdir.add_rollback({"to": to, "seed": seed, "why": str(error)})
    distributed.barrier()
    print(
        f"\nwarning: {error}; rollback {number} of {_ROLLBACKS}: from step {to:,} on with seed {seed}", file=sys.stderr
    )


def describe(
    config: ConfigDict,
    parts: Sequence[Part],
    feed: Feed,
    devices: Sequence[jax.Device],
    path: Path,
    resumed: int | None,
) -> str:
    """Return what a run says of itself at its start."""
    part = at(parts, resumed or 0)
    own, dataset = part.config, part.dataset
    kind = f"{len(devices)} x {placement.kind(devices)} ({placement.platform(devices)})"
    images = f"{len(dataset.train_images):,} train and {len(dataset.test_images):,} test images"
    size = "x".join(map(str, dataset.image_shape))
    place = f"{'streamed' if feed.streamed else 'on the device'}, {dataset.megabytes:,.1f} MB"
    start = "from the beginning" if resumed is None else f"resumed from the checkpoint of step {resumed:,}"
    planned = listed(map(stages.described, parts), between="; ")
    return "\n".join(
        f"{name:<14}{text}"
        for name, text in {
            **({"preset": config.note} if config.note else {}),
            "model": f"{own.model}, loss {own.loss}, {own.compute_dtype}",
            "parameters": listed(
                describe_parameters(own, part.shapes, player) for player in ("generator", "discriminator")
            ),
            "data": f"{dataset.name}, {images} of {size}; {place}",
            **dataset.description,
            "evaluation": part.evaluator.description,
            "devices": f"{kind}, batch {own.batch_size} ({own.batch_size // len(devices)} each)",
            **({"stages": planned} if len(parts) > 1 else {}),
            "steps": f"{config.steps:,}, {start}",
            "output": str(path),
            "program": "is being compiled, unless it is in the cache",
        }.items()
    )


def too_heavy(shapes: GANState, devices: Sequence[jax.Device]) -> str:
    """Say that networks are too large for a CPU; nothing if they aren't, or it is none."""
    count = sum(parameter_count(player.params) for player in (shapes.generator, shapes.discriminator))
    if placement.platform(devices) != "cpu" or count < _FOR_GPUS:
        return ""
    return (
        f"{count / 1e6:,.0f} million parameters on a CPU: to compile takes minutes, a step too, and maybe tens of GB; "
        "presets of embedded data (mnist5k, earth32, earth64) have networks for CPUs"
    )


def describe_parameters(config: ConfigDict, shapes: GANState, player: str) -> str:
    """How many parameters a player has, and how many of them stand still."""
    leaves = named_leaves(getattr(shapes, player).params)
    standing = sum(leaves[name].size for name in frozen(config, player, leaves))
    text = f"{player} {parameter_count(leaves):,}"
    return f"{text} ({standing:,} of them stand still)" if standing else text
