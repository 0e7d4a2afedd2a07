"""Plain functions as terms, schedules and averages: beside their first arguments they take numbers, by name.

So a function of the user's own says by its signature what it has to be told, and knows nothing of the entry of the
config that names it. Two of the same function and the same names are equal, as programs compiled with them are.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.gan import Memory
from gan_jax.core.view import View

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class PlainTerm:
    """What a `gan_jax.core.gan.Term` applies.

    Attributes:
      function: ``function(view, **numbers)``, a scalar; or ``function(view, memory, **numbers)``, with the new memory.
      name: of its entry in ``hyperparams["terms"]``.
      numbers: the names of those that it takes.
      remembers: which of both it is.
    """

    function: Callable[..., Any]
    name: str
    numbers: tuple[str, ...] = ()
    remembers: bool = False

    def __call__(self, view: View, memory: Memory) -> tuple[Array, Memory]:
        """Return the term and the new memory."""
        found = view.numbers(self.name)
        own = {name: found[name] for name in self.numbers}
        if self.remembers:
            value, memory = self.function(view, memory, **own)
            return jnp.asarray(value), memory
        return jnp.asarray(self.function(view, **own)), memory


@dataclasses.dataclass(frozen=True)
class PlainSchedule:
    """What gives the values of a `gan_jax.core.schedules.Schedule`: ``function(start, step, **numbers)``."""

    function: Callable[..., Any]

    def __call__(self, start: Array, numbers: Mapping[str, Array], memory: Memory, step: Array) -> Array:
        """Return the value at ``step``."""
        del memory
        return jnp.asarray(self.function(start, step, **numbers))


@dataclasses.dataclass(frozen=True)
class PlainAverage:
    """What gives the decays of a `gan_jax.core.averages.Average`: ``function(step, **numbers)``."""

    function: Callable[..., Any]

    def __call__(self, numbers: Mapping[str, Array], step: Array) -> Array:
        """Return the decay of ``step``."""
        return jnp.asarray(self.function(step, **numbers))
