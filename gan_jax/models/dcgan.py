"""DCGAN (Radford, Metz & Chintala 2015, arXiv:1511.06434), in the layout of pytorch/examples ``dcgan/main.py``.

No bias anywhere, weights N(0, .02), batch-norm gains N(1, .02). Works on images of any shape: each block halves both
sides, rounded up, so 64 goes down to 4 by four blocks (Radford's network), 128 by five, 28 to 7 by two and to 4 by
three, 64x96 to 4x6 by four.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp

from gan_jax import layers
from gan_jax.layers import Array, Dense, StridedConv, TransposedConv

_GAIN_SPREAD = 0.02  # of batch norm's initial gains


class Generator(layers.Generator):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1].

    Dense to ``h·w·widths[0]`` with ``h = ceil(H / 2^len(widths))``, w likewise; then for each width batch norm, ReLU
    and a transposed convolution to the next width (at last to C); tanh. Where a side that the discriminator would have
    there is odd, the convolution's last row or column is dropped: 28 grows from 4 by way of 7 and 14.

    Attributes:
      widths: of the blocks.

    Raises:
      ValueError: the image is so small that a block would have nothing to do.
    """

    widths: Sequence[int] = (128, 64)
    norm: str = "batch"
    initializer: str = "normal"

    gain_spread: ClassVar[float] = _GAIN_SPREAD

    def body(self, z: Array, norm: layers.Norm) -> Array:
        """Return images."""
        start, *larger = layers.sides(self.image_shape, len(self.widths))
        types = layers.weight_types(self)
        x = layers.reshaped(Dense(math.prod(start) * self.widths[0], **types)(z), (-1, *start, self.widths[0]))
        for features, (height, width) in zip((*self.widths[1:], self.image_shape[-1]), larger, strict=True):
            x = layers.rematerialized(self, _up_block, x, features, norm, types)
            x = x[:, :height, :width]
        return jnp.tanh(x)


class Discriminator(layers.Discriminator):
    """Images ``[B, H, W, C]`` in [-1, 1] -> `DiscriminatorOutput`.

    A strided convolution for each width, batch norm after all but the first, LeakyReLU(.2); then one dense unit (the
    4x4 valid convolution of the reference). A side that becomes odd is padded to even, so depth is free.

    Attributes:
      widths: of the blocks.
    """

    widths: Sequence[int] = (64, 128)
    norm: str = "batch"
    initializer: str = "normal"

    gain_spread: ClassVar[float] = _GAIN_SPREAD
    head_bias: ClassVar[bool] = False

    def body(self, x: Array, norm: layers.Norm) -> Array:
        """Return the last hidden layer."""
        for block, features in enumerate(self.widths):
            own_norm = norm if block > 0 else lambda x: x
            x = layers.rematerialized(self, _down_block, x, features, own_norm, layers.weight_types(self))
        return layers.reshaped(x, (len(x), -1))


def _up_block(x: Array, features: int, norm: layers.Norm, types: dict[str, Any]) -> Array:
    return TransposedConv(features, **types)(layers.relu(x, norm))


def _down_block(x: Array, features: int, norm: layers.Norm, types: dict[str, Any]) -> Array:
    return layers.leaky_relu(StridedConv(features, **types)(x), norm)
