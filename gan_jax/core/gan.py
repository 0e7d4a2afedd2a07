"""The static half of a GAN, `GAN`, and what its parts are; what decides the compiled program is here, and no number."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from gan_jax.core.augment import NONE, Augment
from gan_jax.core.averages import Average
from gan_jax.core.losses import Loss
from gan_jax.core.optimizers import Optimizer
from gan_jax.core.pixels import USUAL, Pixels
from gan_jax.core.priors import NORMAL, Prior
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.schedules import Schedule
from gan_jax.layers import cross_device_mean

Array = jax.Array
Params = Any
Variables = dict[str, Any]  # of a Flax module: params and all other collections
Hyperparams = dict[str, Any]  # nested as the config is; scalars, of NumPy or JAX
Memory = Any  # a pytree of arrays
Images = Any  # an array [b, ...], or a tuple of such of several sides, the largest first


class Examples(struct.PyTreeNode):
    """The real examples of one step of a player.

    Attributes:
      image: of the data ``[b, H, W, C]`` in [-1, 1].
      label: of them, int32 ``[b]`` or float32 ``[b, condition]``; fakes get the same.
      substep: which of the step's discriminator steps; the number after theirs for latents of G's own.
    """

    image: Array
    label: Array
    substep: Array | int


class Generated(struct.PyTreeNode):
    """What a generator made of a batch.

    Attributes:
      shown: what D shall take for real ``[b, ...]``, before any augmentation; of networks that make images of several
        sides, a tuple of them, the largest first.
      seen: what D sees of that, augmented; set by the step.
      extra: whatever else it returned, by name: ``w`` of a mapping network, ``decoded`` images of an autoencoder.
    """

    shown: Images
    seen: Images | None = None
    extra: dict[str, Array] = struct.field(default_factory=dict)


def generated_of(made: "Array | Generated") -> Generated:
    """Return what a generator returned, images or more, as `Generated`."""
    return made if isinstance(made, Generated) else Generated(made)


def images_of(made: Any) -> Array:
    """Return the images of what a generator returned, with whatever else or without; of several sides, the largest."""
    images: Array = jax.tree.leaves(generated_of(made).shown)[0]
    return images


@dataclasses.dataclass(frozen=True)
class Context:
    """What everything within one step has in common.

    Attributes:
      gan: the static half.
      seed, step: of the state.
      hyperparams: this step's: the configured numbers with schedules applied.
      index: the examples' numbers in the global batch ``[b]``.
      axis_name: the device axis, or None.
    """

    gan: "GAN"
    seed: Array
    step: Array
    hyperparams: Hyperparams
    index: Array
    axis_name: str | None = None

    def keys(self, purpose: str, *counters: Array | int) -> Array:
        """Return a key ``[b]`` for each example, for ``purpose`` in this step."""
        return example_keys(random_key(self.seed, purpose, self.step, *counters), self.index)

    def told(self, label: Array, keys: Array) -> dict[str, Any]:
        """Return what a generator is told in training beside its input, of examples with these labels and keys."""
        return {"label": label, "keys": keys, "train": True, "axis_name": self.axis_name, "fade": self.fade}

    @property
    def fade(self) -> Array | None:
        """How much of the newest layers counts, where networks grow."""
        found: Array | None = self.hyperparams.get("fade")
        return found

    def mean(self, tree: Any) -> Any:
        """Return the mean of every leaf over the devices."""
        return cross_device_mean(tree, self.axis_name)


class Task(NamedTuple):
    """What two players play for: the only difference between GANs that draw and autoencoders with an adversary.

    Attributes:
      real: ``real(context, examples, generated)``: what D shall call real ``[b, ...]``, before augmentation; what G
        made beside the examples may be among it.
      fake: ``fake(context, variables, examples)``: what G with these variables made, `Generated`, and its new
        statistics.
      augmented: whether D sees images, which are augmented, or something else, which isn't.
      shown: ``shown(gan, variables, images, label)``: what D is shown of images of the data, for its figures.
      reconstruct: ``reconstruct(gan, variables, images, label)``: the images once more; or None.
    """

    real: Callable[[Context, Examples, Generated], Images]
    fake: Callable[[Context, Variables, Examples], tuple[Generated, Variables]]
    augmented: bool
    shown: Callable[["GAN", Variables, Array, Array], Images]
    reconstruct: Callable[["GAN", Variables, Array, Array], Array] | None = None


def _nothing(gan: "GAN") -> Memory:
    del gan
    return {}


@dataclasses.dataclass(frozen=True)
class Term:
    """A summand of a player's loss.

    Its weight is the hyperparameter ``terms.NAME.weight``; what it adds is the metric ``d_NAME`` or ``g_NAME``.

    Attributes:
      name: of its entry in ``hyperparams["terms"]``.
      apply: ``apply(view, memory)``: a scalar, a mean over this device's examples or a figure of the whole global
        batch, and the new memory; see `gan_jax.core.view.View` for what it may look at.
      init: ``init(gan)``: its memory before the first step, a pytree of arrays; ``{}`` if it remembers nothing.
      every: it is of every so many steps, and weighs as many times as much ("lazy regularization", Karras et al. 2020,
        arXiv:1912.04958).
      gradients: whether a term of D's, in every step, asks for `gan_jax.core.view.View.gradient`: then D's pass on
        reals and fakes is made so that they come from it.
      needs: what D's output must have in ``extra`` for it.
    """

    name: str
    apply: Callable[[Any, Memory], tuple[Array, Memory]]
    init: Callable[["GAN"], Memory] = _nothing
    every: int = 1
    gradients: bool = False
    needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class GAN:
    """The static half of a GAN: what decides the compiled program.

    Attributes:
      generator: latents ``[B, latent_dim]`` -> images ``[B, *image_shape]`` in [-1, 1]; see `gan_jax.models`.
      discriminator: images -> `gan_jax.layers.DiscriminatorOutput`.
      loss: one of `gan_jax.core.losses`.
      generator_optimizer, discriminator_optimizer: made anew at each step from that step's hyperparameters, for
        instance ``optax.adam``, called as ``adam(**hyperparams["optimizer"]["generator"])``.
      latent_dim: length of the latent vector.
      image_shape: (height, width, channels).
      task: what D tells apart, one of `gan_jax.core.tasks`.
      prior: what a latent is, one of `gan_jax.core.priors`.
      d_steps: discriminator steps per generator step.
      augment: applied to every image that D sees.
      classes: number of classes that the players are told of, 0 for none.
      condition: numbers in a vector that they are told of in the place of a class, 0 for none.
      d_terms, g_terms: further summands of the players' losses.
      schedules: what moves: the schedule's name, the dotted key of the hyperparameter that it moves, and how.
      averages: of G, by name; what is drawn is drawn by the first.
      g_batches: how many batches of fresh latents G's step has; 0: those of D's last step once more.
      dtype: of parameters, logits, losses and moments: float32, or float64 in float64 runs.
      pixels: what the numbers of images are in the data, and of what is drawn.
    """

    generator: nn.Module
    discriminator: nn.Module
    loss: Loss
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    latent_dim: int
    image_shape: tuple[int, int, int]
    task: Task
    prior: Prior = NORMAL
    d_steps: int = 1
    augment: Augment = NONE
    classes: int = 0
    condition: int = 0
    d_terms: tuple[Term, ...] = ()
    g_terms: tuple[Term, ...] = ()
    schedules: tuple[tuple[str, str, Schedule], ...] = ()
    averages: tuple[tuple[str, Average], ...] = ()
    g_batches: int = 0
    dtype: Any = jnp.float32
    pixels: Pixels = USUAL

    def labels(self, *shape: int) -> Array:
        """Return labels of examples of which nothing is known: of class 0, int32, or vectors of zeros, float32."""
        return jnp.zeros((*shape, self.condition), jnp.float32) if self.condition else jnp.zeros(shape, jnp.int32)


def leaf(tree: Mapping[str, Any], key: str) -> Any:
    """Return what ``tree``, nested dicts, has under the dotted ``key``."""
    for name in key.split("."):
        tree = tree[name]
    return tree


def with_leaf(tree: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return ``tree``, nested dicts, with ``value`` under the dotted ``key``."""
    name, _, rest = key.partition(".")
    return {**tree, name: with_leaf(tree[name], rest, value) if rest else value}
