"""Images that aren't square, by every family: no axis passes for another, and only starts and ends are longer."""

import importlib
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from numpy.testing import assert_allclose, assert_array_equal

from gan_jax import layers
from gan_jax.build import build_gan, build_stages
from gan_jax.core.gan import GAN, images_of
from gan_jax.core.networks import call
from gan_jax.core.state import init_state
from gan_jax.ops.resample import squared
from gan_jax.util.errors import UserError
from tests.helpers import QUICKLY, small

Array = jax.Array
# Of each family, whether its discriminator sees its last map whole, by a dense layer or the like; else it sees sums.
FAMILIES = {
    "dcgan": True,
    "sagan": False,
    "biggan": False,
    "biggan:cifar10_deep": False,
    "progan": True,
    "r3gan": True,
    "stylegan2": True,
    "fastgan": False,
}


def of_shape(name: str, height: int, width: int) -> ConfigDict:
    """A narrow config for images of that shape, whose shorter side is 32."""
    config = small(name)
    config.data.image_size, config.data.image_width = height, width
    for player in (config.generator, config.discriminator):
        if player.get("attention"):
            player.attention = 16
        if "spectral" in player:
            player.spectral = False
    if config.model == "r3gan":
        for player, widths in ((config.generator, (8, 6, 4, 4)), (config.discriminator, (4, 4, 6, 8))):
            player.update({"widths": widths, "blocks": (1,) * 4, "groups": (2,) * 4})
    if config.model == "stylegan2":
        config.generator.channel_base = config.discriminator.channel_base = 64
    return config


def judged(gan: GAN, variables: Any, images: Any, keys: Any) -> Any:
    label = jnp.zeros(2, jnp.int32)
    return call(gan.discriminator, variables, images, train=False, label=label, keys=keys).logits


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_start_and_the_end_are_longer(name: str) -> None:
    """Half as long again where the images are; a discriminator takes images of its own shape alone."""
    found = []
    for width in (48, 32):
        gan, hyper = build_gan(of_shape(name, 32, width))
        state = jax.eval_shape(lambda gan=gan, hyper=hyper: init_state(gan, 0, hyper))
        found.append([flatten_dict(own.params, sep=".") for own in (state.generator, state.discriminator)])
        if width == 48:
            keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
            square = jax.ShapeDtypeStruct((2, 32, 32, gan.image_shape[-1]), np.float32)
            if FAMILIES[name]:
                with pytest.raises(ScopeParamShapeError):
                    jax.eval_shape(lambda *a, gan=gan: judged(gan, *a), state.discriminator.variables, square, keys)
    for long, square, whole in zip(*found, (True, FAMILIES[name]), strict=True):
        assert long.keys() == square.keys()
        sizes = {key: (math.prod(long[key].shape), math.prod(square[key].shape)) for key in long}
        unlike = {key: of for key, of in sizes.items() if of[0] != of[1]}
        assert bool(unlike) == whole
        assert all(2 * larger == 3 * smaller for larger, smaller in unlike.values()), unlike


