"""What becomes of a source's parts: which images are held out, what a hash tells apart, what a part of a part is."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tfds_writer
from gan_jax.data import Dataset
from gan_jax.data.images import Stored
from gan_jax.data.parts import Part, hold_out
from tests.data.test_sources import load, noise, pixels, png


def test_what_is_held_out_without_labels_is_from_all_over() -> None:
    """Images that lie in the order of what they show: of each fifth of them some are held out."""
    whole = Part(np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1), None)
    train, test = hold_out(whole, 0.2)
    held = pixels(test.images).ravel()
    assert len(train.images) == 160
    assert len(held) == 40
    assert (np.bincount(held // 40, minlength=5) >= 2).all()


def test_what_is_held_out_is_of_all_classes_wherever_they_lie() -> None:
    labels = np.repeat(np.arange(4), 50).astype(np.int32)
    train, test = hold_out(Part(np.arange(200).reshape(200, 1, 1, 1).astype(np.uint8), labels), 0.2)
    for part, each in ((train, 40), (test, 10)):
        assert part.labels is not None
        np.testing.assert_array_equal(labels[pixels(part.images).ravel()], part.labels)
        np.testing.assert_allclose(np.bincount(part.labels), [each] * 4, atol=7)


@pytest.mark.parametrize("number", [0, 499, 500, 999, 1000, 2999])
def test_a_hash_tells_apart_data_that_differs_in_any_image_or_label(number: int) -> None:
    images, labels = noise(3000, 2, 2, 1), np.zeros(3000, np.int32)
    whole = Dataset("x", images, labels, images, labels, 2)

    def changed(name: str) -> Dataset:
        array = np.array(getattr(whole, name))
        array[number] ^= 1
        other: dict[str, Any] = {name: array}
        return dataclasses.replace(whole, **other)

    for name in ("train_images", "train_labels", "test_labels"):
        assert changed(name).digest != whole.digest
    assert changed("test_images").test_digest != whole.test_digest
    assert changed("test_images").digest == whole.digest


def test_a_part_of_a_part_is_of_the_part(tmp_path: Path) -> None:
    images = noise(10, 4, 4, 3)
    (tmp_path / "file").write_bytes(bytes(7) + images.tobytes())
    stored = Stored(tmp_path / "file", images.shape, 7)
    part = stored.subset(np.array([9, 7, 5, 3])).subset(np.array([2, 0]))
    np.testing.assert_array_equal(pixels(part), images[[5, 9]])


def test_arrays_in_fortrans_order_are_the_same_images(tmp_path: Path) -> None:
    images = noise(20, 8, 8, 3)
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(images))
    dataset = load(source="npz", dir=str(tmp_path / "a.npz"), test_fraction=0.0)
    np.testing.assert_array_equal(pixels(dataset.train_images), images)


def test_the_test_split_is_tested_on_where_there_is_a_validation_split_too(tmp_path: Path) -> None:
    images = noise(12, 8, 8, 3)
    files: list[Any] = [png(image) for image in images]
    parts = {"train": files[:6], "validation": files[6:8], "test": files[8:]}
    tfds_writer.write(tmp_path, "three", parts, None)
    dataset = load(source="tfds", name="three", dir=str(tmp_path))
    np.testing.assert_array_equal(pixels(dataset.train_images), images[:6])
    np.testing.assert_array_equal(pixels(dataset.test_images), images[8:])
