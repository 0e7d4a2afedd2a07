"""Convolution in groups of channels (Krizhevsky et al. 2012; "cardinality", Xie et al. 2017, arXiv:1611.05431).

XLA:CPU has no fast code for it, so there it is a product of matrices for each group: of three (or k) neighbours in a
row with the kernel's k rows, whose k results are then added a row apart. That writes k times the image where patches
would take k² times. On a busy CPU it took as long as PyTorch's in channels_last at 4x4 and 8x8, and up to twice as long
at 32x32. Values, adjoint and weight gradient are each other's derivatives, so that it is exact to any order. Elsewhere
it is XLA's own.
"""

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops.xla_cpu import held, on_cpu

Array = jax.Array
_LAYOUT = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def grouped_conv(x: Array, kernel: Array) -> Array:
    """Cross-correlate each group of channels by itself, with zero padding to the same side.

    Args:
      x: ``[N, H, W, G f]``: the groups one after the other.
      kernel: ``[k, k, f, G c]``, k odd.

    Returns:
      ``[N, H, W, G c]``.
    """
    side, _, f, outputs = kernel.shape
    groups = x.shape[-1] // f
    if not on_cpu():
        return _by_lax(x, kernel)
    n, h, w, _ = x.shape
    rows = kernel.reshape(side, side * f, groups, -1).transpose(2, 1, 0, 3)  # [G, k f, k, c]
    products = _products(_columns(_by_group(x, groups), side), rows.reshape(groups, side * f, -1))
    found = held(products).reshape(groups, n, h, w, side, outputs // groups)
    # Row i of the kernel gives what belongs i - k/2 rows higher.
    parts = [_moved(found[..., i, :], side // 2 - i) for i in range(side)]
    return _together(sum(parts[1:], parts[0]))


@jax.custom_vjp
def kernel_gradient(x: Array, y: Array, like: Array) -> Array:
    """Return the gradient of ``<grouped_conv(x, W), y>`` with respect to ``W``, which has the shape of ``like``."""
    if not on_cpu():
        gradient: Array = jax.linear_transpose(lambda kernel: _by_lax(x, kernel), like)(y)[0]
        return gradient
    side, _, f, outputs = like.shape
    groups = x.shape[-1] // f
    below = _by_group(y, groups)
    shifted = jnp.concatenate([_moved(below, i - side // 2) for i in range(side)], -1)
    columns = _columns(_by_group(x, groups), side)
    found = lax.dot_general(columns, held(shifted.reshape(*columns.shape[:2], -1)), (((1,), (1,)), ((0,), (0,))))
    found = found.reshape(groups, side, f, side, outputs // groups)  # columns, then rows, of the kernel
    return found.transpose(3, 1, 2, 0, 4).reshape(like.shape)


def _adjoint(y: Array, kernel: Array, inputs: int) -> Array:
    """Return the adjoint of `grouped_conv` in its image: itself a convolution in groups."""
    side, _, f, _ = kernel.shape
    apart = kernel[::-1, ::-1].reshape(side, side, f, inputs // f, -1)
    return grouped_conv(y, apart.swapaxes(2, 4).reshape(side, side, -1, inputs))


grouped_conv.defvjp(
    lambda x, kernel: (grouped_conv(x, kernel), (x, kernel)),
    lambda saved, g: (_adjoint(g, saved[1], saved[0].shape[-1]), kernel_gradient(saved[0], g, saved[1])),
)
kernel_gradient.defvjp(
    lambda x, y, like: (kernel_gradient(x, y, like), (x, y, like)),
    lambda saved, g: (
        _adjoint(saved[1], g, saved[0].shape[-1]),
        grouped_conv(saved[0], g),
        jnp.zeros_like(saved[2]),
    ),
)


def _by_lax(x: Array, kernel: Array) -> Array:
    padding = ((len(kernel) // 2,) * 2,) * 2
    groups = x.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT, feature_group_count=groups)


def _by_group(x: Array, groups: int) -> Array:
    """``[N, H, W, G f] -> [G, N, H, W, f]``."""
    return held(held(x).reshape(*x.shape[:3], groups, -1).transpose(3, 0, 1, 2, 4))


def _together(x: Array) -> Array:
    """Back from `_by_group`."""
    groups, n, h, w, f = x.shape
    return held(held(x).transpose(1, 2, 3, 0, 4)).reshape(n, h, w, groups * f)


def _columns(x: Array, side: int) -> Array:
    """``[G, N, H, W, f] -> [G, N H W, k f]``: each pixel with its neighbours in the row, 0 beyond the border."""
    groups, _, _, w, _ = x.shape
    padded = held(jnp.pad(x, ((0, 0), (0, 0), (0, 0), (side // 2,) * 2, (0, 0))))
    near = jnp.concatenate([padded[:, :, :, j : j + w] for j in range(side)], -1)
    return held(near).reshape(groups, -1, near.shape[-1])


def _moved(x: Array, down: int) -> Array:
    """``[G, N, H, W, f]`` so many rows further down, or up; 0 where nothing was."""
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, [(down if i == 2 else 0, -down if i == 2 else 0, 0) for i in range(5)])


def _products(x: Array, kernel: Array) -> Array:
    return lax.dot_general(x, kernel, (((2,), (1,)), ((0,), (0,))))
