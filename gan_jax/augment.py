"""Differentiable augmentation: ``augment(image, key) -> image`` for one image, applied to all that D sees.

One function an augmentation. The same transformations of real and of fake images, with gradients through those of the
fakes, keep D from learning a small training set by heart without teaching G to draw them (Zhao et al. 2020,
arXiv:2006.10738). Each image has a key of its own, so that devices and batches make no difference.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Augmentation = Callable[[Array, Array], Array]

__all__ = ["none", "translation"]

_RATIO = 1 / 8  # of the side, as in the paper


def none(image: Array, key: Array) -> Array:
    """The image ``[H, W, C]`` as it is."""
    del key
    return image


def translation(image: Array, key: Array) -> Array:
    """``[H, W, C]`` in [-1, 1], moved by up to an eighth of its height and width, uniformly; -1 where nothing was."""
    height, width, channels = image.shape
    rows, columns = round(height * _RATIO), round(width * _RATIO)
    padded = jnp.pad(image, ((rows, rows), (columns, columns), (0, 0)), constant_values=-1)
    limits = jnp.asarray([2 * rows, 2 * columns])
    top, left = jax.random.randint(key, (2,), 0, limits + 1)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), (height, width, channels))
