"""The progressive GAN's networks; their values are tried against PyTorch's in `tests.core.test_steps`."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gan_jax.core.networks import call
from gan_jax.models import progan
from tests.helpers import QUICKLY

Array = jax.Array


def test_what_is_drawn_is_faded_as_it_was_trained() -> None:
    module = progan.Generator((8, 8, 3), channel_base=32, channel_max=6)
    z = jax.random.normal(jax.random.key(1), (2, 6))

    def images(fade: float) -> tuple[Array, Array, Array]:
        variables = dict(module.init(jax.random.key(0), z, train=True))
        trained, written = call(module, variables, z, train=True, fade=fade, mutable=["moving"])
        return trained, call(module, {**variables, **written}, z, train=False), written["moving"]["fade"]

    of = jax.jit(images, compiler_options=QUICKLY)
    trained, drawn, kept = of(0.3)
    assert_allclose(kept, 0.3)
    assert_allclose(drawn, trained, rtol=1e-6)
    old, new = of(0.0)[0], of(1.0)[0]
    assert_allclose(trained, 0.7 * old + 0.3 * new, rtol=1e-5, atol=1e-6)
    assert_allclose(old[:, ::2, ::2], old[:, 1::2, 1::2])  # pixels of the side below, doubled
    assert np.abs(np.asarray(new - old)).max() > 1e-3


def test_sides_are_powers_of_two() -> None:
    assert progan.sides_of((16, 16, 1)) == [4, 8, 16]
    with pytest.raises(ValueError, match="makes images of sides 4, 8, 16 and so on, not of 28x28"):
        progan.sides_of((28, 28, 1))
