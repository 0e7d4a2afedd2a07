"""A run's state, read back."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState
from gan_jax.evaluate import sample
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir
from gan_jax.stages import that_made
from gan_jax.training import stages
from gan_jax.util import progress
from gan_jax.util.errors import UserError, clipped, listed

BEST = "best"  # in the place of a step


class Restored(NamedTuple):
    """A checkpoint of a run.

    Attributes:
      config: of the stage that made it.
      gan: the same.
      state: on the device.
      step: that it is of.
    """

    config: ConfigDict
    gan: GAN
    state: GANState
    step: int


def restore(workdir: Path, step: int | str | None = None) -> Restored:
    """Read the checkpoint of ``step`` (None: the last; ``best``) of the run in ``workdir``.

    Raises:
      UserError: there is none, or what it needs is gone.
    """
    place = Workdir(workdir)
    config = place.config()
    place.code.check(config)
    build.enable_float64(config)
    parts = stages.parts(config, place.cache, jax.local_devices())
    folder, number = _place(place, step)
    with _quiet(), Checkpoints(folder) as checkpoints, progress.elapsed("reading the checkpoint"):
        state = checkpoints.restore(lambda step: that_made(parts, step).shapes, number)
    part = that_made(parts, int(state.step))
    return Restored(part.config, part.gan, jax.device_put(state), int(state.step))


def _place(place: Workdir, step: int | str | None) -> tuple[Path, int | None]:
    """The folder of the checkpoint, and its number; None: the newest there."""
    if step == BEST:
        if not place.best.is_dir():
            raise UserError(f"no best checkpoint in {place.best}: evaluations keep one, unless checkpoint.best is none")
        return place.best, None
    if isinstance(step, str):
        raise UserError(f"step must be a number or {BEST!r}, not {step!r}")
    if not place.checkpoints.is_dir():
        why = "any more: restore them" if place.summary() else "yet: train first"
        raise UserError(f"no checkpoint in {place.checkpoints} {why}")
    return place.checkpoints, step


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Orbax's warnings, such as that a folder is only read; errors are raised as well."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def labels(
    gan: GAN, workdir: Path, count: int, label: str | int | None, where: str, columns: int = 10
) -> tuple[np.ndarray, list[str]]:
    """Return labels ``[count]``, all ``label`` if that is given, else a class a row, and the classes' names.

    Args:
      gan: whose classes they are.
      workdir: of the run.
      count: of images.
      label: a class's name, or, where no name is a number, its number.
      where: what said it, for an error.
      columns: of a row.

    Raises:
      UserError: there is no such class.
    """
    found, names = sample.row_labels(gan, count, columns), Workdir(workdir).class_names(gan.classes)
    if label is not None:
        by_name = {name: number for number, name in enumerate(names)}
        if not any(name.isdecimal() for name in names):
            by_name |= {str(number): number for number in by_name.values()}
        if str(label) not in by_name:
            known = f"it has {len(names):,} classes: {listed(names)}" if names else "it was trained without labels"
            raise UserError(f"{where}={clipped(str(label))}: the GAN in {workdir} has no such class: {known}")
        found[:] = by_name[str(label)]
    return found, names


def counts(gan: GAN, workdir: Path) -> Any:
    """How many train images of each class there are ``[classes]``, where the run knows."""
    known = Workdir(workdir).classes()
    return np.array([one["train"] for one in known]) if len(known) == gan.classes != 0 else None
