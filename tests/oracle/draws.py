"""What a seed means, spelled out: the random numbers of a run as its words define them, written without `gan_jax`.

A key is ``fold_in(... fold_in(key(seed), purpose), counter ...)``, an example's is that with its global index folded in
last. A purpose is told by the CRC-32 of its name. All are float64 under ``jax.enable_x64``.
"""

import zlib
from collections.abc import Sequence
from typing import TypeAlias

import jax
import numpy as np

Key: TypeAlias = jax.Array

PURPOSES = (
    "init_generator",
    "init_discriminator",
    "latents",
    "samples",
    "augment_real",
    "augment_fake",
    "evaluation",
    "penalty",
)


def key_of(seed: int, purpose: str, *counters: int) -> Key:
    """The key of a purpose and of its counters."""
    key = jax.random.fold_in(jax.random.key(seed), np.uint32(zlib.crc32(purpose.encode())))
    for counter in counters:
        key = jax.random.fold_in(key, counter)
    return key


def folded(key: Key, number: int) -> Key:
    """A key of ``key`` and ``number``."""
    return jax.random.fold_in(key, np.uint32(number))


def normal_of_each(key: Key, count: int, length: int) -> np.ndarray:
    """N(0, 1), ``[count, length]``: those of each example by its own key."""
    return np.stack([jax.random.normal(jax.random.fold_in(key, i), (length,), float) for i in range(count)])


def keys_of_each(key: Key, indices: Sequence[int]) -> list[Key]:
    """Of the examples with these global indices."""
    return [jax.random.fold_in(key, i) for i in indices]


def normal_by(keys: Sequence[Key], shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 1), ``[B, *shape]``, those of each example by its own key."""
    return np.stack([jax.random.normal(key, shape, float) for key in keys])


def uniform_by(keys: Sequence[Key], shape: tuple[int, ...]) -> np.ndarray:
    """U[0, 1), ``[B, *shape]``, those of each example by its own key."""
    return np.stack([jax.random.uniform(key, shape, float) for key in keys])


def uniform_of_each(key: Key, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """U[0, 1), ``[count, *shape]``: those of each example by its own key."""
    return np.stack([jax.random.uniform(jax.random.fold_in(key, i), shape, float) for i in range(count)])


def noise_of_each(keys: Sequence[Key], sides: Sequence[int]) -> list[np.ndarray]:
    """N(0, 1), ``[B, side, side]`` for each of the sides: layers' noise, by the examples' keys, in one draw."""
    ends, purpose = np.cumsum(np.square(sides)), zlib.crc32(b"noise")
    drawn = np.stack([jax.random.normal(folded(key, purpose), (int(ends[-1]),), float) for key in keys])
    parts = np.split(drawn, ends[:-1], 1)
    return [part.reshape(-1, side, side) for part, side in zip(parts, sides, strict=True)]


def mixing_of_each(keys: Sequence[Key], length: int, copies: int, chance: float) -> tuple[np.ndarray, np.ndarray]:
    """Second latents ``[B, length]``, and from which copy of w on they have the style ``[B]``."""
    latents, cuts = [], []
    for key in keys:
        latent, place = jax.random.split(folded(key, zlib.crc32(b"mixing")))
        mixes, part = jax.random.uniform(place, (2,), float)
        latents.append(jax.random.normal(latent, (length,), float))
        cuts.append(1 + int(part * (copies - 1)) if mixes < chance else copies)
    return np.stack(latents), np.asarray(cuts)


def colors(key: Key, count: int, place: int) -> np.ndarray:
    """Brightness, saturation and contrast, U[0, 1), ``[count, 3]``, of an augmentation at ``place`` of its chain."""
    keys = [jax.random.fold_in(jax.random.fold_in(key, i), place) for i in range(count)]
    return np.stack([jax.random.uniform(own, (3,), float) for own in keys])


def shifts(key: Key, count: int, place: int, most: int) -> np.ndarray:
    """Where the window into the image that is padded by ``most`` begins, 0 to ``2 most``: ``[count, 2]``."""
    keys = [jax.random.fold_in(jax.random.fold_in(key, i), place) for i in range(count)]
    return np.stack([jax.random.randint(own, (2,), 0, 2 * most + 1) for own in keys])


def references(length: int) -> np.ndarray:
    """The 64 latents of virtual batch norm's reference batch, the same in every run."""
    return np.asarray(jax.random.normal(jax.random.key(0), (64, length), float))
