"""Drawing from a trained generator: its averaged weights and statistics (`GANState.ema`), in evaluation mode."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core import draw
from gan_jax.core.gan import GAN, Array, Variables
from gan_jax.core.pixels import to_float
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import GANState
from gan_jax.data.order import permute
from gan_jax.evaluate.sampling import USUAL, Sampling
from gan_jax.evaluate.standing import drawn_with
from gan_jax.util import progress

_BATCH = 256
Counts = np.ndarray | None
Inputs = tuple[Array, Array, Array]  # of `draw.generate`: latents, labels, keys


@partial(jax.jit, static_argnums=(0, 1))
def _generate(gan: GAN, how: Sampling, variables: Variables, inputs: Inputs, shift: Array | None = None) -> Array:
    return gan.pixels.whole(draw.generate(gan, variables, inputs, shift, **dict(how.options)))


@partial(jax.jit, static_argnums=(0, 1))
def _inputs(gan: GAN, how: Sampling, seeds: Array, numbers: Array) -> tuple[Array, Array]:
    """Latents and keys of the samples ``numbers`` ``[B]``, each of its own seed ``[B]``, by one quick program."""
    keys = _keys(seeds, numbers)
    return draw.latents(gan, keys, **dict(how.options)), keys


@partial(jax.jit, static_argnums=0)
def reconstruct(gan: GAN, state: GANState, images: Array, label: Array) -> Array:
    """Images ``[B, H, W, C]``, whole numbers, once more, by an autoencoder."""
    assert gan.task.reconstruct is not None
    return gan.pixels.whole(gan.task.reconstruct(gan, state.ema, to_float(images, gan.dtype), label))


def row_labels(
    gan: GAN, count: int, columns: int = 10, *, vectors: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Labels ``[count]`` of a grid: a class a row of ``columns``, over and over; zeros if the GAN has no classes.

    Of a GAN of conditions they are ``[count, condition]``, each row one of the data's ``vectors`` ``[N, K]``, in
    an order by ``seed``, in which none comes twice before all have come.
    """
    if gan.condition:
        if vectors is None or not len(vectors):
            return np.asarray(gan.labels(count))
        rows = np.arange(count) // columns % len(vectors)
        found: np.ndarray = vectors[permute(rows.astype(np.uint32), len(vectors), seed, 0, np)]
        return found
    return (np.arange(count) // columns % max(gan.classes, 1)).astype(np.int32)


def fixed_keys(seed: int, numbers: Array | np.ndarray) -> Array:
    """Return the keys ``[N]`` of the samples ``numbers`` of ``seed``."""
    keys: Array = _keys(np.full(len(numbers), seed, np.uint32), numbers)  # jit takes no int from 2^31 on
    return keys


def first_keys(seeds: np.ndarray) -> Array:
    """Return the key ``[N]`` of the first sample of each seed."""
    seeds = np.asarray(seeds).astype(np.uint32)
    keys: Array = _keys(seeds, np.zeros(len(seeds), np.int32))
    return keys


@partial(jax.jit, inline=True)
def _keys(seeds: Array, numbers: Array) -> Array:
    """Keys of the samples ``numbers`` ``[N]``, each of its own seed ``[N]``."""

    def one(seed: Array, number: Array) -> Array:
        return example_keys(random_key(seed, "samples"), number[None].astype(jnp.int32))[0]

    keys: Array = jax.vmap(one)(seeds, numbers)
    return keys


def fixed_latents(gan: GAN, seed: int, count: int, start: int = 0, **options: Any) -> Array:
    """Latents ``[count, latent_dim]`` of the samples number ``start``, ``start + 1``, ... of ``seed``; of ``options``
    the prior takes its own."""
    numbers = start + np.arange(count)
    if options:  # a page's slider goes through many values, none of which shall be compiled
        return draw.latents(gan, fixed_keys(seed, numbers), **options)
    latents: Array = _inputs(gan, USUAL, np.full(count, seed, np.uint32), numbers)[0]
    return latents


def grid(gan: GAN, state: GANState, seed: int, labels: np.ndarray) -> np.ndarray:
    """Images ``[N, H, W, C]`` of the first samples of ``seed``, with ``labels`` ``[N]``, all in one batch."""
    latents, keys = _inputs(gan, USUAL, np.repeat(np.uint32(seed), len(labels)), np.arange(len(labels)))
    return np.asarray(_generate(gan, USUAL, state.ema, (latents, labels, keys)))


class Batches:
    """Images ``[N, H, W, C]``, drawn in batches as they are asked for, so that memory holds one of them.

    Args:
      count: N.
      image_shape: (H, W, C).
      dtype: of the images, uint8 or uint16.
      draw: ``draw(start)``: the next images from that one on ``[n, H, W, C]``; the last batch may have too many.
    """

    def __init__(self, count: int, image_shape: tuple[int, ...], dtype: str, draw: Callable[[int], np.ndarray]) -> None:
        self.shape, self.dtype, self._draw = (count, *image_shape), np.dtype(dtype), draw

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        count = len(self)
        few = count <= 4 * _BATCH
        waiting = progress.elapsed("drawing") if few else nullcontext()
        with waiting, progress.bar(total=count, unit="image", disable=few) as bar:
            for start in range(0, count, _BATCH):
                images = self._draw(start)[: count - start]
                yield images
                bar.update(len(images))

    def array(self) -> np.ndarray:
        """Return all of them."""
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self])


