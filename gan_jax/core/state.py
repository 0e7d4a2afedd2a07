"""The one pytree that a GAN is while it trains: `GANState`.

Whatever a sweep may vary (seed, rates, betas, weights of terms, label values, decays) is a leaf of it, so that changing
it recompiles nothing and a population of trials is a batch of states.
"""

from functools import lru_cache, reduce
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from gan_jax.core.gan import (
    GAN,
    Array,
    Context,
    Examples,
    Hyperparams,
    Params,
    Variables,
    generated_of,
    images_of,
    leaf,
    with_leaf,
)
from gan_jax.core.networks import accepted
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.layers import DiscriminatorOutput
from gan_jax.ops.xla_cpu import for_any_machine

_SMALL = 16_384  # numbers of a leaf, up to which it is copied beside others


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
        """Parameters and statistics, as Flax wants them."""
        return {"params": self.params, **self.stats}


class GANState(struct.PyTreeNode):
    """The whole state of a training run: everything that the next step reads, and all that a checkpoint holds.

    Attributes:
      step: generator steps done, int32.
      seed: every random number is a function of (seed, step, purpose, example index), uint32.
      generator, discriminator: the players.
      averages: moving averages of the generator's variables, by name.
      hyperparams: the configured numbers, nested as the config is: ``optimizer``, ``labels``, ``terms``, ``averages``,
        ``schedules``; scalars all, which no step changes.
      memory: what those of the ``terms`` and ``schedules`` remember that remember something, by name.
    """

    step: Array
    seed: Array
    generator: Player
    discriminator: Player
    averages: dict[str, Variables]
    hyperparams: Hyperparams
    memory: dict[str, Any]

    @property
    def ema(self) -> Variables:
        """The variables that samples are drawn with: the first average, or the newest where there is none."""
        return next(iter(self.averages.values()), self.generator.variables)


def init_state(gan: GAN, seed: Array | int, hyperparams: Hyperparams) -> GANState:
    """Return the state before the first step; a pure function that can be jitted and vmapped.

    Raises:
      ValueError: G's images have another shape than the data's.
      TypeError: D doesn't return a judgement.
    """
    seed = jnp.asarray(seed, jnp.uint32)
    label, index = gan.labels(1), jnp.zeros(1, jnp.int32)
    z = jnp.zeros((1, gan.latent_dim), gan.dtype)
    rates = hyperparams["optimizer"]
    begin = random_key(seed, "init_generator"), z, label
    made, generator = _init_player(gan.generator, begin, gan.generator_optimizer(**rates["generator"]))
    _check_images(gan, made)
    context = Context(gan, seed, jnp.zeros((), jnp.int32), hyperparams, index)
    examples = Examples(jnp.zeros((1, *gan.image_shape), gan.dtype), label, 0)
    seen = jax.eval_shape(lambda: gan.task.real(context, examples, generated_of(made)))
    x = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), seen)
    begin = random_key(seed, "init_discriminator"), x, label
    judgement, discriminator = _init_player(
        gan.discriminator, begin, gan.discriminator_optimizer(**rates["discriminator"])
    )
    _check_judgement(gan, judgement)
    return GANState(
        step=jnp.zeros((), jnp.int32),
        seed=seed,
        generator=generator,
        discriminator=discriminator,
        # Copies: the state's buffers are donated at each step, and one buffer can't be donated twice.
        averages={name: jax.tree.map(jnp.copy, generator.variables) for name, _ in gan.averages},
        hyperparams=hyperparams,
        memory=_init_memory(gan, hyperparams),
    )


def state_shapes(gan: GAN, hyperparams: Hyperparams) -> GANState:
    """Return the state before the first step with shapes and types in place of arrays; traced once for each GAN.

    Raises:
      ValueError, TypeError: as `init_state`.
    """
    leaves, structure = jax.tree.flatten(hyperparams)
    kinds = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return _state_shapes(gan, structure, kinds)


