"""Noise that a network draws by itself, each example by a key of its own."""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array
MODES = ("random", "const", "none")


class Noise(nn.Module):
    """``x + strength n``, n a map ``[H, W, 1]`` of N(0, 1) an example (Karras et al. 2019, arXiv:1812.04948, sec. 2).

    ``strength`` is one learnt number, 0 at the start. Each map is a function of its example's key and of where in the
    network the layer is, so that neither devices nor batches make a difference.
    """

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, keys: Array | None, mode: str = "random", *, drawn: Array | None = None) -> Array:
        """Return ``x`` ``[B, H, W, C]`` with its noise.

        Args:
          x: activations.
          keys: a PRNG key an example ``[B]``; only ``random`` needs them.
          drawn: the maps ``[B, H, W, 1]`` of ``random``, if another has drawn them, as `maps` does; no keys then.
          mode: ``random``; ``const``, the same map for every example, drawn once when the network was made; ``none``.

        Raises:
          ValueError: ``mode`` is none of them.
        """
        if mode not in MODES:
            raise ValueError(f"noise_mode must be one of {', '.join(MODES)}, not {mode!r}")
        shape = (*x.shape[1:-1], 1)
        strength = self.param("strength", nn.initializers.zeros, (), self.param_dtype)
        const = self.variable("noise", "const", lambda: jax.random.normal(self.make_rng("params"), shape))
        if mode == "none":
            return x
        if mode == "const":
            noise = const.value[None]
        elif drawn is not None:
            noise = drawn
        else:
            assert keys is not None, "this network draws noise: call it with keys"
            place = jnp.uint32(zlib.crc32("/".join(self.path).encode()))
            noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, place), shape))(keys)
        return (x + strength * noise.astype(self.param_dtype)).astype(self.dtype)


def maps(keys: Array | None, shapes: Sequence[tuple[int, int]], dtype: Any) -> list[Array]:
    """Return the noise of several layers, a map ``[B, H, W, 1]`` of N(0, 1) for each of their ``shapes``, (H, W).

    It is drawn at once by the examples' keys ``[B]``: a draw takes XLA seconds to compile.
    """
    assert keys is not None, "this network draws noise: call it with keys"
    place = jnp.uint32(zlib.crc32(b"noise"))
    ends = [sum(height * width for height, width in shapes[: i + 1]) for i in range(len(shapes))]
    both = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, place), (ends[-1],), dtype))(keys)
    parts = jnp.split(both, ends[:-1], 1)
    return [part.reshape(-1, *shape, 1) for part, shape in zip(parts, shapes, strict=True)]
