"""A population in training: trials of one program, each with a workdir of its own."""

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax import build
from gan_jax.config import OBSERVING
from gan_jax.core.state import GANState
from gan_jax.runs import origin
from gan_jax.runs.checkpoint import Checkpoints, DamagedError
from gan_jax.runs.report import write_report
from gan_jax.runtime import placement, program, resources
from gan_jax.runtime.signals import Stop
from gan_jax.sweeps.planning import LISTED, Trial
from gan_jax.training.dispatch import Pace, Pending, chunks
from gan_jax.training.loop import loop
from gan_jax.training.run import Run
from gan_jax.util import progress
from gan_jax.util.errors import DivergedError, EndedError, UserError, listed
from gan_jax.util.files import read_json, write_json

_LOOKING = {"steps", *OBSERVING}  # keys on which no step's speed depends
_WORTH = 1.5  # how much faster trials must be at once: in turn, none's rounding depends on how many there are
_LOSSES = ("d_loss", "g_loss")
# Told of every evaluation of a trial: ``observe(member, step, figures)``. If it returns why, the trial ends there.
Observe = Callable[[Trial, int, Mapping[str, float]], str | None]


class Population:
    """Trials that one program trains, those that are ``going``.

    Those that ``ended_early`` keep their slots: where trials go at once, rounding depends on how many there are.
    """

    def __init__(
        self,
        going: Sequence[Trial],
        ended_early: Sequence[Trial],
        devices: Sequence[jax.Device],
        observe: Observe | None,
        stop: Stop,
        fallback: Path | None,
    ) -> None:
        self.observe, self.stop, self.fallback = observe, stop, fallback
        self.members = sorted([*going, *ended_early], key=lambda member: member.name)
        self.devices = devices[: len(self.members)]
        self.each = -(-len(self.members) // len(self.devices))  # slots on a device
        self.config, self.gan = going[0].config, going[0].gan
        self.going = {number: member for number, member in enumerate(self.members) if member in going}  # by slot
        self.runs: dict[int, Run] = {}  # those that still go on, by slot

    def go(self) -> None:
        """From the last step that all have a checkpoint of, to the end."""
        self.stop.looked_at = False  # nothing is lost until there are steps
        if self.stop.asked:
            raise EndedError(f"{self.stop.asked}: ended before the next program; the same command resumes")
        config, cache = self.config, self.members[0].workdir.cache
        dataset = build.build_dataset(config, cache)
        feed = build.build_feed(config, self.gan, dataset, self.devices[:1])
        if feed.streamed:
            raise UserError(
                f"{dataset.name} has {dataset.megabytes:,.0f} MB, more than data.device_budget_mb, and a sweep keeps "
                "its data on the devices: raise the budget, or train the trials one by one"
            )
        evaluator = build.build_evaluator(config, self.gan, dataset, cache, self.devices)
        for name, text in (dataset.description | {"evaluation": evaluator.description}).items():
            print(f"{name}: {text}")
        for warning in dataset.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        with ExitStack() as stack:
            kept = []
            for member in self.going.values():
                place = member.workdir
                stack.enter_context(place.locked())
                place.check_data(
                    dataset.name, dataset.digest, len(dataset.train_images), dataset.class_counts, dataset.conditions
                )
                place.claim(member.config)
                kept.append(stack.enter_context(Checkpoints(place.checkpoints, config.checkpoint.keep, place.damaged)))
            begun = [program.begun(m.gan, m.config.seed, m.hyperparams) for m in self.members]
            states = jax.device_get(begun)
            if config.init_from and not set.intersection(*(set(checkpoints.steps()) for checkpoints in kept)):
                states = self.inherited(states)
            first, found = together(kept, [states[number] for number in self.going])
            if first:
                print(f"resumed from the checkpoints of step {first:,}")
            for (number, member), state, checkpoints in zip(self.going.items(), found, kept, strict=True):
                states[number] = state
                logs = stack.enter_context(member.workdir.logs(first if first else -1, member.config))
                own = member.config, member.gan, evaluator, member.workdir, checkpoints, logs, first
                self.runs[number] = Run(*own, self.stop, self.fallback)
                stack.enter_context(self.runs[number].kept)
            used = self.train(states, feed, first)
        for number, run in self.runs.items():
            print(f"{self.members[number].name}: {run.finish(used)}")

    def inherited(self, states: list[GANState]) -> list[GANState]:
        """Return states before their first step, those that go on with the weights of ``config.init_from``."""
        source = origin.read(self.config.init_from)
        for number, member in self.going.items():
            states[number], told = origin.begin(source, states[number], member.workdir)
        print("\n".join(f"init_from: {line}" for line in told))
        return states

    def train(self, begun: Sequence[GANState], feed: Any, first: int) -> dict[str, Any]:
        """All steps from ``first`` on; returns what they cost."""
        self.first, self.until = first, self.config.steps
        self.data = placement.replicated(jax.tree.map(np.asarray, feed.data), self.devices)
        self.share = {name: np.asarray(array)[0] for name, array in feed.nothing.items()}
        begin = time.perf_counter()
        self.program = self.compiled(begun, feed)
        self.states, _ = jax.block_until_ready(self.program(self.program.put(begun), 0, self.data, self.share))
        compiling = round(time.perf_counter() - begin, 3)
        for number, run in self.runs.items():
            run.start(self.program.state(self.states, number))
        self.stop.looked_at = True
        count, pace = len(self.runs), Pace(self.config.steps_per_dispatch, feed.capacity)
        loop(self, ((chunk, None) for chunk in chunks(self.config, first, pace)), pace)
        programs = len(self.devices) * (1 if self.program.together else self.each)
        state = self.program.state(self.states, 0)
        cost = resources.cost(self.gan, self.program.chunk, state, self.config.batch_size, programs)
        rates = [rate * count for run in self.runs.values() for rate in run.rates]
        images = self.config.batch_size * self.config.d_steps * count
        figures = resources.figures(cost, rates, images, self.devices, self.config.compute_dtype)
        return {"trials": count, "compile_seconds": compiling} | figures

    @property
    def trials(self) -> int:
        """Return how many go on."""
        return len(self.runs)

    def dispatch(self, count: int, share: Any) -> Any:
        """Start ``count`` steps of all that go on."""
        self.states, metrics = self.program(self.states, count, self.data, self.share, self.runs)
        return metrics

    def needs_attention(self, step: int) -> str:
        """Return why one of them needs it."""
        told = [run.needs_attention(step) for run in self.runs.values()]
        return next(filter(None, told), "")

    def attend(self, step: int) -> None:
        """Save all, after the same step."""
        for number, run in self.runs.items():
            run.attend(step, self.program.state(self.states, number))

    def compiled(self, begun: Sequence[GANState], feed: Any) -> program.Population:
        """Return the program.

        Whether a device's trials make their steps at once is by the config, or by measurement. What was measured is
        kept beside the data, for all sweeps there: the two differ by rounding, and the same sweep shall come out the
        same twice.
        """

        def compile(together: bool) -> program.Population:
            return program.Population(self.gan, feed.fetch, feed.capacity, self.devices, self.each, together)

        asked = self.config.parallel.population
        if asked != "auto" or self.each == 1:
            return compile(asked == "vmap")
        file, kind = self.members[0].workdir.cache / "populations.json", placement.kind(self.devices)
        # Those may change.
        static = {key: value for key, value in self.members[0].static.items() if key not in _LOOKING}
        what = json.dumps([static, repr(self.gan.generator), repr(self.gan.discriminator)])
        key = f"{self.each} trials a device, {kind}: {hashlib.sha256(what.encode()).hexdigest()[:12]}"

        def rates() -> dict[str, float]:
            kept = read_json(file)
            found = kept.items() if isinstance(kept, dict) else ()
            return {name: rate for name, rate in found if isinstance(rate, int | float)}

        known = rates()
        both = {together: compile(together) for together in ((known[key] > _WORTH,) if key in known else (False, True))}
        if key not in known:
            print("measuring whether trials are faster at once or in turn; what is found is kept", flush=True)
            found = round(program.measured(both[True], both[False], begun, self.data, self.share), 3)
            known = {key: found} | rates()  # another job may have been first
            write_json(file, known)
        together = known[key] > _WORTH
        order = "at once" if together else "in turn"
        speed = f"at once they are {known[key]:.2f} times as fast as in turn, and {_WORTH} are wanted"
        print(f"{self.each} trials a device {order}: {speed}")
        return both[together]

    def report(self, pending: Pending) -> None:
        """Let each trial log what is pending."""
        self.each_looks(pending, None)

    def pause(self, step: int, pending: Pending) -> None:
        """Let each do what is due after ``step`` steps."""
        self.each_looks(pending, step)
        self.tell(step)

    def each_looks(self, pending: Pending, due: int | None) -> None:
        """Let each trial report, or do what is ``due`` after that step.

        Those that diverged, or that ``observe`` ends, are left behind.
        """
        metrics = jax.device_get(pending.metrics)
        for number, run in list(self.runs.items()):
            own = Pending(pending.first, pending.count, self.program.metrics(metrics, number), pending.dispatched)
            try:
                if due is None:
                    run.report(own)
                    continue
                run.pause(due, self.program.state(self.states, number), own)
                if self.observe and run.figures:
                    why = self.observe(self.members[number], due, run.figures)
                    if why:
                        self.leave(number, "pruned", why)
            except DivergedError as error:
                self.leave(number, "diverged", str(run.apart(error, self.program.state(self.states, number))))

    def leave(self, number: int, verdict: str, why: str) -> None:
        """End a trial before its last step."""
        print(f"\n{self.members[number].name}: {why}", file=sys.stderr)
        run = self.runs.pop(number)
        run.workdir.save_summary({"verdict": verdict, "why": why})
        write_report(run.workdir)
        run.logs.finish({})

    def tell(self, step: int) -> None:
        """Print what an evaluation after ``step`` found of each trial; of many, of those with the lowest FIDs."""
        judged = {number: run for number, run in self.runs.items() if run.figures}
        chosen = sorted(sorted(judged, key=lambda number: min(judged[number].fid, default=0.0))[:LISTED])
        for place, number in enumerate(chosen):
            line, distances = judged[number].line, judged[number].distances(judged[number].figures)
            text = listed([f"D loss {line['d_loss']:.3f}, G loss {line['g_loss']:.3f}", *distances], between="; ")
            progress.say(f"{'' if place else f'step {step:,}':<14}{self.members[number].name}  {text}")
        if len(judged) > len(chosen):
            progress.say(f"{'':<14}and {len(judged) - len(chosen)} more")

    def shown(self) -> str:
        """Return what a progress bar shows of all trials."""
        now = [run.now for run in self.runs.values() if run.now]
        if not now:
            return ""
        rate = sum(one["images_per_second"] for one in now)
        losses = (f"{name[0].upper()} loss {statistics.median(one[name] for one in now):.3f}" for name in _LOSSES)
        fids = [(run.fid[0], self.members[number].name) for number, run in self.runs.items() if run.fid]
        lowest = [f"lowest fid {value:.3g} ({name})" for value, name in sorted(fids)[:1]]
        return listed([f"{rate:,.0f} images/s", f"medians: {listed(losses)}", *lowest])


def together(kept: Sequence[Checkpoints], begun: Sequence[GANState]) -> tuple[int, list[GANState]]:
    """Return the last step that all have a whole checkpoint of, and their states after it.

    If there was none, it is step 0, and the states ``begun``. Later checkpoints are removed, damaged ones put aside.

    Raises:
      UserError: there were such steps, but at each a checkpoint is damaged.
    """
    damaged: list[tuple[Checkpoints, int, str]] = []
    for step in sorted(set.intersection(*(set(checkpoints.steps()) for checkpoints in kept)), reverse=True):
        states = []
        for checkpoints, like in zip(kept, begun, strict=True):
            try:
                states.append(checkpoints.load(step, like))
            except DamagedError as error:
                damaged.append((checkpoints, step, str(error)))
        if len(states) == len(kept):
            break
    else:
        if damaged:
            found = listed(
                (f"{checkpoints.directory / str(step)} ({why})" for checkpoints, step, why in damaged),
                between="; ",
                long=300,
            )
            raise UserError(f"no step has a whole checkpoint of all trials: {found}; nothing was removed")
        step, states = 0, list(begun)
    for checkpoints, number, why in damaged:
        checkpoints.put_aside(number, why)
    for checkpoints in kept:
        checkpoints.drop_after(step)
    return step, states
