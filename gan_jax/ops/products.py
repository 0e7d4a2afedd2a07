"""Products of matrices, and convolutions made of them, in bfloat16 on CPUs.

XLA:CPU multiplies matrices of bfloat16 fast only where the sums are float32: with the units that newer processors have
for them (AMX, AVX512-BF16), 4 to 6 times as fast as float32 on the machine where it was measured. It has no such code
for results in bfloat16, for a transposed first factor, or for convolutions. So sums are float32 here, rounded once at
the end; a first factor is transposed beforehand; and a convolution is one product for each place in its kernel.

Elsewhere, and for other types, a `product` is what ``@`` makes, and `narrow` says that these convolutions aren't meant.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops.xla_cpu import held, on_cpu, written

Array = jax.Array
_BLOCK = 16  # rows that are transposed together, so that a cache line is read once


def narrow(x: Array) -> bool:
    """Whether ``x`` wants the functions of this module."""
    return x.dtype == jnp.bfloat16 and on_cpu()


def product(a: Array, b: Array, kind: str = "nn") -> Array:
    """Multiply matrices, in their type; differentiable to any order, in reverse mode.

    Args:
      a: ``[..., k]``; ``[k, m]`` for kind tn.
      b: ``[k, n]``; ``[n, k]`` for kind nt.
      kind: nn, nt or tn: t for a factor that is transposed.

    Returns:
      ``[..., n]``; ``[m, n]`` for kind tn.
    """
    if not narrow(a):
        return _plain(a, b, kind)
    found: Array = _product(_rows(a), b, kind)
    return found if kind == "tn" else found.reshape(*a.shape[:-1], found.shape[-1])


def by_rows(x: Array, kernel: Array) -> Array:
    """Multiply the last axis of ``x``, ``[..., f]``, by a matrix ``[f, c]``: ``[..., c]``.

    As one `product` of two matrices: XLA:CPU takes twice as long for one with more dimensions.
    """
    return product(_rows(x), kernel).reshape(*x.shape[:-1], kernel.shape[1])


def unrounded(a: Array, b: Array, kind: str = "nn") -> Array:
    """`product` of two matrices, in float32 where it would be rounded from that; without derivatives there."""
    return _sums(a, b, kind) if narrow(a) else _plain(a, b, kind)


def conv(x: Array, kernel: Array) -> Array:
    """Cross-correlation without padding: ``[N, H + r - 1, W + r - 1, f]`` and ``[r, r, f, c]`` to ``[N, H, W, c]``."""
    side = len(kernel)
    n, h, w, _ = (length - side + 1 if axis in (1, 2) else length for axis, length in enumerate(x.shape))
    found: Any = 0.0
    for i in range(side):
        x, found = held((x, found))  # a row of the kernel waits for the one before: few results are in memory at once
        taps = held([_rows(x[:, i : i + h, j : j + w]) for j in range(side)])
        parts = held([_sums(tap, kernel[i, j], "nn") for j, tap in enumerate(taps)])
        found = sum(parts, found)
    rounded: Array = found.astype(x.dtype).reshape(n, h, w, -1)
    return rounded


def adjoint(y: Array, kernel: Array) -> Array:
    """Return the adjoint of `conv` in its image: ``[N, H, W, c] -> [N, H + r - 1, W + r - 1, f]``."""
    n, h, w, _ = y.shape
    side, _, f, _ = kernel.shape
    found: Any = 0.0
    for i in range(side):
        y, found = held((y, found))
        parts = held([_sums(_rows(y), kernel[i, j], "nt").reshape(n, h, w, f) for j in range(side)])
        below = (i, side - 1 - i)
        moved = [jnp.pad(part, ((0, 0), below, (j, side - 1 - j), (0, 0))) for j, part in enumerate(parts)]
        found = sum(moved, found)
    rounded: Array = found.astype(y.dtype)
    return rounded


def kernel_gradient(x: Array, y: Array) -> Array:
    """Gradient of ``<conv(x, W), y>`` with respect to ``W``: of ``[N, H + r - 1, ..., f]`` and ``[N, H, W, c]``."""
    _, h, w, _ = y.shape
    side = x.shape[1] - h + 1
    turned = _transposed(_rows(y))
    parts: list[Array] = []
    for i in range(side):
        x, parts = held((x, parts))
        taps = held([_rows(x[:, i : i + h, j : j + w]) for j in range(side)])
        parts = parts + held([_sums(turned, tap, "nn").astype(x.dtype) for tap in taps])
    return jnp.stack([_transposed(part) for part in parts]).reshape(side, side, *parts[0].shape[::-1])


def _plain(a: Array, b: Array, kind: str) -> Array:
    return (a.T if kind == "tn" else a) @ (b.T if kind == "nt" else b)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(a: Array, b: Array, kind: str) -> Array:
    """`product` of two matrices."""
    return _sums(a, b, kind).astype(a.dtype)


_product.defvjp(
    lambda a, b, kind: (_product(a, b, kind), (a, b)),
    lambda kind, saved, g: {
        "nn": lambda a, b: (_product(g, b, "nt"), _product(a, g, "tn")),
        "nt": lambda a, b: (_product(g, b, "nn"), _product(g, a, "tn")),
        "tn": lambda a, b: (_product(b, g, "nt"), _product(a, g, "nn")),
    }[kind](*saved),
)


def _sums(a: Array, b: Array, kind: str) -> Array:
    """`_product` in float32."""
    left = _transposed(a) if kind == "tn" else a
    dimensions = (((1,), (1 if kind == "nt" else 0,)), ((), ()))
    found: Array = held(lax.dot_general(left, b, dimensions, preferred_element_type=jnp.float32))
    return found


def _transposed(x: Array) -> Array:
    """``[R, C] -> [C, R]``, in blocks of rows: XLA:CPU's own takes 4 to 6 times as long."""
    rows, columns = x.shape
    if rows % _BLOCK or rows == _BLOCK:
        return written(x.T)
    blocks = written(x.reshape(rows // _BLOCK, _BLOCK, columns).transpose(0, 2, 1))
    return written(blocks.transpose(1, 0, 2)).reshape(columns, rows)


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
