"""Gradient penalties on the discriminator: ``penalty(discriminate, real, fake, key, index) -> [B]``.

``discriminate`` maps images ``[B, ...]`` to logits ``[B]``; ``real`` and ``fake`` are what D sees, ``[B, ...]``;
each example's random numbers are those of ``key`` and its own ``index`` ``[B]``. Gradients are those of the sum of
the logits with respect to the images, so where D normalises over its batch they see the other examples too. Norms
are taken in the images' dtype, float32 at least.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Discriminate = Callable[[Array], Array]
Penalty = Callable[[Discriminate, Array, Array, Array, Array], Array]

__all__ = ["dragan", "r1", "r2", "wgan_gp"]


def wgan_gp(discriminate: Discriminate, real: Array, fake: Array, key: Array, index: Array) -> Array:
    """``(|grad D(x)| - 1)^2`` at ``x = e real + (1 - e) fake``, e ~ U[0, 1] for each example (Gulrajani et al. 2017,
    arXiv:1704.00028, eq. 3; weight 10 there).
    """  # fmt: skip
    mix = _uniform(key, index, ())
    mix = mix.reshape(-1, *(1,) * (real.ndim - 1)).astype(real.dtype)
    return jnp.square(_norm(discriminate, mix * real + (1 - mix) * fake) - 1)


def dragan(discriminate: Discriminate, real: Array, fake: Array, key: Array, index: Array) -> Array:
    """``(|grad D(x)| - 1)^2`` about the reals (Kodali et al. 2017, arXiv:1705.07215, eq. 1; weight 10 there).

    As the authors' code has it, ``x = real + a u`` with ``u = .5 s v``, a and v ~ U[0, 1] (a for each example, v
    for each number) and s the standard deviation of the example, where theirs is of the batch: so no example
    depends on others.
    """
    del fake
    a = _uniform(key, index, ()).reshape(-1, *(1,) * (real.ndim - 1))
    v = _uniform(jax.random.fold_in(key, 1), index, real.shape[1:])
    spread = real.std(axis=tuple(range(1, real.ndim)), keepdims=True)
    return jnp.square(_norm(discriminate, real + (a * 0.5 * spread * v).astype(real.dtype)) - 1)


def r1(discriminate: Discriminate, real: Array, fake: Array, key: Array, index: Array) -> Array:
    """``½ |grad D(real)|^2`` (Mescheder et al. 2018, arXiv:1801.04406, eq. 9)."""
    del fake, key, index
    return 0.5 * _square_norm(discriminate, real)


def r2(discriminate: Discriminate, real: Array, fake: Array, key: Array, index: Array) -> Array:
    """``½ |grad D(fake)|^2`` (Mescheder et al. 2018, eq. 10)."""
    del real, key, index
    return 0.5 * _square_norm(discriminate, fake)


def _uniform(key: Array, index: Array, shape: tuple[int, ...]) -> Array:
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), shape))(index)


def _square_norm(discriminate: Discriminate, x: Array) -> Array:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # drawn images may be bfloat16
    gradient = jax.grad(lambda x: discriminate(x).sum())(x)
    return jnp.square(gradient).sum(tuple(range(1, x.ndim)))


def _norm(discriminate: Discriminate, x: Array) -> Array:
    square = _square_norm(discriminate, x)
    positive = square > 0  # the root's derivative at 0 is infinite, and times 0 no number
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
