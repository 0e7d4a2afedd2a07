"""The one way to draw from a generator: for grids in training, sampling, interpolation, evaluation and export."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax

from gan_jax.core.gan import GAN, Array, Variables, images_of
from gan_jax.core.networks import ARGUMENTS, call


def latents(gan: GAN, keys: Array, **options: Any) -> Array:
    """Draw latents ``[B, latent_dim]`` by ``keys`` ``[B]``; of ``options`` the prior takes its own: ``truncation``."""
    z: Array = gan.prior(keys, gan.latent_dim, gan.dtype, **own_of(options, options_of(gan)[0]))
    return z


def generate(
    gan: GAN, variables: Variables, inputs: tuple[Array, Array, Array], shift: Array | None = None, **options: Any
) -> Array:
    """Return images ``[B, H, W, C]`` in [-1, 1] of latents ``[B, latent_dim]``, labels and keys ``[B]``.

    Args:
      gan: the static half.
      variables: of the generator, for instance `GANState.ema`.
      inputs: latents; labels ``[B]``, or shares of each class ``[B, classes]``; and the examples' keys, from which come
        those of whatever the network draws by itself.
      shift: added to each w, where there is a mapping network, else to each latent; None: nothing.
      **options: the network gets its own, as ``noise_mode``.
    """
    z, label, keys = inputs
    own: dict[str, Any] = {"train": False, **told(gan, label, keys, **options)}
    if shift is not None and has_mapping(gan):
        w = call(gan.generator, variables, z, method="mapping", **own) + shift
        return images_of(call(gan.generator, variables, w, method="synthesis", **own))
    return images_of(call(gan.generator, variables, z if shift is None else z + shift, **own))


def has_mapping(gan: GAN) -> bool:
    """Return whether the generator has a mapping network, from latents to w, and its ``synthesis`` of w."""
    return hasattr(gan.generator, "mapping")


def told(gan: GAN, label: Array, keys: Array, **options: Any) -> dict[str, Any]:
    """Return what the network is told of examples: labels ``[B]``, keys of its own ``[B]``, its own of ``options``."""
    return {"label": label, "keys": _of_the_network(keys), **own_of(options, options_of(gan)[1])}


def draw(gan: GAN, variables: Variables, keys: Array, label: Array, **options: Any) -> Array:
    """Return images ``[B, H, W, C]`` in [-1, 1], each a function of its own key ``[B]`` and label ``[B]``.

    Args:
      gan, variables: as of `generate`.
      keys: one an example; see `gan_jax.core.randomness.example_keys`.
      label: int32, or float32 ``[B, condition]``; ignored by a GAN without classes.
      **options: of the prior or of the network, whoever takes them; see `options_of`.
    """
    return generate(gan, variables, (latents(gan, keys, **options), label, keys), **options)


def options_of(gan: GAN) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what may be chosen in drawing, with its default: of the prior, and of the generator.

    An option that both have is the generator's, as StyleGAN2 truncates w, and not z.
    """
    prior = _chosen([*inspect.signature(gan.prior).parameters.values()][3:])
    network = network_options(gan)
    return {name: default for name, default in prior.items() if name not in network}, network


def network_options(gan: GAN, method: str = "__call__") -> dict[str, Any]:
    """Return what ``method`` of the generator may be told beside its input and `ARGUMENTS`, with its default."""
    return _chosen([*inspect.signature(getattr(type(gan.generator), method)).parameters.values()][2:])


def _of_the_network(keys: Array) -> Array:
    """Keys for what a network draws by itself, other than those of the latents."""
    return jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)


def own_of(options: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return those of ``options`` that are among the ``names``."""
    return {name: value for name, value in options.items() if name in names}


def _chosen(parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {one.name: one.default for one in parameters if one.kind not in several and one.name not in ARGUMENTS}
