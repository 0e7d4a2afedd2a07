"""What a GAN is while it trains: `GAN`, the static half (networks, loss, optimizers), and `GANState`, the one pytree.

Whatever a sweep may vary (seed, rates, betas, label values, EMA decay) is a leaf of the state, so that changing it
recompiles nothing and a population of trials is a batch of states.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from gan_jax.augment import Augmentation, none
from gan_jax.layers import Judgement
from gan_jax.losses import Loss
from gan_jax.optimizers import Optimizer
from gan_jax.penalties import Penalty
from gan_jax.terms import Term

Array = jax.Array
Params = Any
Variables = dict[str, Any]  # of a network, by collection
Hyper = dict[str, dict[str, Any]]  # scalars, of NumPy or JAX


class Turn(struct.PyTreeNode):
    """What one discriminator step, or the generator's, has before it.

    Attributes:
      image: real images of the data ``[b, H, W, C]`` in [-1, 1].
      label: of them, int32 ``[b]``; fakes get the same.
      index: the examples' numbers in the global batch ``[b]``.
      substep: which of the step's discriminator steps; the number after theirs for latents of G's own.
    """

    image: Array
    label: Array
    index: Array
    substep: Array | int


class Game(NamedTuple):
    """The rules of what two players play: the only difference between GANs that draw and autoencoders with an
    adversary.

    Attributes:
      real: ``real(gan, state, turn)``: what D shall call real, ``[b, ...]``.
      fake: ``fake(gan, state, params, turn, axis_name)``: what G with ``params`` would have D call real, ``[b,
        ...]``; a scalar loss of G's own, whatever D says; G's new statistics.
      view: ``view(gan, state, images, label)``: what D is shown of images of the data, for its figures.
      reconstruct: ``reconstruct(gan, state, images, label)``: the images once more, by ``state.ema``; or None.
    """

    real: Callable[["GAN", "GANState", Turn], Array]
    fake: Callable[["GAN", "GANState", Params, Turn, str | None], tuple[Array, Array, Params]]
    view: Callable[["GAN", "GANState", Array, Array], Array]
    reconstruct: Callable[["GAN", "GANState", Array, Array], Array] | None = None


def never(step: Array) -> bool:
    """In no step."""
    del step
    return False


@dataclasses.dataclass(frozen=True)
class GAN:
    """The static half of a GAN: what decides the compiled program.

    Attributes:
      generator: latents ``[B, latent_dim]`` -> images ``[B, *image_shape]`` in [-1, 1]; see `gan_jax.models`.
      discriminator: images -> `gan_jax.layers.Judgement`.
      loss: one of `gan_jax.losses`.
      generator_optimizer, discriminator_optimizer: made anew at each step from the state's hyperparameters, for
        instance ``optax.adam``, called as ``adam(**hyper["generator"])``.
      latent_dim: length of the latent vector, drawn from N(0, 1).
      image_shape: (height, width, channels).
      game: what D tells apart, one of `gan_jax.games`.
      d_steps: discriminator steps per generator step.
      g_batches: how many batches of fresh latents G's step has; 0: those of D's last step once more.
      augment: one of `gan_jax.augment`, applied to every image that D sees.
      classes: number of classes that the players are told of, 0 for none.
      penalties: of `gan_jax.penalties`, added to D's loss, all with the same weight.
      penalty_every: at how many discriminator steps one has penalties, weighted by as much (Karras et al. 2020,
        arXiv:1912.04958, "lazy regularization"), counted in generator steps.
      d_terms, g_terms: of `gan_jax.terms`, by the name of their weight.
      hold: ``hold(step)``: whether G stands still in that step.
      dtype: of parameters, logits, losses and moments: float32, or float64 in float64 runs.
    """

    generator: nn.Module
    discriminator: nn.Module
    loss: Loss
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    latent_dim: int
    image_shape: tuple[int, int, int]
    game: Game
    d_steps: int = 1
    g_batches: int = 0
    augment: Augmentation = none
    classes: int = 0
    penalties: tuple[Penalty, ...] = ()
    penalty_every: int = 1
    d_terms: tuple[tuple[str, Term], ...] = ()
    g_terms: tuple[tuple[str, Term], ...] = ()
    hold: Callable[[Array], Array | bool] = never
    dtype: Any = jnp.float32


class Player(struct.PyTreeNode):
    """One network's own part of the state.

    Attributes:
      params: what is learnt by gradients.
      stats: all its other variables by collection: ``batch_stats`` (of batch norm), ``spectral`` (of spectral norm).
      opt_state: of its optimizer.
    """

    params: Params
    stats: dict[str, Any]
    opt_state: optax.OptState

    @property
    def variables(self) -> Variables:
        """All that its network is applied with."""
        return {"params": self.params, **self.stats}


class GANState(struct.PyTreeNode):
    """The whole state of a training run: everything that the next step reads, and all that a checkpoint holds.

    Attributes:
      step: generator steps done, int32.
      seed: every random number is a function of (seed, step, purpose, example index), uint32.
      generator, discriminator: the players.
      ema: the variables that samples are drawn with: of the generator's ``params`` and ``batch_stats`` exponential
        moving averages; in ``spectral`` the singular vectors of the averaged kernels.
      hyper: ``generator`` and ``discriminator`` (arguments of their optimizers), ``loss`` (its label values), ``ema``
        (its decay), ``weights`` (of the penalty and of all further terms); scalars all.
    """

    step: Array
    seed: Array
    generator: Player
    discriminator: Player
    ema: Variables
    hyper: Hyper


def random_key(seed: Array, purpose: str, *counters: Array | int) -> Array:
    """The PRNG key of (seed, purpose, counters): a pure function of them, never of a device or of calls made before."""
    key = jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose))
    for counter in counters:
        key = jax.random.fold_in(key, counter)
    return key


# The order is part of what a seed means: only ever append.
_PURPOSES = (
    "init_generator",
    "init_discriminator",
    "latents",
    "samples",
    "augment_real",
    "augment_fake",
    "evaluation",
    "penalty",
)


def draw_latents(gan: GAN, key: Array, index: Array) -> Array:
    """Latents ``[B, latent_dim]`` ~ N(0, 1), each a function of ``key`` and its own ``index`` ``[B]`` alone.

    So it makes no difference how the examples are spread over devices or cut into batches.
    """
    draw = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (gan.latent_dim,), gan.dtype))
    return draw(index)


def init_state(gan: GAN, seed: Array | int, hyper: Hyper) -> GANState:
    """The state before the first step. ``hyper`` as in `GANState`; a pure function that can be jitted and vmapped.

    Raises:
      ValueError: G's images have another shape than the data's.
      TypeError: D doesn't return a judgement.
    """
    seed = jnp.asarray(seed, jnp.uint32)
    z, label = jnp.zeros((1, gan.latent_dim), gan.dtype), jnp.zeros(1, jnp.int32)
    generator = _init_player(
        gan.generator,
        random_key(seed, "init_generator"),
        z,
        label,
        gan.generator_optimizer,
        hyper["generator"],
        partial(_check_images, gan.image_shape),
    )
    turn = Turn(jnp.zeros((1, *gan.image_shape), gan.dtype), label, label, 0)
    before = GANState(jnp.zeros((), jnp.int32), seed, generator, generator, generator.variables, hyper)
    seen = jax.eval_shape(lambda: gan.game.real(gan, before, turn))
    discriminator = _init_player(
        gan.discriminator,
        random_key(seed, "init_discriminator"),
        jnp.zeros(seen.shape, seen.dtype),
        label,
        gan.discriminator_optimizer,
        hyper["discriminator"],
        _check_judgement,
    )
    return GANState(
        step=jnp.zeros((), jnp.int32),
        seed=seed,
        generator=generator,
        discriminator=discriminator,
        # A copy: the state's buffers are donated at each step, and one buffer can't be donated twice.
        ema=jax.tree.map(jnp.copy, generator.variables),
        hyper=hyper,
    )


def _init_player(
    module: nn.Module,
    key: Array,
    x: Array,
    label: Array,
    optimizer: Optimizer,
    hyper: dict[str, Any],
    check: Callable[[Any], None],
) -> Player:
    made, variables = module.init_with_output(key, x, label=label, train=True)
    check(made)
    stats = dict(variables)
    params = stats.pop("params")
    return Player(params, stats, optimizer(**hyper).init(params))


def _check_images(shape: tuple[int, int, int], images: Array) -> None:
    if images.shape != (1, *shape):
        raise ValueError(f"Generator makes images {list(images.shape[1:])} of data {list(shape)}")


def _check_judgement(judgement: Any) -> None:
    if not isinstance(judgement, Judgement):
        raise TypeError(f"Discriminator must return a gan_jax.layers.Judgement, not {type(judgement).__name__}")
    if judgement.logits.shape != (1,) or judgement.features.ndim != 2:
        found = f"{list(judgement.logits.shape)} and {list(judgement.features.shape)}"
        raise ValueError(
            f"Discriminator must judge B images by logits [B] and features [B, F], but made {found} of one"
        )


def named_leaves(tree: Any) -> dict[str, Any]:
    """All leaves by their dotted names: ``discriminator.params.Dense_0.kernel``."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in found}


def finite(tree: Any) -> Array:
    """Whether no leaf holds a NaN or an infinity."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all()


def parameter_count(params: Params) -> int:
    """Number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
