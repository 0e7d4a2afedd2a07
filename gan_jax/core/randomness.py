"""Random numbers as a pure function of (seed, purpose, step, global example index), never of a device or a call."""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def random_key(seed: Array | int, purpose: str, *counters: Array | int) -> Array:
    """Return the PRNG key of (seed, purpose, counters).

    A purpose is told from others by the CRC-32 of its name, so a new kind of draw changes none of those there are.
    """
    key = jax.random.fold_in(jax.random.key(seed), jnp.uint32(zlib.crc32(purpose.encode())))
    for counter in counters:
        key = jax.random.fold_in(key, counter)
    return key


def example_keys(key: Array, index: Array) -> Array:
    """Return a key ``[B]`` for each example, a function of ``key`` and its own global ``index`` ``[B]`` alone.

    So it makes no difference how the examples are spread over devices or cut into batches.
    """
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def normal(keys: Array, shape: Sequence[int], dtype: Any) -> Array:
    """Draw ``[B, *shape]`` from N(0, 1), each example by its own key of ``keys`` ``[B]``."""
    return jax.vmap(lambda key: jax.random.normal(key, tuple(shape), dtype))(keys)


def uniform(keys: Array, shape: Sequence[int], dtype: Any = float) -> Array:
    """Draw ``[B, *shape]`` from U[0, 1), each example by its own key of ``keys`` ``[B]``."""
    return jax.vmap(lambda key: jax.random.uniform(key, tuple(shape), dtype))(keys)
