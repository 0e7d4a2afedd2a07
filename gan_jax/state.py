"""What a GAN is while it trains: `GAN`, the static half (networks, loss, optimizers), and `GANState`, the one pytree.

Whatever a sweep may vary (seed, rates, betas, label values, EMA decay) is a leaf of the state, so that changing it
recompiles nothing and a population of trials is a batch of states.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from gan_jax.augment import Augmentation, none
from gan_jax.losses import Loss

Array = jax.Array
Params = Any
Hyper = dict[str, dict[str, Any]]  # scalars, of NumPy or JAX
Optimizer = Callable[..., optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class GAN:
    """The static half of a GAN: what decides the compiled program.

    Attributes:
      generator: latents ``[B, latent_dim]`` -> images ``[B, *image_shape]`` in [-1, 1]; see `gan_jax.models`.
      discriminator: images -> logits ``[B]``.
      loss: one of `gan_jax.losses`.
      generator_optimizer, discriminator_optimizer: made anew at each step from the state's hyperparameters, for
        instance ``optax.adam``, called as ``adam(**hyper["generator"])``.
      latent_dim: length of the latent vector, drawn from N(0, 1).
      image_shape: (height, width, channels).
      d_steps: discriminator steps per generator step.
      augment: one of `gan_jax.augment`, applied to every image that D sees.
      dtype: of parameters, logits, losses and moments: float32, or float64 in float64 runs.
    """

    generator: nn.Module
    discriminator: nn.Module
    loss: Loss
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    latent_dim: int
    image_shape: tuple[int, int, int]
    d_steps: int = 1
    augment: Augmentation = none
    dtype: Any = jnp.float32


class Player(struct.PyTreeNode):
    """One network's own part of the state."""

    params: Params
    batch_stats: Params
    opt_state: optax.OptState


class GANState(struct.PyTreeNode):
    """The whole state of a training run: everything that the next step reads, and all that a checkpoint holds.

    Attributes:
      step: generator steps done, int32.
      seed: every random number is a function of (seed, step, purpose, example index), uint32.
      generator, discriminator: the players.
      ema: exponential moving average of the generator's parameters.
      hyper: ``generator`` and ``discriminator`` (arguments of their optimizers), ``loss`` (its label values), ``ema``
        (its decay); scalars all.
    """

    step: Array
    seed: Array
    generator: Player
    discriminator: Player
    ema: Params
    hyper: Hyper


def random_key(seed: Array, purpose: str, *counters: Array | int) -> Array:
    """The PRNG key of (seed, purpose, counters): a pure function of them, never of a device or of calls made before."""
    key = jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose))
    for counter in counters:
        key = jax.random.fold_in(key, counter)
    return key


# The order is part of what a seed means: only ever append.
_PURPOSES = ("init_generator", "init_discriminator", "latents", "samples", "augment_real", "augment_fake", "evaluation")


def draw_latents(gan: GAN, key: Array, index: Array) -> Array:
    """Latents ``[B, latent_dim]`` ~ N(0, 1), each a function of ``key`` and its own ``index`` ``[B]`` alone.

    So it makes no difference how the examples are spread over devices or cut into batches.
    """
    draw = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (gan.latent_dim,), gan.dtype))
    return draw(index)


def init_state(gan: GAN, seed: Array | int, hyper: Hyper) -> GANState:
    """The state before the first step. ``hyper`` as in `GANState`; a pure function that can be jitted and vmapped."""
    seed = jnp.asarray(seed, jnp.uint32)
    z = jnp.zeros((1, gan.latent_dim), gan.dtype)
    x = jnp.zeros((1, *gan.image_shape), gan.dtype)
    generator = _init_player(
        gan.generator, random_key(seed, "init_generator"), z, gan.generator_optimizer, hyper["generator"]
    )
    discriminator = _init_player(
        gan.discriminator,
        random_key(seed, "init_discriminator"),
        x,
        gan.discriminator_optimizer,
        hyper["discriminator"],
    )
    return GANState(
        step=jnp.zeros((), jnp.int32),
        seed=seed,
        generator=generator,
        discriminator=discriminator,
        # A copy: the state's buffers are donated at each step, and one buffer can't be donated twice.
        ema=jax.tree.map(jnp.copy, generator.params),
        hyper=hyper,
    )


def _init_player(module: nn.Module, key: Array, x: Array, optimizer: Optimizer, hyper: dict[str, Any]) -> Player:
    variables = module.init(key, x, train=True)
    params = variables["params"]
    return Player(params, variables.get("batch_stats", {}), optimizer(**hyper).init(params))


def parameter_count(params: Params) -> int:
    """Number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
