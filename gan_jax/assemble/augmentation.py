"""What becomes of images before D sees them."""

from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from gan_jax.assemble.checks import chosen, leaves, moved
from gan_jax.core import augment
from gan_jax.core.ada import GROUPS, Ada
from gan_jax.util import named
from gan_jax.util.errors import UserError, unknown_name


def augmentation(config: ConfigDict, wide: Any, alpha: str) -> tuple[augment.Augment, dict[str, Any]]:
    """Return what the names with commas between them stand for, and its numbers: chances, and ada's factors.

    Among them is ``pseudo`` if D is shown images of G's as real. Colours change apart from ``alpha``, see
    `gan_jax.core.augment.of_colours`.
    """
    names = [] if config.augment.name == "none" else [name.strip() for name in config.augment.name.split(",")]
    known: dict[str, Any] = {name: getattr(augment, name) for name in augment.__all__}
    factors = _factors(config) if "ada" in names else {}
    known["ada"] = _ada(config, factors, alpha)
    known |= {"color": augment.Color(alpha)} if alpha != "none" else {}
    for name in names:
        if name not in known and not named.is_function(name):
            raise unknown_name("augment.name", name, ("none", *known))
        if names.count(name) > 1:
            raise UserError(f"config.augment.name names {name} twice")
    functions = tuple(chosen("augment.name", name, known) for name in names)
    numbers: dict[str, Any] = leaves("augment", {"p": config.augment.p}, wide)
    by_chance = config.augment.p != 1 or "augment.p" in moved(config)
    if "ada" in names:
        numbers["ada"] = leaves("augment.ada", factors, wide)
        if not by_chance:
            raise UserError(
                "config.augment.name has ada, and config.augment.p=1 would leave no image as it is: set it below .8, "
                "or let it follow D by config.schedules.augment.kind=ada"
            )
    if config.augment.pseudo or "augment.pseudo" in moved(config):
        if config.task != "images":
            raise UserError(
                "config.augment.pseudo shows D images of G's as real, and in this task D sees none: leave it at 0"
            )
        numbers |= leaves("augment", {"pseudo": config.augment.pseudo}, wide)
    return augment.Augment(functions, by_chance), numbers


def _factors(config: ConfigDict) -> dict[str, float]:
    """By how much the chances of ada's groups are p's, of those that are on or may come on."""
    found, later = config.augment.ada, moved(config)
    return {group: found[group] for group in GROUPS if found[group] or f"augment.ada.{group}" in later}


def _ada(config: ConfigDict, factors: Collection[str], alpha: str) -> Ada:
    """Return the augmentation ``ada`` of these groups, without what the config leaves out."""
    every = [name for names in GROUPS.values() for name in names]
    without = [name for part in config.augment.ada.without.split(",") if (name := part.strip())]
    for name in without:
        if name not in every:
            raise unknown_name("transform in augment.ada.without:", name, every)
    return Ada(tuple(name for group in factors for name in GROUPS[group] if name not in without), alpha)
