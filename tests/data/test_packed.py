"""Packed sets: a run has the same bits from them as from their source, and half of one is none."""

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import tfds_writer
from gan_jax.data import Dataset, pack, packed, parts
from gan_jax.data.order import sample_index
from gan_jax.data.stream import Reader
from gan_jax.util.errors import UserError
from tests.data.test_archives import same
from tests.data.test_shards import written
from tests.data.test_sources import load, noise, pixels, png


def pictures(place: Path, *tops: str) -> Path:
    for seed, top in enumerate(tops or ("",)):
        for number, name in enumerate(("ant", "bee", "cat")):
            (place / top / name).mkdir(parents=True)
            for i in range(9 + number):
                image = noise(11, 13, 3, seed=100 * seed + 10 * number + i)
                Image.fromarray(image).save(place / top / name / f"{i}.png")
    return place


def made(place: Path, kind: str) -> dict[str, Any]:
    """A source of that kind, as keys of ``config.data``."""
    if kind == "npz":
        np.savez(place / "a.npz", images=noise(30, 8, 8, 3), labels=np.arange(30) % 3 + 5)
        return {"source": "npz", "dir": str(place / "a.npz")}
    if kind == "tfds":
        files = [png(image) for image in noise(20, 10, 10, 3)]
        labels = {"train": list(range(2)) * 8, "test": [1] * 4}
        tfds_writer.write(place, "tiny", {"train": files[:16], "test": files[16:]}, labels)
        return {"source": "tfds", "name": "tiny", "dir": str(place)}
    if kind == "embedded":
        return {"source": "embedded", "channels": 1, "image_size": 28}
    if kind == "function":
        text = (
            "import numpy as np\ndef f(o):\n    return {'images': np.arange(30 * 64, dtype=np.uint8).reshape(30, 8, 8)}"
        )
        (place / "mine.py").write_text(text)
        return {"source": f"{place / 'mine.py'}:f", "channels": 1}
    if kind == "shards":
        written(place / "shards")
        return {"source": "folder", "dir": str(place / "shards"), "labels": True}
    return {"source": "folder", "dir": str(pictures(place / "p", *kind.split()[1:])), "labels": True}


def back(folder: Path, **changed: Any) -> Dataset:
    return load(source="packed", dir=str(folder), **changed)


KINDS = ("folder", "folder train test", "shards", "npz", "tfds", "embedded", "function")


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_set_is_its_source(kind: str, tmp_path: Path) -> None:
    asked = made(tmp_path, kind)
    source = load(**asked, test_fraction=0.2)
    assert pack.pack(source, tmp_path / "packed", {}, shard_bytes=500)
    kept = {key: asked[key] for key in ("channels", "image_size", "labels") if key in asked}
    found = back(tmp_path / "packed", **kept)
    same(found, source)
    assert len(list((tmp_path / "packed").glob("train-*"))) > 2
    assert found.name == "packed:packed"
    sent = pickle.loads(pickle.dumps(found.train_images))
    one, other = (
        Reader(images, source.train_labels, np.arange(4), 4, 1, 3)(7) for images in (source.train_images, sent)
    )
    for name in ("image", "label"):
        np.testing.assert_array_equal(one[name], other[name])


def test_records_are_read_in_any_order_by_threads(tmp_path: Path) -> None:
    images = noise(200, 8, 8, 3)
    dataset = Dataset("x", images, np.zeros(200, np.int32), images[:0], np.zeros(0, np.int32), 0)
    pack.pack(dataset, tmp_path / "p", {}, shard_bytes=192 * 30)
    found = back(tmp_path / "p").train_images
    orders = [sample_index(step, np.arange(64), 200, 64, 1, np.uint32(0), np)[0].astype(int) for step in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for order, batch in zip(orders, pool.map(found.__getitem__, orders), strict=True):
            np.testing.assert_array_equal(batch, images[order])


def test_images_are_made_smaller_but_never_larger(tmp_path: Path) -> None:
    source = load(source="folder", dir=str(pictures(tmp_path / "p")), test_fraction=0.2)
    pack.pack(source, tmp_path / "q", {})
    smaller = back(tmp_path / "q", image_size=4)
    wanted = [
        np.asarray(Image.fromarray(i).resize((4, 4), Image.Resampling.LANCZOS)) for i in pixels(source.train_images)
    ]
    np.testing.assert_array_equal(pixels(smaller.train_images), wanted)
    assert len(smaller.test_images) == len(source.test_images)
    for changed, said in (
        ({"image_size": 9}, "8x8x3, and this run wants 9x9x3"),
        ({"channels": 1}, "8x8x3, and this run"),
    ):
        with pytest.raises(UserError, match=said):
            back(tmp_path / "q", **changed)


def test_what_was_interrupted_is_no_set_and_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = load(**made(tmp_path, "folder"), test_fraction=0.2), tmp_path / "packed"
    honest, opened = os.fsync, []

    def fails(file: int) -> None:
        opened.append(file)
        if len(opened) == 4:  # packing.json, and of the third shard
            raise OSError(28, "No space left on device")
        honest(file)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(UserError, match=r"cannot write to '.*packed': No space left .*; the same command goes on"):
            pack.pack(source, folder, {}, shard_bytes=1500)
    with pytest.raises(UserError, match=r"has no packed.json: it wasn't packed to its end"):
        back(folder)
    first = {file.name: file.stat().st_mtime_ns for file in folder.glob("train-*")}
    assert len(first) == 2
    assert pack.pack(source, folder, {}, shard_bytes=1500)
    for name, changed in first.items():
        assert (folder / name).stat().st_mtime_ns == changed
    same(back(folder, labels=True), source)
    assert {file.suffix for file in folder.iterdir()} == {".array_record", ".json", ".npz"}
    assert not pack.pack(source, folder, {}, shard_bytes=1500)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    source = load(source="folder", dir=str(pictures(tmp_path / "p")))
    other = load(source="folder", dir=str(tmp_path / "p"), image_size=4)
    pack.pack(source, tmp_path / "q", {})
    with pytest.raises(UserError, match=r"--out=.*q holds another packed set, of folder:p: give another folder"):
        pack.pack(other, tmp_path / "q", {})
    (tmp_path / "q" / packed.ABOUT).rename(tmp_path / "q" / "x")
    with pytest.raises(UserError, match=r"--out=.*q holds something else: give a new or an empty folder"):
        pack.pack(source, tmp_path / "q", {})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out: cannot write to '.*file': "):
        pack.pack(source, tmp_path / "file", {})
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "packing.json").write_text("{}")
    with pytest.raises(UserError, match=r"something else|of another set"):
        pack.pack(source, tmp_path / "begun", {})


