"""Layers with weights: dense and convolutional, their initial values, spectral normalisation."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan_jax.ops.conv import conv, doubled_conv, halved_conv
from gan_jax.ops.conv4 import strided_conv, transposed_conv
from gan_jax.ops.products import by_rows, product

Array = jax.Array
Dtype = Any

INITS = {
    "normal": nn.initializers.normal(0.02),  # Radford et al. 2015
    "xavier": nn.initializers.xavier_uniform(),  # Glorot & Bengio 2010
    "orthogonal": nn.initializers.orthogonal(),  # Saxe et al. 2014
}


class Weighted(nn.Module):
    """What all layers with a kernel share.

    Attributes:
      features: channels of the output.
      initializer: of the kernel, one of `INITS`.
      gain: what the initial kernel is multiplied by.
      spectral: whether the kernel is divided by its largest singular value, see `spectrally_normalized`.
      use_bias: whether a bias, 0 at first, is added.
    """

    features: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    initializer: str = "normal"
    spectral: bool = False
    use_bias: bool = False
    gain: float = 1.0

    def kernel(self, shape: Sequence[int], output_axis: int = -1) -> Array:
        """Return the kernel, spectrally normalised if it is to be, in the parameters' dtype."""
        if self.initializer not in INITS:
            raise ValueError(f"initializer must be one of {', '.join(INITS)}, not {self.initializer!r}")
        init = INITS[self.initializer]
        kernel: Array = self.param("kernel", lambda *args: self.gain * init(*args), tuple(shape), self.param_dtype)
        if self.spectral:
            kernel = spectrally_normalized(self, kernel, output_axis)
        return kernel

    def biased(self, x: Array) -> Array:
        """``x`` with the bias added, if there is one."""
        if not self.use_bias:
            return x
        bias: Array = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return x + bias.astype(self.dtype)


class Dense(Weighted):
    """``x W + b``: ``[..., in] -> [..., features]``."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((x.shape[-1], self.features)).astype(self.dtype)
        return self.biased(product(x.astype(self.dtype), kernel))


class Conv(Weighted):
    """`gan_jax.ops.conv.conv`: ``[N, H, W, f] -> [N, H, W, features]`` with a kernel of odd ``kernel_size``.

    Attributes:
      kernel_size: its height and width, odd.
      resample: ``up`` for images whose pixels are doubled first, to ``[N, 2H, 2W, features]``; ``down`` for outputs
        that are averaged 2x2, to ``[N, H/2, W/2, features]``; both in one convolution, with a kernel of side 3.
    """

    kernel_size: int = 3
    resample: str = "none"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((self.kernel_size, self.kernel_size, x.shape[-1], self.features))
        x = x.astype(self.dtype)
        if self.resample != "none":
            return self.biased({"up": doubled_conv, "down": halved_conv}[self.resample](x, kernel))
        return self.biased((pointwise if self.kernel_size == 1 else conv)(x, kernel.astype(self.dtype)))


def pointwise(x: Array, kernel: Array) -> Array:
    """``x`` ``[N, H, W, f]`` by a kernel ``[1, 1, f, c]``."""
    return by_rows(x, kernel[0, 0])


class StridedConv(Weighted):
    """`strided_conv` with a learnt kernel: halves the side. An odd side is zero-padded by one at its end.

    Input ``[N, H, W, f]``, output ``[N, ceil(H/2), ceil(W/2), features]``.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((4, 4, x.shape[-1], self.features))
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        return self.biased(strided_conv(x.astype(self.dtype), kernel.astype(self.dtype)))


class TransposedConv(Weighted):
    """`transposed_conv` with a learnt kernel: ``[N, H, W, c] -> [N, 2H, 2W, features]``."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((4, 4, self.features, x.shape[-1]), output_axis=2)
        return self.biased(transposed_conv(x.astype(self.dtype), kernel.astype(self.dtype)))


def spectrally_normalized(module: nn.Module, kernel: Array, output_axis: int = -1) -> Array:
    """``W / sigma(W)`` (Miyato et al. 2018, arXiv:1802.05957, eq. 8), W as a matrix ``[inputs, outputs]``.

    The variables ``u`` ``[outputs]`` and ``v`` ``[inputs]`` of the collection ``spectral`` follow the first singular
    vectors: where that collection is mutable, one power iteration (algorithm 1) renews both; elsewhere they are used as
    they are, so that all passes of a step have the same weights. The estimate ``sigma = v W u``, with u and v held
    constant, is differentiated with respect to W.
    """
    axis = output_axis % kernel.ndim
    matrix = jnp.moveaxis(kernel, axis, -1).reshape(-1, kernel.shape[axis])
    constant = lax.stop_gradient(matrix)

    def start() -> Array:
        return _unit(jax.random.normal(module.make_rng("params"), matrix.shape[1:], matrix.dtype))

    u = module.variable("spectral", "u", start)
    v = module.variable("spectral", "v", lambda: _unit(constant @ u.value))
    if module.is_mutable_collection("spectral") and not module.is_initializing():
        v.value = _unit(constant @ u.value)
        u.value = _unit(v.value @ constant)
    return kernel / (v.value @ matrix @ u.value)


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x), jnp.finfo(x.dtype).tiny)
