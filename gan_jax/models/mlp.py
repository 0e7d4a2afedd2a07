"""The multilayer-perceptron GAN (Goodfellow et al. 2014, arXiv:1406.2661): dense layers with LeakyReLU(.2) between."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.layers import Array, Dtype

_init = nn.initializers.xavier_uniform()


class Generator(nn.Module):
    """Latents ``[B, Z]`` -> dense layers of ``widths`` -> images ``[B, H, W, C]`` in [-1, 1] by tanh."""

    image_shape: tuple[int, int, int]
    widths: Sequence[int] = (128, 256)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Array, *, train: bool, axis_name: str | None = None) -> Array:
        del train, axis_name  # no layer here depends on them
        x = _hidden(z, self.widths, self.dtype, self.param_dtype)
        x = nn.Dense(math.prod(self.image_shape), dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=_init)(x)
        return jnp.tanh(x).reshape(-1, *self.image_shape)


class Discriminator(nn.Module):
    """Images ``[B, H, W, C]`` in [-1, 1] -> dense layers of ``widths`` -> logits ``[B]``."""

    widths: Sequence[int] = (256, 128)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None = None) -> Array:
        del train, axis_name
        x = _hidden(x.reshape(x.shape[0], -1), self.widths, self.dtype, self.param_dtype)
        x = nn.Dense(1, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=_init)(x)
        return x[:, 0].astype(self.param_dtype)


def _hidden(x: Array, widths: Sequence[int], dtype: Dtype, param_dtype: Dtype) -> Array:
    for features in widths:
        x = nn.leaky_relu(nn.Dense(features, dtype=dtype, param_dtype=param_dtype, kernel_init=_init)(x), 0.2)
    return x
