"""What a latent is: a `Prior` draws one for each example, by a key of its own."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.randomness import normal

Array = jax.Array


# ``prior(keys, length, dtype, **options)``: latents ``[B, length]``, each by its own key of ``keys`` ``[B]``.
Prior = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Normal:
    """N(0, 1) in each number, independently."""

    def __call__(self, keys: Array, length: int, dtype: Any, truncation: float | None = None) -> Array:
        """Draw latents ``[B, length]``.

        With ``truncation``, numbers beyond it on either side are drawn again (Brock et al. 2019, arXiv:1809.11096,
        section 3.1): samples are better and alike.
        """
        if truncation is None:
            return normal(keys, (length,), dtype)
        bound = jnp.asarray(truncation, dtype)
        return jax.vmap(lambda key: jax.random.truncated_normal(key, -bound, bound, (length,), dtype))(keys)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """U[-1, 1) in each number, independently (Radford et al. 2015, section 4)."""

    def __call__(self, keys: Array, length: int, dtype: Any) -> Array:
        """Draw latents ``[B, length]``."""
        return jax.vmap(lambda key: jax.random.uniform(key, (length,), dtype, -1, 1))(keys)


NORMAL = Normal()
PRIORS: dict[str, Prior] = {"normal": NORMAL, "uniform": Uniform()}
