"""Drawing from a trained generator: its averaged weights and statistics (`GANState.ema`), in evaluation mode."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core import draw
from gan_jax.core.gan import GAN, Array
from gan_jax.core.pixels import to_float, to_uint8
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import GANState
from gan_jax.util import progress

_BATCH = 256


@partial(jax.jit, static_argnums=0)
def generate(gan: GAN, state: GANState, z: Array, label: Array) -> Array:
    """Images uint8 ``[B, H, W, C]`` of latents ``[B, latent_dim]`` and labels ``[B]``, by the averaged weights."""
    keys = example_keys(random_key(state.seed, "noise"), jnp.arange(len(z)))
    return to_uint8(draw.generate(gan, state.ema, (z, label, keys)))


@partial(jax.jit, static_argnums=0)
def reconstruct(gan: GAN, state: GANState, images: Array, label: Array) -> Array:
    """Images uint8 ``[B, H, W, C]`` once more, by an autoencoder."""
    assert gan.task.reconstruct is not None
    return to_uint8(gan.task.reconstruct(gan, state.ema, to_float(images, gan.dtype), label))


def row_labels(gan: GAN, count: int, columns: int = 10) -> np.ndarray:
    """Labels ``[count]`` of a grid: a class a row of ``columns``, over and over; zeros if the GAN has no classes."""
    return (np.arange(count) // columns % max(gan.classes, 1)).astype(np.int32)


def fixed_latents(gan: GAN, seed: int, count: int, start: int = 0) -> Array:
    """Latents ``[count, latent_dim]`` of the samples number ``start``, ``start + 1``, ... of ``seed``."""
    keys = example_keys(random_key(jnp.uint32(seed), "samples"), start + jnp.arange(count, dtype=jnp.int32))
    return draw.latents(gan, keys)


def sample(gan: GAN, state: GANState, seed: int, labels: np.ndarray) -> np.ndarray:
    """Images uint8 ``[N, H, W, C]`` of labels ``[N]``. Image i is a function of the state, ``seed``, i and its
    label."""
    return _in_batches(gan, state, labels, lambda start: fixed_latents(gan, seed, _BATCH, start))


def interpolate(gan: GAN, state: GANState, seed: int, labels: np.ndarray, columns: int = 10) -> np.ndarray:
    """Images uint8 ``[N, H, W, C]`` of labels ``[N]``: each row of ``columns``, which divides N, goes on a sphere from
    one sample of ``seed`` to another."""
    rows = len(labels) // columns
    ends = fixed_latents(gan, seed, 2 * rows).reshape(rows, 2, -1)
    weights = jnp.linspace(0, 1, columns, dtype=ends.dtype)
    z = jax.vmap(lambda pair: jax.vmap(lambda t: slerp(pair[0], pair[1], t))(weights))(ends).reshape(rows * columns, -1)
    padded = jnp.pad(z, ((0, _BATCH), (0, 0)))
    return _in_batches(gan, state, labels, lambda start: padded[start : start + _BATCH])


def slerp(a: Array, b: Array, t: Array) -> Array:
    """Spherical interpolation from ``a`` (t = 0) to ``b`` (t = 1), both ``[Z]`` (White 2016, arXiv:1609.04468).

    ``(sin((1-t) w) a + sin(t w) b) / sin(w)`` with w the angle between them; linear where they are nearly parallel.
    """
    cosine = jnp.vdot(a, b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), jnp.finfo(a.dtype).tiny)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    sine = jnp.sin(angle)
    parallel = sine < 1e-4
    safe = jnp.where(parallel, 1, sine)
    spherical = (jnp.sin((1 - t) * angle) * a + jnp.sin(t * angle) * b) / safe
    return jnp.where(parallel, (1 - t) * a + t * b, spherical)


def _in_batches(gan: GAN, state: GANState, labels: np.ndarray, latents: Callable[[int], Array]) -> np.ndarray:
    """Always whole batches, the last cut to size: so one compiled program, and the same bytes however many they are."""
    count = len(labels)
    labels = np.pad(labels, (0, _BATCH))
    out = np.empty((count, *gan.image_shape), np.uint8)
    few = count <= 4 * _BATCH
    waiting = progress.elapsed("drawing") if few else nullcontext()
    with waiting, progress.bar(total=count, unit="image", disable=few) as bar:
        for start in range(0, count, _BATCH):
            stop = min(count, start + _BATCH)
            out[start:stop] = np.asarray(generate(gan, state, latents(start), labels[start : start + _BATCH]))[
                : stop - start
            ]
            bar.update(stop - start)
    return out
