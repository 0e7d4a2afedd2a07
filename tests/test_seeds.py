"""What a seed means: every random number by its definition and as it was drawn when this was written.

Other numbers here are other runs from the same seed. That is only ever meant with a word in the CHANGELOG.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from gan_jax import augment, games, layers, sample
from gan_jax.build import build_gan
from gan_jax.data import order
from gan_jax.state import Turn, draw_latents, init_state, random_key
from tests.conftest import small
from tests.oracle import draws

SEED = 3
# The two words of the key of each purpose, of seed 3, step 5, discriminator step 1.
KEYS = {
    "init_generator": (1265165813, 284711209),
    "init_discriminator": (1594766187, 4033659082),
    "latents": (1445411635, 2280325512),
    "samples": (3350092283, 3195718912),
    "augment_real": (619156325, 611810166),
    "augment_fake": (2490070280, 2119755867),
    "evaluation": (3777759814, 3289333504),
    "penalty": (3772251204, 2072667680),
}
LATENTS = [[-0.48203743, 1.4566871, -0.72068822], [-0.77831423, 1.5824316, 0.77523768]]  # of examples 0 and 1999
SAMPLE = [-0.99506843, 0.84579796, -1.3754814]  # number 300
AUGMENTED = {
    "augment_real": [0.023647547, 0.060809731, 0.71046233, 0.44860137],
    "augment_fake": [0.67767, 0.59543061, 0.53338361, 0.60014689],
}
ORDER = [[74, 66, 25, 1, 88, 28], [6, 96, 46, 32, 70, 47]]
MIRRORED = [[1, 0, 0, 0, 1, 1], [0, 0, 1, 0, 1, 1]]
FIRST = {
    "generator": [-0.085694119, 0.082689039, -0.078011416],
    "discriminator": [0.0024643464, -0.035244308, -0.064226009],
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
    key = random_key(jnp.uint32(SEED), "latents", 5, 1)
    drawn = np.asarray(draw_latents(gan, key, jnp.arange(2000)))
    assert_allclose(drawn[[0, 1999], :3], LATENTS, rtol=1e-5)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    assert_allclose(np.cov(drawn.T), np.eye(8), atol=0.1)


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
    object.__setattr__(gan, "augment", lambda image, key: 0 * image + jax.random.uniform(key, image.shape))
    state = jax.eval_shape(lambda: init_state(gan, SEED, hyper)).replace(seed=jnp.uint32(SEED), step=jnp.int32(5))
    images, index = jnp.zeros((2, 2, 2, 1)), jnp.asarray([7, 4])
    drawn = games.augmented(gan, state, images, Turn(images, index, index, 1), purpose)
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
    chain = augment.Chain((lambda image, key: seen.append(key) or image,) * 2)  # type: ignore[func-returns-value]
    key = jax.random.key(SEED)
    chain(jnp.zeros((2, 2, 1)), key)
    for place, own in enumerate(seen):
        assert_array_equal(jax.random.key_data(own), jax.random.key_data(jax.random.fold_in(key, place)))
