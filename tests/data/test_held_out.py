"""Which images are only tested on: a folder or file of their own, those of a list, a fold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.config import default, validate
from gan_jax.data import Dataset, check_place
from gan_jax.util.errors import UserError
from tests.helpers import data_options


def load(path: Path, **changed: Any) -> Dataset:
    return data.load(options(path, **changed), None)


def options(path: Path, **changed: Any) -> data.Options:
    return data_options(**({"image_size": 8, "channels": 3, "source": "folder", "dir": str(path)} | changed))


def pictures(path: Path, *names: str, first: int = 0) -> Path:
    """An image for each name, grey by its place among them."""
    for grey, name in enumerate(names, start=first):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (grey,) * 3).save(path / name)
    return path


def greys(images: data.Images) -> list[int]:
    return [int(grey) for grey in images[np.arange(len(images))][:, 0, 0, 0]]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("labels", [False, True])
def test_a_folder_of_ones_own_is_only_tested_on(inside: bool, labels: bool, tmp_path: Path) -> None:
    whole = pictures(tmp_path / "all", "cat/a.png", "dog/b.png", "cat/c.png")
    tests = pictures(whole / "held" if inside else tmp_path / "held", "dog/x.png", "cat/y.png", first=10)
    dataset = load(whole, test_dir=str(tests), labels=labels)
    assert (greys(dataset.train_images), greys(dataset.test_images)) == ([0, 2, 1], [11, 10])
    assert dataset.name == "folder:all"
    if labels:
        assert dataset.names == ("cat", "dog")
        assert (dataset.train_labels.tolist(), dataset.test_labels.tolist()) == ([0, 0, 1], [0, 1])
    assert not dataset.left_out


def test_both_folders_may_have_a_table_of_labels(tmp_path: Path) -> None:
    pictures(tmp_path / "a", "0.png", "1.png")
    pictures(tmp_path / "b", "0.png")
    (tmp_path / "a" / "labels.csv").write_text("0.png,dog\n1.png,cat\n")
    (tmp_path / "b" / "labels.csv").write_text("0.png,owl\n")
    dataset = load(tmp_path / "a", test_dir=str(tmp_path / "b"), labels=True)
    assert (dataset.names, dataset.train_labels.tolist(), dataset.test_labels.tolist()) == (
        ("cat", "dog", "owl"),
        [1, 0],
        [2],
    )
    assert dataset.warnings[0] == "folder:a has no image to train on of owl, only some to test on"


def test_a_file_of_arrays_of_its_own_is_only_tested_on(tmp_path: Path) -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] + np.zeros((6, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images[:4], labels=[0, 1, 0, 1], classes=["cat", "dog"])
    np.savez(tmp_path / "b.npz", images=images[4:], labels=np.eye(2)[[1, 1]])
    dataset = load(tmp_path / "a.npz", source="npz", test_dir=str(tmp_path / "b.npz"))
    assert (greys(dataset.train_images), greys(dataset.test_images)) == ([0, 1, 2, 3], [4, 5])
    assert (dataset.names, dataset.test_labels.tolist()) == (("cat", "dog"), [1, 1])


def test_a_list_says_what_is_held_out(tmp_path: Path) -> None:
    whole = pictures(tmp_path / "all", "cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png")
    (tmp_path / "held.txt").write_text("\ufeffdog/d.png\r\n\r\n ./cat\\a.png\r\ndog/d.png", encoding="utf-8")
    dataset = load(whole, test_list=str(tmp_path / "held.txt"), labels=True)
    assert (greys(dataset.train_images), greys(dataset.test_images)) == ([1, 2], [0, 3])
    assert (dataset.train_labels.tolist(), dataset.test_labels.tolist()) == ([0, 1], [0, 1])


@pytest.mark.parametrize("labels", [None, np.repeat([0, 1, 2, 3], [11, 7, 4, 1])])
def test_folds_part_the_images_and_each_class_evenly(labels: np.ndarray | None, tmp_path: Path) -> None:
    images = np.arange(23, dtype=np.uint8)[:, None, None, None] + np.zeros((23, 8, 8, 3), np.uint8)
    arrays: dict[str, Any] = {"images": images} if labels is None else {"images": images, "labels": labels}
    np.savez(tmp_path / "a.npz", **arrays)
    folds = [load(tmp_path / "a.npz", source="npz", fold=f"{k}/5") for k in (1, 2, 3, 4, 5)]
    held = [greys(dataset.test_images) for dataset in folds]
    assert sorted(np.concatenate(held)) == list(range(23))
    assert {len(one) for one in held} == {4, 5}
    for dataset, one in zip(folds, held, strict=True):
        assert greys(dataset.train_images) == sorted({*range(23)} - {*one})
    if labels is None:
        assert max(one == sorted(one) and np.ptp(one) < 6 for one in held) == 0  # from all over
    else:
        counts = np.array([np.bincount(labels[one], minlength=4) for one in held])
        assert (np.ptp(counts, axis=0) <= 1).all()
    again = load(tmp_path / "a.npz", source="npz", fold="2/5")
    assert greys(again.test_images) == held[1]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two ways": ({"test_dir": "b", "fold": "1/2"}, "data.test_dir, data.fold each say which images are tested on"),
    "the same folder": ({"test_dir": "a"}, r"data.test_dir: 'a' has all images of data.dir=a in it.*other images"),
    "around it": ({"test_dir": "."}, r"data.test_dir: '.' has all images"),
    "nowhere": ({"test_dir": "c"}, "data.test_dir: 'c' is not there; the folder source needs a folder"),
    "empty": ({"test_dir": "empty"}, "data.test_dir: no file in the folder 'empty' ends in .png"),
    "no list": ({"test_list": "c.txt"}, "data.test_list: 'c.txt' is not there; it must be a text file"),
    "an empty list": ({"test_list": "empty.txt"}, "data.test_list: 'empty.txt' is empty: write the path"),
    "a list of others": ({"test_list": "b.txt"}, r"1 of the 2 lines of 'b.txt' name no image in 'a': 'gone.png'"),
    "all of them": ({"test_list": "all.txt"}, "has no images to train on, only to test on: hold out fewer"),
    "parts already": (
        {"dir": "parts", "test_dir": "b"},
        "so do train/ and test/ in 'parts': leave data.test_dir empty, or give data.dir=parts/train",
    ),
    "too many folds": ({"fold": "1/9"}, "data.fold is 1/9, and folder:a has 2 images: ask for as many or fewer"),
    "no fold": ({"fold": "6/5"}, "data.fold must be as 2/5, the second of five parts, not '6/5'"),
    "digits' folds": (
        {"source": "embedded", "dir": "", "fold": "1/5"},
        "data.fold is 1/5, but embedded:mnist5k has test images of its own",
    ),
    "digits' folder": (
        {"source": "embedded", "dir": "", "test_dir": "b"},
        "data.test_dir is for the source folder or npz, and data.source is 'embedded'",
    ),
    "a list of arrays": ({"source": "npz", "test_list": "b.txt"}, "is for the source folder, .* or set data.fold"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, "a/0.png", "a/1.png", "b/0.png", "parts/train/0.png", "parts/test/0.png")
    (tmp_path / "empty").mkdir()
    for name, text in {"empty": " \n", "b": "0.png\ngone.png\n", "all": "0.png\n1.png\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    changed, message = WRONG[kind]
    with pytest.raises(UserError, match=message) as error:
        load(Path("a"), **changed)
    assert "\n" not in str(error.value)
    if kind in ("the same folder", "nowhere", "no list"):  # nothing of the data is read for these
        with pytest.raises(UserError, match=message):
            check_place(options(Path("a"), **changed))


@pytest.mark.parametrize(
    ("fold", "valid"), [("1/2", True), ("5/5", True), ("0/5", False), ("1/1", False), ("a", False)]
)
def test_the_config_knows_folds(fold: str, valid: bool) -> None:
    config = default()
    config.data.fold = fold
    if valid:
        validate(config)
    else:
        with pytest.raises(UserError, match=r"config.data.fold must be empty, or as 2/5, the second of five parts"):
            validate(config)
