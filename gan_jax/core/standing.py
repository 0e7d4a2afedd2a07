"""Standing statistics: a generator's batch norm by batches drawn for it, not by those of its training.

Brock et al. 2019 (arXiv:1809.11096, section 3): with the averaged weights, the statistics are the plain means, over a
number of batches of fresh latents, of each batch's own. A layer that keeps statistics of batches in ``batch_stats``
sows each batch's own under the same names as `MOMENTS`, as `gan_jax.layers.BatchNorm` does.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from gan_jax.core import draw
from gan_jax.core.gan import GAN, Array, Variables
from gan_jax.core.networks import accepted, call
from gan_jax.core.randomness import example_keys, random_key, uniform
from gan_jax.layers.norms import MOMENTS

BATCH = 64  # latents in each


def moments(
    gan: GAN, variables: Variables, number: Array | int, *, seed: Array | int, counts: Array, **options: Any
) -> Any:
    """Return the statistics of one batch by the names of ``batch_stats``; nothing if no layer has any.

    Args:
      gan, variables: of the generator.
      number: of the batch; its latents are the next `BATCH` of the seed.
      seed: of latents and labels.
      counts: how frequent each label is in the data ``[classes]``, or ``[1]`` without classes; labels are drawn so. Of
        vectors those of the data ``[N, condition]``, of which each is as likely.
      **options: of the prior or the network, as of `gan_jax.core.draw.draw`.
    """
    index = number * BATCH + jnp.arange(BATCH)
    keys = example_keys(random_key(seed, "standing"), index)
    label = labels(counts, example_keys(random_key(seed, "standing_labels"), index))
    z, renewed = draw.latents(gan, keys, **options), [name for name in variables if name != "params"]
    told = draw.told(gan, label, keys, **options)
    _, written = call(gan.generator, variables, z, mutable=[*renewed, MOMENTS], train=True, **told)
    calls = written.get(MOMENTS, {})  # of each layer a tuple of those of its calls
    return jax.tree.map(lambda own: sum(own) / len(own), calls, is_leaf=lambda own: isinstance(own, tuple))


def labels(counts: Array, keys: Array) -> Array:
    """Draw labels ``[B]`` by ``keys`` ``[B]``, each as likely as ``counts`` ``[classes]`` say, or rows of vectors."""
    if counts.ndim > 1:
        return counts[labels(jnp.ones(len(counts)), keys)]
    ends = jnp.cumsum(jnp.asarray(counts, jnp.float32))
    drawn = uniform(keys, (), jnp.float32)
    return jnp.searchsorted(ends / ends[-1], drawn, side="right").astype(jnp.int32)


def with_moments(variables: Variables, found: Any) -> Variables:
    """Return ``variables`` whose statistics are the means of ``found``, `moments` of N batches ``[N, ...]``.

    Layers that have none there, which a draw doesn't run, keep theirs.
    """
    means = flatten_dict(jax.tree.map(lambda own: jnp.mean(own, 0), found))
    return {**variables, "batch_stats": unflatten_dict({**flatten_dict(variables["batch_stats"]), **means})}


def has_statistics(gan: GAN) -> bool:
    """Return whether there is a layer in the generator of which a batch has statistics."""

    def found() -> Any:
        keys = example_keys(jax.random.key(0), jnp.zeros(1, jnp.int32))
        told = accepted(gan.generator, {"label": gan.labels(1), "keys": keys, "train": True})
        variables = gan.generator.init(jax.random.key(0), jnp.zeros((1, gan.latent_dim), gan.dtype), **told)
        return moments(gan, dict(variables), 0, seed=0, counts=gan.labels(1) if gan.condition else jnp.ones(1))

    return bool(jax.tree.leaves(jax.eval_shape(found)))
