"""How a generator is drawn from, other than as usual: ``truncation=0.7 noise_mode=const`` in the user's words."""

import ast
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gan_jax.core.draw import options_of
from gan_jax.core.gan import GAN
from gan_jax.core.standing import has_statistics
from gan_jax.keys import Check, one_of
from gan_jax.layers.noise import MODES
from gan_jax.util.errors import UserError, clipped, unknown_name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# Options that several priors, or networks, have; of others the default says what they may be.
_OF_PRIORS = {"truncation": Check(lambda value: _is_number(value) and value > 0, "a finite number above 0")}
_OF_NETWORKS = {
    "noise_mode": one_of(*MODES),
    "truncation_cutoff": Check(lambda value: type(value) is int and value >= 0, "a whole number from 0 up"),
}
_BY_DEFAULT: dict[type, Check] = {
    bool: Check(lambda value: isinstance(value, bool), "True or False"),
    int: Check(lambda value: type(value) is int, "a whole number"),
    float: Check(_is_number, "a finite number"),
    str: Check(lambda value: isinstance(value, str), "a word"),
}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How samples are drawn; what is as usual is left out.

    Attributes:
      options: of the prior and the network (`gan_jax.core.draw.options_of`), in the order of their names.
      standing: batches that the generator's statistics are taken from anew; 0: those averaged in training.
    """

    options: tuple[tuple[str, Any], ...] = ()
    standing: int = 0

    def __str__(self) -> str:
        """Return it as the user writes it; nothing where all is as usual."""
        standing = (("standing", self.standing),) if self.standing else ()
        return " ".join(f"{name}={value}" for name, value in (*self.options, *standing))


USUAL = Sampling()


def read(gan: GAN, text: str, where: str, *, standing: int = 0) -> Sampling:
    """Return what ``text``, ``'name=value name2=value2'``, asks of ``gan``.

    Args:
      gan: whose prior and network take the options.
      text: see above; '' is as usual.
      where: the flag or key that it comes from.
      standing: what ``standing`` is if it isn't among them.

    Raises:
      UserError: nobody takes an option, or its value can't be.
    """
    of_prior, of_network = options_of(gan)
    defaults, chosen, given = of_prior | of_network, {}, _parts(text, where)
    standing = _standing(gan, given.pop("standing"), f"{where}: ") if "standing" in given else standing
    for name, value in given.items():
        if name not in defaults:
            raise _unknown(gan, name, where)
        known = (_OF_PRIORS if name in of_prior else _OF_NETWORKS).get(name)
        check = known or _BY_DEFAULT.get(type(defaults[name]))
        if check is not None and not check.holds(value):
            raise UserError(f"{where}: {name} must be {check.rule}, not {clipped(repr(value))}")
        value = float(value) if _is_number(value) and type(defaults[name]) is not int else value
        if value != defaults[name]:
            chosen[name] = value
    return Sampling(tuple(sorted(chosen.items())), standing)


def several(text: str) -> list[str]:
    """Return each of the ways that ``text`` asks for: one for each value of an option that has more, with commas.

    Raises:
      UserError: several options have more than one value.
    """
    parts = text.split()
    lists = [part for part in parts if "," in part]
    if not lists:
        return [text]
    if len(lists) > 1:
        raise UserError(f"--sampling={text!r}: only one option may have several values, with commas between them")
    name, _, values = lists[0].partition("=")
    return [" ".join(f"{name}={value}" if part is lists[0] else part for part in parts) for value in values.split(",")]


def _standing(gan: GAN, value: Any, where: str) -> int:
    """``value`` as a number of batches, if the GAN has use for it."""
    if type(value) is not int or value < 0:
        raise UserError(f"{where}standing must be a whole number from 0 up, not {clipped(repr(value))}")
    if value and not has_statistics(gan):
        raise UserError(
            f"{where}standing={value}: this GAN's generator has no statistics of batches, as batch norm has: "
            "leave it out"
        )
    return value


def _unknown(gan: GAN, name: str, where: str) -> UserError:
    known = [*(name for options in options_of(gan) for name in options), *(["standing"] if has_statistics(gan) else [])]
    if not known:
        return UserError(f"{where}: {clipped(name)}: this GAN has no options of sampling: leave it out")
    return unknown_name(f"option in {where}:", name, known)


def of_evaluations(gan: GAN, eval_config: Mapping[str, Any], flag: str | None = None) -> Sampling:
    """Return how an evaluation draws: by ``--sampling`` if it is given (``flag``), else by ``config.eval.sampling``.

    Where neither names ``standing``, that is ``config.eval.standing``.

    Raises:
      UserError: see `read`.
    """
    standing = _standing(gan, eval_config["standing"], "config.eval.")
    if flag is not None:
        return read(gan, flag, "--sampling", standing=standing)
    return read(gan, eval_config["sampling"], "config.eval.sampling", standing=standing)


def _parts(text: str, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split():
        name, _, value = part.partition("=")
        if not name or not value:
            raise UserError(
                f"{where}: {clipped(part)!r} is no name=value: write e.g. 'truncation=0.7 noise_mode=const'"
            )
        if name in found:
            raise UserError(f"{where}: {name} is there twice: leave one out")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found
