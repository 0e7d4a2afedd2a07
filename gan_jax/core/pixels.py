"""The two scales of images: whole numbers from 0 to 255 in files and data sets, [-1, 1] in networks."""

from typing import Any

import jax
import jax.numpy as jnp


def to_float(images: Any, dtype: Any) -> jax.Array:
    """uint8 -> [-1, 1]."""
    return jnp.asarray(images).astype(dtype) / 127.5 - 1


def to_uint8(images: Any) -> jax.Array:
    """[-1, 1] -> uint8, rounded; what lies outside is cut off."""
    return jnp.round(jnp.clip((images.astype(jnp.float32) + 1) * 127.5, 0, 255)).astype(jnp.uint8)
