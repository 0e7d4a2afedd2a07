"""What moves hyperparameters: a `Schedule` gives one of them its value at each step, and may remember something.

The configured number is where a schedule starts; the schedule's own numbers are hyperparameters too. Steps are those of
`gan_jax.core.update`, counted from 0.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Numbers = Mapping[str, Array]
Memory = Any


def _nothing(numbers: Numbers) -> Memory:
    del numbers
    return {}


def _as_it_was(numbers: Numbers, memory: Memory, metrics: Mapping[str, Array]) -> Memory:
    del numbers, metrics
    return memory


@dataclasses.dataclass(frozen=True)
class Schedule:
    """One hyperparameter's course.

    Attributes:
      value: ``value(start, numbers, memory, step)``: of this step, ``start`` being the configured number.
      init: ``init(numbers)``: the memory before the first step; ``{}`` if it remembers nothing.
      update: ``update(numbers, memory, metrics)``: the memory after a step with these metrics.
    """

    value: Callable[[Array, Numbers, Memory, Array], Array]
    init: Callable[[Numbers], Memory] = _nothing
    update: Callable[[Numbers, Memory, Mapping[str, Array]], Memory] = _as_it_was


def _progress(numbers: Numbers, step: Array) -> Array:
    """From 0 at step ``begin`` to 1 ``length`` steps later, and constant before and after."""
    begin, length = numbers["begin"], numbers["length"]
    return jnp.clip((step.astype(begin.dtype) - begin) / jnp.maximum(length, 1), 0, 1)


def linear(start: Array, numbers: Numbers, memory: Memory, step: Array) -> Array:
    """Go from ``start`` to ``final`` in a straight line, within ``length`` steps from step ``begin`` on."""
    del memory
    return start + (numbers["final"] - start) * _progress(numbers, step)


def cosine(start: Array, numbers: Numbers, memory: Memory, step: Array) -> Array:
    """Go from ``start`` to ``final`` along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5)."""
    del memory
    final = numbers["final"]
    return final + (start - final) * 0.5 * (1 + jnp.cos(jnp.pi * _progress(numbers, step)))


def warm_up(start: Array, numbers: Numbers, memory: Memory, step: Array) -> Array:
    """Go from ``final`` (0 as a rule) up to the configured ``start`` in a straight line, within ``length`` steps."""
    del memory
    return numbers["final"] + (start - numbers["final"]) * _progress(numbers, step)


def _ada_value(start: Array, numbers: Numbers, memory: Memory, step: Array) -> Array:
    del start, numbers, step
    p: Array = memory["p"]
    return p


def _ada_init(numbers: Numbers) -> Memory:
    return {"p": jnp.zeros_like(numbers["target"]), "signs": jnp.zeros_like(numbers["target"]), "steps": jnp.int32(0)}


def _ada_update(numbers: Numbers, memory: Memory, metrics: Mapping[str, Array]) -> Memory:
    sign = 2 * metrics["d_accuracy_real"] - 1  # its mean over the reals, about the boundary between real and fake
    signs, steps = memory["signs"] + sign, memory["steps"] + 1
    due = steps >= numbers["every"].astype(jnp.int32)
    moved = memory["p"] + jnp.sign(signs / steps - numbers["target"]) * steps / numbers["length"]
    p = jnp.where(due, jnp.clip(moved, 0, numbers["most"]), memory["p"])
    return {"p": p, "signs": jnp.where(due, 0, signs), "steps": jnp.where(due, 0, steps)}


def _critic_first(start: Array, numbers: Numbers, memory: Memory, step: Array) -> Array:
    """Go between 0 and ``start``, so that D has a lead (Arjovsky et al. 2017; 100 D steps a G step in their code).

    For its first ``moves`` moves, and once more after every ``period`` of them, G moves only in the last of ``factor``
    steps: it has ``factor x d_steps`` D steps before it.
    """
    del memory
    moves, factor, period = (numbers[name].astype(jnp.int32) for name in ("moves", "factor", "period"))
    begin = moves * factor
    later = (step - begin) % (period + factor - 1) >= period
    still = jnp.where(step < begin, (step + 1) % factor != 0, later)
    return jnp.where(still, 0, start)


SCHEDULES: dict[str, Schedule] = {
    "linear": Schedule(linear),
    "cosine": Schedule(cosine),
    "warm_up": Schedule(warm_up),
    # Karras et al. 2020 (arXiv:2006.06676, section 3): every ``every`` steps the strength goes up or down so that it
    # would cross 1 within ``length`` steps, towards a mean sign of D on (augmented) reals of ``target``.
    "ada": Schedule(_ada_value, _ada_init, _ada_update),
    "critic_first": Schedule(_critic_first),
}
