"""The order of the data: which image is example ``index`` of step ``step``, as a pure function of the seed.

Every epoch is a permutation of the data set that nobody stores or sorts: a Feistel network over two digits of mixed
radix (as in format-preserving encryption: Black & Rogaway 2002, "Ciphers with arbitrary finite domains"), which can be
asked for one position at a time. It is written for NumPy and JAX alike, so host and device agree to the bit.
"""

import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_COIN = 0x666C6970  # "flip": keeps the coins of `mirrored` apart from the order
_ROUNDS = 8  # an even number; 4 make a pseudo-random permutation of good round functions, and these are cheap ones


def permute(position: Any, length: int, seed: Any, epoch: Any, xp: ModuleType = jnp) -> Any:
    """Where ``position`` goes in the permutation of ``range(length)`` that belongs to (seed, epoch).

    Args:
      position: uint32 array, each below ``length``.
      length: from 1 to 2^31.
      seed, epoch: uint32, scalars or of the shape of ``position``.
      xp: ``jax.numpy`` or ``numpy``.

    Returns:
      uint32 of the shape of ``position``. For fixed seed and epoch a bijection of ``range(length)``.
    """
    # The domain is a x b, the smallest near-square rectangle that holds `length`; what falls beyond it walks on.
    a = math.isqrt(length - 1) + 1
    b = -(-length // a)
    key = mix(mix(xp.asarray(seed, xp.uint32), xp) ^ xp.asarray(epoch, xp.uint32), xp)

    def once(x: Any) -> Any:
        left, right = x // xp.uint32(b), x % xp.uint32(b)
        for turn in range(0, _ROUNDS, 2):
            left = (left + mix(right ^ mix(key + xp.uint32(turn), xp), xp) % xp.uint32(a)) % xp.uint32(a)
            right = (right + mix(left ^ mix(key + xp.uint32(turn + 1), xp), xp) % xp.uint32(b)) % xp.uint32(b)
        return left * xp.uint32(b) + right

    x = once(xp.asarray(position, xp.uint32))
    if a * b == length:
        return x
    if xp is np:
        while (x >= length).any():
            x = np.where(x >= length, once(x), x)
        return x
    bound = xp.uint32(length)
    return jax.lax.while_loop(lambda x: (x >= bound).any(), lambda x: jnp.where(x >= bound, once(x), x), x)


def shuffled(count: int, epoch: int) -> np.ndarray:
    """Return the numbers below ``count``, int64, in the order of seed 0 and ``epoch``: the same for every run."""
    if not count:
        return np.zeros(0, np.int64)
    order: np.ndarray = permute(np.arange(count, dtype=np.uint32), count, 0, epoch, np).astype(np.int64)
    return order


def sample_index(
    step: Any, index: Any, length: int, batch_size: int, d_steps: int, seed: Any, xp: ModuleType = jnp, ahead: int = 0
) -> Any:
    """Return the image number of each example of training step ``step``: uint32 ``[d_steps, len(index)]``.

    Args:
      step: scalar, from 0.
      index: ``[b]``, global example indices below ``batch_size``.
      length: number of images.
      batch_size: the global batch size.
      d_steps: batches that a step takes.
      seed: uint32 scalar.
      xp: ``jax.numpy`` or ``numpy``.
      ahead: by how many images the run is ahead of ``step`` such steps, as its steps had other batches before.

    Batches follow each other through the epochs without a gap: each epoch is every image exactly once, and a batch may
    span two. Counts in uint32, so a run may draw up to 2^32 - 1 images (`gan_jax.build` refuses longer ones).
    """
    drawn = _drawn(step, index, batch_size, d_steps, xp, ahead)
    return permute(drawn % xp.uint32(length), length, seed, drawn // xp.uint32(length), xp)


def mirrored(
    step: Any, index: Any, batch_size: int, d_steps: int, seed: Any, xp: ModuleType = jnp, ahead: int = 0
) -> Any:
    """Whether each example of a step is mirrored, a fair coin for each image each time that it is drawn.

    Arguments as for `sample_index`; bool ``[d_steps, len(index)]``.
    """
    drawn = _drawn(step, index, batch_size, d_steps, xp, ahead)
    return mix(mix(xp.asarray(seed, xp.uint32) ^ xp.uint32(_COIN), xp) ^ drawn, xp) >> xp.uint32(31) == 1


def _drawn(step: Any, index: Any, batch_size: int, d_steps: int, xp: ModuleType, ahead: int) -> Any:
    """How many examples of the run come before each example of a step: uint32 ``[d_steps, len(index)]``."""
    batch = xp.asarray(step, xp.uint32) * xp.uint32(d_steps) + xp.arange(d_steps, dtype=xp.uint32)
    drawn = batch[:, None] * xp.uint32(batch_size) + xp.asarray(index, xp.uint32)[None]
    return drawn + xp.uint32(ahead % 2**32) if ahead else drawn


@np.errstate(over="ignore")  # uint32 is meant to wrap
def mix(x: Any, xp: ModuleType = np) -> Any:
    """uint32 -> uint32: MurmurHash3's finaliser, a bijection whose every output bit depends on every input bit."""
    x = (x ^ (x >> xp.uint32(16))) * xp.uint32(0x85EBCA6B)
    x = (x ^ (x >> xp.uint32(13))) * xp.uint32(0xC2B2AE35)
    return x ^ (x >> xp.uint32(16))
