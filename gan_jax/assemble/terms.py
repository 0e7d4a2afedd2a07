"""The terms of both players."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from gan_jax import config as configuration
from gan_jax.assemble.checks import Numbers, check_call, check_number, chosen, leaves
from gan_jax.core.gan import Term
from gan_jax.core.plain import PlainTerm
from gan_jax.core.terms import TERMS
from gan_jax.util.errors import UserError, clipped, unknown_name

# Metrics of a player that no term has: a term of one of these names would take their place.
_TAKEN = ("loss", "real", "fake", "margin", "accuracy_real", "accuracy_fake", "grad_norm", "param_norm")


def terms(config: ConfigDict, wide: Any) -> tuple[tuple[Term, ...], tuple[Term, ...], dict[str, Numbers]]:
    """Return D's terms, G's terms, and the numbers of both: those with a weight, and something to work on."""
    d_terms, g_terms = [], []
    numbers = {"adversarial": leaves("terms.adversarial", {"weight": config.terms.adversarial.weight}, wide)}
    for name, kind in TERMS.items():
        values = config.terms[name].to_dict()
        if not values["weight"] or not _HAVE.get(name, lambda config: True)(config):
            continue
        every = values.pop("every")
        options = {key: values.pop(key) for key in [key for key, value in values.items() if type(value) is bool]}
        of_d, of_g = kind.terms(name, every, **options)
        d_terms += [of_d] if of_d else []
        g_terms += [of_g] if of_g else []
        numbers[name] = leaves(f"terms.{name}", values, wide)
    for name in configuration.own_terms(config):
        player, term, values = _own_term(name, config.terms[name].to_dict())
        if values["weight"]:
            (d_terms if player == "discriminator" else g_terms).append(term)
            numbers[name] = leaves(f"terms.{name}", values, wide)
    return tuple(d_terms), tuple(g_terms), numbers


def _own_term(name: str, values: dict[str, Any]) -> tuple[str, Term, dict[str, float]]:
    """Whose loss a term of the user's own is added to, the term, and its numbers."""
    where = f"config.terms.{name}"
    if not name.isidentifier() or name in _TAKEN:
        raise UserError(f"{where}: a term can't be called so, as its metric has its name: call it otherwise")
    if missing := [key for key in ("function", "player", "weight", "every") if key not in values]:
        raise UserError(f"{where}.{missing[0]} is missing: make the entry by gan_jax.config.term(...)")
    text, player, every = values.pop("function"), values.pop("player"), values.pop("every")
    if player not in ("discriminator", "generator"):
        raise unknown_name(f"{where}.player", str(player), ("discriminator", "generator"))
    if type(every) is not int or every < 1:
        raise UserError(f"{where}.every must be a whole number from 1 up, not {clipped(repr(every))}")
    for key, value in values.items():
        check_number(f"{where}.{key}", value)
    found = chosen(f"{where}.function", str(text), {})
    taken, init = tuple(key for key in values if key != "weight"), getattr(found, "init", None)
    apply = getattr(found, "apply", found) if init else found
    check_call(where, str(text).rpartition("/")[2], apply, (2 if init else 1, taken))
    plain = PlainTerm(apply, name, taken, remembers=init is not None)
    return player, Term(name, plain, init, every) if init else Term(name, plain, every=every), values


# What a term works on, where not every GAN has it.
_HAVE: dict[str, Callable[[ConfigDict], bool]] = {
    "auxiliary_discriminator": lambda config: config.discriminator.get("conditional") == "auxiliary",
    "auxiliary_generator": lambda config: config.discriminator.get("conditional") == "auxiliary",
    "reconstruction": lambda config: config.task == "autoencoder",
}
