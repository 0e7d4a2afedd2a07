"""WebDataset's shards: which files are one example, what its label is, which shards there are."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_jax.data import Dataset, shards
from gan_jax.util.errors import UserError
from tests.data.test_sources import folder, load, noise, pixels, png


def shard(path: Path, files: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


IMAGES = noise(12, 8, 8, 3)
LABELS = np.array([3, 0, 7, 3, 0, 7, 3, 0, 7, 3, 3, 7])


def written(place: Path, name: str = "train-{:06d}.tar", label: str = "cls", first: int = 0) -> None:
    """Three shards of four images each, numbered through."""
    for number in range(3):
        files: dict[str, bytes | str] = {}
        for i in range(4 * number, 4 * number + 4):
            told = str(LABELS[i]) if label == "cls" else json.dumps({"label": int(LABELS[i]), "text": "a cat"})
            files |= {f"{i:04d}.{label}": told, f"{i:04d}.png": png(IMAGES[i]), f"{i:04d}.txt": "a cat"}
        shard(place / name.format(first + number), files)


def of(text: str | Path, **changed: Any) -> Dataset:
    asked: dict[str, Any] = {"source": "folder", "dir": str(text), "labels": True, "test_fraction": 0.0}
    return load(None, **(asked | changed))


@pytest.mark.parametrize("where", ["train-{000000..000002}.tar", "", "train-0000{00..02}.tar"])
@pytest.mark.parametrize("label", ["cls", "json"])
def test_an_example_is_what_has_one_key(where: str, label: str, tmp_path: Path) -> None:
    written(tmp_path, label=label)
    dataset = of(tmp_path / where if where else tmp_path)
    np.testing.assert_array_equal(pixels(dataset.train_images), IMAGES)
    np.testing.assert_array_equal(np.array([0, 3, 7])[dataset.train_labels], LABELS)
    assert dataset.names == ("0", "3", "7")
    assert dataset.left_out == ("files of other endings: 12 .txt",)


def test_one_tar_is_shards_if_it_has_labels_else_a_folder(tmp_path: Path) -> None:
    written(tmp_path / "shards")
    one = of(tmp_path / "shards" / "train-000001.tar")
    np.testing.assert_array_equal(pixels(one.train_images), IMAGES[4:8])
    np.testing.assert_array_equal(np.array([0, 3, 7])[one.train_labels], LABELS[4:8])
    plain = shard(tmp_path / "a.tar", {f"{'ab'[i % 2]}/{i}.png": png(IMAGES[i]) for i in range(4)})
    assert of(plain).names == ("a", "b")


@pytest.mark.parametrize(("train", "test"), [("train-{:03d}", "val-{:03d}"), ("train/{:03d}", "test/{:03d}")])
def test_shards_named_as_parts_are_the_parts(train: str, test: str, tmp_path: Path) -> None:
    written(tmp_path, f"{train}.tar")
    for i in range(2):
        shard(tmp_path / f"{test.format(i)}.tar", {"x.png": png(IMAGES[i]), "x.cls": "7"})
    dataset = of(tmp_path, test_fraction=0.5)
    np.testing.assert_array_equal(pixels(dataset.train_images), IMAGES)
    np.testing.assert_array_equal(pixels(dataset.test_images), IMAGES[:2])
    assert [dataset.names[label] for label in dataset.test_labels] == ["7", "7"]


def test_cls_has_the_last_word_and_other_json_none(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"a.json": '{"label": 5}', "a.cls": "1\n", "a.png": png(IMAGES[0])}
    files |= {"b.cls": "2", "b.png": png(IMAGES[1]), "b.json": "[]", "b.seg.png": png(IMAGES[2])}
    dataset = of(shard(tmp_path / "a.tar", files))
    assert dataset.names == ("1", "2")
    assert len(dataset.train_images) == 2


def test_a_folder_that_holds_a_picture_is_none_of_shards(tmp_path: Path) -> None:
    written(tmp_path)
    folder(tmp_path / "below", 3)
    dataset = of(tmp_path, labels=False)
    assert (len(dataset.train_images), dataset.left_out) == (3, ("files of other endings: 3 .tar",))


def test_a_link_in_a_folder_is_no_shard_and_one_that_is_named_is(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere")
    (tmp_path / "shards").mkdir()
    for file in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "shards" / file.name).symlink_to(file)
    with pytest.raises(UserError, match=r"no file in the folder .* ends in .png"):
        of(tmp_path / "shards", labels=False)
    assert len(of(tmp_path / "shards" / "train-{000000..000002}.tar").train_images) == 12


def test_shards_without_labels_are_images_where_none_are_wanted(tmp_path: Path) -> None:
    for number in range(2):
        shard(tmp_path / f"{number}.tar", {"a.png": png(IMAGES[number])})
    assert (len(of(tmp_path, labels=False).train_images), of(tmp_path, labels=False).classes) == (2, 0)
    with pytest.raises(UserError, match=r"has no files KEY.cls: add them, or set data.labels=False"):
        of(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a.cls": "x", "a.png": b""},
            r"'a.tar/a.cls' must have a whole number from 0 up as its label: invalid literal",
        ),
        ({"a.cls": "-1", "a.png": b""}, "its label is -1"),
        ({"b.cls": "1", "a.json": '{"label": 1.5}', "a.png": b""}, "'a.tar/a.json' must .*: its label is 1.5"),
        ({"b.cls": "1", "a.json": '{"label": true}', "a.png": b""}, "its label is True"),
        ({"b.cls": "1", "a.json": "{", "a.png": b""}, "'a.tar/a.json' must have"),
        ({"b.cls": "1", "a.json": "[" * 100_000, "a.png": b""}, "'a.tar/a.json' must have"),
        ({"a.cls": "1", "a.png": b"", "b.png": b""}, r"1 of 2 images have no KEY.cls: 'a.tar/b.png'; add them"),
        ({"a.cls": "1", "a.npy": b""}, r"have no files as KEY.jpg, .*; left out are files of other endings: 1 .npy"),
    ],
)
def test_what_is_wrong_with_shards_is_one_line(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        of(shard(tmp_path / "a.tar", files))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train-{000000..000003}.tar", r"'.*train-000003.tar', one of .* is not there: restore it, or give fewer"),
        ("train-{000002..000001}.tar", r"the numbers must go up, as in {000..009}"),
        ("{0..999999999}.tar", r"names 100,001 shards, and there may be 100,000"),
        ("{0..99999}{0..99999}.tar", r"names 10,000,000,000 shards"),
        ("{0..9999999999}.tar", r"the numbers must go up"),
    ],
)
def test_a_pattern_that_names_no_shards_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        of(tmp_path / text)
    assert "\n" not in str(error.value)


def test_a_pattern_stands_for_what_shells_make_of_it() -> None:
    for text, wanted in {
        "a-{8..11}.tar": ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"],
        "a-{08..11}.tar": ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"],
        "{0..1}/{3..4}": ["0/3", "0/4", "1/3", "1/4"],
    }.items():
        assert list(shards._spelt_out(text)) == wanted
