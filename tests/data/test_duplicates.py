"""Train images that are nearly the same as held-out ones: which are found, which aren't, and what is said of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import Dataset, duplicates, shapes
from gan_jax.data.duplicates import near
from tests.helpers import data_options


def load(path: Path, cached: Path | None = None, **changed: Any) -> Dataset:
    asked = {"image_size": 64, "channels": 3, "source": "folder", "dir": str(path)}
    return data.load(data_options(**(asked | changed)), cached)


def scenes(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth images of many colours, no two alike: noise, enlarged."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)) for image in noise]
    return np.stack(large)


def compressed(image: np.ndarray, quality: int = 75) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((image.shape[1] // 2,) * 2, Image.Resampling.LANCZOS)
    return np.asarray(small.resize(image.shape[:2], Image.Resampling.BICUBIC))


@pytest.mark.parametrize("change", [np.copy, compressed, resized])
def test_copies_are_found_and_others_are_not(change: Any) -> None:
    train, test = scenes(30), scenes(20, seed=1)
    assert near(train, test).tolist() == [0, -1, -1]
    for own, held in ((7, 3), (11, 5), (29, 19)):
        train[own] = change(test[held])
    assert near(train, test).tolist() == [3, 7, 3]


@pytest.mark.parametrize("side", [1, 3, 8, 28, 33, 150])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_of_images_and_of_tiles(side: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(side)
    train = random.integers(0, 256, (23, side, side, channels), np.uint8)
    train[:, 0, 0, 0] = np.arange(23) * 8  # so that no two of a single pixel are alike
    test = 255 - train[:9] if side > 1 else train[:9] + 4
    whole = near(np.concatenate([train, test[4:5]]), test).tolist()
    assert whole == [1, 23, 4]
    monkeypatch.setattr(duplicates, "_TILE", 2)
    assert near(np.concatenate([train, test[4:5]]), test).tolist() == whole


def test_all_pairs_are_those_of_the_definition() -> None:
    """Root mean squares of cells of 4x4 pixels, computed pair by pair, of images at growing distances."""
    test = scenes(6)
    noise = np.random.default_rng(2).normal(0, 1, (40, 16, 16, 3)).repeat(4, 1).repeat(4, 2)
    strength = np.linspace(0, 14, 40)[:, None, None, None]
    train = np.clip(np.round(test[np.arange(40) % 6] + strength * noise), 0, 255).astype(np.uint8)

    def cells(images: np.ndarray) -> np.ndarray:
        means: np.ndarray = images.reshape(len(images), 16, 4, 16, 4, 3).mean((2, 4))
        return means.reshape(len(images), -1)

    a, b = cells(train), cells(test)
    distance = np.sqrt(np.square(a[:, None] - b[None]).mean(-1))
    spread = np.sqrt(b.reshape(6, -1, 3).var(1).mean(1))
    limit = np.minimum(6.0, 0.1 * spread)
    sure, possible = ((distance <= limit + slack).any(1).sum() for slack in (-0.5, 0.5))  # cells are rounded
    assert 5 < sure <= near(train, test)[0] <= possible < 35


def test_images_that_are_alike_are_not_the_same() -> None:
    digits = data.load(data_options(), None)
    assert near(digits.train_images, digits.test_images)[0] == 0
    assert near(shapes.draw(32, 0, 600)[0], shapes.draw(32, 600, 900)[0])[0] == 0


def test_plain_images_are_the_same_if_they_are_of_one_colour() -> None:
    greys = np.zeros((4, 16, 16, 1), np.uint8) + np.array([10, 11, 12, 200], np.uint8)[:, None, None, None]
    assert near(greys, greys[3:]).tolist() == [1, 3, 0]


def test_a_folder_is_warned_of_once_and_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = scenes(12)
    for part, some in (("train", images[:10]), ("test", [*images[10:], compressed(images[4])])):
        (tmp_path / "all" / part).mkdir(parents=True)
        for number, image in enumerate(some):
            Image.fromarray(image).save(tmp_path / "all" / part / f"{number}.png")
    (tmp_path / "all" / "train" / "00.png").write_bytes(b"")  # left out, before the others
    warnings = load(tmp_path / "all", tmp_path / "cache").warnings
    (said,) = [warning for warning in warnings if "nearly the same" in warning]
    assert said.startswith(
        "1 of the 10 train images of folder:all are nearly the same as held-out ones, as train/4.png "
    )
    assert (
        " and the held-out test/2.png: what is said of held-out images flatters then; remove one of each pair" in said
    )

    def look(*_: Any) -> np.ndarray:
        raise AssertionError("it was looked for again")

    monkeypatch.setattr(duplicates, "near", look)
    assert load(tmp_path / "all", tmp_path / "cache").warnings == warnings
    Image.fromarray(images[4]).save(tmp_path / "all" / "test" / "0.png")
    with pytest.raises(AssertionError, match="looked for again"):
        load(tmp_path / "all", tmp_path / "cache")


def test_images_without_names_are_named_by_their_numbers(tmp_path: Path) -> None:
    images = scenes(20)
    images[13] = images[6]
    np.savez(tmp_path / "a.npz", images=images)
    folds = [load(tmp_path / "a.npz", source="npz", fold=f"{k}/4").warnings for k in (1, 2, 3, 4)]
    said = sorted(warning.partition(" as number ")[2].partition(":")[0] for (warning,) in filter(None, folds))
    assert said == ["13 and the held-out number 6", "6 and the held-out number 13"]


def test_why_it_was_not_looked_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all").mkdir()
    for number, image in enumerate(scenes(10)):
        Image.fromarray(image).save(tmp_path / "all" / f"{number}.png")
    (said,) = load(tmp_path / "all", cache_budget_mb=0, device_budget_mb=0).left_out
    assert said == (
        "the search for held-out images that are nearly in the train images, too: they are decoded anew each time that "
        "they are read, beyond data.cache_budget_mb"
    )
    monkeypatch.setattr(duplicates, "_MOST_PAIRS", 8)
    (said,) = load(tmp_path / "all").left_out
    assert said.endswith("too: 9 and 1 images are more pairs than 8")
