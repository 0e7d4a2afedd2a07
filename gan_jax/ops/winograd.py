"""Convolution with stride 1 by minimal filtering (Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308), for XLA:CPU.

An output tile of m x m pixels takes ``(m + r - 1)²`` products a pair of channels where the definition takes ``m² r²``:
for the tiles of 4 used here a quarter with 3x3 kernels, and .39 with 2x2 ones. In one dimension

    y = Aᵀ ((G w) * (Bᵀ x)),   x: m + r - 1 inputs, w: r taps, y: m outputs,

so that sums over channels of all tiles become one matrix product for each place in a tile. Exact but for rounding:
the points at which the polynomials are evaluated are those that keep it low (as Barabasz et al. 2018,
arXiv:1803.10986, but found for these sizes), and types narrower than float32 are computed in float32.

The three functions here are bilinear, and transposes of one another; `gan_jax.ops.conv` and `conv4` make them
differentiable. Their arrays hold whole tiles: `whole` adds the rows that are missing.

Of the last tile the last output may be missing, as of 7 rows in tiles of 4. All that this output needs and the others
don't is the place of the point at infinity: without it the tile is one of m - 1 outputs, at no cost for the missing.
"""

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.ops.xla_cpu import held, written

Array = jax.Array

_POINTS = {
    (2, 2): (0, 1),
    (4, 2): (0, 0.5, -1, 2),
    (2, 3): (0, 1, -1),
    (4, 3): (0, 0.75, -0.75, 1.5, -1.5),
}
# Nanoseconds on 2 cores, fitted to the convolutions of DCGAN and of the residual networks at batches of 32 to 128: of
# one product of channels in a plain convolution and here; of reading and writing an entry of the arrays between, where
# they are in the cache and where not, and of a kernel's; of starting the loops for a place.
_DIRECT, _PRODUCT, _NEAR_ENTRY, _FAR_ENTRY, _KERNEL_ENTRY, _PLACE = 0.01, 0.011, 0.4, 0.9, 0.7, 20_000
_NEAR = 4_000_000  # entries
_WORTH = 0.95


