"""ADA's transforms against NumPy and SciPy: each by itself, their order, how often and how far they go."""

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, stats

from gan_jax.build import build_gan
from gan_jax.core import ada
from gan_jax.core.update import update
from gan_jax.ops import warp
from gan_jax.util.errors import UserError
from tests.helpers import QUICKLY, small, start

Array = jax.Array
EVERY = [name for names in ada.GROUPS.values() for name in names]
IMAGE = np.random.default_rng(0).uniform(-1, 1, (12, 10, 3))
SYM6 = np.array(
    [
        *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466),
        *(0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578),
        *(0.0017677118642428036, -0.007800708325034148),
    ]
)


def by_hand(image: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The warp by NumPy's padding and convolution and SciPy's bilinear sampling: 40 pixels of reflection."""
    pad, taps = 40, SYM6 / SYM6.sum()

    def along(x: np.ndarray, axis: int) -> np.ndarray:
        wide = np.zeros((2 * x.shape[axis], *np.delete(x.shape, axis)))
        wide[::2] = np.moveaxis(x, axis, 0)
        spread = np.apply_along_axis(lambda line: np.convolve(line, 2 * taps)[5 : 5 + len(line)], 0, wide)
        return np.moveaxis(spread, 0, axis)

    height, width, channels = image.shape
    fine = along(along(np.pad(image, ((pad, pad), (pad, pad), (0, 0)), "reflect"), 0), 1)
    y, x = (np.arange(-5, 2 * side + 5) - (side - 1) for side in (height, width))  # half pixels from the centre
    places = np.stack(np.meshgrid(x / 2, y / 2))
    at = np.einsum("ij,jhw->ihw", inverse[:, :2], places) + inverse[:, 2, None, None]
    rows, columns = (2 * (at[i] + (side - 1) / 2 + pad) for i, side in ((1, height), (0, width)))
    planes = [ndimage.map_coordinates(fine[..., c], [rows, columns], order=1) for c in range(channels)]
    seen = np.stack(planes, -1)
    for axis in (0, 1):
        seen = np.apply_along_axis(lambda line: np.convolve(line, taps[::-1], "valid")[::2], axis, seen)
    return seen


def test_a_warp_is_what_filters_and_bilinear_sampling_make() -> None:
    """Turned, stretched and moved far, so that much of what is seen lies beyond the borders."""
    with jax.enable_x64(True):
        seen = jax.jit(warp.warp, compiler_options=QUICKLY)
        for angle, stretch, move in ((0.0, 1.0, (0, 0)), (0.7, 1.4, (2.3, -1.7)), (-2.1, 0.6, (-4.5, 5.2))):
            turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
            inverse = np.concatenate([turn @ np.diag([stretch, 1 / stretch]), np.array(move)[:, None]], 1)
            found = seen(jnp.asarray(IMAGE), jnp.asarray(inverse))
            assert_allclose(found, by_hand(IMAGE, inverse), atol=1e-12)
        assert_allclose(seen(jnp.asarray(IMAGE), jnp.asarray([[1.0, 0, 0], [0, 1, 0]])), IMAGE, atol=1e-12)
        right = seen(jnp.asarray(IMAGE), jnp.asarray([[1.0, 0, -3], [0, 1, 0]]))  # the content goes right
        assert_allclose(right, np.pad(IMAGE, ((0, 0), (3, 0), (0, 0)), "reflect")[:, :10], atol=1e-12)


def test_a_warp_and_its_adjoint_are_each_others_derivatives() -> None:
    with jax.enable_x64(True):
        inverse, random = jnp.asarray([[0.8, 0.5, 1.3], [-0.6, 0.9, -2.2]]), np.random.default_rng(1)
        x, y, w = (jnp.asarray(random.normal(size=(6, 5, 2))) for _ in range(3))

        def loss(x: Array) -> Array:
            return (jnp.tanh(warp.warp(x, inverse)) * y).sum()

        def pushed(x: Array) -> Array:
            return jnp.vdot(jax.grad(loss)(x), w)

        value, along = (jax.jit(f, compiler_options=QUICKLY) for f in (loss, pushed))
        gradient, step = jax.jit(jax.grad(loss), compiler_options=QUICKLY), 1e-5
        assert_allclose(jnp.vdot(gradient(x), w), (value(x + step * w) - value(x - step * w)) / (2 * step), rtol=1e-7)
        second = jnp.vdot(jax.jit(jax.grad(pushed), compiler_options=QUICKLY)(x), y)
        assert_allclose(second, (along(x + step * y) - along(x - step * y)) / (2 * step), rtol=1e-6)


@partial(jax.jit, static_argnames="names", compiler_options=QUICKLY)
def _made(image: Array, draws: ada.Draws, names: tuple[str, ...]) -> Array:
    return ada.transformed(image, draws, jax.random.key(3), names)


def made(group: str, image: np.ndarray, **draws: Any) -> np.ndarray:
    """What the transforms of a group make of an image."""
    given = ada.Draws(*map(jnp.asarray, ada.Draws(**draws)))
    return np.asarray(_made(jnp.asarray(image, jnp.float32), given, ada.GROUPS[group]))


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([np.cos(np.pi * y / (height - 1)), np.sin(x / 5 + y / 9), np.cos(x / 7) * y / 20], -1)


def test_the_geometry_of_each_transform_is_what_its_name_says() -> None:
    image = smooth(24, 24)
    inside = (slice(5, -5), slice(5, -5))
    for draws, desired in (
        ({"mirrored": True}, image[:, ::-1]),
        ({"quarters": 1}, np.rot90(image, -1)),  # from x to y, which points down: clockwise
        ({"before": math.pi / 2}, np.rot90(image, -1)),
        ({"quarters": 3, "after": math.pi}, np.rot90(image, -1)),
        ({"shift": (2.0, -3.0)}, np.roll(image, (-3, 2), (0, 1))),
        ({"fraction": (-1.0, 2.0)}, np.roll(image, (2, -1), (0, 1))),
    ):
        assert_allclose(made("geom", image, **draws)[inside], desired[inside], atol=0.03, err_msg=str(draws))
    place = np.arange(24) - 11.5
    for factors, x, y in (({"scale": 1.5}, 1.5, 1.5), ({"aspect": 1.25}, 1.25, 0.8), ({"scale": 2, "aspect": 2}, 4, 1)):
        at = np.meshgrid(place / y + 11.5, place / x + 11.5, indexing="ij")
        desired = np.stack([ndimage.map_coordinates(image[..., c], at, order=3) for c in range(3)], -1)
        assert_allclose(made("geom", image, **factors)[inside], desired[inside], atol=0.03, err_msg=str(factors))


def test_an_image_that_isnt_square_turns_by_pixels_and_moves_by_its_sides() -> None:
    """Wide and high ones against NumPy and SciPy, within float32; the authors' matrices, in pixels from the centre."""
    cosine, sine = math.cos(0.6), math.sin(0.6)
    turn = np.array([[cosine, sine], [-sine, cosine]])  # back
    for height, width in ((10, 24), (24, 10)):
        image = np.random.default_rng(0).uniform(-1, 1, (height, width, 3))
        for draws, matrix, move in (
            ({"before": 0.6}, turn, (0, 0)),
            ({"quarters": 1}, np.array([[0, 1], [-1, 0]]), (0, 0)),
            ({"aspect": 1.5, "fraction": (3.0, -1.25)}, np.diag([1 / 1.5, 1.5]), (-3.0 / 1.5, 1.25 * 1.5)),
        ):
            inverse = np.concatenate([matrix, np.array(move)[:, None]], 1)
            assert_allclose(made("geom", image, **draws), by_hand(image, inverse), atol=1e-4, err_msg=str(draws))
    chances = {"shift": 1.0, "fraction": 1.0}
    blank, keys = jnp.zeros((16, 64, 1)), jax.random.split(jax.random.key(0), 400)
    drawn = jax.jit(jax.vmap(lambda key: ada.draw(key, chances, blank)), compiler_options=QUICKLY)(keys)
    assert_array_equal(np.abs(drawn.shift).max(0), [8, 2])  # eighths of width and height
    assert_allclose(np.std(drawn.fraction, 0), [8, 2], rtol=0.12)


def test_transforms_follow_each_other_in_the_papers_order() -> None:
    """The inverse of the product of all matrices, each new one on the left."""
    draws = {"mirrored": True, "quarters": 1, "shift": (2.0, -1.0), "scale": 1.3, "before": 0.4, "aspect": 0.8}
    draws |= {"after": -1.1, "fraction": (0.7, 1.9)}

    def turn(angle: float) -> np.ndarray:
        c, s = math.cos(angle), math.sin(angle)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def move(x: float, y: float) -> np.ndarray:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    steps = [np.diag([-1, 1, 1]), turn(math.pi / 2), move(2, -1), np.diag([1.3, 1.3, 1]), turn(0.4)]
    steps += [np.diag([0.8, 1 / 0.8, 1]), turn(-1.1), move(0.7, 1.9)]
    found = np.eye(3)
    for step in steps:
        found = step @ found
    assert_allclose(ada.inverse(ada.Draws(**draws), jnp.float32), np.linalg.inv(found)[:2], atol=1e-5)


def test_colours_are_the_product_of_five_matrices() -> None:
    draws = {"brightness": 0.3, "contrast": 1.4, "negative": True, "hue": 0.9, "saturation": 0.6}
    v = np.array([1, 1, 1, 0]) / math.sqrt(3)
    along = np.outer(v, v)
    cross = np.array([[0, -1, 1, 0], [1, 0, -1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]]) / math.sqrt(3)
    kept = np.diag([0.0, 0, 0, 1])
    bright = np.eye(4)
    bright[:3, 3] = 0.3
    across = np.eye(4) - along - kept
    hue = kept + along + math.cos(0.9) * across + math.sin(0.9) * cross
    saturation = kept + along + 0.6 * across
    matrix = saturation @ hue @ (np.eye(4) - 2 * along) @ np.diag([1.4, 1.4, 1.4, 1]) @ bright
    desired = np.concatenate([IMAGE, np.ones((12, 10, 1))], -1) @ matrix.T
    assert_allclose(made("color", IMAGE, **draws), desired[..., :3], atol=1e-6)
    row = matrix[:3].mean(0)
    grey = IMAGE[..., :1]
    assert_allclose(made("color", grey, **draws), row[:3].sum() * grey + row[3], atol=1e-6)
    two = made("color", IMAGE[..., :2], **draws | {"hue": 0.0})  # of other numbers of channels only hue isn't known
    assert_array_equal(two, made("color", IMAGE[..., :2], **draws))


def test_bands_are_built_of_sym2_and_amplify_their_frequencies() -> None:
    s = np.array([-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025])
    low, high = np.convolve(s, s[::-1]) / 2, np.convolve(s * [1, -1, 1, -1], (s * [1, -1, 1, -1])[::-1]) / 2
    wide = np.zeros(13)
    wide[::2] = high
    second = np.convolve(wide, low)  # twice as far down: the band below the highest
    bank = np.array(ada.bank())
    assert bank.shape == (4, 43)
    assert_allclose(bank[3, 18:25], high, atol=1e-15)
    assert_allclose(bank[2, 12:31], second, atol=1e-15)
    assert_allclose(bank.sum(0), np.eye(43)[21], atol=1e-12)
    gains = np.array([0.5, 1.5, 2.0, 0.7])
    found = made("filter", IMAGE, gains=gains)
    desired = IMAGE
    for axis in (0, 1):
        desired = ndimage.convolve1d(desired, gains @ bank, axis, mode="mirror")
    assert_allclose(found, desired, atol=1e-5)


def test_noise_and_cutout() -> None:
    image = np.full((64, 48, 3), 0.5)
    noisy = made("noise", image, noise=0.2) - image
    assert 0.195 < noisy.std() < 0.205
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.06
    cut = made("cutout", image, cut=True, centre=(0.25, 0.9))
    desired = image.copy()
    desired[42:, :24] = 0  # (i + .5) / 64 > .65, (j + .5) / 48 < .5
    assert_array_equal(cut, desired)


@cache
def drawn(p: float, count: int = 20000) -> ada.Draws:
    keys = jax.random.split(jax.random.key(7), count)
    image = jnp.zeros((16, 32, 3))
    numbers = {"p": p, "ada": dict.fromkeys(ada.GROUPS, 1.0) | {"color": 0.5, "cutout": 2.0}}
    chances = ada.Ada(tuple(EVERY)).chances(numbers)
    draw = jax.jit(jax.vmap(lambda key: ada.draw(key, chances, image)), compiler_options=QUICKLY)
    found: ada.Draws = jax.device_get(draw(keys))
    return found


def near(share: float, chance: float, count: int = 20000) -> bool:
    return bool(abs(share - chance) < 4.5 * math.sqrt(chance * (1 - chance) / count))


def test_each_transform_happens_as_often_and_goes_as_far_as_published() -> None:
    found, p = drawn(0.4), 0.4
    turned = 1 - math.sqrt(1 - p)  # each of two turns, so that either happens with p
    assert near(found.mirrored.mean(), p / 2)
    assert all(near((found.quarters == i).mean(), p / 4) for i in (1, 2, 3))
    assert near((found.before != 0).mean(), turned)
    assert near((found.after != 0).mean(), turned)
    assert near(((found.before != 0) | (found.after != 0)).mean(), p)
    assert near((found.brightness != 0).mean(), p / 2)
    assert near(found.negative.mean(), p / 4)
    assert near((found.hue != 0).mean(), p / 2)
    assert near(found.cut.mean(), 2 * p)
    for x, size in ((found.shift[:, 0], 4), (found.shift[:, 1], 2)):  # an eighth of 32 and 16; ends half as often
        happened = [(x == i).mean() for i in range(-size, size + 1)]
        desired = [p / (2 * size) / (2 if abs(i) == size else 1) + (1 - p) * (i == 0) for i in range(-size, size + 1)]
        assert all(map(near, happened, desired))
        assert np.abs(x).max() == size
    logs = {"scale": 0.2, "aspect": 0.2, "contrast": 0.5, "saturation": 1.0}
    for name, deviation in logs.items():
        value = np.log2(getattr(found, name))
        assert near((value != 0).mean(), p / (2 if name in ("contrast", "saturation") else 1))
        assert stats.kstest(value[value != 0] / deviation, "norm").pvalue > 1e-4
    for value, deviation in ((found.brightness, 0.2), (found.fraction[:, 0], 4), (found.fraction[:, 1], 2)):
        assert stats.kstest(value[value != 0] / deviation, "norm").pvalue > 1e-4
    assert stats.kstest(found.noise[found.noise != 0] / 0.1, "halfnorm").pvalue > 1e-4
    for angle in (found.before, found.after, found.hue):
        assert stats.kstest(angle[angle != 0] / math.pi / 2 + 0.5, "uniform").pvalue > 1e-4
    assert stats.kstest(found.centre.ravel(), "uniform").pvalue > 1e-4


def test_gains_of_bands_keep_the_power_of_a_natural_image() -> None:
    gains, power = drawn(0.4).gains, np.array([10, 1, 1, 1]) / 13
    assert near((gains == 1).all(1).mean(), 0.6**4)
    # Band 3 alone: what all others have in common is the normalisation.
    alone = (gains[:, 0] == gains[:, 1]) & (gains[:, 0] == gains[:, 2]) & (gains[:, 3] != gains[:, 0])
    assert near(alone.mean(), 0.4 * 0.6**3)
    assert_allclose((gains[alone] ** 2 * power).sum(1), 1, rtol=1e-5)
    ratio = np.log2(gains[alone, 3] / gains[alone, 0])
    assert stats.kstest(ratio, "norm").pvalue > 1e-4


def test_a_chance_of_0_leaves_images_as_they_are_to_the_bit() -> None:
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (8, 9, 11, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 8)
    one = ada.Ada(tuple(EVERY))
    factors = dict.fromkeys(ada.GROUPS, 1.0)
    each = jax.vmap(lambda image, key, p: one.apply(image, key, {"p": p, "ada": factors}), (0, 0, None))
    apply = jax.jit(each, compiler_options=QUICKLY)
    assert_array_equal(apply(images, keys, 0.0), images)
    assert (np.asarray(apply(images, keys, 1.0)) != np.asarray(images)).any((1, 2, 3)).all()
    some = np.asarray(apply(images, keys, 0.1))
    among_others = np.asarray(apply(images.at[1::2].set(0.3), keys, 0.1))
    assert_array_equal(among_others[::2], some[::2])  # no image depends on others
    assert 0 < (some != np.asarray(images)).any((1, 2, 3)).sum() < 8


def test_a_config_says_which_transforms_there_are_and_what_is_off_is_not_computed() -> None:
    config = small("dcgan")
    config.augment.name, config.augment.p = "ada", 0.2
    config.augment.ada.update({"color": 0.5, "cutout": 1.0, "without": "rotate90, luma"})  # as R3GAN, but for two
    gan, hyper = build_gan(config)
    (one,) = gan.augment.functions
    assert isinstance(one, ada.Ada)
    left_out = {"rotate90", "luma", "filter", "noise"}
    assert set(one.transforms) == set(EVERY) - left_out
    assert_allclose([float(chance) for chance in one.chances(hyper["augment"]).values()], [0.2] * 6 + [0.1] * 4 + [0.2])
    image = jnp.zeros((16, 16, 1))

    def operations(**factors: float) -> str:
        config.augment.ada.update({**dict.fromkeys(ada.GROUPS, 0.0), **factors})
        gan, hyper = build_gan(config)
        return str(jax.make_jaxpr(partial(gan.augment, numbers=hyper["augment"]))(image, jax.random.key(0)))

    assert "gather" in operations(blit=1.0)
    assert "gather" not in operations(color=1.0, cutout=1.0)
    for key, value, said in (("p", 1.0, "schedules.augment.kind=ada"), ("ada.without", "flop", "flip")):
        config.augment.update_from_flattened_dict({key: value})
        with pytest.raises(UserError, match=said):
            build_gan(config)


def test_gradients_of_gradients_go_through_it() -> None:
    """R1 is a gradient with respect to the images before augmentation, and D learns by its gradient."""
    config = small("gan")
    config.batch_size, config.data.image_size = 4, 8
    config.augment.name, config.schedules.augment.kind = "ada", "ada"
    config.terms.r1.weight = 1.0
    config.schedules.augment.update({"every": 1.0, "length": 2.0, "target": -2.0})
    gan, state, batch = start(config)
    step = jax.jit(partial(update, gan), compiler_options=QUICKLY)
    for expected in (0.5, 1.0):
        state, metrics = step(state, batch)
        assert_allclose(state.memory["schedules"]["augment"]["p"], expected)
        assert all(np.isfinite(value) for value in metrics.values())
    assert float(metrics["d_r1"]) > 0
