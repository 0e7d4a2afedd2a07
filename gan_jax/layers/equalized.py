"""Layers with an equalised learning rate (Karras et al. 2018, arXiv:1710.10196, section 4.1), as StyleGAN2 has them.

A kernel is stored as N(0, 1) and multiplied by ``1 / sqrt(inputs)`` whenever it is used, so that Adam's steps are of
the same relative size in all of them. With a multiplier m of the learning rate, what is stored is ``1 / m`` times as
large, and multiplied by m.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan_jax.layers.modules import pointwise
from gan_jax.ops.activations import leaky_relu
from gan_jax.ops.conv import conv
from gan_jax.ops.fir_conv import down_conv
from gan_jax.ops.products import product
from gan_jax.ops.resample import down

Array = jax.Array

ACTIVATIONS = {"linear": (lambda x: x, 1.0), "leaky_relu": (leaky_relu, math.sqrt(2))}  # with their gains


def activated(x: Array, activation: str, *, gain: float = 1.0, clamp: float = 0.0) -> Array:
    """``x`` through the activation, times its gain (that keeps the variance) and ``gain``, within ``clamp gain``.

    Args:
      x: any shape, biases added.
      activation: one of `ACTIVATIONS`.
      gain: a further factor.
      clamp: the largest absolute value before it; 0: no bound.
    """
    function, own = ACTIVATIONS[activation]
    out = function(x) * jnp.asarray(own * gain, x.dtype)
    return jnp.clip(out, -clamp * gain, clamp * gain) if clamp else out


class Equalized(nn.Module):
    """What these layers share.

    Attributes:
      features: channels of the output.
      activation, gain, clamp: see `activated`.
      use_bias: whether there is a bias.
      bias: its initial value.
      kernel_gain: what the kernel alone is multiplied by.
      multiplier: m, of the learning rate.
      dtype, param_dtype: of the arithmetic, and of the parameters.
    """

    features: int
    activation: str = "linear"
    gain: float = 1.0
    clamp: float = 0.0
    use_bias: bool = True
    bias: float = 0.0
    multiplier: float = 1.0
    kernel_gain: float = 1.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def kernel(self, shape: tuple[int, ...]) -> Array:
        """Return the kernel ``[..., outputs]`` as it is used, in the parameters' dtype."""
        init = nn.initializers.normal(1 / self.multiplier)
        stored: Array = self.param("kernel", init, shape, self.param_dtype)
        factor = self.kernel_gain * self.multiplier / math.sqrt(math.prod(shape[:-1]))
        return stored * jnp.asarray(factor, self.param_dtype)

    def finished(self, x: Array) -> Array:
        """Return ``x`` with the bias and through the activation."""
        if self.use_bias:
            init = nn.initializers.constant(self.bias / self.multiplier)
            stored: Array = self.param("bias", init, (self.features,), self.param_dtype)
            x = x + (stored * jnp.asarray(self.multiplier, self.param_dtype)).astype(x.dtype)
        return activated(x, self.activation, gain=self.gain, clamp=self.clamp)


class EqualizedDense(Equalized):
    """``[..., in] -> [..., features]``."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((x.shape[-1], self.features)).astype(self.dtype)
        return self.finished(product(x.astype(self.dtype), kernel))


class EqualizedConv(Equalized):
    """``[N, H, W, f] -> [N, H, W, features]`` with a kernel of 1x1 or 3x3.

    Attributes:
      kernel_size: 1 or 3.
      down: whether the side is halved, by the filter [1, 3, 3, 1] before the kernel: ``[N, H/2, W/2, features]``.
    """

    kernel_size: int = 3
    down: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((self.kernel_size, self.kernel_size, x.shape[-1], self.features))
        x = x.astype(self.dtype)
        if self.kernel_size == 1:
            return self.finished(pointwise(down(x) if self.down else x, kernel.astype(self.dtype)))
        return self.finished(down_conv(x, kernel) if self.down else conv(x, kernel.astype(self.dtype)))
