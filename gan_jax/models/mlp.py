"""The multilayer-perceptron GAN (Goodfellow et al. 2014, arXiv:1406.2661): dense layers with LeakyReLU(.2) between."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from gan_jax import layers
from gan_jax.layers import Array, Dense


class Generator(layers.Generator):
    """Latents ``[B, Z]`` -> dense layers of ``widths`` -> images ``[B, H, W, C]`` in [-1, 1] by tanh.

    Attributes:
      widths: of the hidden layers.
    """

    widths: Sequence[int] = (128, 256)

    def body(self, z: Array, norm: layers.Norm) -> Array:
        """Return images."""
        types = layers.weight_types(self)
        x = z
        for features in self.widths:
            x = layers.rematerialized(self, hidden, x, features, layers.bias_before(self.norm), norm, types)
        return jnp.tanh(Dense(math.prod(self.image_shape), use_bias=True, **types)(x)).reshape(-1, *self.image_shape)


class Discriminator(layers.Discriminator):
    """Images ``[B, H, W, C]`` in [-1, 1], or vectors ``[B, Z]`` -> dense layers of ``widths`` -> `DiscriminatorOutput`.

    Attributes:
      widths: of the hidden layers; the norm is of all but the first.
    """

    widths: Sequence[int] = (256, 128)

    def flat(self, x: Array) -> Array:
        """Return all of it, in one axis."""
        return x.reshape(x.shape[0], -1)

    def body(self, x: Array, norm: layers.Norm) -> Array:
        """Return the last hidden layer."""
        for block, features in enumerate(self.widths):
            use_bias = block == 0 or layers.bias_before(self.norm)
            own_norm = norm if block > 0 else lambda x: x
            x = layers.rematerialized(self, hidden, x, features, use_bias, own_norm, layers.weight_types(self))
        return x


def hidden(x: Array, features: int, use_bias: bool, norm: layers.Norm, types: dict[str, Any]) -> Array:
    """Apply a hidden layer ``[B, F] -> [B, features]``."""
    return layers.leaky_relu(Dense(features, use_bias=use_bias, **types)(x), norm)
