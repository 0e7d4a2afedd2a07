"""FastGAN's networks; their values are tried against PyTorch's in `tests.core.test_steps`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from numpy.testing import assert_allclose

from gan_jax.build import build_gan
from gan_jax.core import losses
from gan_jax.core.gan import Context, Examples, images_of
from gan_jax.core.tasks import augmented
from gan_jax.models import fastgan
from gan_jax.util.errors import UserError
from tests.helpers import QUICKLY, small


def shapes(image: tuple[int, int, int]) -> tuple[list[tuple[int, ...]], Any]:
    """Of the images of G, and of what D says of them."""
    generator, discriminator = fastgan.Generator(1, image_shape=image), fastgan.Discriminator(1)
    key, keys = jax.random.key(0), jax.random.split(jax.random.key(1), 2)

    def both() -> Any:
        pair = generator.init_with_output(key, jnp.zeros((2, 8)), train=True, keys=keys)[0]
        return pair, discriminator.init_with_output(key, pair, train=True, keys=keys)[0]

    pair, said = jax.eval_shape(both)
    return [x.shape for x in pair], said


@pytest.mark.parametrize(("side", "smaller"), [(28, 14), (64, 32), (256, 128), (1024, 128)])
def test_images_are_of_two_sides_and_judged_in_fifty_places(side: int, smaller: int) -> None:
    pair, said = shapes((side, side, 3))
    assert pair == [(2, side, side, 3), (2, smaller, smaller, 3)]
    assert said.logits.shape == (2, 50)
    decoded = 16 if side == 28 else smaller
    assert said.extra["decoded"].shape == said.extra["target"].shape == (2, 3, decoded, decoded, 3)


@pytest.mark.parametrize(("side", "within"), [(28, True), (64, True), (256, False), (512, False), (1024, True)])
def test_images_of_256_and_512_alone_are_linear(side: int, within: bool) -> None:
    generator = fastgan.Generator(1, image_shape=(side, side, 3))

    def pair() -> Any:
        keys = jax.random.split(jax.random.key(1), 2)
        return generator.init_with_output(jax.random.key(0), jnp.zeros((2, 8)), train=True, keys=keys)[0]

    assert str(jax.make_jaxpr(pair)()).count(" tanh ") == (2 if within else 0)


def test_a_smaller_real_image_is_the_mean_of_pixels() -> None:
    """D makes it of a single image as the game does, and says the same."""
    gan, _ = build_gan(small("fastgan"))
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)), jnp.float32)
    state: Any = None
    pair = gan.task.shown(gan, {}, images, state)
    assert_allclose(pair[0], images)
    assert_allclose(pair[1], np.asarray(images).reshape(2, 16, 2, 16, 2, 1).mean((2, 4)), atol=1e-6)
    keys = jax.random.split(jax.random.key(1), 2)

    def both() -> Any:
        of_pair, variables = gan.discriminator.init_with_output(jax.random.key(0), pair, train=True, keys=keys)
        alone: Any = gan.discriminator.apply(variables, images, train=True, keys=keys, mutable=["batch_stats"])
        return of_pair.logits, alone[0].logits

    of_pair, alone = jax.jit(both, compiler_options=QUICKLY)()
    assert_allclose(of_pair, alone, rtol=1e-4, atol=1e-6)
    assert images_of(pair).shape == images.shape


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_gates_multiply(player: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind gates that are shut, two examples are the same."""
    config = small("fastgan")
    config.data.update({"image_size": 64, "channels": 1})
    gan, _ = build_gan(config)
    network, keys = getattr(gan, player), jax.random.key(1)[None][jnp.zeros(2, int)]
    shape = (2, config.latent_dim) if player == "generator" else (2, 64, 64, 1)
    gates = fastgan._gate

    def apart(opened: float) -> float:
        def both() -> Any:
            inputs = jax.random.normal(jax.random.key(2), shape)
            made = network.init_with_output(jax.random.key(0), inputs, train=False, keys=keys)[0]
            return made[0] if player == "generator" else made.logits[:, :25]  # what D says of the larger image

        monkeypatch.setattr(fastgan, "_gate", lambda *of: opened * gates(*of))
        one, other = jax.jit(both, compiler_options=QUICKLY)()
        return float(abs(one - other).max())

    assert apart(1.0) > 1e-3
    assert apart(0.0) == 0


