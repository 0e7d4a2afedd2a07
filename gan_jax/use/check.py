"""What `gan_jax.use.trained` is given, refused in one line where it can't be."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.gan import GAN
from gan_jax.util.errors import UserError, unknown_name

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained


def count(given: Any) -> int:
    """Return how many images are asked for."""
    if not isinstance(given, int | np.integer) or isinstance(given, bool) or given < 1:
        raise UserError(f"count must be a whole number from 1 up, not {given!r}")
    return int(given)


def seed(given: Any) -> int:
    """Return which ones."""
    if not isinstance(given, int | np.integer) or not 0 <= given < 2**32:
        raise UserError(f"a seed must be a whole number from 0 to 2^32 - 1, not {given!r}")
    return int(given)


def codes(run: "Trained", shape: tuple[int, ...], where: object) -> None:
    """Refuse codes from ``where`` whose last axis isn't as long as those of ``run``; ``()``: they are none at all."""
    if shape[-1:] != (run.code_length,):
        raise UserError(f"{where} is of another GAN: this one's codes are {run.space} of {run.code_length} numbers")


def options(given: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse options of ``where`` that aren't among those ``known``."""
    for name in given:
        if name not in known:
            raise unknown_name(f"option of {where}:", name, known)


def not_of_conditions(gan: GAN, what: str) -> None:
    """Raise `UserError` if ``gan`` is told vectors in the place of classes, and ``what`` knows classes alone."""
    if gan.condition:
        raise UserError(
            f"{what} is for GANs of classes, or of neither, and this one is told vectors of {gan.condition} numbers: "
            "draw by --mode=sample with --label"
        )
