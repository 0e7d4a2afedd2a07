"""What XLA's compiler for CPUs has to be told, and whether it is the one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

Array = jax.Array
_Tree = TypeVar("_Tree")
_Item = TypeVar("_Item")


_anywhere: ContextVar[bool] = ContextVar("anywhere", default=False)


def on_cpu() -> bool:
    """Whether programs are compiled for CPUs, where the formulations of `gan_jax.layers` pay."""
    return not _anywhere.get() and jax.default_backend() == "cpu"


@contextmanager
def for_any_machine() -> Iterator[None]:
    """Within it, trace programs that are to be compiled elsewhere, for whatever there is: nothing is as for CPUs."""
    before = _anywhere.set(True)
    try:
        yield
    finally:
        _anywhere.reset(before)


def calls(batches: Sequence[_Item]) -> list[list[_Item]]:
    """How several batches go through one network: on CPUs each by itself, elsewhere all at once."""
    return [[batch] for batch in batches] if on_cpu() else [list(batches)]


def held(x: _Tree) -> _Tree:
    """``x``, on CPUs computed once and in loops of its own: XLA:CPU's are slow where they grow too large."""
    return lax.optimization_barrier(x) if on_cpu() else x


def written(x: Array) -> Array:
    """``x``, which XLA:CPU then computes in a vectorised loop of its own, in row-major order.

    Alone, a transposition or a pad is copied element by element in one thread, 4 times as slow as in such a loop. To
    be part of one it is multiplied by a 1 that the compiler can't see.
    """
    return _written(x) if on_cpu() else x


@partial(jax.jit, inline=True)
def _written(x: Array) -> Array:
    row_major = Layout(tuple(range(x.ndim)))
    one = held(jnp.ones((), x.dtype))
    constrained: Array = with_layout_constraint(x * one, row_major)
    return held(constrained)


def reshaped(x: Array, shape: Sequence[int]) -> Array:
    """``x.reshape(shape)``, where channels become one axis with pixels or cease to.

    On CPUs it is kept out of the loops around it: XLA doesn't vectorise those whose axes it has to take apart.
    """
    if not on_cpu():
        return x.reshape(tuple(shape))
    return held(held(x).reshape(tuple(shape)))
