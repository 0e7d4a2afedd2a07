"""What whole numbers of 8 and 16 bits are in networks, to people, and to networks of three channels."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import ada, augment
from gan_jax.core.pixels import Pixels, chequerboard, to_float
from gan_jax.data.options import Options
from gan_jax.evaluate import perceptual, seen, vgg
from tests.helpers import data_options

WIDE = np.arange(2**16, dtype=np.uint16)
OVER = np.array([10.0, 100.0, 200.0])


def noise(*shape: int, seed: int = 0, kind: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, kind)


def consistent(*shape: int) -> np.ndarray:
    """RGBA of which no colour is brighter than its alpha."""
    image = noise(*shape, 4)
    image[..., :3] = np.minimum(image[..., :3], image[..., 3:])
    return image


@pytest.mark.parametrize("bits", [8, 16])
def test_every_whole_number_survives_the_networks_scale(bits: int) -> None:
    numbers = WIDE if bits == 16 else WIDE[:256].astype(np.uint8)
    scaled = np.asarray(to_float(numbers, jnp.float32))
    np.testing.assert_allclose(scaled, numbers.astype(float) / (numbers[-1] / 2) - 1, atol=1e-6)
    np.testing.assert_array_equal(Pixels(bits).whole(scaled), numbers)
    assert Pixels(bits).whole(np.array([-1.5, 1.5], np.float32)).tolist() == [0, int(numbers[-1])]


def test_a_window_of_greys_becomes_black_to_white_and_comes_back() -> None:
    np.testing.assert_array_equal(Pixels().windowed(WIDE), (WIDE.astype(int) + 128) // 257)  # as it always was
    assert Pixels().windowed(WIDE).dtype == np.uint8
    np.testing.assert_array_equal(Pixels(16).windowed(WIDE), WIDE)
    for low, high in ((300, 4000), (0, 4095), (5, 65535), (100, 101)):
        for bits, top in ((8, 255), (16, 65535)):
            exact = (np.clip(WIDE.astype(float), low, high) - low) / (high - low) * top
            found = Pixels(bits, "none", low, high).windowed(WIDE)
            np.testing.assert_array_equal(found, np.floor(exact + 0.5))
        pixels = Pixels(16, "none", low, high)
        np.testing.assert_array_equal(pixels.greys(pixels.windowed(WIDE)), np.clip(WIDE, low, high))
        assert pixels.greys(WIDE).dtype == np.uint16


@pytest.mark.parametrize("alpha", ["premultiplied", "straight"])
def test_transparent_images_are_seen_over_what_is_behind(alpha: str) -> None:
    image = consistent(5, 6)
    share = image[..., 3:] / 255
    colours = image[..., :3] * (share if alpha == "straight" else 1)
    expected = np.clip(colours + (1 - share) * OVER, 0, 255)
    found = np.asarray(Pixels(8, alpha).seen(image, OVER))
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, expected, atol=0.501)
    smooth = np.asarray(Pixels(8, alpha).seen(image.astype(np.float32), OVER))  # for distances, which have gradients
    np.testing.assert_allclose(smooth, expected, rtol=1e-5)
    wide = np.asarray(Pixels(16, alpha).seen(image.astype(np.uint16) * 257, OVER))
    np.testing.assert_array_equal(wide, found)


def test_of_other_channels_the_first_three_are_seen() -> None:
    seven, two = noise(2, 4, 4, 7), noise(2, 4, 4, 2)
    np.testing.assert_array_equal(Pixels().shown(seven), seven[..., :3])
    np.testing.assert_array_equal(Pixels().shown(noise(2, 4, 4, 4)), noise(2, 4, 4, 4)[..., :3])
    np.testing.assert_array_equal(Pixels().shown(two), two[..., [0, 1, 1]])
    for channels in (1, 3):
        image = noise(2, 4, 4, channels)
        assert Pixels().shown(image) is image
        wide = noise(2, 4, 4, channels, kind=np.uint16)
        np.testing.assert_array_equal(Pixels(16).shown(wide), (wide.astype(int) + 128) // 257)


def test_people_see_transparent_images_over_eight_squares_a_side() -> None:
    nothing, opaque = np.zeros((16, 32, 4), np.uint8), np.full((16, 32, 4), 255, np.uint8)
    shown = Pixels(8, "premultiplied").shown(nothing)
    assert shown.dtype == np.uint8
    squares = shown.reshape(8, 2, 16, 2, 3)
    assert (squares == squares[:, :1, :, :1]).all()  # of two pixels a side
    assert set(np.unique(shown)) == {102, 153}
    assert (squares[0, 0, :-1, 0] != squares[0, 0, 1:, 0]).all()
    assert (squares[:-1, 0, 0, 0] != squares[1:, 0, 0, 0]).all()
    np.testing.assert_array_equal(Pixels(8, "premultiplied").shown(opaque), 255)
    assert chequerboard(3, 3).shape == (3, 3, 1)


def test_straight_colours_are_those_that_were_multiplied() -> None:
    colours, alpha = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = np.stack([colours, colours, colours, alpha], -1).astype(np.uint8)
    image[..., :3] = np.minimum(image[..., :3], image[..., 3:])
    before = image.copy()
    straight = Pixels(8, "premultiplied").straight(image)
    np.testing.assert_array_equal(image, before)
    assert (straight[image[..., 3] == 0] == 0).all()
    np.testing.assert_array_equal(np.rint(straight[..., :3] * (alpha / 255)[..., None]), image[..., :3])
    np.testing.assert_array_equal(straight[..., 3], alpha)
    assert Pixels(8, "straight").straight(image) is image
    bright = np.array([[[9, 0, 0, 3]]], np.uint8)  # brighter than its alpha, as a network may draw it
    np.testing.assert_array_equal(Pixels(8, "premultiplied").straight(bright), [[[255, 0, 0, 3]]])


# --- augmentation: colours change, alpha doesn't ----------------------------------------------------------------------


def transparent() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Straight colours x and alpha a, both as numbers, and the image of either form in [-1, 1]."""
    rng = np.random.default_rng(0)
    x, share = rng.uniform(-1, 1, (6, 5, 3)), rng.uniform(0.05, 1, (6, 5, 1))
    share[0] = 0
    multiplied = 2 * share * (x + 1) / 2 - 1
    images = {"straight": np.concatenate([x, 2 * share - 1], -1)}
    return x, share, images | {"premultiplied": np.concatenate([multiplied, 2 * share - 1], -1)}