def test_what_is_known_of_a_set_lies_beside_it(tmp_path: Path) -> None:
    source = load(**made(tmp_path, "folder"), test_fraction=0.2)
    pack.pack(source, tmp_path / "q", {"data": {"fit": "crop"}})
    about = json.loads((tmp_path / "q" / "packed.json").read_text())
    assert about["shape"] == [8, 8, 3]
    assert (about["train"], about["test"]) == (len(source.train_images), len(source.test_images)) == (24, 6)
    assert (about["classes"], about["source"]) == (["ant", "bee", "cat"], "folder:p")
    assert (about["digest"], about["test_digest"]) == (source.digest, source.test_digest)
    assert about["made"]["data"] == {"fit": "crop"}


def test_a_part_may_be_empty(tmp_path: Path) -> None:
    source = load(source="folder", dir=str(pictures(tmp_path / "p")), test_fraction=0.0)
    pack.pack(source, tmp_path / "q", {})
    found = back(tmp_path / "q", test_fraction=0.5)
    assert (len(found.train_images), len(found.test_images)) == (30, 0)
    assert found.digest == source.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cut shard", r"the shard '.*train-00000-of-00001.array_record' has another size"),
        ("no shard", r"the shard '.*train-00000-of-00001.array_record' is missing: restore it"),
        ("no labels", r"labels.npz' is missing or damaged: prepare the set anew"),
        ("no json", r"has no packed.json"),
        ("damaged json", r"packed.json' is damaged: prepare"),
        ("shape", r"packed.json' is damaged: prepare"),
        ("version", r"is of version 2, and this program reads 1"),
        ("bytes", r"cannot read '.*train-00000-of-00001.array_record' \("),
        ("nowhere", r"'.*nowhere' is not a folder that is there; --mode=prepare --out=.*nowhere writes such"),
    ],
)
def test_what_is_wrong_with_a_packed_set_is_one_line(change: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "q"
    pack.pack(load(**made(tmp_path, "folder"), test_fraction=0.2), folder, {})
    shard, about = folder / "train-00000-of-00001.array_record", folder / "packed.json"
    told = json.loads(about.read_text())
    if change == "cut shard":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif change == "bytes":
        shard.write_bytes(bytes(2**16) + shard.read_bytes()[2**16 :])
    elif change in ("no shard", "no labels", "no json"):
        {"no shard": shard, "no labels": folder / "labels.npz", "no json": about}[change].unlink()
    elif change == "damaged json":
        about.write_text("[1")
    elif change == "nowhere":
        folder = tmp_path / "nowhere"
    else:
        about.write_text(json.dumps(told | ({"shape": [8, 8, "3"]} if change == "shape" else {"form": 2})))
    with pytest.raises(UserError, match=message) as error:
        pixels(back(folder, labels=True).train_images)
    assert "\n" not in str(error.value)


def test_a_packed_part_can_be_cut(tmp_path: Path) -> None:
    """Not by `load`, which finds it split; but by whoever is handed the source."""
    pack.pack(load(source="folder", dir=str(pictures(tmp_path / "p"))), tmp_path / "q", {})
    images = back(tmp_path / "q").train_images
    part = parts.Part(images, None).subset(np.array([3, 1]))
    np.testing.assert_array_equal(pixels(part.images), images[np.array([3, 1])])
