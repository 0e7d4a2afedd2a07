"""What one state takes over from another: every array whose name and shape agree."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan_jax.core.state import GANState, named_leaves

_WEIGHTS = tuple(f"{player}.{part}." for player in ("generator", "discriminator") for part in ("params", "stats"))


class Carried(NamedTuple):
    """What `carry_over` did, by dotted names; shapes as ``float32[8,32]``.

    Attributes:
      taken: what the new has from the old.
      other_shape: what both have, in two shapes: that of the old, and that of the new.
      not_there: what only the new has.
      left_over: what only the old has.
    """

    taken: dict[str, str]
    other_shape: dict[str, tuple[str, str]]
    not_there: dict[str, str]
    left_over: dict[str, str]


def compare(old: Any, new: Any) -> Carried:
    """Return what of ``new`` can be had from ``old``: pytrees of arrays, or of their shapes and types."""
    theirs, ours = named_leaves(old), named_leaves(new)
    both = [name for name in ours if name in theirs]
    taken = [name for name in both if _agree(theirs[name], ours[name])]
    return Carried(
        {name: _text(ours[name]) for name in taken},
        {name: (_text(theirs[name]), _text(ours[name])) for name in both if name not in taken},
        {name: _text(leaf) for name, leaf in ours.items() if name not in theirs},
        {name: _text(leaf) for name, leaf in theirs.items() if name not in ours},
    )


def carry_over(old: Any, new: Any) -> tuple[Any, Carried]:
    """Return ``new`` with copies of all arrays of ``old`` whose names and shapes agree, and what was taken.

    Args:
      old: a pytree of arrays; a dict of arrays by dotted names is one, too.
      new: a pytree of arrays. Floating point numbers are taken in its precision.
    """
    theirs, found = named_leaves(old), compare(old, new)

    def one(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return jnp.array(theirs[name], leaf.dtype) if name in found.taken else leaf

    return jax.tree_util.tree_map_with_path(one, new), found


def weights(state: GANState) -> dict[str, Any]:
    """Return what a state has learnt: both players' parameters and statistics, and the averages, named as in it."""
    players = {"generator": state.generator, "discriminator": state.discriminator}
    own = {name: {"params": player.params, "stats": player.stats} for name, player in players.items()}
    return {**own, "averages": state.averages}


def learnt(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return those leaves of a whole state, by their dotted names, that `weights` has."""
    return {name: leaf for name, leaf in leaves.items() if name.startswith((*_WEIGHTS, "averages."))}


def begin_with(old: Mapping[str, Any], state: GANState) -> tuple[GANState, Carried]:
    """Return ``state``, one before its first step, with the `weights` of another; all else stays as it is.

    An average that the other hasn't got is that of the parameters taken.

    Args:
      old: arrays of a state by their dotted names.
      state: which takes those that fit.
    """
    old, new = learnt(old), weights(state)
    found = compare(old, new)
    players, _ = carry_over(old, {name: part for name, part in new.items() if name != "averages"})
    generator = state.generator.replace(**players["generator"])
    fresh = {name: jax.tree.map(jnp.copy, generator.variables) for name in state.averages}
    averages, _ = carry_over(old, {"averages": fresh})
    discriminator = state.discriminator.replace(**players["discriminator"])
    return state.replace(generator=generator, discriminator=discriminator, **averages), found


def next_stage(old: GANState, new: GANState, *, reset_optimizer: bool) -> tuple[GANState, Carried]:
    """Return the state with which a run's next stage begins: ``new``, as initialised, with all of ``old`` that fits.

    Args:
      old: after the last step of the stage before, of arrays.
      new: of the next stage, of the same seed, with its own hyperparameters.
      reset_optimizer: whether the optimizers' moments stay those of ``new``; else what is new has none yet, beside
        others that count many steps, and moves far at first.
    """
    state, found = begin_with(named_leaves(old), new)
    memory, _ = carry_over(old.memory, state.memory)
    players = {}
    for name in ("generator", "discriminator"):
        player = getattr(state, name)
        moments, _ = carry_over(getattr(old, name).opt_state, player.opt_state)
        players[name] = player if reset_optimizer else player.replace(opt_state=moments)
    return state.replace(step=old.step, memory=memory, **players), found


def _agree(old: Any, new: Any) -> bool:
    floats = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in (old, new))
    return bool(old.shape == new.shape and (floats or old.dtype == new.dtype))


def _text(leaf: Any) -> str:
    return f"{jnp.dtype(leaf.dtype)}[{','.join(map(str, leaf.shape))}]"
