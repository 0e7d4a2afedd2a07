"""A run's state, read back."""

import logging
from collections.abc import Iterator, Sequence
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
from gan_jax.use import export
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
    if export.is_export(workdir):
        return _exported(workdir, config, step)
    parts = stages.parts(config, place.cache, jax.local_devices())
    folder, number = _place(place, step)
    with _quiet(), Checkpoints(folder) as checkpoints, progress.elapsed("reading the checkpoint"):
        state = checkpoints.restore(lambda step: that_made(parts, step).shapes, number)
    part = that_made(parts, int(state.step))
    return Restored(part.config, part.gan, jax.device_put(state), int(state.step))


def _exported(folder: Path, config: ConfigDict, step: int | str | None) -> Restored:
    gan, _ = build.build_gan(config)
    state = export.restored(folder)
    if step not in (None, int(state.step)):
        raise UserError(f"{folder} holds the exported generator of step {int(state.step):,}, and no {step}")
    return Restored(config, gan, state, int(state.step))


def _place(place: Workdir, step: int | str | None) -> tuple[Path, int | None]:
    """Return the folder of the checkpoint, and its number; None: the newest there."""
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


class Labels(NamedTuple):
    """Of which classes images are.

    Attributes:
      told: what the generator is told: numbers of classes ``[N]``, or shares of each class ``[N, classes]``; or
        vectors ``[N, condition]``.
      kinds: which of ``names`` each image has ``[N]``; or the vectors.
      names: of the classes, or of mixes of them; empty where there are none.
    """

    told: np.ndarray
    kinds: np.ndarray
    names: list[str]


def labels(
    gan: GAN,
    workdir: Path,
    count: int,
    asked: str | int | Sequence[str] | None,
    where: str,
    columns: int = 10,
    seed: int = 0,
) -> Labels:
    """Return labels of ``count`` images: of one class or mix, or of several, one a row; None: all classes, one a row.

    Of a GAN of conditions they are vectors: None for those of the data's images, one a row.

    Args:
      gan: whose classes they are.
      workdir: of the run.
      count: of images.
      asked: a class's name, or, where no name is a number, its number; ``A+B`` is the even mix of two or more. A vector
        is its numbers, with commas between them.
      where: what said it, for an error.
      columns: of a row.
      seed: of the order of the data's vectors.

    Raises:
      UserError: there is no such class, or vector.
    """
    if gan.condition:
        told = _vectors(gan, workdir, asked, where)
        order = sample.row_labels(gan, count, columns, vectors=told, seed=seed)
        told = order if asked is None else told[np.arange(count) // columns % len(told)]
        return Labels(told, told, [])
    found, names = sample.row_labels(gan, count, columns), Workdir(workdir).class_names(gan.classes)
    if asked is None:
        return Labels(found, found, names)
    texts = [str(asked)] if isinstance(asked, str | int) else list(asked)
    rows = np.arange(count) // columns % len(texts)
    parts = [_classes(text, names, f"{where}={clipped(text)}: the GAN in {workdir}") for text in texts]
    if all(len(numbers) == 1 for numbers in parts):
        found = np.array(parts, np.int32)[rows, 0]
        return Labels(found, found, names)
    shares = np.stack([np.bincount(numbers, minlength=gan.classes) / len(numbers) for numbers in parts])
    return Labels(shares.astype(np.float32)[rows], rows, texts)


def _vectors(gan: GAN, workdir: Path, asked: str | int | Sequence[str] | None, where: str) -> np.ndarray:
    """Return the vectors float32 ``[N, condition]`` that are ``asked`` for; None: some of the data's images."""
    if asked is None:
        known = Workdir(workdir).conditions()
        if not len(known) or known.shape[1] != gan.condition:
            raise UserError(
                f"nobody knows the data's vectors, as data.json is gone or damaged in {workdir}: give {where}"
            )
        return known
    texts = [str(asked)] if isinstance(asked, str | int) else list(asked)
    try:
        found = np.array([[float(number) for number in text.split(",")] for text in texts], np.float32)
    except ValueError:  # of text that is no number, or of vectors unlike each other
        found = np.zeros((0, 0), np.float32)
    if found.shape[1:] != (gan.condition,) or not np.isfinite(found).all():
        one = listed([f"{0.5 + number / 10:.1g}" for number in range(gan.condition)], 4, ",")
        raise UserError(
            f"{where}={clipped(';'.join(texts))}: the GAN in {workdir} is told vectors of {gan.condition} finite "
            f"numbers: write them with commas between, as {one}"
        )
    return found


def _classes(text: str, names: list[str], whose: str) -> list[int]:
    """Return the numbers of the classes that ``text`` names, with ``+`` between them."""
    by_name = {name: number for number, name in enumerate(names)}
    if not any(name.isdecimal() for name in names):
        by_name |= {str(number): number for number in by_name.values()}
    parts = [text] if text in by_name else text.split("+")
    if not all(part in by_name for part in parts):
        known = f"it has {len(names):,} classes: {listed(names)}" if names else "it was trained without labels"
        raise UserError(f"{whose} has no such class: {known}")
    return [by_name[part] for part in parts]


def counts(gan: GAN, workdir: Path) -> Any:
    """How many train images of each class there are ``[classes]``, where the run knows; or vectors ``[N, K]``."""
    if gan.condition:
        vectors = Workdir(workdir).conditions()
        return vectors if vectors.shape[1:] == (gan.condition,) else None
    known = Workdir(workdir).classes()
    return np.array([one["train"] for one in known]) if len(known) == gan.classes != 0 else None
