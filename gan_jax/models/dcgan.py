"""DCGAN (Radford, Metz & Chintala 2015, arXiv:1511.06434), in the layout of pytorch/examples ``dcgan/main.py``.

No bias anywhere, weights N(0, .02), batch-norm gains N(1, .02). Works on any square image: each block halves the side,
rounded up, so 64 goes down to 4 by four blocks (Radford's network), 128 by five, 28 to 7 by two and to 4 by three.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.layers import Array, BatchNorm, Dtype, StridedConv, TransposedConv

_init = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1].

    Dense to ``side·side·widths[0]`` with ``side = ceil(H / 2^len(widths))``; then for each width batch norm, ReLU and a
    transposed convolution to the next width (at last to C); tanh. Where the side that the discriminator would have
    there is odd, the convolution's last row and column are dropped: 28 grows from 4 by way of 7 and 14.

    Raises:
      ValueError: the image isn't square, or so small that a block would have nothing to do.
    """

    image_shape: tuple[int, int, int]
    widths: Sequence[int] = (128, 64)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Array, *, train: bool, axis_name: str | None = None) -> Array:
        side, *larger = _sides(self.image_shape, self.widths)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Dense(side * side * self.widths[0], use_bias=False, kernel_init=_init, **types)(z)
        x = x.reshape(-1, side, side, self.widths[0])
        for features, side in zip((*self.widths[1:], self.image_shape[-1]), larger, strict=True):
            x = nn.relu(BatchNorm(**types)(x, train=train, axis_name=axis_name))
            x = TransposedConv(features, **types)(x)[:, :side, :side]
        return jnp.tanh(x)


class Discriminator(nn.Module):
    """Images ``[B, H, W, C]`` in [-1, 1] -> logits ``[B]``.

    A strided convolution for each width, batch norm after all but the first, LeakyReLU(.2); then one dense unit (the
    4x4 valid convolution of the reference). A side that becomes odd is padded to even, so depth is free.
    """

    widths: Sequence[int] = (64, 128)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None = None) -> Array:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for block, features in enumerate(self.widths):
            x = StridedConv(features, **types)(x)
            if block > 0:
                x = BatchNorm(**types)(x, train=train, axis_name=axis_name)
            x = nn.leaky_relu(x, 0.2)
        x = nn.Dense(1, use_bias=False, kernel_init=_init, **types)(x.reshape(x.shape[0], -1))
        return x[:, 0].astype(self.param_dtype)


def _sides(image_shape: tuple[int, int, int], widths: Sequence[int]) -> list[int]:
    """The side before each block of the generator, and after the last."""
    height, width, _ = image_shape
    if not widths:
        raise ValueError("generator.widths is empty: give one width for each doubling of the side, e.g. (128, 64)")
    if height != width:
        raise ValueError(f"dcgan makes square images, not {height}x{width}")
    sides = [height]
    for _ in widths:
        sides.append(-(-sides[-1] // 2))
    if sides[-2] == 1:
        raise ValueError(f"{len(widths)} generator.widths are too many for images of side {height}: give fewer")
    return sides[::-1]
