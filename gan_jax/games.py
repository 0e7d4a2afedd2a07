"""What two players play: what the discriminator gets as real and as fake, and what else the generator is asked for.

Each is a `gan_jax.state.Game`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.state import GAN, Array, Game, GANState, Params, Turn, draw_latents, random_key


def augmented(gan: GAN, state: GANState, images: Array, turn: Turn, purpose: str) -> Array:
    """What D sees of ``images``: each one transformed by a key of its own."""
    key = random_key(state.seed, purpose, state.step, turn.substep)
    return jax.vmap(lambda image, i: gan.augment(image, jax.random.fold_in(key, i)))(images, turn.index)


def _augmented_images(gan: GAN, state: GANState, turn: Turn) -> Array:
    return augmented(gan, state, turn.image, turn, "augment_real")


def _prior(gan: GAN, state: GANState, turn: Turn) -> Array:
    return draw_latents(gan, random_key(state.seed, "latents", state.step, turn.substep), turn.index)


def _drawn(gan: GAN, state: GANState, params: Params, turn: Turn, axis_name: str | None) -> tuple[Array, Array, Params]:
    z = _prior(gan, state, turn)
    variables = {"params": params, **state.generator.stats}
    images, written = gan.generator.apply(
        variables, z, label=turn.label, train=True, axis_name=axis_name, mutable=list(state.generator.stats)
    )
    fake = augmented(gan, state, images, turn, "augment_fake")
    return fake, jnp.zeros((), gan.dtype), written


def _encoded(
    gan: GAN, state: GANState, params: Params, turn: Turn, axis_name: str | None
) -> tuple[Array, Array, Params]:
    variables = {"params": params, **state.generator.stats}
    image = _augmented_images(gan, state, turn)

    def autoencode(module: Any, image: Array) -> tuple[Array, Array]:
        code = module.encode(image)
        return code, module(code, label=turn.label, train=True, axis_name=axis_name)

    (code, decoded), written = gan.generator.apply(
        variables, image, method=autoencode, mutable=list(state.generator.stats)
    )
    error = jnp.square((decoded - image).astype(gan.dtype)).mean()
    return code, state.hyper["weights"]["reconstruction"] * error, written


def _codes(gan: GAN, state: GANState, images: Array, label: Array) -> Array:
    del label
    variables = {"params": state.generator.params, **state.generator.stats}
    code: Array = gan.generator.apply(variables, images, method="encode")  # type: ignore[assignment]
    return code


def _reconstructed(gan: GAN, state: GANState, images: Array, label: Array) -> Array:
    code = gan.generator.apply(state.ema, images, method="encode")
    out: Array = gan.generator.apply(state.ema, code, label=label, train=False)  # type: ignore[assignment]
    return out


# D tells images of the data from drawn ones.
IMAGES = Game(_augmented_images, _drawn, lambda gan, state, images, label: images)
# D tells draws from the prior from codes of images (Makhzani et al. 2015, arXiv:1511.05644); G's own loss is the mean
# squared error of the decoded images, weighted by ``weights.reconstruction``.
AUTOENCODER = Game(_prior, _encoded, _codes, _reconstructed)