@lru_cache(maxsize=32)
def _state_shapes(gan: GAN, structure: Any, kinds: tuple[tuple[tuple[int, ...], Any], ...]) -> GANState:
    hyperparams = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    with for_any_machine():  # formulations for a kind of machine take longer to trace, and change no shape
        shapes: GANState = jax.eval_shape(lambda numbers: init_state(gan, 0, numbers), hyperparams)
    return shapes


def _init_player(
    module: nn.Module, begin: tuple[Array, Array, Array], optimizer: optax.GradientTransformation
) -> tuple[Any, Player]:
    """Return what ``module`` makes of its first input, and its player; ``begin`` is a key, that input, and labels."""
    key, x, label = begin
    told = {"label": label, "train": True, "keys": example_keys(key, jnp.zeros(1, jnp.int32))}
    made, variables = module.init_with_output(key, x, **accepted(module, told))
    stats = dict(variables)
    params = stats.pop("params")
    return made, Player(params, stats, optimizer.init(params))


def _check_images(gan: GAN, made: Any) -> None:
    images = images_of(made)
    if images.shape != (1, *gan.image_shape):
        raise ValueError(f"Generator makes images {list(images.shape[1:])} of data {list(gan.image_shape)}")


def _check_judgement(gan: GAN, judgement: Any) -> None:
    if not isinstance(judgement, DiscriminatorOutput):
        raise TypeError(
            f"Discriminator must return a gan_jax.layers.DiscriminatorOutput, not {type(judgement).__name__}"
        )
    if judgement.logits.shape[:1] != (1,) or judgement.logits.ndim > 2 or judgement.features.ndim != 2:
        found = f"{list(judgement.logits.shape)} and {list(judgement.features.shape)}"
        raise ValueError(
            f"Discriminator must judge B images by logits [B] or [B, K] and features [B, F], but made {found} of one"
        )
    for term in gan.d_terms:
        if missing := [name for name in term.needs if name not in judgement.extra]:
            raise ValueError(f"the term {term.name} is of extra[{missing[0]!r}] of D's output, which has none")


def _init_memory(gan: GAN, hyperparams: Hyperparams) -> dict[str, Any]:
    terms = {term.name: term.init(gan) for term in (*gan.d_terms, *gan.g_terms)}
    schedules = {name: schedule.init(hyperparams["schedules"][name]) for name, _, schedule in gan.schedules}
    return {"terms": _kept(terms), "schedules": _kept(schedules)}


def _kept(memories: dict[str, Any]) -> dict[str, Any]:
    """Those that remember something."""
    return {name: memory for name, memory in memories.items() if jax.tree.leaves(memory)}


def hyperparams_now(gan: GAN, state: GANState) -> Hyperparams:
    """Return this step's hyperparameters: the configured ones, those with a schedule where it has brought them."""
    found = state.hyperparams
    for name, key, schedule in gan.schedules:
        numbers, memory = found["schedules"][name], state.memory["schedules"].get(name, {})
        start = leaf(state.hyperparams, key)
        found = with_leaf(found, key, schedule.value(start, numbers, memory, state.step).astype(start.dtype))
    return found


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return all leaves by their dotted names: ``discriminator.params.Dense_0.kernel``."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in found}


def finite(tree: Any) -> Array:
    """Return whether no leaf holds a NaN or an infinity; leaves that aren't of floats count for nothing.

    Small leaves are looked at as one, and others of a size together: each by itself would be a kernel to compile. What
    isn't finite times 0 is NaN, and so is its sum with others.
    """
    alike: dict[Any, list[Array]] = {}
    for x in jax.tree.leaves(tree):
        if jnp.issubdtype(x.dtype, jnp.inexact):
            alike.setdefault((0 if x.size <= _SMALL else x.size, x.dtype), []).append(x.ravel())
    found = []
    for (size, _), leaves in alike.items():
        if not size:  # with a barrier, as XLA:CPU would look at each of them again
            leaves = [jax.lax.optimization_barrier(jnp.concatenate(leaves))]
        found.append(reduce(jnp.add, (0 * x for x in leaves)).sum() == 0)
    return jnp.stack(found).all()


def parameter_count(params: Params) -> int:
    """Return the number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
