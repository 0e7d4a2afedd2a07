"""Sections of a config as parts of a GAN with their hyperparameters: optimizers, terms, schedules, averages and so on.

Each function returns what is static, and a dict of numbers: leaves of the state, under the section's own name.
"""

from gan_jax.assemble.augmentation import augmentation
from gan_jax.assemble.checks import chosen
from gan_jax.assemble.conditions import check_condition
from gan_jax.assemble.players import check_frozen, fade, frozen, labels, optimizer
from gan_jax.assemble.schedules import averages, generator_updates, schedules
from gan_jax.assemble.terms import terms

__all__ = [
    "augmentation",
    "averages",
    "check_condition",
    "check_frozen",
    "chosen",
    "fade",
    "frozen",
    "generator_updates",
    "labels",
    "optimizer",
    "schedules",
    "terms",
]
