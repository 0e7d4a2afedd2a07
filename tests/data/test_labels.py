"""Labels in files beside the images and in arrays: which image gets which class, and what is said of mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import Dataset
from gan_jax.data.pack import pack
from gan_jax.util.errors import UserError
from tests.data.test_sources import pixels
from tests.helpers import data_options


def load(path: Path, **changed: Any) -> Dataset:
    asked = {"image_size": 8, "channels": 3, "source": "folder", "labels": True, "test_fraction": 0.0, "dir": str(path)}
    return data.load(data_options(**(asked | changed)), None)


def pictures(path: Path, *names: str) -> Path:
    """An image for each name, grey by its place among them."""
    for grey, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (grey,) * 3).save(path / name)
    return path


def classes(dataset: Dataset, images: str = "train") -> dict[int, str]:
    """The class of each image, by its grey."""
    found = getattr(dataset, f"{images}_images")
    greys = found[np.arange(len(found))][:, 0, 0, 0]
    return {
        int(grey): dataset.names[label] for grey, label in zip(greys, getattr(dataset, f"{images}_labels"), strict=True)
    }


@pytest.mark.parametrize(
    "text",
    [
        "a.png,dog\nsub/b.png,cat\nc.png,dog\n",
        "file name,label\na.png,dog\n./sub/b.png,cat\nc.png,dog",
        "\ufeffimage;class\r\na.png;dog\r\nsub\\b.png; cat \r\nc.png;dog\r\n\r\n",
        'path\tlabel\n"a.png"\tdog\nsub/b.png\tcat\nc.png\tdog\nc.png\tdog\n',
    ],
)
def test_a_table_says_the_classes(text: str, tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "sub/b.png", "c.png")
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
    dataset = load(tmp_path)
    assert dataset.names == ("cat", "dog")
    assert classes(dataset) == {0: "dog", 1: "cat", 2: "dog"}
    assert dataset.left_out == ()
    assert load(tmp_path, labels=False).classes == 0


def test_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text("a.png,10\nb.png,9\nc.png,9\n")
    dataset = load(tmp_path)
    assert dataset.names == ("9", "10")
    assert dataset.train_labels.tolist() == [1, 0, 0]


def test_the_file_of_stylegan_says_the_classes(tmp_path: Path) -> None:
    pictures(tmp_path, "00000/img00000000.png", "00000/img00000001.png", "00001/img00001000.png")
    rows = [["00000/img00000001.png", 6], ["00000/img00000000.png", 10], ["00001/img00001000.png", 6]]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": rows}))
    dataset = load(tmp_path)
    assert dataset.names == ("6", "10")
    assert classes(dataset) == {0: "10", 1: "6", 2: "6"}


def test_another_dataset_json_is_none(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "dataset.json").write_text('{"license": "CC0"}')
    assert classes(load(tmp_path)) == {0: "cat", 1: "dog"}


def test_parts_have_one_table(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a.png", "train/b.png", "test/c.png")
    (tmp_path / "labels.csv").write_text("test/c.png,cat\ntrain/a.png,cat\ntrain/b.png,dog\n")
    dataset = load(tmp_path)
    assert (classes(dataset), classes(dataset, "test")) == ({0: "cat", 1: "dog"}, {2: "cat"})


def test_a_file_by_another_name_and_lines_without_an_image(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("a.png,x\nb.png,y\n")
    (tmp_path / "mine.csv").write_text("a.png,q\nb.png,r\ngone.png,s\n")
    dataset = load(tmp_path, label_key="mine.csv")
    assert classes(dataset) == {0: "q", 1: "r"}
    assert "1 labels of mine.csv without an image: 'gone.png'" in dataset.left_out


VECTORS = {
    "labels.csv": "file,size,grey\na.png,.5,-1\nb.png;0;1e-3\nc.png,2, 3\n".replace(";", ","),
    "dataset.json": '{"labels": [["b.png", [0, 0.001]], ["a.png", [0.5, -1]], ["c.png", [2, 3]]]}',
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_file_says_a_vector_an_image(name: str, tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / name).write_text(VECTORS[name])
    dataset = load(tmp_path, condition=2)
    assert (dataset.classes, dataset.names, dataset.condition) == (0, (), 2)
    assert dataset.description["conditions"] == "2 numbers an image: 0 to 2, -1 to 3"
    greys = pixels(dataset.train_images)[:, 0, 0, 0].tolist()
    wanted = {0: (0.5, -1), 1: (0, 0.001), 2: (2, 3)}
    np.testing.assert_array_equal(dataset.train_labels, np.array([wanted[grey] for grey in greys], np.float32))


@pytest.mark.parametrize("kind", ["one number", "multi-hot", "one-hot"])
def test_arrays_of_numbers_are_vectors_where_that_is_said(kind: str, tmp_path: Path) -> None:
    images = np.zeros((3, 8, 8, 3), np.uint8)
    codes: dict[str, Any] = {"multi-hot": [[1, 1], [0, 0], [0, 1]], "one-hot": [[1, 0], [0, 1], [0, 1]]}
    labels = codes.get(kind, [0.5, 2, -1])
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(labels))
    dataset = load(tmp_path / "a.npz", source="npz", condition=np.array(labels).reshape(3, -1).shape[1])
    np.testing.assert_array_equal(dataset.train_labels, np.array(labels, np.float32).reshape(3, -1))


def test_vectors_are_held_out_with_their_images_and_packed_as_they_are(tmp_path: Path) -> None:
    values = np.arange(40, dtype=np.uint8)
    images = values[:, None, None, None] + np.zeros((1, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.stack([values, values / 7], 1))
    asked: dict[str, Any] = {"condition": 2, "test_fraction": 0.25}
    dataset = load(tmp_path / "a.npz", source="npz", **asked)
    pack(dataset, tmp_path / "packed", {})
    for found in (dataset, load(tmp_path / "packed", source="packed", **asked)):
        assert (len(found.train_labels), len(found.test_labels)) == (30, 10)
        for part in ("train", "test"):
            greys = pixels(getattr(found, f"{part}_images"))[:, 0, 0, 0]
            np.testing.assert_allclose(getattr(found, f"{part}_labels"), np.stack([greys, greys / 7], 1), rtol=1e-6)
        assert found.digest == dataset.digest
    with pytest.raises(UserError, match=r"are vectors of 2 numbers, and data.condition is 0: set it to 2"):
        load(tmp_path / "packed", source="packed")


WRONG: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "an image without": ({"labels.csv": "a.png,x\n"}, {}, r"has no label for 1 of the 2 images \('b.png'\).*add them"),
    "three columns": ({"labels.csv": "a.png,x\nb.png,y,z\n"}, {}, "labels.csv, line 2: it has 3 columns, .*two"),
    "two labels": ({"labels.csv": "a.png,x\na.png,y\n"}, {}, "two labels for 'a.png', 'x' and 'y'"),
    "no label": ({"labels.csv": "a.png,\nb.png,y\n"}, {}, "label 1 is empty, of 'a.png'"),
    "nothing": ({"labels.csv": ""}, {}, "labels.csv has no labels"),
    "no text": ({"labels.csv": "\udcff"}, {}, "labels.csv: it is no text in UTF-8"),
    "null": ({"dataset.json": '{"labels": null}'}, {}, r"says that there are no labels .*null.*data.labels=False"),
    "broken": ({"dataset.json": '{"labels": '}, {}, "dataset.json: it is no JSON"),
    "vectors": (
        {"dataset.json": '{"labels": [["a.png", [0.5, 1]]]}'},
        {},
        r"dataset.json, label 1: it must be \[\"FIL",
    ),
    "fewer numbers": (
        {"labels.csv": "a.png,1,2\nb.png,1\n"},
        {"condition": 2},
        "line 2: it has 2 columns, .* must be 3",
    ),
    "nan": ({"labels.csv": "a.png,1,2\nb.png,1,nan\n"}, {"condition": 2}, "label 2: of 'b.png' it must be 2 finite"),
    "a word": ({"labels.csv": "a.png,1,2\nb.png,1,x\n"}, {"condition": 2}, "label 2: of 'b.png' .*, not '1 x'"),
    "more numbers": ({"dataset.json": '{"labels": [["a.png", [1, 2, 3]]]}'}, {"condition": 2}, "label 1: .* 2 finite"),
    "no file": ({}, {"condition": 2}, "has no labels.csv or dataset.json, which says the 2 numbers"),
    "both": (
        {"dataset.json": '{"labels": [["a.png", 1]]}', "labels.csv": "a.png,x\n"},
        {},
        "has labels.csv and dataset.json: say by data.label_key",
    ),
    "not there": ({}, {"label_key": "mine.csv"}, "data.label_key: 'mine.csv' is not in "),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_labels_is_said(kind: str, tmp_path: Path) -> None:
    files, changed, message = WRONG[kind]
    pictures(tmp_path, "a.png", "b.png")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, **changed)
    assert "\n" not in str(error.value)


def test_labels_that_a_link_takes_from_elsewhere_are_read_if_asked(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png")
    (tmp_path / "secret").write_text("a.png,x\n")
    (tmp_path / "images" / "labels.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(
        UserError, match=r"labels.csv' is a link that leads out of the folder: .*data.follow_links=True"
    ):
        load(tmp_path / "images")
    assert load(tmp_path / "images", follow_links=True).names == ("x",)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_one_hot_labels_are_their_columns(kind: type, tmp_path: Path) -> None:
    columns = np.array([2, 0, 2, 1, 0])
    images = np.zeros((5, 8, 8, 3), np.uint8) + np.arange(5, dtype=np.uint8)[:, None, None, None]
    codes = (columns[:, None] == np.arange(3)).astype(kind)
    np.savez(tmp_path / "a.npz", images=images, labels=codes, classes=np.array(["cat", "dog", "猫"]))
    dataset = load(tmp_path / "a.npz", source="npz")
    assert dataset.names == ("cat", "dog", "猫")
    assert dataset.train_labels.tolist() == columns.tolist()


def test_names_of_arrays_go_with_their_labels(tmp_path: Path) -> None:
    images = np.zeros((3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=[2, 0, 2], classes=np.array([b"cat", b"dog", b"owl"]))
    assert load(tmp_path / "a.npz", source="npz").names == ("cat", "owl")
    np.savez(tmp_path / "b.npz", images=images, labels=[2, 0, 2], classes=np.arange(3))
    dataset = load(tmp_path / "b.npz", source="npz")
    assert dataset.names == ("0", "2")
    assert dataset.left_out == ("the array 'classes', int64 [3]: names of classes are strings [K]",)
