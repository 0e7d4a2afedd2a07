"""DCGAN (Radford, Metz & Chintala 2015, arXiv:1511.06434), in the layout of pytorch/examples ``dcgan/main.py``.

No bias anywhere, weights N(0, .02), batch-norm gains N(1, .02). Works on any square image: each block halves the side,
rounded up, so 64 goes down to 4 by four blocks (Radford's network), 128 by five, 28 to 7 by two and to 4 by three.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gan_jax import layers
from gan_jax.layers import Array, Dense, Dtype, Judgement, StridedConv, TransposedConv

_GAIN_SPREAD = 0.02  # of batch norm's initial gains


class Generator(nn.Module):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1].

    Dense to ``side·side·widths[0]`` with ``side = ceil(H / 2^len(widths))``; then for each width batch norm, ReLU and a
    transposed convolution to the next width (at last to C); tanh. Where the side that the discriminator would have
    there is odd, the convolution's last row and column are dropped: 28 grows from 4 by way of 7 and 14.

    Attributes:
      image_shape, classes, norm, conditional, initializer, spectral, remat: as in `gan_jax.models.mlp`.
      widths: of the blocks.

    Raises:
      ValueError: the image isn't square, or so small that a block would have nothing to do.
    """

    image_shape: tuple[int, int, int]
    classes: int = 0
    widths: Sequence[int] = (128, 64)
    norm: str = "batch"
    conditional: str = "none"
    initializer: str = "normal"
    spectral: bool = False
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None) -> Array:
        side, *larger = layers.sides(self.image_shape, len(self.widths))
        z, label, norm = layers.generator_input(self, z, label, train, axis_name, _GAIN_SPREAD)
        types = layers.weight_types(self)
        x = layers.reshaped(Dense(side * side * self.widths[0], **types)(z), (-1, side, side, self.widths[0]))
        for features, side in zip((*self.widths[1:], self.image_shape[-1]), larger, strict=True):
            x = layers.rematerialized(self, _up_block, x, features, norm, types)
            x = x[:, :side, :side]
        return layers.generator_output(self, jnp.tanh(x))


class Discriminator(nn.Module):
    """Images ``[B, H, W, C]`` in [-1, 1] -> `Judgement`.

    A strided convolution for each width, batch norm after all but the first, LeakyReLU(.2); then one dense unit (the
    4x4 valid convolution of the reference). A side that becomes odd is padded to even, so depth is free.

    Attributes:
      classes, norm, conditional, minibatch, initializer, spectral, remat: as in `gan_jax.models.mlp`.
      widths: of the blocks.
    """

    classes: int = 0
    widths: Sequence[int] = (64, 128)
    norm: str = "batch"
    conditional: str = "none"
    minibatch: str = "none"
    initializer: str = "normal"
    spectral: bool = False
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None, batches: int = 1
    ) -> Judgement:
        x, norm = layers.discriminator_input(self, x, label, train, axis_name, batches, _GAIN_SPREAD)
        for block, features in enumerate(self.widths):
            own_norm = norm if block > 0 else lambda x: x
            x = layers.rematerialized(self, _down_block, x, features, own_norm, layers.weight_types(self))
        return layers.discriminator_output(
            self, layers.reshaped(x, (len(x), -1)), label, axis_name, batches, use_bias=False
        )


def _up_block(x: Array, features: int, norm: Callable[[Array], Array], types: dict[str, Any]) -> Array:
    return TransposedConv(features, **types)(layers.relu(x, norm))


def _down_block(x: Array, features: int, norm: Callable[[Array], Array], types: dict[str, Any]) -> Array:
    return layers.leaky_relu(StridedConv(features, **types)(x), norm)
