"""Augmentations against NumPy, and in their place in the update."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import augment
from gan_jax.augment import Array
from gan_jax.build import build_gan
from gan_jax.state import init_state
from gan_jax.update import update
from tests.conftest import small


def moved(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """``image`` moved down and right; -1 where nothing was."""
    out = np.full_like(image, -1)
    height, width, _ = image.shape
    for i in range(height):
        for j in range(width):
            if 0 <= i - rows < height and 0 <= j - columns < width:
                out[i, j] = image[i - rows, j - columns]
    return out


def test_translation_moves_by_up_to_an_eighth_uniformly() -> None:
    image = np.random.default_rng(0).uniform(-0.9, 1, (16, 24, 3)).astype(np.float32)
    candidates = {(r, c): moved(image, r, c) for r in range(-2, 3) for c in range(-3, 4)}
    keys = jax.random.split(jax.random.key(0), 3500)
    counts = dict.fromkeys(candidates, 0)
    for out in np.asarray(jax.vmap(lambda key: augment.translation(jnp.asarray(image), key))(keys)):
        (found,) = [shift for shift, candidate in candidates.items() if (candidate == out).all()]
        counts[found] += 1
    assert min(counts.values()) > 60  # 100 expected of each of the 35, with a deviation of 10
    assert max(counts.values()) < 140


def test_gradients_move_back() -> None:
    image = jnp.ones((8, 8, 1))
    key = jax.random.key(3)
    weights = jax.random.normal(jax.random.key(1), image.shape)
    gradient = jax.grad(lambda x: (augment.translation(x, key) * weights).sum())(image)
    back = {(r, c): moved(np.asarray(weights), r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    assert any((np.where(b == -1, 0, b) == np.asarray(gradient)).all() for b in back.values())


def test_every_image_that_d_sees_is_augmented_real_and_fake_alike_each_by_its_own_key() -> None:
    seen: list[tuple[int, ...]] = []

    def darken(image: Array, key: Array) -> Array:
        seen.append(image.shape)
        return -jnp.ones_like(image) + 0 * image + jax.random.uniform(key, (1, 1, 1)) * 1e-3

    gan, hyper = build_gan(small("gan"))
    state = init_state(gan, 0, hyper)
    batch = {"image": jnp.ones((1, 16, 28, 28, 1)), "index": jnp.arange(16)}
    object.__setattr__(gan, "augment", darken)
    _, metrics = jax.jit(partial(update, gan))(state, batch)
    assert seen == [(28, 28, 1)] * 2
    # Real and fake are now equally dark, but for each image's own grey.
    assert abs(float(metrics["d_real"] - metrics["d_fake"])) < 1e-4
    assert float(metrics["d_real"]) != float(metrics["d_fake"])
    assert float(metrics["g_grad_norm"]) == 0
