"""Residual networks (Miyato et al. 2018, arXiv:1802.05957, tables 3 to 5; Gulrajani et al. 2017), for images of any
shape.

With ``attention`` they are SAGAN's (Zhang et al. 2019, arXiv:1805.08318).

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
from gan_jax.layers.attention import SelfAttention
from gan_jax.ops import resample

POOLINGS = {"sum": jnp.sum, "mean": jnp.mean}


class Generator(layers.Generator):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1].

    Dense to ``h·w·first``; for each width a residual block that doubles both sides by repeating pixels; norm,
    ReLU, 3x3 convolution, tanh. A last row and column too many are dropped, as in `gan_jax.models.dcgan`. Unlike the
    paper's, convolutions in the blocks have no bias where batch norm takes it away again (shortcuts carry it to the
    last norm, which does).

    Attributes:
      widths: of the blocks.
      first: channels before them; 0: as many as the first block's.
      gain: of the blocks' initial kernels.
      biased: whether convolutions have the biases that batch norm takes away again; as published, they do.
      attention: the shorter side of the maps that `gan_jax.layers.attention.SelfAttention` comes behind; 0: none.

    Raises:
      ValueError: see `gan_jax.layers.sides`; or no block makes maps of such a side.
    """

    widths: Sequence[int] = (256, 256, 256)
    first: int = 0
    norm: str = "batch"
    gain: float = math.sqrt(2)
    biased: bool = False
    attention: int = 0

    def body(self, z: Array, norm: layers.Norm) -> Array:
        """Return images."""
        start, *larger = layers.sides(self.image_shape, len(self.widths))
        types = layers.weight_types(self)
        inner = {"use_bias": self.biased or layers.bias_before(self.norm), "gain": self.gain, **types}
        check_attention(self.attention, [min(side) for side in larger])
        first = self.first or self.widths[0]
        x = layers.reshaped(Dense(math.prod(start) * first, use_bias=True, **types)(z), (-1, *start, first))
        for features, side in zip(self.widths, larger, strict=True):
            x = layers.rematerialized(self, up_block, x, features, side, norm, inner)
            x = SelfAttention(**types)(x) if min(side) == self.attention else x
        x = layers.relu(x, layers.of_all_classes(norm))  # as in the projection GAN's and SAGAN's code
        return jnp.tanh(Conv(self.image_shape[-1], use_bias=True, **types)(x))


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
      attention: the shorter side of the maps that `gan_jax.layers.attention.SelfAttention` comes behind; 0: none.

    Raises:
      ValueError: ``pooling`` is none of them, or no block makes maps of such a side.
    """

    widths: Sequence[int] = (128, 128, 128, 128)
    downs: int = 2
    wide: bool = False
    pooling: str = "sum"
    gain: float = math.sqrt(2)
    attention: int = 0

    def body(self, x: Array, norm: layers.Norm) -> Array:
        """Return the last hidden layer."""
        types: dict[str, Any] = {"use_bias": True, "gain": self.gain, **layers.weight_types(self)}
        inner = {**types, "use_bias": layers.bias_before(self.norm)}
        check_attention(self.attention, [-(-min(x.shape[1:3]) // 2 ** (block + 1)) for block in range(self.downs)])
        for block, features in enumerate(self.widths):
            within = features if self.wide or block == 0 else x.shape[-1]
            rest = (within, features, block < self.downs, block == 0, norm, types, inner)
            x = layers.rematerialized(self, _down_block, x, *rest)
            if block < self.downs and min(x.shape[1:3]) == self.attention:
                x = SelfAttention(**layers.weight_types(self))(x)
        return summed_up(layers.relu(x), self.pooling)


def summed_up(x: Array, pooling: str) -> Array:
    """Return ``x`` ``[N, H, W, C]`` pooled over its pixels, by one of `POOLINGS`: ``[N, C]``.

    Raises:
      ValueError: ``pooling`` is none of them.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}")
    pooled: Array = POOLINGS[pooling](x, axis=(1, 2))
    return pooled


def check_attention(side: int, sides: Sequence[int]) -> None:
    """Refuse attention behind maps of a side that no block makes.

    Raises:
      ValueError: names those that there are.
    """
    if side and side not in sides:
        raise ValueError(f"attention={side}: blocks make maps of sides {list(sides)}")


def up_block(x: Array, features: int, side: tuple[int, int], norm: layers.Norm, types: dict[str, Any]) -> Array:
    """Norm, ReLU, doubling, convolution, norm, ReLU, convolution; beside it, doubling and a 1x1 convolution.

    ``side`` is the height and width of what comes of it: those of ``x`` doubled, or one less.
    """
    height, width = side

    def doubled(x: Array) -> Array:
        return resample.doubled(x)[:, :height, :width]

    inside = layers.relu(x, norm)
    if side == (2 * x.shape[1], 2 * x.shape[2]):
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
    pooled = halved if down else lambda x: x
    inside = x if first else layers.relu(x, norm)
    inside = Conv(within, **inner)(inside)
    inside = layers.relu(inside, norm)
    if down and not (x.shape[1] % 2 or x.shape[2] % 2):
        inside = Conv(features, resample="down", **types)(inside)
    else:
        inside = pooled(Conv(features, **types)(inside))
    plain = not down and x.shape[-1] == features
    return inside + (x if plain else Conv(features, kernel_size=1, **types | {"gain": 1.0})(pooled(x)))


def halved(x: Array) -> Array:
    """Means of 2x2 pixels; an odd side is lengthened by its last row or column first."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    return resample.halved(x)
