"""Convolutions whose kernels a style modulates (Karras et al. 2020, arXiv:1912.04958, section 2.2)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan_jax.layers.equalized import EqualizedDense, activated
from gan_jax.layers.modules import pointwise
from gan_jax.layers.noise import Noise
from gan_jax.ops.conv import conv
from gan_jax.ops.fir_conv import up_conv

Array = jax.Array
_EPSILON = 1e-8


def demodulation(kernel: Array, style: Array) -> Array:
    """``1 / sqrt(sum over inputs and taps of (style kernel)^2 + 1e-8)``: what makes each output's variance 1 (eq. 3).

    Args:
      kernel: ``[k, k, f, c]``.
      style: ``[N, f]``.

    Returns:
      ``[N, c]``.
    """
    return lax.rsqrt(jnp.square(style) @ jnp.square(kernel).sum((0, 1)) + _EPSILON)


class StyledConv(nn.Module):
    """A 3x3 convolution of the style's, noise, bias, leaky ReLU: ``[N, H, W, f] -> [N, H, W, features]``.

    An example's kernel is the layer's times its style, an affine function of its w, over the norm that each output
    has then. To scale the input before and the output behind is the same, and all examples have one kernel:
    ``conv(x s, W) d`` (section 2.2, and appendix B).

    Attributes:
      features: channels of the output.
      up: whether the side is doubled first, by the filter [1, 3, 3, 1].
      clamp: see `gan_jax.layers.equalized.activated`.
      dtype, param_dtype: of the arithmetic, and of the parameters; styles have the latter's.
    """

    features: int
    up: bool = False
    clamp: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array, noise: Array | None, noise_mode: str = "random") -> Array:
        """Return activations.

        Args:
          x: ``[N, H, W, f]``.
          w: ``[N, w]``.
          noise: of ``random``, ``[N, H, W, 1]`` of the output.
          noise_mode: see `gan_jax.layers.noise.Noise`.
        """
        wide: Any = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        style = EqualizedDense(x.shape[-1], bias=1.0, name="style", **wide)(w)
        shape = (3, 3, x.shape[-1], self.features)
        kernel: Array = self.param("kernel", nn.initializers.normal(1.0), shape, self.param_dtype)
        x = x.astype(self.dtype) * _to_pixels(style, self.dtype)
        x = up_conv(x, kernel) if self.up else conv(x, kernel.astype(self.dtype))
        x = x * _to_pixels(demodulation(kernel, style), self.dtype)
        x = Noise(name="noise", dtype=self.dtype, param_dtype=self.param_dtype)(x, None, noise_mode, drawn=noise)
        bias: Array = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return activated(x + bias.astype(self.dtype), "leaky_relu", clamp=self.clamp)


class ToImage(nn.Module):
    """A 1x1 convolution of the style's without demodulation: ``[N, H, W, f] -> [N, H, W, features]``, linear.

    Attributes:
      features: channels of the image.
      clamp, dtype, param_dtype: as of `StyledConv`.
    """

    features: int
    clamp: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        wide: Any = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        style = EqualizedDense(x.shape[-1], bias=1.0, name="style", **wide)(w) / math.sqrt(x.shape[-1])
        shape = (1, 1, x.shape[-1], self.features)
        kernel: Array = self.param("kernel", nn.initializers.normal(1.0), shape, self.param_dtype)
        bias: Array = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x = pointwise(x.astype(self.dtype) * _to_pixels(style, self.dtype), kernel.astype(self.dtype))
        return activated(x + bias.astype(self.dtype), "linear", clamp=self.clamp)


def _to_pixels(x: Array, dtype: Any) -> Array:
    """``[N, c] -> [N, 1, 1, c]``."""
    return x[:, None, None].astype(dtype)