def transposed(leaves: dict[str, Array], start: int, features: int) -> dict[str, Array]:
    """Variables of a network of wide images as those of one of high ones.

    ``start`` is the height of the map that a dense layer makes or sees, and ``features`` are its channels.
    """
    found = {}
    for key, x in leaves.items():
        first = key in ("params.Dense_0.kernel", "params.Dense_0.bias", "params.start.kernel", "params.dense.kernel")
        if key.endswith("const") and key.startswith("params."):
            x = x.swapaxes(1, 2)
        elif x.ndim in (3, 4):
            x = x.swapaxes(0, 1)
        elif first and x.shape[-1] > 2 * features:  # a generator's: height, width and channels behind each other
            x = x.reshape(-1, start, x.shape[-1] // start // features, features).swapaxes(1, 2).reshape(x.shape)
        elif first and x.ndim == 2 and len(x) > 2 * features:
            x = x.reshape(start, -1, features, x.shape[1]).swapaxes(0, 1).reshape(x.shape)
        found[key] = x
    return found


@pytest.mark.parametrize(
    "name",
    [name if name in ("dcgan", "stylegan2") else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_a_transposed_network_makes_and_judges_transposed_images(name: str) -> None:
    keys, z = jax.random.split(jax.random.key(0), 2), np.random.default_rng(1).normal(size=(2, 9))

    def both(gan: GAN, variables: Any, image: Any) -> Any:
        told: dict[str, Any] = {"train": False, "label": jnp.zeros(2, jnp.int32), "keys": keys}
        told |= {"noise_mode": "none"} if name in ("stylegan2", "fastgan") else {}
        made = images_of(call(gan.generator, variables[0], jnp.asarray(z[:, : gan.latent_dim], np.float32), **told))
        return made, judged(gan, variables[1], image, keys)

    wide, hyper = build_gan(of_shape(name, 32, 48))
    high, _ = build_gan(of_shape(name, 48, 32))
    state = jax.eval_shape(lambda: init_state(wide, 0, hyper))
    rng = np.random.default_rng(0)
    scale = 1.0 if name in ("progan", "stylegan2") else 0.1  # theirs are scaled when they are used
    own, other = [], []
    for player in (state.generator, state.discriminator):
        leaves = flatten_dict(player.variables, sep=".")
        leaves = {key: np.float32(rng.normal(0.5 if "var" in key else 0, scale, x.shape)) for key, x in leaves.items()}
        start, features = START.get(name.partition(":")[0], (4, 6))
        own.append(unflatten_dict(leaves, sep="."))
        other.append(unflatten_dict(transposed(leaves, start, features), sep="."))
    image = rng.uniform(-1, 1, (2, *wide.image_shape)).astype(np.float32)
    one = jax.jit(partial(both, wide), compiler_options=QUICKLY)(own, image)
    two = jax.jit(partial(both, high), compiler_options=QUICKLY)(other, image.swapaxes(1, 2))
    for a, b in zip((one[0], one[1]), (two[0].swapaxes(1, 2), two[1]), strict=True):
        if name == "fastgan" and a is one[1]:  # parts of an image, which count alike
            a, b = np.sort(a, 1), np.sort(b, 1)
        assert np.abs(a).max() > 1e-3
        assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(np.abs(a).max()))


START = {"dcgan": (8, 16), "sagan": (8, 4), "biggan": (8, 8)}  # height and channels of the map beside a dense layer


def test_maps_double_to_what_holds_the_image() -> None:
    assert layers.sides((28, 42, 1), 3) == [(4, 6), (7, 11), (14, 21), (28, 42)]
    assert layers.grown((64, 96, 3), 4) == [(4, 6), (8, 12), (16, 24), (32, 48), (64, 96)]
    assert layers.grown((42, 28, 3), 3)[-1] == (48, 32)
    assert layers.grown((28, 28, 1), 3)[-1] == (32, 32)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 7, 10, 1))
    framed = np.asarray(layers.framed(jnp.asarray(images), 8, 16))
    assert_array_equal(framed[:, :7, 3:13], np.float32(images))
    assert framed.sum() == pytest.approx(np.float32(images).sum() - 2 * (8 * 16 - 70), rel=1e-4)
    assert_array_equal(layers.cropped(jnp.asarray(framed), 7, 10), np.float32(images))


def test_a_map_becomes_square_by_pytorchs_adaptive_means() -> None:
    for height, width in ((4, 6), (8, 12), (7, 4)):
        x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
        rows, columns = ([slice(i * n // 4, math.ceil((i + 1) * n / 4)) for i in range(4)] for n in (height, width))
        desired = np.stack([np.stack([x[:, r, c].mean((1, 2)) for c in columns], 1) for r in rows], 1)
        assert_allclose(squared(jnp.asarray(x), 4), desired, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dcgan", "64x96"),
        ("sngan", "96x64"),
        ("dcgan", "56x64"),
        ("r3gan", "56x100"),
        ("stylegan2", "48x65"),
        ("gan", "5x9"),
    ],
)
def test_a_preset_takes_height_and_width(name: str, shape: str) -> None:
    config = importlib.import_module(f"configs.{name}").get_config(f"folder@{shape}")
    *_, (_, gan, _) = build_stages(config)
    assert "x".join(map(str, gan.image_shape[:2])) == shape


def test_a_growing_network_keeps_its_proportions() -> None:
    planned = build_stages(importlib.import_module("configs.progan").get_config("folder@64x32"))
    found = [gan.image_shape[:2] for _, gan, _ in planned]
    assert found == [(8, 4), *(2 * [(16, 8)]), *(2 * [(32, 16)]), *(2 * [(64, 32)])]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "dcgan:folder@48x64",
            "images of side 28, 32, 64, 128, none for 48: choose one of those sides for",
        ),
        ("dcgan:folder@64x", "behind the @ stands the images' side in pixels, e.g. folder@128, or folder@64x96"),
        ("progan:folder@64x72", "where that is 64, the longer one is a multiple of 16, not 72: e.g. folder@64x96"),
        ("fastgan:folder@64x95", "FastGAN makes images whose sides 2 divides, not of 64x95"),
        ("fastgan:folder@48x64", "FastGAN makes images of sides 28, 32, 64 and so on to 1024, not of 48x64"),
        ("biggan:folder@64x90", "attention takes 2x2 pixels together and an eighth of the channels: not of 32x45"),
    ],
)
def test_shapes_that_a_family_cannot_make_are_one_line(name: str, message: str) -> None:
    file, preset = name.split(":")
    with pytest.raises(UserError) as error:
        build_gan(importlib.import_module(f"configs.{file}").get_config(preset))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
