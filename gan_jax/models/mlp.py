"""The multilayer-perceptron GAN (Goodfellow et al. 2014, arXiv:1406.2661): dense layers with LeakyReLU(.2) between."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gan_jax import layers
from gan_jax.layers import Array, Dense, Dtype, Judgement


class Generator(nn.Module):
    """Latents ``[B, Z]`` -> dense layers of ``widths`` -> images ``[B, H, W, C]`` in [-1, 1] by tanh.

    Attributes:
      image_shape: (height, width, channels).
      classes: number of classes, 0 if there are none.
      widths: of the hidden layers.
      norm: between a hidden layer and its activation, one of `gan_jax.layers.normalized`'s.
      conditional: how it is told the label: none, concat (one-hot code beside z), norm (batch norm's gains and
        offsets).
      initializer, spectral: see `gan_jax.layers.Dense`.
      remat: see `gan_jax.layers.rematerialized`.
    """

    image_shape: tuple[int, int, int]
    classes: int = 0
    widths: Sequence[int] = (128, 256)
    norm: str = "none"
    conditional: str = "none"
    initializer: str = "xavier"
    spectral: bool = False
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None) -> Array:
        z, label, norm = layers.generator_input(self, z, label, train, axis_name)
        types = layers.weight_types(self)
        x = z
        for features in self.widths:
            x = layers.rematerialized(self, hidden, x, features, layers.bias_before(self.norm), norm, types)
        x = jnp.tanh(Dense(math.prod(self.image_shape), use_bias=True, **types)(x)).reshape(-1, *self.image_shape)
        return layers.generator_output(self, x)


class Discriminator(nn.Module):
    """Images ``[B, H, W, C]`` in [-1, 1], or vectors ``[B, Z]`` -> dense layers of ``widths`` -> `Judgement`.

    Attributes:
      classes: number of classes, 0 if there are none.
      widths: of the hidden layers.
      norm: of all but the first hidden layer.
      conditional, minibatch: see `gan_jax.layers.judged`.
      initializer, spectral: see `gan_jax.layers.Dense`.
      remat: see `gan_jax.layers.rematerialized`.
    """

    classes: int = 0
    widths: Sequence[int] = (256, 128)
    norm: str = "none"
    conditional: str = "none"
    minibatch: str = "none"
    initializer: str = "xavier"
    spectral: bool = False
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None, batches: int = 1
    ) -> Judgement:
        x, norm = layers.discriminator_input(self, x.reshape(x.shape[0], -1), label, train, axis_name, batches)
        for block, features in enumerate(self.widths):
            use_bias = block == 0 or layers.bias_before(self.norm)
            own_norm = norm if block > 0 else lambda x: x
            x = layers.rematerialized(self, hidden, x, features, use_bias, own_norm, layers.weight_types(self))
        return layers.discriminator_output(self, x, label, axis_name, batches, use_bias=True)


def hidden(x: Array, features: int, use_bias: bool, norm: Callable[[Array], Array], types: dict[str, Any]) -> Array:
    """A hidden layer ``[B, F] -> [B, features]``."""
    return layers.leaky_relu(Dense(features, use_bias=use_bias, **types)(x), norm)