def test_a_quarter_and_its_image_have_one_corner() -> None:
    x = jnp.arange(40 * 4 * 6, dtype=jnp.float32).reshape(40, 4, 6, 1)
    image = x.repeat(2, 1).repeat(2, 2)
    part, target = fastgan._quarter(x, image, jax.random.split(jax.random.key(3), 40))
    assert part.shape == (40, 2, 3, 1)
    assert_allclose(target, part.repeat(2, 1).repeat(2, 2))
    assert set(np.ravel(part[:, 0, 0] - x[:, 0, 0])) == {0, 3, 12, 15}  # the first number of each quarter


def test_margins_are_drawn_for_each_logit() -> None:
    keys = jax.random.split(jax.random.key(2), 300)
    real, fake = jnp.zeros((300, 7)), jnp.full((300, 7), -2.0)
    of_d, of_g = losses.soft_hinge(real, fake, keys)
    assert_allclose(of_g, 2.0)
    margins = np.asarray(of_d)  # of the reals alone: the fakes are beyond any
    assert len(np.unique(margins)) > 2000
    assert 0.8 <= margins.min() < 0.801 < 0.999 < margins.max() <= 1.0
    assert_allclose(margins.mean(), 0.9, atol=0.01)
    assert not np.allclose(losses.soft_hinge(real, -real, keys)[0] / 2, margins)  # two margins, not one twice


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.image_size": 20}, "FastGAN makes images of sides 28, 32, 64 and so on to 1024, not of 20x20"),
        ({"model": "dcgan", "generator": {"widths": (4,)}, "discriminator": {"widths": (4,)}}, r"extra\['decoded'\]"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    config = small("fastgan")
    for key, value in changes.items():
        if isinstance(value, dict):
            config[key] = ConfigDict(value)
        else:
            config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        build_gan(config)


def test_both_sides_are_augmented_alike() -> None:
    """The smaller image is the mean of the larger one's pixels before, and so it is behind translation and mirror."""
    config = small("fastgan")
    config.augment.name = "translation"
    gan, hyper = build_gan(config)
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (6, 32, 32, 1)), jnp.float32)
    pair = gan.task.shown(gan, {}, images, jnp.zeros(6, jnp.int32))
    context = Context(gan, jnp.uint32(3), jnp.int32(5), hyper, jnp.arange(6))
    large, smaller = augmented(context, pair, Examples(images, jnp.zeros(6, jnp.int32), 0), "real")
    assert np.abs(np.asarray(large) - images).max() > 0.5
    moved, still = np.asarray(large), np.asarray(images)
    for image, original, beside in zip(moved, still, np.asarray(smaller), strict=True):
        errors = []
        for top in range(-4, 5):
            for left in range(-4, 5):
                inside = np.s_[4 + top : 28 + top, 4 + left : 28 + left]
                errors.append((np.abs(image[inside] - original[4:28, 4:28]).max(), top, left))
        worst, top, left = min(errors)
        assert worst < 1e-6
        # Of a move of whole pixels of the smaller one, it is that of the means; of others between two of these.
        means = np.roll(original, (top, left), (0, 1)).reshape(16, 2, 16, 2, 1).mean((1, 3))
        if top % 2 == left % 2 == 0:
            assert_allclose(beside[4:12, 4:12], means[4:12, 4:12], atol=1e-5)


def test_trials_of_a_sweep_are_one_program() -> None:
    """GANs of equal configs are equal: what their tasks are made of compares."""
    for name in ("fastgan", "progan"):
        config = small(name)
        config.augment.pseudo = 0.2
        first, second = build_gan(config)[0], build_gan(config)[0]
        assert first == second
        assert hash(first) == hash(second)
        config.augment.pseudo = 0.0
        assert build_gan(config)[0] != first
