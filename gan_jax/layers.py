"""Building blocks of the networks: strided and transposed convolutions, batch normalisation.

The 4x4, stride 2, padding 1 convolution of DCGAN and its adjoint (the transposed convolution) are written here once, in
three mutually recursive functions, because XLA:CPU compiles what autodiff makes of them 5 to 20 times too slowly: the
weight gradient of a transposed convolution becomes a reversed-kernel convolution, and inside a loop the weight gradient
of a plain strided one loses its layout. All three are exact and differentiable to any order. One kernel ``W`` of shape
``[4, 4, f, c]`` serves both directions, ``f`` being the channels of the fine side and ``c`` those of the coarse side.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Array = jax.Array
Dtype = Any

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PADDING = ((1, 1), (1, 1))
# Below these sizes the matmul forms win on XLA:CPU (measured, see benchmarks/).
_FEW_CHANNELS = 4
_SMALL_SIDE = 8


def cross_device_mean(tree: Any, axis_name: str | None) -> Any:
    """Mean of every leaf over the devices of ``axis_name``; the identity when it is None (one device, plain jit)."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)


# --- the convolution, its adjoint and its weight gradient -------------------------------------------------------------


@jax.custom_vjp
def strided_conv(fine: Array, kernel: Array) -> Array:
    """Convolution with a 4x4 kernel, stride 2, zero padding 1 (cross-correlation, as in every deep-learning library).

    Args:
      fine: ``[N, 2H, 2W, f]``.
      kernel: ``[4, 4, f, c]``.

    Returns:
      ``[N, H, W, c]``, with ``out[n,h,w,c] = sum_ijf pad(fine)[n,2h+i,2w+j,f] kernel[i,j,f,c]``.
    """
    return _strided_conv_lax(fine, kernel)


@jax.custom_vjp
def transposed_conv(coarse: Array, kernel: Array) -> Array:
    """Transposed convolution with a 4x4 kernel, stride 2, padding 1: the adjoint of `strided_conv` in its image.

    Args:
      coarse: ``[N, H, W, c]``.
      kernel: ``[4, 4, f, c]``, laid out as for `strided_conv`.

    Returns:
      ``[N, 2H, 2W, f]``: PyTorch's ``ConvTranspose2d(c, f, 4, 2, 1)`` with ``weight[c, f, i, j] = kernel[i, j, f, c]``.
    """
    f = kernel.shape[2]
    if not _on_cpu():
        return _transposed_conv_lax(coarse, kernel)
    if f <= _FEW_CHANNELS:
        return _transposed_conv_columns(coarse, kernel)
    if 2 * coarse.shape[1] <= _SMALL_SIDE:
        return _transposed_conv_lax(coarse, kernel)
    return _transposed_conv_subpixel(coarse, kernel)


@jax.custom_vjp
def kernel_gradient(fine: Array, coarse: Array) -> Array:
    """Gradient of ``<strided_conv(fine, W), coarse>`` with respect to ``W``.

    Args:
      fine: ``[N, 2H, 2W, f]``.
      coarse: ``[N, H, W, c]``.

    Returns:
      ``[4, 4, f, c]``, bilinear in both arguments.
    """
    f = fine.shape[-1]
    if not _on_cpu():
        shape = jax.ShapeDtypeStruct((4, 4, f, coarse.shape[-1]), fine.dtype)
        gradient: Array = jax.linear_transpose(lambda kernel: _strided_conv_lax(fine, kernel), shape)(coarse)[0]
        return gradient
    if f <= _FEW_CHANNELS:
        return jnp.einsum("nhwijf,nhwc->ijfc", _patches(fine), coarse)
    # A convolution in canonical layout: the batch is contracted as if it were channels. The barrier keeps XLA from
    # folding the transposes back into the convolution, which inside a loop costs a factor of 20.
    fine_t, coarse_t = lax.optimization_barrier((fine.transpose(3, 1, 2, 0), coarse.transpose(1, 2, 0, 3)))
    out = lax.conv_general_dilated(fine_t, coarse_t, (1, 1), _PADDING, rhs_dilation=(2, 2), dimension_numbers=_LAYOUT)
    return out.transpose(1, 2, 0, 3)


