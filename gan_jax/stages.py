"""Stages: from a step on, other values of the config hold, and with them another GAN, batch or resolution.

A run without stages has one, from its first step to its last. Whoever builds a GAN, a feed or a data set of a run takes
its stage's config; what is written down is the run's own.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ml_collections import ConfigDict

from gan_jax import keys
from gan_jax.config import changed, flat, open_ended, stage
from gan_jax.util.errors import UserError, clipped, listed, unknown_name

START = "start"  # the name of the first
# Of the whole run: how it is looked at and where its data lies, and these.
_ONE = ("seed", "steps", "init_from", "compute_dtype", "classes", "stages", "parallel")
_DATA = ("data.image_size", "data.image_width", "data.flip")  # all of the data's that a stage may change


class Count(NamedTuple):
    """How steps and images go together within a stage.

    Attributes:
      per_step: images in a step.
      total: images of the whole run.
      begin: the stage's first step.
      before: images of the stages before it.
    """

    per_step: int
    total: int
    begin: int = 0
    before: int = 0

    def step_at(self, images: float) -> float:
        """Return after how many steps the run has drawn as many images, if all steps were as this stage's."""
        return self.begin + (images - self.before) / self.per_step

    def images_at(self, step: int) -> int:
        """Return how many images the run has drawn after ``step`` steps."""
        return self.before + (step - self.begin) * self.per_step

    @property
    def ahead(self) -> int:
        """By how many images the run is ahead of one whose steps were all as this stage's; below 0: behind."""
        return self.before - self.begin * self.per_step


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A stage of a run.

    Attributes:
      name: of its entry in ``config.stages``; of the first, `START`.
      config: what holds in it.
      begin, end: after which steps it begins and ends.
      count: of images.
      reset_optimizer: whether the optimizers forget at its beginning.
    """

    name: str
    config: ConfigDict
    begin: int
    end: int
    count: Count
    reset_optimizer: bool = True


def count(config: ConfigDict) -> Count:
    """Return that of a run without stages."""
    return Count(_per_step(config), config.steps * _per_step(config))


def plan(config: ConfigDict) -> list[Stage]:
    """Return the stages of a run in their order; those that would begin at its end, or later, are left out.

    Raises:
      UserError: an entry of ``config.stages`` can't be; names it.
    """
    entries = _sorted({name: _entry(name, entry) for name, entry in config.get("stages", {}).items()})
    found: list[tuple[str, ConfigDict, int, int, bool]] = [(START, config, 0, 0, True)]
    for name, entry in entries:
        _, before, since, images, _ = found[-1]
        per_step = _per_step(before)
        at = entry.begin if entry.unit == "steps" else since + math.ceil((entry.begin - images) / per_step)
        if at <= since:
            raise UserError(f"config.stages.{name}.begin: it begins at step {at:,}, and the one before it at {since:,}")
        own = _config(before, name, entry)
        found.append((name, own, at, images + (at - since) * per_step, entry.reset_optimizer))
    reached = [one for one in found if one[2] < config.steps]
    _, last, since, images, _ = reached[-1]
    total = images + (config.steps - since) * _per_step(last)
    ends = [*(begin for _, _, begin, _, _ in reached[1:]), config.steps]
    return [
        Stage(name, own, begin, end, Count(_per_step(own), total, begin, images), reset)
        for (name, own, begin, images, reset), end in zip(reached, ends, strict=True)
    ]


class Begins(Protocol):
    """A stage, or what is made of one."""

    @property
    def begin(self) -> int:
        """Return after which step it begins."""


_Part = TypeVar("_Part", bound=Begins)


def at(planned: Sequence[_Part], step: int) -> _Part:
    """Return the stage that makes the step after ``step`` steps; after the last one, the last stage."""
    return next(one for one in reversed(planned) if one.begin <= step)


def that_made(planned: Sequence[_Part], step: int) -> _Part:
    """Return the stage whose state a checkpoint of ``step`` holds: of a stage's end, that stage."""
    return at(planned, max(step - 1, 0))


def images(planned: Sequence[Stage], step: int) -> int:
    """Return how many images a run has drawn after ``step`` steps."""
    return that_made(planned, step).count.images_at(step)


def lengthens(config: ConfigDict) -> bool:
    """Return whether no step of any stage depends on how many there will be: `gan_jax.config.open_ended` of each."""
    return all(open_ended(one.config) for one in plan(config))


def _per_step(config: ConfigDict) -> int:
    return int(config.batch_size * config.d_steps)


def _entry(name: str, entry: Any) -> ConfigDict:
    """Return an entry that has all it needs, of the right types."""
    where, known = f"config.stages.{name}", stage(1)
    if not isinstance(entry, ConfigDict) or (missing := [key for key in known if key not in entry]):
        what = f".{missing[0]} is missing" if isinstance(entry, ConfigDict) else " is no group of keys"
        raise UserError(f"{where}{what}: make the entry by gan_jax.config.stage(...)")
    for key, value in entry.items():
        if key not in known:
            raise unknown_name(f"key of {where}:", key, known)
        if type(value) is not type(known[key]):
            kind = type(known[key]).__name__
            raise UserError(f"{where}.{key} must be of type {kind}, not {clipped(repr(value))}")
    if entry.unit not in ("steps", "images"):
        raise unknown_name(f"{where}.unit", entry.unit, ("steps", "images"))
    return entry


def _sorted(entries: dict[str, ConfigDict]) -> list[tuple[str, ConfigDict]]:
    if len({entry.unit for entry in entries.values()}) > 1:
        raise UserError(f"config.stages: {listed(entries)} begin by steps and by images: give all the same unit")
    return sorted(entries.items(), key=lambda item: item[1].begin)


def _config(before: ConfigDict, name: str, entry: ConfigDict) -> ConfigDict:
    """Return the config of the stage before, with what ``entry`` sets."""
    overrides = flat(entry.set.to_dict())
    for key in overrides:
        role = keys.KEYS[key].role if key in keys.KEYS else keys.RESULT
        data = key.startswith("data.") and key in keys.KEYS and key not in _DATA
        if data or role in (keys.OBSERVES, keys.FREE) or key.partition(".")[0] in _ONE:
            raise UserError(
                f"config.stages.{name}.set.{key}: a stage can't change it: set config.{key}, for all of them"
            )
    try:
        return changed(before, overrides)
    except UserError as error:
        raise UserError(f"config.stages.{name}.set: {error}") from error
