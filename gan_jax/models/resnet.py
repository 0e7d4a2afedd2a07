"""Residual networks (Miyato et al. 2018, arXiv:1802.05957, tables 3 to 5; Gulrajani et al. 2017), for images of any
side.

Their depth is that of ``widths``: for 32x32 the generator's are (256, 256, 256) and the discriminator's (128, 128, 128,
128) with ``downs=2``; those for 28, 64 and 128 are in ``configs/sngan.py``. 28x28 grows from 7, or from 4 by way of
7 and 14.

Initial kernels inside a block are ``gain`` times as large as elsewhere. Both papers' code has a root of 2 there, for
the ReLUs, and 1 on shortcuts, at the start and at the end.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from gan_jax import layers
from gan_jax.layers import Array, Conv, Dense

POOLINGS = {"sum": jnp.sum, "mean": jnp.mean}


class Generator(layers.Generator):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1].

    Dense to ``side·side·first``; for each width a residual block that doubles the side by repeating pixels; norm,
    ReLU, 3x3 convolution, tanh. A last row and column too many are dropped, as in `gan_jax.models.dcgan`. Unlike the
    paper's, convolutions in the blocks have no bias where batch norm takes it away again (shortcuts carry it to the
    last norm, which does).

    Attributes:
      widths: of the blocks.
      first: channels before them; 0: as many as the first block's.
      gain: of the blocks' initial kernels.

    Raises:
      ValueError: see `gan_jax.layers.sides`.
    """

    widths: Sequence[int] = (256, 256, 256)
    first: int = 0
    norm: str = "batch"
    gain: float = math.sqrt(2)

    def body(self, z: Array, norm: layers.Norm) -> Array:
        """Return images."""
        side, *larger = layers.sides(self.image_shape, len(self.widths))
        types = layers.weight_types(self)
        inner = {"use_bias": layers.bias_before(self.norm), "gain": self.gain, **types}
        first = self.first or self.widths[0]
        x = layers.reshaped(Dense(side * side * first, use_bias=True, **types)(z), (-1, side, side, first))
        for features, side in zip(self.widths, larger, strict=True):
            x = layers.rematerialized(self, _up_block, x, features, side, norm, inner)
        x = Conv(self.image_shape[-1], use_bias=True, **types)(layers.relu(x, norm))
        return jnp.tanh(x)


class Discriminator(layers.Discriminator):
    """Images ``[B, H, W, C]`` in [-1, 1] -> `DiscriminatorOutput`.

    A residual block for each width, of which the first ``downs`` halve the side by averaging; ReLU; the sum or the mean
    over all pixels; one dense unit. The first of a block's two convolutions keeps the width, but for that at the image.

    Attributes:
      widths: of the blocks.
      downs: how many of them halve the side.
      wide: whether a block's first convolution has the new width already, as in SAGAN and BigGAN.
      pooling: over pixels, one of `POOLINGS`: sum (Miyato et al.) or mean (Gulrajani et al.).
      gain: of the blocks' initial kernels.
    """

    widths: Sequence[int] = (128, 128, 128, 128)
    downs: int = 2
    wide: bool = False
    pooling: str = "sum"
    gain: float = math.sqrt(2)

    def body(self, x: Array, norm: layers.Norm) -> Array:
        """Return the last hidden layer."""
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, not {self.pooling!r}")
        types: dict[str, Any] = {"use_bias": True, "gain": self.gain, **layers.weight_types(self)}
        inner = {**types, "use_bias": layers.bias_before(self.norm)}
        for block, features in enumerate(self.widths):
            within = features if self.wide or block == 0 else x.shape[-1]
            rest = (within, features, block < self.downs, block == 0, norm, types, inner)
            x = layers.rematerialized(self, _down_block, x, *rest)
        return POOLINGS[self.pooling](layers.relu(x), axis=(1, 2))


def _up_block(x: Array, features: int, side: int, norm: layers.Norm, types: dict[str, Any]) -> Array:
    """Norm, ReLU, doubling, convolution, norm, ReLU, convolution; beside it, doubling and a 1x1 convolution."""

    def doubled(x: Array) -> Array:
        return x.repeat(2, 1).repeat(2, 2)[:, :side, :side]

    inside = layers.relu(x, norm)
    if (side, side) == (2 * x.shape[1], 2 * x.shape[2]):
        inside = Conv(features, resample="up", **types)(inside)
    else:
        inside = Conv(features, **types)(doubled(inside))
    inside = Conv(features, **types)(layers.relu(inside, norm))
    beside = Conv(features, kernel_size=1, **types | {"gain": 1.0})
    return inside + doubled(beside(x))  # 1x1: the same before the doubling, at a quarter


def _down_block(
    x: Array,
    within: int,
    features: int,
    down: bool,
    first: bool,
    norm: layers.Norm,
    types: dict[str, Any],
    inner: dict[str, Any],
) -> Array:
    """Norm, ReLU (neither at the image), convolution, norm, ReLU, convolution, averaging; beside it, a 1x1 one."""
    halved = _halved if down else lambda x: x
    inside = x if first else layers.relu(x, norm)
    inside = Conv(within, **inner)(inside)
    inside = layers.relu(inside, norm)
    if down and not (x.shape[1] % 2 or x.shape[2] % 2):
        inside = Conv(features, resample="down", **types)(inside)
    else:
        inside = halved(Conv(features, **types)(inside))
    plain = not down and x.shape[-1] == features
    return inside + (x if plain else Conv(features, kernel_size=1, **types | {"gain": 1.0})(halved(x)))


def _halved(x: Array) -> Array:
    """Means of 2x2 pixels; an odd side is lengthened by its last row or column first."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
