"""The stages of a run with what is made of each: its GAN, its data, what judges it."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import jax
from ml_collections import ConfigDict

from gan_jax import build, sides
from gan_jax.core.carry import next_stage
from gan_jax.core.gan import GAN, Hyperparams
from gan_jax.core.state import GANState, state_shapes
from gan_jax.data import Dataset
from gan_jax.data.feed import Feed
from gan_jax.evaluate import Evaluator
from gan_jax.runtime import placement, program
from gan_jax.stages import Stage
from gan_jax.util.errors import UserError


@dataclasses.dataclass(eq=False)
class Part:
    """A stage, its GAN and hyperparameters; ``cache`` is for its data, ``devices`` judge it."""

    stage: Stage
    gan: GAN
    hyper: Hyperparams
    cache: Path | None
    devices: Sequence[jax.Device]

    @property
    def begin(self) -> int:
        """After which step it begins."""
        return self.stage.begin

    @property
    def config(self) -> ConfigDict:
        """What holds in it."""
        return self.stage.config

    @cached_property
    def shapes(self) -> GANState:
        """Of its states."""
        return state_shapes(self.gan, self.hyper)

    @cached_property
    def dataset(self) -> Dataset:
        """Its images."""
        return build.build_dataset(self.config, self.cache)

    @cached_property
    def evaluator(self) -> Evaluator:
        """What judges it."""
        return build.build_evaluator(self.config, self.gan, self.dataset, self.cache, self.devices)

    def first_state(self, seed: int) -> GANState:
        """Return a state before the first step."""
        return program.begun(self.gan, seed, self.hyper)

    def beginning(self, seed: int) -> Callable[[], GANState]:
        """Return what returns `first_state`'s, which is being compiled meanwhile."""
        return program.beginning(self.gan, seed, self.hyper)

    def entered(self, state: GANState) -> tuple[GANState, str]:
        """Return the state with which it begins, ``state`` being the last of the stage before; and what fits, in words.

        It is a function of ``state`` alone: a run that is resumed at the boundary goes on as one that wasn't stopped.
        """
        old = jax.device_get(state)
        found, carried = next_stage(old, self.first_state(int(old.seed)), reset_optimizer=self.stage.reset_optimizer)
        fresh = len(carried.other_shape) + len(carried.not_there)
        text = f"{len(carried.taken)} arrays go on, {fresh} begin anew, {len(carried.left_over)} are left behind"
        return jax.device_get(found), text

    def feed(self, devices: Sequence[jax.Device], seed: int) -> Feed:
        """Return what gives its steps their images."""
        return build.build_feed(self.config, self.gan, self.dataset, devices, seed, self.stage.count.ahead)

    def close(self) -> None:
        """Let go of what takes memory."""
        for name in ("dataset", "evaluator"):
            self.__dict__.pop(name, None)


def parts(config: ConfigDict, cache: Path | None, devices: Sequence[jax.Device]) -> list[Part]:
    """Return the stages of a run, built; ``devices`` are those of this process.

    Raises:
      UserError: a stage can't be built; names it.
    """
    return [Part(stage, gan, hyper, cache, devices) for stage, gan, hyper in build.build_stages(config)]


def check(found: Sequence[Part]) -> None:
    """Refuse what doesn't do for the data or the memory of a stage: now, not when those before are done.

    Raises:
      UserError: names the stage, if there are several.
    """
    for part in found:
        placement.check_memory(part.shapes, part.devices)
    for part in found:
        try:
            _ = part.evaluator
        except UserError as error:
            if part.stage.begin == 0:
                raise
            raise UserError(f"config.stages.{part.stage.name}: {error}") from error


def described(part: Part) -> str:
    """Return what a stage is, in words."""
    stage, config = part.stage, part.config
    size = sides.named(config.data) if config.data.image_width else config.data.image_size
    return f"{stage.name} to step {stage.end:,} ({size} pixels, batch {config.batch_size})"
