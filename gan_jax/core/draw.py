"""The one way to draw from a generator: for grids in training, sampling, interpolation, evaluation and export."""

import inspect
from typing import Any

import jax

from gan_jax.core.gan import GAN, Array, Variables, images_of
from gan_jax.core.networks import ARGUMENTS, call


def latents(gan: GAN, keys: Array, **options: Any) -> Array:
    """Draw latents ``[B, latent_dim]`` by ``keys`` ``[B]``; ``options`` are the prior's, as ``truncation``."""
    z: Array = gan.prior(keys, gan.latent_dim, gan.dtype, **options)
    return z


def generate(gan: GAN, variables: Variables, inputs: tuple[Array, Array, Array], **options: Any) -> Array:
    """Return images ``[B, H, W, C]`` in [-1, 1] of latents ``[B, latent_dim]``, labels ``[B]`` and keys ``[B]``.

    Args:
      gan: the static half.
      variables: of the generator, for instance `GANState.ema`.
      inputs: latents, labels, and the keys of whatever the network draws by itself (noise in its layers).
      **options: of the network, if its signature has them: ``truncation``, ``noise_mode``.
    """
    z, label, keys = inputs
    return images_of(call(gan.generator, variables, z, label=label, keys=keys, train=False, **options))


def draw(gan: GAN, variables: Variables, keys: Array, label: Array, **options: Any) -> Array:
    """Return images ``[B, H, W, C]`` in [-1, 1], each a function of its own key ``[B]`` and label ``[B]``.

    Args:
      gan, variables: as of `generate`.
      keys: one an example; see `gan_jax.core.randomness.example_keys`.
      label: int32; ignored by a GAN without classes.
      **options: of the prior or of the network, whoever takes them; see `options_of`.
    """
    of_prior, of_network = options_of(gan)
    z = latents(gan, keys, **{name: value for name, value in options.items() if name in of_prior})
    own = {name: value for name, value in options.items() if name in of_network}
    return generate(gan, variables, (z, label, _of_the_network(keys)), **own)


def options_of(gan: GAN) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of what may be chosen in drawing: of the prior, and of the generator."""
    prior = [*inspect.signature(gan.prior).parameters][3:]
    network = inspect.signature(type(gan.generator).__call__).parameters
    return tuple(prior), tuple(name for name in [*network][2:] if name not in ARGUMENTS)


def _of_the_network(keys: Array) -> Array:
    """Keys for what a network draws by itself, other than those of the latents."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
