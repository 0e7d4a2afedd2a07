"""Augmentations against NumPy, and in their place in the update."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.build import build_gan
from gan_jax.core import augment
from gan_jax.core.augment import Array
from gan_jax.core.gan import Context, Examples, Generated
from gan_jax.core.state import init_state
from gan_jax.core.update import update
from gan_jax.util.errors import UserError
from tests.helpers import small, start


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


def test_color_is_brightness_saturation_contrast_in_the_papers_ranges() -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (6, 5, 3))
    keys = jax.random.split(jax.random.key(0), 2000)
    draws = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys), np.float64)
    out = np.asarray(jax.vmap(lambda key: augment.color(jnp.asarray(image, jnp.float32), key))(keys))
    for (b, s, c), actual in zip(draws[:50], out[:50], strict=True):
        x = image + b - 0.5
        x = (x - x.mean(2, keepdims=True)) * (2 * s) + x.mean(2, keepdims=True)
        x = (x - x.mean()) * (c + 0.5) + x.mean()
        np.testing.assert_allclose(actual, x, atol=1e-5)
    # And without knowing of the draws: what the three leave of mean, saturation and contrast.
    shift = out.mean((1, 2, 3)) - image.mean()
    assert abs(shift.mean()) < 0.03
    assert -0.5 <= shift.min() < -0.48 < 0.48 < shift.max() <= 0.5
    grey = np.asarray(jax.vmap(lambda key: augment.color(jnp.asarray(image[..., :1], jnp.float32), key))(keys))
    contrast = grey.std((1, 2, 3)) / image[..., :1].std()
    assert 0.5 - 1e-4 <= contrast.min() < 0.52 < 1.48 < contrast.max() <= 1.5 + 1e-4


def test_cutout_cuts_half_of_each_side_wherever_its_centre_falls() -> None:
    for height, width in ((8, 8), (6, 10), (7, 5)):
        cuts = [int(side / 2 + 0.5) for side in (height, width)]
        keys = jax.random.split(jax.random.key(1), 4000)
        out = np.asarray(jax.vmap(lambda key, h=height, w=width: augment.cutout(jnp.ones((h, w, 2)), key))(keys))
        np.testing.assert_array_equal(out[..., 0], out[..., 1])
        counts: dict[tuple[tuple[int, ...], ...], int] = {}
        for image in out[..., 0]:
            rows, columns = np.flatnonzero((image == 0).any(1)), np.flatnonzero((image == 0).any(0))
            desired = np.ones_like(image)
            desired[np.ix_(rows, columns)] = 0
            np.testing.assert_array_equal(image, desired)
            where = (tuple(rows.tolist()), tuple(columns.tolist()))
            counts[where] = counts.get(where, 0) + 1
        # The paper's code, by hand: a centre from 0 to side - (cut odd), the rectangle about it cut off at the borders.
        expected = set()
        for top in range(height + 1 - cuts[0] % 2):
            for left in range(width + 1 - cuts[1] % 2):
                at = (top - cuts[0] // 2, left - cuts[1] // 2)
                expected.add((inside(at[0], cuts[0], height), inside(at[1], cuts[1], width)))
        assert set(counts) == expected
        mean = 4000 / len(expected)
        assert all(abs(count - mean) < 5 * mean**0.5 for count in counts.values())


def inside(start: int, count: int, side: int) -> tuple[int, ...]:
    return tuple(i for i in range(start, start + count) if 0 <= i < side)


def test_augmentations_can_be_chained_each_with_its_own_key() -> None:
    config = small("dcgan")
    config.augment.name = "color, translation,cutout"
    chained = build_gan(config)[0].augment
    image, key = jax.random.uniform(jax.random.key(0), (16, 16, 3)), jax.random.key(5)
    desired = image
    for i, one in enumerate((augment.color, augment.translation, augment.cutout)):
        desired = one(desired, jax.random.fold_in(key, i))
    np.testing.assert_array_equal(chained(image, key), desired)
    assert chained == build_gan(config)[0].augment
    gradient = jax.grad(lambda x: jnp.square(chained(x, key)).sum())(image)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_gradients_move_back() -> None:
    image = jnp.ones((8, 8, 1))
    key = jax.random.key(3)
    weights = jax.random.normal(jax.random.key(1), image.shape)
    gradient = jax.grad(lambda x: (augment.translation(x, key) * weights).sum())(image)
    back = {(r, c): moved(np.asarray(weights), r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    assert any((np.where(b == -1, 0, b) == np.asarray(gradient)).all() for b in back.values())


def test_a_share_of_the_reals_are_images_of_g() -> None:
    """APA: by each example's own draw, whatever its batch; with a chance of 1 D is shown nothing else."""
    config = small("gan")
    config.augment.pseudo, config.batch_size = 0.25, 4000
    gan, hyper = build_gan(config)
    ones = jnp.ones((4000, 28, 28, 1))

    def shown(examples: slice) -> Array:
        index = jnp.arange(4000)[examples]
        context = Context(gan, jnp.uint32(0), jnp.int32(3), hyper, index)
        made = Generated(-ones[examples])
        real: Array = gan.task.real(context, Examples(ones[examples], jnp.zeros_like(index), 0), made)
        assert (real == real[:, :1, :1]).all()  # whole images
        return real[:, 0, 0, 0]

    every = shown(slice(None))
    assert set(np.unique(every)) == {-1, 1}
    assert abs(float((every < 0).mean()) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert (shown(slice(1000, 2000)) == every[1000:2000]).all()

    config.augment.pseudo, config.batch_size = 1.0, 16
    gan, state, batch = start(config)
    _, metrics = jax.jit(partial(update, gan))(state, batch)
    assert float(metrics["d_margin"]) == 0
    config.augment.pseudo = 0.0
    gan, state, batch = start(config)
    assert "pseudo" not in state.hyperparams["augment"]
    assert float(jax.jit(partial(update, gan))(state, batch)[1]["d_margin"]) != 0


def test_the_share_of_images_of_g_follows_d() -> None:
    config = small("gan")
    config.schedules.pseudo.update({"kind": "ada", "every": 1.0, "length": 4.0, "target": -2.0})
    gan, state, batch = start(config)
    for expected in (0.25, 0.5):
        state, metrics = jax.jit(partial(update, gan))(state, batch)
        assert float(state.memory["schedules"]["pseudo"]["p"]) == expected
    assert float(metrics["schedule_pseudo"]) == 0.25
    config = small("aae")
    config.augment.pseudo = 0.5
    with pytest.raises(UserError, match="in this task D sees none: leave it at 0"):
        build_gan(config)


def test_every_image_that_d_sees_is_augmented_real_and_fake_alike_each_by_its_own_key() -> None:
    seen: list[tuple[int, ...]] = []

    def darken(image: Array, key: Array) -> Array:
        seen.append(image.shape)
        return -jnp.ones_like(image) + 0 * image + jax.random.uniform(key, (1, 1, 1)) * 1e-3

    gan, hyper = build_gan(small("gan"))
    state = init_state(gan, 0, hyper)
    batch = {"image": jnp.ones((1, 16, 28, 28, 1)), "index": jnp.arange(16), "label": jnp.zeros((1, 16), jnp.int32)}
    object.__setattr__(gan, "augment", augment.Augment((darken,)))
    _, metrics = jax.jit(partial(update, gan))(state, batch)
    assert set(seen) == {(28, 28, 1)}
    # Real and fake are now equally dark, but for each image's own grey.
    assert abs(float(metrics["d_real"] - metrics["d_fake"])) < 1e-4
    assert float(metrics["d_real"]) != float(metrics["d_fake"])
    assert float(metrics["g_grad_norm"]) == 0
