"""What a term of a player's loss may look at. What no term asks for is never computed: XLA drops what nobody reads."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.draw import has_mapping, latents
from gan_jax.core.gan import Context, Examples, Generated, Images, Params, Variables, generated_of
from gan_jax.core.networks import call
from gan_jax.layers import DiscriminatorOutput

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class View:
    """One step of one player, as its terms see it.

    Attributes:
      context: the step: its hyperparameters, random keys, means over devices.
      examples: the real examples, with their labels.
      params: those that are being differentiated: D's in D's terms, G's in G's.
      real: what D shall call real ``[b, ...]``, before augmentation; with networks whose images are of several sides, a
        tuple, as in all of what is said of images here.
      generated: what G made, before augmentation; see `gan_jax.core.gan.Generated`.
      on_real, on_fake: what D said of both, augmented.
      generator: G's variables; in G's terms, its ``params`` are being differentiated.
      judge: ``judge(images, like)``; see `discriminate`.
      gradients: by ``real`` and ``fake``, what `gradient` returns, where D's pass was made so that it is at hand.
    """

    context: Context
    examples: Examples
    params: Params
    real: Images
    generated: Generated
    on_real: DiscriminatorOutput
    on_fake: DiscriminatorOutput
    generator: Variables
    judge: Callable[[Images, str], DiscriminatorOutput]
    gradients: Mapping[str, Images] = dataclasses.field(default_factory=dict)

    @property
    def fake(self) -> Images:
        """What D shall take for real ``[b, ...]``, before augmentation."""
        return self.generated.shown

    @property
    def label(self) -> Array:
        """Labels ``[b]``, of reals and fakes alike."""
        return self.examples.label

    def every_second(self) -> "View":
        """Return the view of every second example, for terms that draw by keys, labels and latents alone.

        Raises:
          ValueError: a device has an odd number of examples, and which are the second ones would depend on it.
        """
        if len(self.context.index) % 2:
            raise ValueError(
                f"half a batch, where a device has {len(self.context.index)} examples: choose an even number"
            )
        examples = jax.tree.map(lambda x: x[::2] if jnp.ndim(x) else x, self.examples)
        context = dataclasses.replace(self.context, index=self.context.index[::2])
        return dataclasses.replace(self, context=context, examples=examples)

    def numbers(self, name: str) -> Mapping[str, Array]:
        """Return this step's numbers of the term ``name``."""
        found: Mapping[str, Array] = self.context.hyperparams["terms"][name]
        return found

    def keys(self, purpose: str) -> Array:
        """Return a PRNG key ``[b]`` for each example, for ``purpose`` in this step of this player."""
        return self.context.keys(purpose, self.examples.substep)

    def discriminate(self, images: Images, like: str) -> DiscriminatorOutput:
        """Return what D says of ``images`` ``[b, ...]``, augmented by the very draws of the ``real`` or ``fake`` ones.

        So a gradient with respect to ``images`` goes through the augmentation.
        """
        return self.judge(images, like)

    def logits(self, like: str) -> Callable[[Images], Array]:
        """Return the function from images ``[b, ...]`` to D's logits ``[b]`` or ``[b, K]``; see `discriminate`."""
        return lambda images: self.discriminate(images, like).logits

    def gradient(self, like: str, images: Images | None = None) -> Images:
        """Return the gradient of the sum of D's logits with respect to images ``[b, ...]`` before augmentation.

        It is of float32 at least. If it isn't at hand (see `gradients`), D runs once more.

        Args:
          like: ``real`` or ``fake``, see `discriminate`.
          images: None for those themselves.
        """
        if images is None and like in self.gradients:
            return self.gradients[like]
        images = getattr(self, like) if images is None else images
        # Drawn ones may be bfloat16.
        images = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), images)
        return jax.grad(lambda x: self.logits(like)(x).sum())(images)

    def latents(self, purpose: str) -> Array:
        """Draw latents ``[b, latent_dim]`` for ``purpose``."""
        return latents(self.context.gan, self.keys(purpose))

    def map(self, z: Array, purpose: str) -> Any:
        """Return ``w`` of latents by G's mapping network; the latents themselves where it has none."""
        if not has_mapping(self.context.gan):
            return z
        return self._generator(z, purpose, "mapping")

    def synthesize(self, w: Array, purpose: str) -> Images:
        """Return the images ``[b, H, W, C]`` of `map`'s results, in training mode."""
        method = "synthesis" if has_mapping(self.context.gan) else "__call__"
        return self._generator(w, purpose, method)

    def _generator(self, x: Array, purpose: str, method: str) -> Any:
        collections = [name for name in self.generator if name != "params"]
        told = self.context.told(self.label, self.keys(purpose))
        generator = self.context.gan.generator
        made: Any = call(generator, self.generator, x, method=method, mutable=collections, **told)[0]
        return generated_of(made).shown
