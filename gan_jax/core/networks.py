"""The one place where a network is called: with what its signature says that it takes."""

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any

from flax import linen as nn

Variables = dict[str, Any]

# What a network may be told beside its input; one that doesn't take an argument does without it.
ARGUMENTS = ("train", "label", "keys", "axis_name", "batches", "fade")


@cache
def _taken(kind: type[nn.Module], method: str) -> frozenset[str] | None:
    """Return the names of the arguments that a method takes; None if it takes any."""
    parameters = inspect.signature(getattr(kind, method)).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


def accepted(network: nn.Module, told: dict[str, Any], method: str = "__call__") -> dict[str, Any]:
    """Return those of ``told`` that ``method`` of ``network`` takes."""
    kind: Any = type(network)
    taken = _taken(kind, method)
    return told if taken is None else {name: value for name, value in told.items() if name in taken}


def call(
    network: nn.Module,
    variables: Variables,
    x: Any,
    *,
    method: str = "__call__",
    mutable: Sequence[str] | None = None,
    **told: Any,
) -> Any:
    """Apply ``network`` to ``x``.

    Args:
      network: a Flax module.
      variables: its parameters and other collections.
      x: its input.
      method: which of its methods.
      mutable: the collections that it renews; if None, there is no second result.
      **told: of `ARGUMENTS`: ``train`` (whether it trains), ``label`` ``[B]``, ``keys`` (a PRNG key for each example
        ``[B]``), ``axis_name`` (of the devices, or None), ``batches`` (how many of one size lie one after the other in
        ``x``), ``fade`` (how much of the newest layers of a network that grows counts, in training); also whatever
        options the network's own signature has.

    Returns:
      What it returns; with ``mutable``, also the renewed collections.
    """
    told = accepted(network, told, method)
    if mutable is None:
        return network.apply(variables, x, method=method, **told)
    return network.apply(variables, x, method=method, mutable=list(mutable), **told)
