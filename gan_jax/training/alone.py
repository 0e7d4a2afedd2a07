"""A run that has the devices for itself, through its stages."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import jax

from gan_jax.core.state import GANState
from gan_jax.data.feed import Feed
from gan_jax.runs.report import write_report
from gan_jax.runtime import distributed, placement, program, resources
from gan_jax.stages import at
from gan_jax.training.dispatch import Pace, Pending, chunks
from gan_jax.training.loop import loop
from gan_jax.training.run import Run
from gan_jax.training.stages import Part, described
from gan_jax.util import progress
from gan_jax.util.errors import DivergedError
from gan_jax.util.files import keep


class Alone:
    """What `gan_jax.training.loop` trains where there is one run.

    Args:
      run: its own affairs.
      parts: its stages.
      devices: those to train on, of all processes.
    """

    def __init__(self, run: Run, parts: Sequence[Part], devices: Sequence[jax.Device]) -> None:
        self.run, self.parts, self.devices = run, parts, devices
        self.config, self.first, self.stop = run.config, run.first, run.stop
        self.part = at(parts, run.first)
        self._shown, self._compiling = "", 0.0

    @property
    def trials(self) -> int:
        """Return 1; 0 where the run has lost its patience."""
        return 0 if self.run.over else 1

    @property
    def until(self) -> int:
        """Return the step with which the present stage ends."""
        return self.part.stage.end

    def go(self, state: GANState | Callable[[], GANState], feed: Feed) -> tuple[GANState, dict[str, Any]]:
        """Train to the last step, from ``state``, by the ``feed`` of its stage.

        One that is still to come is waited for once the program is compiled.

        Returns:
          The final state, and what the steps cost (`gan_jax.runtime.resources.figures`), those of the last stage.

        Raises:
          DivergedError: a metric or the state is no longer finite.
          EndedError: the run was asked to end, and saved.
          UserError: its workdir can't be written any more.
        """
        run, config = self.run, self.config
        self._compile(state, feed)
        run.start(placement.on_first(self.state))
        run.stop.looked_at = True
        pace = Pace(config.steps_per_dispatch, feed.capacity)
        with closing(self._shares(pace)) as shares:
            try:
                if not run.over:
                    loop(self, shares, pace)
            except DivergedError as error:
                raise run.apart(error, placement.on_first(self.state)) from error
        own = self.part.config
        programs = config.parallel.logical_shards or len(self.devices)  # XLA counts the loop over shards once
        cost = resources.cost(run.gan, self.chunk, self.state, own.batch_size, programs)
        used = resources.figures(cost, run.rates, run.stage.count.per_step, self.devices, own.compute_dtype)
        return self.state, {"compile_seconds": round(self._compiling, 3)} | used

    def _compile(self, state: GANState | Callable[[], GANState], feed: Feed) -> None:
        shards = self.config.parallel.logical_shards
        self.chunk = program.compile_chunk(self.part.gan, feed.fetch, feed.capacity, self.devices, shards)
        self.feed, begin = feed, time.perf_counter()
        if not distributed.several():  # of several processes pmap wants arrays
            self.chunk.compile(self.part.shapes, feed.data, feed.nothing)
        begun = state() if callable(state) else state
        placed = placement.replicated(begun, self.devices)
        self.state, _ = jax.block_until_ready(self.chunk(placed, 0, feed.data, feed.nothing))
        self._compiling += time.perf_counter() - begin

    def _shares(self, pace: Pace) -> Generator[Any]:
        """Yield the shares of all dispatches.

        The next stage begins when its first is asked for: all before it is done.
        """
        step = self.first
        while True:
            with closing(self.feed.shares(chunks(self.config, step, pace, self.until))) as shares:
                yield from shares
            step = self.until
            if step == self.config.steps:
                return
            self._enter(step)
            pace.begin(self.feed.capacity)

    def _enter(self, step: int) -> None:
        """Go on with the stage that begins after ``step`` steps."""
        before, self.part = self.part, at(self.parts, step)
        state, carried = self.part.entered(placement.on_first(self.state))
        with distributed.first_goes_first():  # to the files
            evaluator = self.part.evaluator
        before.close()
        program.forget()
        self.run.enter(self.part.stage, self.part.gan, evaluator)
        progress.say(f"{f'step {step:,}':<14}{described(self.part)}: {carried}")
        self._compile(state, self.part.feed(self.devices, int(state.seed)))
        self.run.go_on()

    def dispatch(self, count: int, share: Any) -> Any:
        """Start ``count`` steps."""
        self.state, metrics = self.chunk(self.state, count, self.feed.data, share)
        return metrics

    def report(self, pending: Pending) -> None:
        """Log what is pending."""
        self._shown = self.run.report(pending)

    def pause(self, step: int, pending: Pending) -> None:
        """Do what is due; print the distances, if there are new ones."""
        self._shown = self.run.pause(step, placement.on_first(self.state), pending)
        for line in self.run.distances(self.run.figures):
            progress.say(f"{f'step {step:,}':<14}{line}")
        if self.run.figures and distributed.is_first():  # the page of a run that goes on
            keep(lambda: write_report(self.run.workdir), f"the report in {self.run.workdir.path}")

    def shown(self) -> str:
        """Return what `gan_jax.training.run.Run` says of itself."""
        return self._shown

    def needs_attention(self, step: int) -> str:
        """Return why to look after it."""
        return self.run.needs_attention(step)

    def attend(self, step: int) -> None:
        """Save it."""
        self.run.attend(step, placement.on_first(self.state))
