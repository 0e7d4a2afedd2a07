"""What a seed means: every random number by its definition and as it was drawn when this was written.

Other numbers here are other runs from the same seed. That is only ever meant with a word in the CHANGELOG.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from gan_jax import layers
from gan_jax.build import build_gan
from gan_jax.core import augment, tasks
from gan_jax.core.gan import Context, Examples
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import init_state
from gan_jax.data import order
from gan_jax.evaluate import sample
from tests.helpers import small
from tests.oracle import draws

SEED = 3
# The two words of the key of each purpose, of seed 3, step 5, discriminator step 1.
KEYS = {
    "init_generator": (110122344, 3538210323),
    "init_discriminator": (145157440, 2907815176),
    "latents": (1386817919, 429440284),
    "samples": (3301195734, 3281491006),
    "augment_real": (264857182, 1340434923),
    "augment_fake": (3643923284, 1413325493),
    "evaluation": (1806695929, 2263914927),
    "penalty": (3152001515, 2067761018),
}
LATENTS = [[0.046562452, -1.7153951, 0.45196378], [0.2047047, -0.21329673, -0.004014194]]  # of examples 0 and 1999
SAMPLE = [-0.41900313, 0.67482609, 0.50064069]  # number 300
AUGMENTED = {
    "augment_real": [0.54159188, 0.48692191, 0.3094629, 0.30208921],
    "augment_fake": [0.70759213, 0.8808645, 0.0059992075, 0.60994053],
}
ORDER = [[74, 66, 25, 1, 88, 28], [6, 96, 46, 32, 70, 47]]
MIRRORED = [[1, 0, 0, 0, 1, 1], [0, 0, 1, 0, 1, 1]]
FIRST = {
    "generator": [-0.23603098, 0.058230344, 0.17814119],
    "discriminator": [0.059289094, 0.017014571, -0.030269492],
}
REFERENCE = [1.6226422, 2.0252647, -0.43359444]


@pytest.mark.parametrize("purpose", draws.PURPOSES)
def test_a_key_is_of_the_seed_its_purposes_number_and_the_counters(purpose: str) -> None:
    key = jax.random.key_data(random_key(jnp.uint32(SEED), purpose, 5, 1))
    assert_array_equal(key, jax.random.key_data(draws.key_of(SEED, purpose, 5, 1)))
    assert_array_equal(key, KEYS[purpose])


def test_no_two_purposes_have_one_key() -> None:
    assert len({tuple(words) for words in KEYS.values()}) == len(draws.PURPOSES)


def test_latents_are_those_of_the_seed_from_a_normal_distribution() -> None:
    gan, _ = build_gan(small("gan"))
    keys = example_keys(random_key(jnp.uint32(SEED), "latents", 5, 1), jnp.arange(2000))
    drawn = np.asarray(gan.prior(keys, gan.latent_dim, gan.dtype))
    assert_allclose(drawn[[0, 1999], :3], LATENTS, rtol=1e-5)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    assert_allclose(np.cov(drawn.T), np.eye(8), atol=0.1)


def test_truncated_latents_lie_within_and_are_as_normal_ones_there() -> None:
    gan, _ = build_gan(small("gan"))
    keys = example_keys(random_key(jnp.uint32(SEED), "latents", 5, 1), jnp.arange(2000))
    drawn = np.asarray(gan.prior(keys, gan.latent_dim, gan.dtype, truncation=0.7)).ravel()
    assert np.abs(drawn).max() <= 0.7
    assert stats.kstest(drawn, stats.truncnorm(-0.7, 0.7).cdf).pvalue > 0.01


def test_samples_are_those_of_the_seed_whichever_batch_they_are_drawn_in() -> None:
    gan, _ = build_gan(small("gan"))
    drawn = np.asarray(sample.fixed_latents(gan, SEED, 4, 300))
    key = draws.key_of(SEED, "samples")
    desired = [jax.random.normal(jax.random.fold_in(key, 300 + i), (8,)) for i in range(4)]
    assert_array_equal(drawn, desired)
    assert_allclose(drawn[0, :3], SAMPLE, rtol=1e-5)


@pytest.mark.parametrize("purpose", ["augment_real", "augment_fake"])
def test_an_images_augmentation_is_that_of_the_seed_the_step_and_its_index(purpose: str) -> None:
    gan, hyper = build_gan(small("gan"))
    drawing = augment.Augment((lambda image, key: 0 * image + jax.random.uniform(key, image.shape),))
    images, index = jnp.zeros((2, 2, 2, 1)), jnp.asarray([7, 4])
    context = Context(dataclasses.replace(gan, augment=drawing), jnp.uint32(SEED), jnp.int32(5), hyper, index)
    drawn = tasks.augmented(context, images, Examples(images, index, 1), purpose.removeprefix("augment_"))
    key = draws.key_of(SEED, purpose, 5, 1)
    assert_array_equal(drawn, [jax.random.uniform(jax.random.fold_in(key, i), (2, 2, 1)) for i in (7, 4)])
    assert_allclose(drawn[0].ravel(), AUGMENTED[purpose], rtol=1e-5)


def test_the_order_of_the_data_and_its_mirrored_images_are_those_of_the_seed() -> None:
    assert_array_equal(order.sample_index(5, np.arange(6), 100, 6, 2, SEED, np), ORDER)
    assert_array_equal(order.mirrored(5, np.arange(6), 6, 2, SEED, np), MIRRORED)


def test_the_first_weights_are_those_of_the_seed() -> None:
    gan, hyper = build_gan(small("gan"))
    state = init_state(gan, SEED, hyper)
    for name, player in (("generator", state.generator), ("discriminator", state.discriminator)):
        kernel = player.params["Dense_0"]["kernel"]
        assert_allclose(kernel[0, :3], FIRST[name], rtol=1e-5)
        again = getattr(gan, name).init(
            draws.key_of(SEED, f"init_{name}"), jnp.zeros((1, len(kernel))), train=True, label=jnp.zeros(1, int)
        )
        jax.tree.map(assert_array_equal, player.params, again["params"])


def test_the_references_of_virtual_batch_norm_are_fixed_normal_latents_of_all_classes() -> None:
    z, label = layers.with_references(jnp.zeros((1, 4)), jnp.zeros(1, jnp.int32), 10)
    assert label is not None
    assert_allclose(z[:-1], draws.references(4), rtol=1e-6)
    assert_allclose(z[0, :3], REFERENCE, rtol=1e-5)
    assert_array_equal(np.bincount(label[:-1]), [7] * 4 + [6] * 6)


@pytest.mark.parametrize(
    ("kind", "deviation"),
    [("normal", 0.02), ("xavier", np.sqrt(2 / (9 * 30 + 9 * 50))), ("orthogonal", 1 / np.sqrt(9 * 30))],
)
def test_initial_weights_are_of_their_papers_distribution(kind: str, deviation: float) -> None:
    variables = layers.Conv(50, initializer=kind, use_bias=True).init(jax.random.key(0), jnp.zeros((1, 4, 4, 30)))
    kernel = np.asarray(variables["params"]["kernel"]).reshape(-1, 50)
    assert_allclose(kernel.std(), deviation, rtol=0.02)
    assert abs(kernel.mean()) < 0.03 * deviation
    assert not variables["params"]["bias"].any()
    if kind == "orthogonal":
        assert_allclose(kernel.T @ kernel, np.eye(50), atol=1e-5)
    elif kind == "xavier":
        assert stats.kstest(kernel.ravel() / deviation, "uniform", (-np.sqrt(3), 2 * np.sqrt(3))).pvalue > 0.01
    else:
        assert stats.kstest(kernel.ravel() / deviation, "norm").pvalue > 0.01


def test_augmentations_draw_by_keys_of_their_own_in_a_chain() -> None:
    seen = []
    chain = augment.Augment((lambda image, key: seen.append(key) or image,) * 2)  # type: ignore[func-returns-value]
    key = jax.random.key(SEED)
    chain(jnp.zeros((2, 2, 1)), key)
    for place, own in enumerate(seen):
        assert_array_equal(jax.random.key_data(own), jax.random.key_data(jax.random.fold_in(key, place)))
