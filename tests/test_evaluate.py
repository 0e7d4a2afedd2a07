"""Figures on a discriminator, against NumPy."""

import jax
import numpy as np

from gan_jax import build, evaluate
from gan_jax.state import init_state
from tests.conftest import small


def test_held_out_is_the_mean_probability_of_real_and_keeps_the_two_sets_apart() -> None:
    config = small("gan")
    gan, hyper = build.build_gan(config)
    state = init_state(gan, 0, hyper)
    images = np.random.default_rng(0).integers(0, 256, (2, 300, 28, 28, 1), np.uint8)
    figures = evaluate.held_out(gan, state, images[0], images[1])
    p = jax.tree.map(np.asarray, state.discriminator.params)
    for name, batch in zip(("d_seen", "d_unseen"), images, strict=True):
        x = batch[:250].reshape(250, -1) / 127.5 - 1
        for layer in ("Dense_0", "Dense_1", "Dense_2"):
            x = x @ p[layer]["kernel"] + p[layer]["bias"]
            x = x if layer == "Dense_2" else np.where(x > 0, x, 0.2 * x)
        np.testing.assert_allclose(figures[name], (1 / (1 + np.exp(-x))).mean(), rtol=1e-5)
    assert figures["d_seen"] != figures["d_unseen"]
