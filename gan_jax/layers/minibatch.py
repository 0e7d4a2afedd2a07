"""What D learns of the whole batch: minibatch discrimination and the minibatch's standard deviation."""

import math

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
_GROUP = 4  # of the minibatch's standard deviation


def minibatch_discrimination(projected: Array, axis_name: str | None) -> Array:
    """Salimans et al. 2016 (arXiv:1606.03498), section 3.2: how near each example is to the others of the batch.

    ``o(x_i)_b = sum_j exp(-|M_ib - M_jb|_1)`` over all examples j of the global batch, ``M_i = f(x_i) T``.

    Args:
      projected: M, ``[b, B, C]``.
      axis_name: the device axis.

    Returns:
      o, ``[b, B]``.
    """
    everyone = _gathered(projected, axis_name)
    distances = jnp.abs(projected[:, None] - everyone[None]).sum(-1)
    return jnp.exp(-distances).sum(1)


def minibatch_stddev(x: Array, axis_name: str | None) -> Array:
    """Karras et al. 2018 (arXiv:1710.10196), section 3: the mean over features of the standard deviation over a group.

    Groups are 4 neighbours in the global batch (2 or 1 where it isn't divisible), whatever device they are on.

    Args:
      x: ``[b, F]``.
      axis_name: the device axis.

    Returns:
      ``[b, 1]``, the same for all of a group.
    """
    local = axis_name is None or len(x) % _GROUP == 0
    everyone = x if local else _gathered(x, axis_name)
    size = math.gcd(len(everyone), _GROUP)
    groups = everyone.reshape(-1, size, x.shape[1])
    spread = jnp.sqrt(jnp.square(groups - groups.mean(1, keepdims=True)).mean(1) + 1e-8).mean(1)
    out = jnp.repeat(spread, size)[:, None]
    if not local:
        out = lax.dynamic_slice_in_dim(out, lax.axis_index(axis_name) * len(x), len(x))
    return out


def stddev_channel(x: Array, axis_name: str | None, group: int) -> Array:
    """Return the standard deviation over a group, of pixels and channels alike, as one more channel (StyleGAN2's code).

    A group is examples i, i + N / G, i + 2 N / G and so on of the global batch of N, whatever device they are on, G the
    largest divisor that N and ``group`` share. The authors' groups are of a device's batch.

    Args:
      x: ``[b, H, W, C]``.
      axis_name: the device axis.
      group: wanted number of examples in a group.

    Returns:
      ``[b, H, W, 1]``, one number for all of a group.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    everyone = _gathered(wide, axis_name)
    groups = everyone.reshape(math.gcd(len(everyone), group), -1, *x.shape[1:])
    spread = jnp.sqrt(jnp.square(groups - groups.mean(0)).mean(0) + 1e-8).mean((1, 2, 3))
    number = jnp.arange(len(x)) if axis_name is None else lax.axis_index(axis_name) * len(x) + jnp.arange(len(x))
    own = spread[number % len(spread)]
    return jnp.broadcast_to(own[:, None, None, None], (*x.shape[:-1], 1)).astype(x.dtype)


def _gathered(x: Array, axis_name: str | None) -> Array:
    return x if axis_name is None else lax.all_gather(x, axis_name, tiled=True)