def expected(alpha: str, x: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.concatenate([x if alpha == "straight" else share * (x + 1) - 1, 2 * share - 1], -1)


@pytest.mark.parametrize("alpha", ["straight", "premultiplied"])
def test_diffaugments_color_is_that_of_the_straight_colours(alpha: str) -> None:
    x, share, images = transparent()
    key = jax.random.key(3)
    brightness, saturation, contrast = np.asarray(jax.random.uniform(key, (3,)))
    x = x + (brightness - 0.5)
    mean = x.mean(-1, keepdims=True)
    x = mean + 2 * saturation * (x - mean)
    mean = x.mean() if alpha == "straight" else (x * share).sum() / (3 * share.sum())
    x = mean + (contrast + 0.5) * (x - mean)
    found = augment.Color(alpha)(jnp.asarray(images[alpha], jnp.float32), key)
    np.testing.assert_allclose(found, expected(alpha, x, share), atol=1e-5)
    nothing = jnp.full((4, 4, 4), -1.0)  # has no mean
    assert np.isfinite(augment.Color(alpha)(nothing, key)).all()


@pytest.mark.parametrize("alpha", ["straight", "premultiplied"])
def test_adas_colours_are_those_of_the_straight_colours(alpha: str) -> None:
    x, share, images = transparent()
    draws = ada.Draws(brightness=0.3, contrast=1.4, negative=True, hue=0.7, saturation=0.6)
    changed = np.asarray(ada.coloured(jnp.asarray(x, jnp.float32), draws))
    found = ada.transformed(jnp.asarray(images[alpha], jnp.float32), draws, jax.random.key(0), ("hue",), alpha)
    np.testing.assert_allclose(found, expected(alpha, changed, share), atol=1e-5)


def test_what_an_augmentation_is_told_of_alpha_makes_equal_gans() -> None:
    assert augment.Color("straight") == augment.Color("straight") != augment.Color("premultiplied")
    assert hash(ada.Ada(("hue",), "straight")) == hash(ada.Ada(("hue",), "straight"))


# --- what networks of three channels see ------------------------------------------------------------------------------


def options(channels: int, **changed: Any) -> Options:
    return data_options(channels=channels, source="npz", **changed)


def test_features_say_which_channels_they_see() -> None:
    assert seen.of(options(1)) is None
    assert seen.of(options(3)) is None
    said = {
        ":8bit": options(1, bits=16),
        ":channels1,2,2": options(2),
        ":channels1-3": options(7),
        ":channels1-3:8bit": options(7, bits=16),
        ":over-white": options(4, alpha="premultiplied"),
        ":over-102030": options(4, alpha="straight", background="#102030"),
    }
    for suffix, asked in said.items():
        assert seen.suffix(seen.of(asked)) == suffix
    assert seen.suffix(seen.of(options(4))) == ":channels1-3"  # arrays, of which nobody said that they are RGBA
    assert seen.suffix(seen.of(dataclasses.replace(options(4), source="folder"))) == ":over-white"


def test_distances_see_all_channels_by_pixels_and_three_by_networks() -> None:
    asked = options(4, alpha="premultiplied")
    distance, eyes = perceptual.random(seen.of(asked)), Pixels(8, "premultiplied")
    x, y = (jnp.asarray(consistent(1, 16, 16), jnp.float32) + i for i in (0, 3))
    both = [np.asarray(eyes.seen(image, np.full(3, 255.0))) for image in (x, y)]
    expected = perceptual.pixels().apply((), x, y) + perceptual.between(distance.variables, *map(jnp.asarray, both))
    np.testing.assert_allclose(distance.apply(distance.variables, x, y), expected, rtol=1e-5)
    assert distance.apply == perceptual.random(seen.of(asked)).apply  # so that nothing compiles twice
    assert distance.name.endswith(":over-white")


def test_random_features_are_those_of_the_composite() -> None:
    from gan_jax.evaluate.extractors import _random

    image = consistent(2, 8, 8)
    found = _random(seen.of(options(4, alpha="premultiplied")))
    share = image[..., 3:] / 255.0
    composite = np.rint(np.clip(image[..., :3] + (1 - share) * 255, 0, 255)).astype(np.uint8)
    features, _ = found.apply(found.variables, jnp.asarray(image))
    np.testing.assert_allclose(features, vgg.apply(vgg.weights(), jnp.asarray(composite))[0], rtol=1e-5)