strided_conv.defvjp(
    lambda fine, kernel: (strided_conv(fine, kernel), (fine, kernel)),
    lambda saved, g: (transposed_conv(g, saved[1]), kernel_gradient(saved[0], g)),
)
transposed_conv.defvjp(
    lambda coarse, kernel: (transposed_conv(coarse, kernel), (coarse, kernel)),
    lambda saved, g: (strided_conv(g, saved[1]), kernel_gradient(g, saved[0])),
)
kernel_gradient.defvjp(
    lambda fine, coarse: (kernel_gradient(fine, coarse), (fine, coarse)),
    lambda saved, g: (transposed_conv(saved[1], g), strided_conv(saved[0], g)),
)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _strided_conv_lax(fine: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(fine, kernel, (2, 2), _PADDING, dimension_numbers=_LAYOUT)


def _transposed_conv_lax(coarse: Array, kernel: Array) -> Array:
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    pad = ((2, 2), (2, 2))
    return lax.conv_general_dilated(coarse, flipped, (1, 1), pad, lhs_dilation=(2, 2), dimension_numbers=_LAYOUT)


def _transposed_conv_subpixel(coarse: Array, kernel: Array) -> Array:
    """A 2x2 convolution to the 4 sub-pixels of each coarse pixel: row ``i = 2 (1 - p) + a`` is tap p of sub-pixel a."""
    _, _, f, c = kernel.shape
    taps = kernel.reshape(2, 2, 2, 2, f, c)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, c, 4 * f)
    blocks = lax.conv_general_dilated(coarse, taps, (1, 1), _PADDING, dimension_numbers=_LAYOUT)
    return _depth_to_space(blocks)


def _transposed_conv_columns(coarse: Array, kernel: Array) -> Array:
    """One matmul to the 16 f columns of each coarse pixel, then their overlapping sums (col2im)."""
    n, h, w, c = coarse.shape
    f = kernel.shape[2]
    columns = (coarse.reshape(-1, c) @ kernel.reshape(16 * f, c).T).reshape(n, h, w, 2, 2, 2, 2, f)
    parts = [
        jnp.pad(columns[:, :, :, p, :, q], ((0, 0), (p, 1 - p), (q, 1 - q), (0, 0), (0, 0), (0, 0)))
        for p in (0, 1)
        for q in (0, 1)
    ]
    blocks = parts[0] + parts[1] + parts[2] + parts[3]
    return _depth_to_space(blocks.reshape(n, h + 1, w + 1, 4 * f))


def _depth_to_space(blocks: Array) -> Array:
    """``[N, H+1, W+1, 4f] -> [N, 2H, 2W, f]``: interleaves the sub-pixels and crops the border that padding made."""
    n, h, w, f4 = blocks.shape
    pixels = blocks.reshape(n, h, w, 2, 2, f4 // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, f4 // 4)
    return pixels[:, 1:-1, 1:-1]


def _patches(fine: Array) -> Array:
    """The 4x4 window of every coarse pixel: ``[N, 2H, 2W, f] -> [N, H, W, 4, 4, f]``."""
    h, w = fine.shape[1], fine.shape[2]
    padded = jnp.pad(fine, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = jnp.stack([padded[:, i : i + h : 2] for i in range(4)], axis=3)
    return jnp.stack([rows[:, :, j : j + w : 2] for j in range(4)], axis=4)


# --- modules ----------------------------------------------------------------------------------------------------------


class StridedConv(nn.Module):
    """`strided_conv` with a learnt kernel and no bias: halves the side. An odd side is zero-padded by one at its end.

    Input ``[N, H, W, f]``, output ``[N, ceil(H/2), ceil(W/2), features]``.
    """

    features: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, x.shape[-1], self.features), self.param_dtype)
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        out: Array = strided_conv(x.astype(self.dtype), kernel.astype(self.dtype))
        return out


class TransposedConv(nn.Module):
    """`transposed_conv` with a learnt kernel and no bias: ``[N, H, W, c] -> [N, 2H, 2W, features]``."""

    features: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, self.features, x.shape[-1]), self.param_dtype)
        return transposed_conv(x.astype(self.dtype), kernel.astype(self.dtype))


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015), its moments taken over every device.

    ``y = gamma (x - mean) / sqrt(var + eps) + beta``. In training, mean and (biased) variance are those of the global
    batch, and the running ones in the ``batch_stats`` collection become ``0.9 running + 0.1 batch`` (the variance there
    unbiased, as in the paper and in PyTorch); otherwise the running ones are used. Moments and parameters are float32
    at least, whatever the compute dtype; the result has the compute dtype.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None = None) -> Array:
        shape = x.shape[-1:]
        scale = self.param("scale", _normal_about_one, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, self.param_dtype)
        if train:
            wide = x.astype(jnp.promote_types(self.param_dtype, jnp.float32))
            axes = tuple(range(x.ndim - 1))
            mean, square = cross_device_mean((wide.mean(axes), jnp.square(wide).mean(axes)), axis_name)
            var = jnp.maximum(square - jnp.square(mean), 0)
            if not self.is_initializing():
                count = x.size // x.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * lax.rsqrt(var + self.epsilon)
        out: Array = (x * factor + (bias - mean * factor)).astype(self.dtype)
        return out


def _normal_about_one(key: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
    """N(1, 0.02): DCGAN's initial batch-norm gain (pytorch/examples dcgan)."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)