def sample(
    gan: GAN, state: GANState, seed: int, labels: np.ndarray, *, how: Sampling = USUAL, counts: Counts = None
) -> np.ndarray:
    """Images ``[N, H, W, C]``, whole numbers, of labels ``[N]``, see `samples`."""
    return samples(gan, state, seed, labels, how=how, counts=counts).array()


def samples(
    gan: GAN,
    state: GANState,
    seed: int | np.ndarray,
    labels: np.ndarray,
    *,
    how: Sampling = USUAL,
    counts: Counts = None,
    shift: np.ndarray | None = None,
) -> Batches:
    """Images of labels ``[N]``, or of shares of each class or vectors ``[N, K]``; ``shift`` as of `draw.generate`.

    Image i is a function of the state, ``seed``, i, its label and ``how`` it is drawn; of several seeds ``[N]`` it is
    the first image of its own. For standing statistics labels are as frequent as ``counts`` ``[classes]``, None: all
    alike. Of vectors they are among ``counts``, those of the data ``[M, K]``.
    """
    seeds = np.pad(np.atleast_1d(seed), (0, _BATCH)).astype(np.uint32)

    def drawn(numbers: np.ndarray) -> tuple[Array, Array]:
        several = np.ndim(seed) > 0
        own = (seeds[numbers], 0 * numbers) if several else (np.repeat(seeds[0], len(numbers)), numbers)
        found: tuple[Array, Array] = _inputs(gan, how, *own)
        return found

    return _in_batches(gan, how, _variables(gan, state, how, counts), labels, drawn, shift)


def interpolate(
    gan: GAN,
    state: GANState,
    seed: int,
    labels: np.ndarray,
    columns: int = 10,
    *,
    how: Sampling = USUAL,
    counts: Counts = None,
) -> np.ndarray:
    """Images ``[N, H, W, C]`` of labels ``[N]``: each row of ``columns``, which divides N, goes on a sphere from
    one sample of ``seed`` to another, both drawn as ``how`` and ``counts`` say (see `sample`). What the network draws
    by itself is that of the first in the whole row."""
    rows = len(labels) // columns
    ends = draw.latents(gan, fixed_keys(seed, np.arange(2 * rows)), **dict(how.options)).reshape(rows, 2, -1)
    weights = jnp.linspace(0, 1, columns, dtype=ends.dtype)
    z = jax.vmap(lambda pair: jax.vmap(lambda t: slerp(pair[0], pair[1], t))(weights))(ends).reshape(rows * columns, -1)
    padded = jnp.pad(z, ((0, _BATCH), (0, 0)))

    def between(numbers: np.ndarray) -> tuple[Array, Array]:
        return padded[numbers], fixed_keys(seed, 2 * (numbers // columns))

    return _in_batches(gan, how, _variables(gan, state, how, counts), labels, between).array()


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


def _variables(gan: GAN, state: GANState, how: Sampling, counts: Counts) -> Variables:
    """Return what samples are drawn with, the same for every seed of samples.

    It is the averages, maybe with standing statistics.
    """
    if counts is None:
        counts = np.asarray(gan.labels(1)) if gan.condition else np.ones(max(gan.classes, 1))
    return drawn_with(gan, how, counts, jax.local_devices()[:1])(state.ema, state.seed)


def _in_batches(
    gan: GAN,
    how: Sampling,
    variables: Variables,
    labels: np.ndarray,
    inputs: Callable[[np.ndarray], tuple[Array, Array]],
    shift: np.ndarray | None = None,
) -> Batches:
    """Draw in whole batches, the last cut to size: one compiled program, and the same bytes however many they are.

    ``inputs(numbers)`` are latents and keys of the images ``numbers``.
    """
    padded = np.concatenate([labels, np.zeros((_BATCH, *labels.shape[1:]), labels.dtype)])

    def drawn(start: int) -> np.ndarray:
        numbers = np.arange(start, start + _BATCH)
        z, keys = inputs(numbers)
        return np.asarray(_generate(gan, how, variables, (z, padded[numbers], keys), shift))

    return Batches(len(labels), gan.image_shape, gan.pixels.dtype, drawn)
