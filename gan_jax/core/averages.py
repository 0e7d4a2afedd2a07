"""Moving averages of a generator's variables: an `Average` is a rule that gives each step's decay.

``average = decay average + (1 - decay) newest``, of parameters and of batch statistics alike. All other collections
are those of the newest generator: constants, means that move by a decay of their own, counters.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Numbers = Mapping[str, Array]

AVERAGED = ("params", "batch_stats")  # collections


@dataclasses.dataclass(frozen=True)
class Average:
    """A rule.

    Attributes:
      decay: ``decay(numbers, step)``: of this step, counted from 0; 0 makes the average the newest variables.
    """

    decay: Callable[[Numbers, Array], Array]

    def __call__(
        self, numbers: Numbers, step: Array, trees: tuple[Mapping[str, Any], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return the average after a step, ``trees`` being the average before it and the newest variables."""
        decay, (before, newest) = self.decay(numbers, step), trees

        def followed(name: str) -> Any:
            return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, before[name], newest[name])

        return {name: followed(name) if name in AVERAGED else newest[name] for name in newest}


def constant(numbers: Numbers, step: Array) -> Array:
    """Return ``min(decay, (1 + step) / (10 + step))``, so that the start is forgotten; 0 before step ``start``."""
    decay = numbers["decay"]
    step = step.astype(decay.dtype)  # an integer's quotient would be float32, in float64 runs too
    return jnp.where(step < numbers["start"], 0, jnp.minimum(decay, (1 + step) / (10 + step)))


def half_life(numbers: Numbers, step: Array) -> Array:
    """Return ``.5^(1 / h)``, ``h = min(half_life, ramp_up (step + 1))`` steps; without the ramp where ``ramp_up`` is 0.

    Where steps before had other batches, ``ahead`` is by how many steps as these the images seen are ahead of ``step``.

    Karras et al. 2020 (StyleGAN2), as in the authors' later code, which counts images in place of steps.
    """
    length, ramp = numbers["half_life"], numbers["ramp_up"]
    ramped = jnp.minimum(length, ramp * (step.astype(length.dtype) + 1 + numbers.get("ahead", 0)))
    length = jnp.where(ramp > 0, ramped, length)
    return jnp.where(length > 0, 0.5 ** (1 / jnp.where(length > 0, length, 1)), 0)


AVERAGES: dict[str, Average] = {"decay": Average(constant), "half_life": Average(half_life)}
