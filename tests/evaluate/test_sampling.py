"""Options of drawing: who takes them, what they change, and what is drawn is a function of a sample's number.

The generator here shows its latent in the upper half of an image, and its noise in the lower.
"""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from numpy.testing import assert_array_equal

from gan_jax import build
from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState, init_state
from gan_jax.evaluate.sample import grid, interpolate, sample
from gan_jax.layers.noise import Noise
from tests.helpers import small


class Noisy(nn.Module):
    """Images of 8x8: the latent in the first row, noise from the second."""

    @nn.compact
    def __call__(
        self, z: jax.Array, *, train: bool, keys: jax.Array | None = None, noise_mode: str = "random"
    ) -> jax.Array:
        del train
        noise = Noise()(jnp.zeros((len(z), 7, 8, 1)), keys, noise_mode)
        return jnp.clip(jnp.concatenate([z[:, None, :, None], noise], 1) / 4, -1, 1)


@cache
def noisy() -> tuple[GAN, GANState]:
    config = small("gan")
    config.data.image_size = 8
    gan, hyper = build.build_gan(config)
    gan = dataclasses.replace(gan, generator=Noisy())
    state = jax.jit(init_state, static_argnums=0)(gan, 0, hyper)
    strong = {**state.ema, "params": jax.tree.map(jnp.ones_like, state.ema["params"])}
    return gan, state.replace(averages={"ema": strong})


def parts(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents ``[N, 8]`` and noise ``[N, 56]``, as bytes."""
    return images[:, 0, :, 0], images[:, 1:].reshape(len(images), -1)


def different(rows: np.ndarray) -> int:
    return len(np.unique(rows, axis=0))


# --- each sample is a function of its number --------------------------------------------------------------------------


def test_each_of_600_samples_has_noise_of_its_own_in_whatever_batch() -> None:
    gan, state = noisy()
    images = sample(gan, state, 3, np.zeros(600, np.int32))
    assert [different(part) for part in parts(images)] == [600, 600]
    assert_array_equal(images[:9], grid(gan, state, 3, np.zeros(9, np.int32)))
    assert different(np.concatenate([images, sample(gan, state, 4, np.zeros(600, np.int32))])) == 1200


def test_a_row_of_interpolations_has_one_noise_that_of_the_sample_it_begins_at() -> None:
    gan, state = noisy()
    images = interpolate(gan, state, 3, np.zeros(600, np.int32))
    _, noise = parts(images)
    assert different(noise) == 60
    assert_array_equal(noise, np.repeat(noise[::10], 10, axis=0))
    assert_array_equal(images[::10], sample(gan, state, 3, np.zeros(120, np.int32))[::2])
