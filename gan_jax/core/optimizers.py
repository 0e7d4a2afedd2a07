"""Optimizers: optax's, with historical averaging, weight clipping and pauses around them.

Every argument that is a number may be a traced one: they are hyperparameters in the state. What is true or false is
static, as optax branches on it.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Array = jax.Array
Scalar = Any  # a number, or an array of no axes
Optimizer = Callable[..., optax.GradientTransformation]

OPTIMIZERS: dict[str, Optimizer] = {"adam": optax.adam, "rmsprop": optax.rmsprop, "sgd": optax.sgd}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An optimizer, to be called with its hyperparameters.

    Attributes:
      name: one of `OPTIMIZERS`, whose arguments are taken by their names.
      historical: whether it takes ``historical_averaging``, see `historical_averaging`.
      clipped: whether it takes ``clip``, see `keep_within`.
      paused: whether it takes ``active``, see `only_if`.
      frozen: patterns (regular expressions) of the dotted names of parameters that stay as they are.
      flags: those of the optimizer's arguments that are true or false, with their values.
    """

    name: str
    historical: bool = False
    clipped: bool = False
    paused: bool = False
    frozen: tuple[str, ...] = ()
    flags: tuple[tuple[str, bool], ...] = ()

    def __call__(self, learning_rate: Scalar, **hyper: Scalar) -> optax.GradientTransformation:
        """Return the optimizer with these hyperparameters, which may be traced."""
        parts = []
        if self.historical:
            parts.append(historical_averaging(hyper.pop("historical_averaging")))
        clip = hyper.pop("clip") if self.clipped else None
        active = hyper.pop("active") if self.paused else None
        parts.append(OPTIMIZERS[self.name](learning_rate, **hyper, **dict(self.flags)))
        if self.clipped:
            parts.append(keep_within(clip))
        parts += [standing(self.frozen)] if self.frozen else []
        whole = parts[0] if len(parts) == 1 else optax.chain(*parts)
        return only_if(active, whole) if self.paused else whole


class HistoricalState(NamedTuple):
    """Number of parameters seen, and their mean."""

    steps: Array
    mean: Any


def historical_averaging(weight: Scalar) -> optax.GradientTransformation:
    """Add the gradient of ``weight |theta - mean of theta's past values|^2`` (Salimans et al. 2016, section 3.3).

    The mean is over the values at the player's steps so far, this one included, and is held constant.
    """

    def init(params: Any) -> HistoricalState:
        return HistoricalState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(gradient: Any, state: HistoricalState, params: Any = None) -> tuple[Any, HistoricalState]:
        steps = state.steps + 1
        mean = jax.tree.map(lambda m, p: m + (p - m) / steps.astype(p.dtype), state.mean, params)
        gradient = jax.tree.map(lambda g, p, m: g + 2 * weight * (p - m), gradient, params, mean)
        return gradient, HistoricalState(steps, mean)

    return optax.GradientTransformation(init, update)


def keep_within(bound: Scalar) -> optax.GradientTransformation:
    """Clip every parameter to ``[-bound, bound]`` after the update (Arjovsky et al. 2017, algorithm 1), up to
    rounding."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, -bound, bound) - p, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def only_if(active: Scalar, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Let ``optimizer`` do nothing, and remember nothing, where ``active`` is 0."""

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, after = optimizer.update(gradient, state, params)
        kept = jax.tree.map(lambda new, old: jnp.where(active > 0, new, old), after, state)
        return jax.tree.map(lambda u: jnp.where(active > 0, u, 0), updates), kept

    return optax.GradientTransformation(optimizer.init, update)


def standing(patterns: Sequence[str]) -> optax.GradientTransformation:
    """Leave parameters as they are whose dotted names match one of ``patterns`` from their beginning on.

    For D's first layers it is FreezeD (Mo, Cho & Shin 2020, arXiv:2002.10964).
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params

        def one(path: Any, u: Array) -> Array:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return jnp.zeros_like(u) if any(re.match(pattern, name) for pattern in patterns) else u

        return jax.tree_util.tree_map_with_path(one, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
