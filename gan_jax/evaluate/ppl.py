"""Perceptual path length (Karras et al. 2019, arXiv:1812.04948, section 4.1, eq. 2 and 3): how smooth latent space is.

``E d(G(x(t)), G(x(t + eps))) / eps^2`` for eps of 1e-4, d LPIPS by VGG16 and x between two draws: in z on a sphere, in
w on a line. Of the pairs' values the lowest and the highest 1 % are left out, as in the authors' code.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core import draw
from gan_jax.core.gan import GAN, Array, Variables, images_of
from gan_jax.core.networks import call
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.runtime import program

_EPSILON = 1e-4
_LEFT_OUT = 1  # percent at each end
_SHARD = 16  # pairs that a device works on at a time
SPACES = ("z", "w", "w_end")


def spaces(gan: GAN) -> tuple[str, ...]:
    """Return in which spaces the GAN has a path length: in w only if it has a mapping network."""
    return SPACES if draw.has_mapping(gan) else SPACES[:1]


def path_length(
    gan: GAN,
    variables: Variables,
    labels: np.ndarray,
    *,
    distance: tuple[Callable[[Any, Array, Array], Array], Any],
    seed: Any = 0,
    space: str = "z",
    devices: Sequence[jax.Device] | None = None,
) -> float:
    """Return the mean over as many pairs as there are labels.

    Args:
      gan: the static half.
      variables: of the generator.
      labels: ``[N]``; both ends of a path have the same.
      distance: ``apply(variables, x, y)``, ``[n]`` of images ``[n, H, W, C]`` from 0 to 255; and its variables.
      seed: of the draws.
      space: ``z``; ``w``; or ``w_end``, at the begin of each path alone, as StyleGAN2 is compared by.
      devices: those that draw; None: the first.
    """
    apply, weights = distance

    def pairs(common: Any, examples: Any) -> Any:
        (variables, weights, key), (index, label) = common, examples
        keys = example_keys(key, index)
        x, y = _ends(gan, variables, (keys, label), space)
        return apply(weights, x, y) / _EPSILON**2

    mapped = program.map_examples(pairs, devices or jax.local_devices()[:1], f"path length in {space}", shard=_SHARD)
    common = (variables, weights, random_key(seed, "path_length"))
    with jax.default_matmul_precision("highest"):  # 1e-4 is lost in products of less
        found = mapped(common, lambda numbers: (numbers.astype(np.int32), labels[numbers]), len(labels))
    return trimmed(np.asarray(found, np.float64))


def trimmed(values: np.ndarray) -> float:
    """Return the mean of all values but the outliers."""
    low = np.percentile(values, _LEFT_OUT, method="lower")
    high = np.percentile(values, 100 - _LEFT_OUT, method="higher")
    return float(values[(values >= low) & (values <= high)].mean())


def _ends(gan: GAN, variables: Variables, examples: tuple[Array, Array], space: str) -> tuple[Array, Array]:
    """Images from 0 to 255 at t and at t + epsilon, that share label and noise."""
    keys, label = examples
    split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    z0, z1 = draw.latents(gan, split[:, 0]), draw.latents(gan, split[:, 1])
    t = jax.vmap(lambda key: jax.random.uniform(key, (), z0.dtype))(split[:, 2]) * (space != "w_end")
    own: dict[str, Any] = {"train": False, **draw.told(gan, label, keys)}

    def image(code: Array, **how: Any) -> Array:
        return (images_of(call(gan.generator, variables, code, **how, **own)) + 1) * 127.5

    if space == "z":
        return image(_on_a_sphere(z0, z1, t)), image(_on_a_sphere(z0, z1, t + _EPSILON))
    w0, w1 = (call(gan.generator, variables, z, method="mapping", **own) for z in (z0, z1))
    t = t.reshape(-1, *(1,) * (w0.ndim - 1))
    one, other = (image(w0 + s * (w1 - w0), method="synthesis") for s in (t, t + _EPSILON))
    return one, other


def _on_a_sphere(a: Array, b: Array, t: Array) -> Array:
    """From ``a`` to ``b`` ``[B, Z]``: directions as Karras et al. interpolate them, lengths on a line.

    Their mapping network sees directions alone; other generators see lengths, too.
    """
    t = t[:, None]
    (a, of_a), (b, of_b) = ((x / n, n) for x, n in ((x, jnp.linalg.norm(x, axis=-1, keepdims=True)) for x in (a, b)))
    cosine = jnp.clip((a * b).sum(-1, keepdims=True), -1, 1)
    across = b - cosine * a
    across = across / jnp.maximum(jnp.linalg.norm(across, axis=-1, keepdims=True), 1e-12)
    angle = t * jnp.arccos(cosine)
    found: Array = (jnp.cos(angle) * a + jnp.sin(angle) * across) * (of_a + t * (of_b - of_a))
    return found
