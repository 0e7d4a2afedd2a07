"""What two players play for: what the discriminator gets as real and as fake. Each is a `gan_jax.core.gan.Task`."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.draw import latents
from gan_jax.core.gan import GAN, Array, Context, Examples, Generated, Images, Task, Variables, generated_of
from gan_jax.core.networks import accepted, call
from gan_jax.core.randomness import uniform
from gan_jax.ops.resample import doubled, halved, on_each_side, pooled


def augmented(context: Context, images: Images, examples: Examples, like: str) -> Images:
    """Return what D sees of ``images`` ``[b, H, W, C]``: each one transformed by a key of its own.

    Args:
      context, examples: of the step.
      images: in [-1, 1]; several sides of one image are transformed alike, see `on_each_side`.
      like: ``real`` or ``fake``: by whose draws.
    """
    keys = context.keys(f"augment_{like}", examples.substep)
    numbers = context.hyperparams["augment"]
    each = jax.vmap(lambda image, key: context.gan.augment(image, key, numbers))
    return on_each_side(lambda of_a_side: each(of_a_side, keys), images)


def presented(context: Context, images: Images, examples: Examples, like: str) -> Images:
    """Return what D sees of ``images``: augmented as `augmented` does it, where they are images."""
    return augmented(context, images, examples, like) if context.gan.task.augmented else images


def _latents(context: Context, examples: Examples) -> Array:
    """Return the step's latents ``[b, latent_dim]``."""
    return latents(context.gan, context.keys("latents", examples.substep))


def _prior(context: Context, examples: Examples, generated: Generated) -> Array:
    del generated
    return _latents(context, examples)


def _images(context: Context, examples: Examples, generated: Generated) -> Array:
    del context, generated
    return examples.image


# Values that compare as equal where they are alike, as the whole static half of a GAN does: one program serves trials.


@dataclasses.dataclass(frozen=True)
class _Deceived:
    task_real: Callable[[Context, Examples, Generated], Images]

    def __call__(self, context: Context, examples: Examples, generated: Generated) -> Images:
        chance = uniform(context.keys("pseudo", examples.substep), ())
        chosen = chance < context.hyperparams["augment"]["pseudo"]

        def one(images: Array, shown: Array) -> Array:
            return jnp.where(chosen.reshape(-1, *(1,) * (images.ndim - 1)), shown.astype(images.dtype), images)

        return jax.tree.map(one, self.task_real(context, examples, generated), generated.shown)


def deceived(task: Task) -> Task:
    """Return ``task`` with some of G's images among what D shall call real, so that D doesn't learn the reals by heart.

    Adaptive pseudo augmentation (Jiang et al. 2021, arXiv:2111.06849, section 3.2): each real image makes way, with the
    chance ``hyperparams["augment"]["pseudo"]``, for what G made beside it.
    """
    return task._replace(real=_Deceived(task.real))


@dataclasses.dataclass(frozen=True)
class _Faded:
    task_real: Callable[[Context, Examples, Generated], Images]

    def __call__(self, context: Context, examples: Examples, generated: Generated) -> Images:
        images = self.task_real(context, examples, generated)
        blurred = doubled(halved(images))
        assert context.fade is not None
        return blurred + (images - blurred) * context.fade.astype(images.dtype)


def faded(task: Task) -> Task:
    """Return ``task`` with real images that fade in as G's do: from those of half the side, doubled, to themselves.

    Of networks that grow (Karras et al. 2018, arXiv:1710.10196, appendix A), by ``hyperparams["fade"]``.
    """
    return task._replace(real=_Faded(task.real))


@dataclasses.dataclass(frozen=True)
class _Several:
    whole: Callable[..., Array]
    halvings: tuple[int, ...]

    def __call__(self, *arguments: Any) -> tuple[Array, ...]:
        images = self.whole(*arguments)
        return images, *(pooled(images, images.shape[1] >> n) for n in self.halvings)


def in_sides(task: Task, halvings: Sequence[int]) -> Task:
    """Return ``task`` for networks whose images are of several sides: reals are shown so, too.

    Args:
      task: with images ``[b, H, W, C]``.
      halvings: of each further image ``[b, H / 2^n, W / 2^n, C]``, the n.
    """
    return task._replace(real=_Several(task.real, tuple(halvings)), shown=_Several(task.shown, tuple(halvings)))


def _told(context: Context, examples: Examples) -> dict[str, Any]:
    """Return what a generator is told beside its input, in training."""
    keys = context.keys("generator", examples.substep)
    return context.told(examples.label, keys)


def _drawn(context: Context, variables: Variables, examples: Examples) -> tuple[Generated, Variables]:
    z, written = _latents(context, examples), [name for name in variables if name != "params"]
    made, stats = call(context.gan.generator, variables, z, mutable=written, **_told(context, examples))
    return generated_of(made), stats


def _shown(gan: GAN, variables: Variables, images: Array, label: Array) -> Array:
    del gan, variables, label
    return images


def _encoded(context: Context, variables: Variables, examples: Examples) -> tuple[Generated, Variables]:
    image = augmented(context, examples.image, examples, "real")

    def autoencode(module: Any, image: Array) -> tuple[Array, Array]:
        code = module.encode(image)
        return code, module(code, **accepted(module, _told(context, examples)))

    written = [name for name in variables if name != "params"]
    stats: Any
    (code, decoded), stats = context.gan.generator.apply(variables, image, method=autoencode, mutable=written)
    return Generated(code, extra={"decoded": decoded, "image": image}), stats


def _codes(gan: GAN, variables: Variables, images: Array, label: Array) -> Array:
    del label
    code: Array = gan.generator.apply(variables, images, method="encode")  # type: ignore[assignment]
    return code


def _reconstructed(gan: GAN, variables: Variables, images: Array, label: Array) -> Array:
    code = gan.generator.apply(variables, images, method="encode")
    out: Array = call(gan.generator, variables, code, label=label, train=False)
    return out


TASKS: dict[str, Task] = {
    # D tells images of the data from drawn ones.
    "images": Task(_images, _drawn, True, _shown),
    # D tells draws from the prior from codes of images (Makhzani et al. 2015, arXiv:1511.05644).
    "autoencoder": Task(_prior, _encoded, False, _codes, _reconstructed),
}
