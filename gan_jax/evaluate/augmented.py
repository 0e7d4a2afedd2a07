"""Images of the data as the discriminator sees them, augmented ever more often."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.gan import GAN
from gan_jax.core.pixels import to_float
from gan_jax.core.randomness import example_keys, random_key

CHANCES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def augmented(gan: GAN, numbers: dict[str, Any], images: np.ndarray, seed: int) -> np.ndarray:
    """Return images ``[N, H, W, C]`` augmented with each of `CHANCES`: ``[len(CHANCES), N, H, W, C]``.

    Args:
      gan: whose augmentation it is.
      numbers: ``hyperparams["augment"]``; its ``p`` isn't used.
      images: any.
      seed: of the draws. An image has the same ones at every chance: what happens at a low one happens at a higher one.
    """
    augment = dataclasses.replace(gan.augment, by_chance=True)
    keys = example_keys(random_key(seed, "augmented"), jnp.arange(len(images)))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None))
    @partial(jax.vmap, in_axes=(None, 0, 0))
    def each(p: jax.Array, image: jax.Array, key: jax.Array) -> jax.Array:
        return gan.pixels.whole(augment(image, key, {**numbers, "p": p}))

    return np.asarray(each(np.asarray(CHANCES, gan.dtype), to_float(images, gan.dtype), keys))
