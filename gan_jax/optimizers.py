"""Optimizers: optax's, with a schedule of the learning rate, historical averaging and weight clipping around them.

Every argument that is a number may be a traced one: they are hyperparameters in the state. What is true or false is
static, as optax branches on it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Array = jax.Array
Scalar = Any  # a number, or an array of no axes
Optimizer = Callable[..., optax.GradientTransformation]

OPTIMIZERS: dict[str, Optimizer] = {"adam": optax.adam, "rmsprop": optax.rmsprop, "sgd": optax.sgd}


def linear(progress: Array, final: Scalar) -> Scalar:
    """From 1 down to ``final`` in a straight line, ``progress`` going from 0 to 1."""
    return 1 - (1 - final) * progress


def cosine(progress: Array, final: Scalar) -> Scalar:
    """From 1 down to ``final`` along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5)."""
    return final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


SCHEDULES = {"linear": linear, "cosine": cosine}  # besides "constant"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An optimizer, to be called with its hyperparameters.

    Attributes:
      name: one of `OPTIMIZERS`, whose arguments are taken by their names.
      schedule: one of `SCHEDULES`; all but ``constant`` further take ``updates``, their number by the end, and
        ``final_rate``, the factor that is left then.
      historical: whether it takes ``historical_averaging``, see `historical_averaging`.
      clipped: whether it takes ``clip``, see `keep_within`.
      flags: those of the optimizer's arguments that are true or false, with their values.
    """

    name: str
    schedule: str = "constant"
    historical: bool = False
    clipped: bool = False
    flags: tuple[tuple[str, bool], ...] = ()

    def __call__(self, learning_rate: Scalar, **hyper: Scalar) -> optax.GradientTransformation:
        """The optimizer with these hyperparameters, which may be traced."""
        parts = []
        if self.historical:
            parts.append(historical_averaging(hyper.pop("historical_averaging")))
        clip = hyper.pop("clip") if self.clipped else None
        rate = learning_rate
        if self.schedule != "constant":
            rate = _scheduled(SCHEDULES[self.schedule], learning_rate, hyper.pop("updates"), hyper.pop("final_rate"))
        parts.append(OPTIMIZERS[self.name](rate, **hyper, **dict(self.flags)))
        if self.clipped:
            parts.append(keep_within(clip))
        return parts[0] if len(parts) == 1 else optax.chain(*parts)


def _scheduled(schedule: Callable[..., Scalar], learning_rate: Scalar, updates: Scalar, final: Scalar) -> Any:
    def rate(count: Array) -> Scalar:
        progress = jnp.minimum(count.astype(jnp.result_type(learning_rate)) / updates, 1)
        return learning_rate * schedule(progress, final)

    return rate


class HistoricalState(NamedTuple):
    """Number of parameters seen, and their mean."""

    steps: Array
    mean: Any


def historical_averaging(weight: Scalar) -> optax.GradientTransformation:
    """Adds the gradient of ``weight |theta - mean of theta's past values|^2`` (Salimans et al. 2016, section 3.3).

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
    """Clips every parameter to ``[-bound, bound]`` after the update (Arjovsky et al. 2017, algorithm 1), up to
    rounding."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, -bound, bound) - p, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