def best_tile(batch: int, sides: tuple[int, int], kernel_size: int, channels: tuple[int, int], direct: int = 0) -> int:
    """Which tile is the quickest for a convolution with these outputs.

    Args:
      batch: N.
      sides: H and W of the output.
      kernel_size: r, 2 or 3.
      channels: of input and output.
      direct: how many products of channels an image takes otherwise, 0 for ``r² H W``.

    Returns:
      m; 0 where a plain convolution is as quick.
    """
    f, c = channels
    costs = {0: _WORTH * batch * (direct or kernel_size**2 * math.prod(sides)) * f * c * _DIRECT}
    for m in (4, 2):
        places = (m + kernel_size - 1) ** 2
        rows = batch * math.prod(-(-s // m) * (m + kernel_size - 1) - _lacks_one(s, m) for s in sides)
        entries = rows * (f + c)
        costs[m] = rows * f * c * _PRODUCT + places * (f * c * _KERNEL_ENTRY + _PLACE)
        costs[m] += entries * (_NEAR_ENTRY if entries < _NEAR else _FAR_ENTRY)
    return min(costs, key=lambda m: costs[m])


def padding(sides: tuple[int, int], tile: int) -> tuple[int, int]:
    """How many rows and columns these outputs need: none where the last tile lacks but one."""
    down, right = (0 if _lacks_one(side, tile) else -side % tile for side in sides)
    return down, right


def whole(x: Array, tile: int, border: int = 0) -> Array:
    """``[N, H, W, c]`` with a border of zeros, and after it as many as whole tiles of H and W take."""
    down, right = padding((x.shape[1], x.shape[2]), tile)
    if not (border or down or right):
        return x
    padded: Array = written(jnp.pad(x, ((0, 0), (border, border + down), (border, border + right), (0, 0))))
    return padded


def _lacks_one(side: int, tile: int) -> bool:
    return (side + 1) % tile == 0


@partial(jax.jit, static_argnames="tile", inline=True)
def conv(x: Array, kernel: Array, tile: int) -> Array:
    """Cross-correlation without padding.

    Args:
      x: ``[N, H + r - 1, W + r - 1, f]``, H and W multiples of the tile, or one less.
      kernel: ``[r, r, f, c]``, r 2 or 3.
      tile: m, 2 or 4.

    Returns:
      ``[N, H, W, c]``.
    """
    by = _transforms(tile, len(kernel))
    products = _products(_input_spread(_wide(x), by), _kernel_spread(_wide(kernel), by))
    return _output_gathered(products, by).astype(x.dtype)


@partial(jax.jit, static_argnames="tile", inline=True)
def adjoint(y: Array, kernel: Array, tile: int) -> Array:
    """Return the adjoint of `conv` in its image: ``[N, H, W, c] -> [N, H + r - 1, W + r - 1, f]``."""
    by = _transforms(tile, len(kernel))
    kernels = [k.T for k in _kernel_spread(_wide(kernel), by)]
    return _input_gathered(_products(_output_spread(_wide(y), by), kernels), by).astype(y.dtype)


@partial(jax.jit, static_argnames=("kernel_size", "tile"), inline=True)
def kernel_gradient(x: Array, y: Array, kernel_size: int, tile: int) -> Array:
    """Gradient of ``<conv(x, W), y>`` with respect to ``W``: ``[r, r, f, c]``, r being the ``kernel_size``."""
    by = _transforms(tile, kernel_size)
    pairs = zip(_input_spread(_wide(x), by), _output_spread(_wide(y), by), strict=True)
    return _kernel_gathered(held([_rows(v).T @ _rows(u) for v, u in pairs]), by).astype(x.dtype)


Matrix = tuple[tuple[float, ...], ...]


class _Transforms(NamedTuple):
    """A ``[a, m]``, G ``[a, r]`` and B transposed ``[a, a]``, where ``a = m + r - 1``."""

    outputs: Matrix
    kernel: Matrix
    inputs: Matrix


@cache
def _transforms(tile: int, kernel_size: int) -> _Transforms:
    """By Lagrange's interpolation at the points, of which the last one is infinity."""
    points = _POINTS[tile, kernel_size]
    others = [[o for o in points if o != p] for p in points]
    numerators = [(*_polynomial(o), 0.0) for o in others] + [_polynomial(points)]
    denominators = [math.prod(p - o for o in rest) for p, rest in zip(points, others, strict=True)] + [1.0]

    def powers(n: int) -> list[tuple[float, ...]]:
        return [*(tuple(float(p) ** i for i in range(n)) for p in points), (*(0.0,) * (n - 1), 1.0)]

    scaled = (tuple(x / d for x in row) for row, d in zip(powers(kernel_size), denominators, strict=True))
    return _Transforms(tuple(powers(tile)), tuple(scaled), tuple(numerators))


def _polynomial(roots: Sequence[float]) -> tuple[float, ...]:
    """Return the coefficients, the constant first, of the product of ``x - root``."""
    found = [1.0]
    for root in roots:
        found = [low - root * high for low, high in zip([0.0, *found], [*found, 0.0], strict=True)]
    return tuple(found)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _squared(matrix: Matrix, like: Array) -> Array:
    """Return the matrix's product with itself by Kronecker, for both dimensions of an image at once."""
    one = jnp.asarray(matrix, like.dtype)
    return jnp.kron(one, one)


# The spread and the gathered forms are transposes of each other: of inputs, outputs and kernel. Those spread are a²
# arrays, one for each place in a tile, row by row; T and S are the numbers of tiles that have this place.


def _input_spread(x: Array, by: _Transforms) -> list[Array]:
    """``[N, H + r - 1, W + r - 1, f] -> a² of [N, T, S, f]``."""
    a, m = len(by.outputs), len(by.outputs[0])

    def along(axis: int, x: Array) -> list[Array]:
        length = x.shape[axis]
        first = -(-(length - a + m) // m) * m - m  # input of the last tile
        inputs = [lax.slice_in_dim(x, i, min(first + i + 1, length), m, axis) for i in range(a)]
        return _each(by.inputs, inputs, axis)

    return [v for rows in along(1, x) for v in along(2, rows)]


def _input_gathered(spread: list[Array], by: _Transforms) -> Array:
    """``a² of [N, T, S, f] -> [N, H + r - 1, W + r - 1, f]``, where tiles overlap their sum."""
    a, m = len(by.outputs), len(by.outputs[0])
    taps = _transposed(by.inputs)

    def along(axis: int, parts: list[Array]) -> Array:
        tiles, last = parts[0].shape[axis], parts[-1].shape[axis]
        parts = [*parts[:-1], _padded(parts[-1], axis, 0, tiles - last)]
        pixels = [_padded(_combined(taps[i], parts, axis), axis, 0, 1) for i in range(m)]
        for i in range(a - m):
            pixels[i] += _padded(_combined(taps[m + i], parts, axis), axis, 1, 0)
        length = tiles * m + a - m - (tiles - last)
        return lax.slice_in_dim(_interleaved(held(pixels), axis), 0, length, axis=axis)

    return along(1, held([along(2, spread[i : i + a]) for i in range(0, a * a, a)]))


def _output_spread(y: Array, by: _Transforms) -> list[Array]:
    """``[N, H, W, c] -> a² of [N, T, S, c]``."""
    m = len(by.outputs[0])

    def along(axis: int, y: Array) -> list[Array]:
        pixels = [lax.slice_in_dim(y, i, y.shape[axis], m, axis) for i in range(m)]
        tiles, last = pixels[0].shape[axis], pixels[-1].shape[axis]
        whole = [*pixels[:-1], _padded(pixels[-1], axis, 0, tiles - last)]
        return [*_each(by.outputs[:-1], whole, axis), *_each(by.outputs[-1:], pixels, axis)]

    return [u for rows in along(1, y) for u in along(2, rows)]


def _output_gathered(spread: list[Array], by: _Transforms) -> Array:
    """``a² of [N, T, S, c] -> [N, H, W, c]``."""
    a, pixels = len(by.outputs), _transposed(by.outputs)
    columns = [[_combined(pixel, spread[i : i + a], 2) for pixel in pixels] for i in range(0, a * a, a)]
    rows = [_interleaved([_combined(pixel, part, 1) for part in zip(*columns, strict=True)], 2) for pixel in pixels]
    whole = held(_interleaved(rows, 1))
    lacks = [spread[0].shape[axis] - spread[-1].shape[axis] for axis in (1, 2)]
    return whole[:, : whole.shape[1] - lacks[0], : whole.shape[2] - lacks[1]]


def _kernel_spread(kernel: Array, by: _Transforms) -> list[Array]:
    """``[r, r, f, c] -> a² of [f, c]``, as one product of matrices."""
    _, _, f, c = kernel.shape
    matrix = _squared(by.kernel, kernel)
    return list(held((matrix @ kernel.reshape(-1, f * c)).reshape(-1, f, c)))


def _kernel_gathered(spread: list[Array], by: _Transforms) -> Array:
    """``a² of [f, c] -> [r, r, f, c]``."""
    r = len(by.kernel[0])
    matrix = _squared(by.kernel, spread[0]).T
    stacked = held(jnp.stack([s.reshape(-1) for s in spread]))
    gradient: Array = (matrix @ stacked).reshape(r, r, *spread[0].shape)
    return gradient


def _products(spread: list[Array], kernels: list[Array]) -> list[Array]:
    """``a² of [N, T, S, f]`` and of ``[f, c]`` -> ``a² of [N, T, S, c]``; products of matrices: others take twice as
    long."""
    pairs = zip(held([_rows(v) for v in spread]), kernels, strict=True)
    products = held([v @ k for v, k in pairs])
    return [p.reshape(*v.shape[:3], p.shape[1]) for p, v in zip(products, spread, strict=True)]


def _each(coefficients: Matrix, parts: list[Array], axis: int) -> list[Array]:
    """For each row of coefficients the sum of the parts times its entries, computed once."""
    sums = [_combined(row, parts, axis) for row in coefficients]
    return held([written(x) if row.count(0) == len(row) - 1 else x for row, x in zip(coefficients, sums, strict=True)])


def _combined(coefficients: Sequence[float], parts: list[Array] | tuple[Array, ...], axis: int) -> Array:
    """Sum the parts times the coefficients, as far along the axis as all reach that aren't multiplied by 0."""
    used = [(k, x) for k, x in zip(coefficients, parts, strict=True) if k]
    length = min(x.shape[axis] for _, x in used)
    cut = [(k, lax.slice_in_dim(x, 0, length, axis=axis)) for k, x in used]
    terms = [x if k == 1 else -x if k == -1 else x * k for k, x in cut]
    return sum(terms[1:], terms[0])


def _interleaved(pixels: list[Array], axis: int) -> Array:
    """Arrays of each tile's first pixels, second pixels... along the axis -> all pixels, 0 where one is missing."""
    shape = list(pixels[0].shape)
    missing = shape[axis] - pixels[-1].shape[axis]
    shape[axis] *= len(pixels)
    return jnp.stack([*pixels[:-1], _padded(pixels[-1], axis, 0, missing)], axis + 1).reshape(shape)


def _padded(x: Array, axis: int, before: int, after: int) -> Array:
    """``x`` with so many zeros along the axis."""
    if not (before or after):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(before, after, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])


def _rows(x: Array) -> Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # also where there are none


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
