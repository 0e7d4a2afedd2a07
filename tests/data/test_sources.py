"""Folders, npz files and TFDS data sets: what is read from them, what is kept, and what is said when they are wrong."""

import importlib.util
import io
import json
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import tfds_writer
from gan_jax import data
from gan_jax.data import Dataset, cache
from gan_jax.data.decode import decode
from gan_jax.data.images import Stored
from gan_jax.runs.workdir import Workdir
from gan_jax.util.errors import UserError
from tests.helpers import ROOT, data_options, small

TFDS = ROOT.parent / "shared" / "tfds"
real = pytest.mark.skipif(not (TFDS / "mnist").is_dir(), reason="the data beside the project isn't there")


SMALL = {"image_size": 8, "channels": 3}


def load(cached: Path | None = None, **changed: Any) -> Dataset:
    return data.load(data_options(**(SMALL | changed)), cached)


def pixels(images: data.Images) -> np.ndarray:
    return images[np.arange(len(images))]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def folder(path: Path, count: int = 10, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    """``count`` PNG files 00.png, 01.png, ..."""
    images = noise(count, *shape)
    path.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i:02d}.png")
    return images


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_flat_folder_is_every_image_once_in_two_parts(tmp_path: Path) -> None:
    images = folder(tmp_path)
    dataset = load(source="folder", dir=str(tmp_path), test_fraction=0.2)
    assert (dataset.name, dataset.image_shape, dataset.classes) == (f"folder:{tmp_path.name}", (8, 8, 3), 0)
    assert (len(dataset.train_images), len(dataset.test_images)) == (8, 2)
    both = np.concatenate([pixels(dataset.train_images), pixels(dataset.test_images)])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in images)
    again = load(source="folder", dir=str(tmp_path), test_fraction=0.2)
    np.testing.assert_array_equal(pixels(again.test_images), pixels(dataset.test_images))
    assert len(load(source="folder", dir=str(tmp_path), test_fraction=0.0).test_images) == 0


def test_nested_folders_of_all_kinds_of_files_are_searched_and_others_left_out(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    image = Image.fromarray(noise(8, 8, 3))
    for name in ("one.PNG", "b/two.jpg", "b/c/three.jpeg", "b/four.webp", "five.bmp", ".hidden/no.png", ".no.png"):
        image.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert len(load(source="folder", dir=str(tmp_path), test_fraction=0.0).train_images) == 5


def test_subfolders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    for name, grey in (("zebra", 10), ("ant", 20), ("bee/zoo", 30)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / name / f"{i}.png")
    dataset = load(source="folder", dir=str(tmp_path), labels=True, test_fraction=0.3)
    assert dataset.classes == 3
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert len(images)
        np.testing.assert_array_equal(pixels(images)[:, 0, 0, 0], np.array([20, 30, 10])[labels])
    assert load(source="folder", dir=str(tmp_path)).classes == 0


def test_unreadable_files_are_counted_named_and_left_out_with_their_labels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder(tmp_path / name)
    (tmp_path / "a" / "00.png").write_bytes(b"")
    (tmp_path / "a" / "03.png").write_bytes((tmp_path / "a" / "03.png").read_bytes()[:50])
    (tmp_path / "a" / "gone.png").symlink_to("nowhere.png")
    for kept in (None, tmp_path / "cache", tmp_path / "cache"):
        dataset = load(kept, source="folder", dir=str(tmp_path), labels=True, test_fraction=0.0)
        assert len(dataset.train_images) == 18
        np.testing.assert_array_equal(dataset.train_labels, [0] * 8 + [1] * 10)
        (warning,) = dataset.warnings
        assert warning.startswith(f"3 of the 21 images of folder:{tmp_path.name} left out: a/00.png (")
        for name in ("a/03.png (", "a/gone.png (No such file"):
            assert name in warning
    with pytest.raises(UserError, match=r"3 of the 21 images .* a/00.png .*; mend or remove, or set data.strict=False"):
        load(source="folder", dir=str(tmp_path), strict=True)


@pytest.mark.parametrize("changed", [{}, {"device_budget_mb": 0}, {"device_budget_mb": 0, "cache_budget_mb": 0}])
def test_unreadable_files_may_be_removed_and_the_data_stays_the_same(tmp_path: Path, changed: dict[str, int]) -> None:
    pictures = tmp_path / "images"
    images = folder(pictures, 30)
    broken = [pictures / f"{name}.png" for name in ("04b", "17b", "99")]
    for file in broken:
        file.write_bytes(b"")
    asked: dict[str, Any] = {"source": "folder", "dir": str(pictures), "test_fraction": 0.2, **changed}
    before = load(tmp_path / "cache", **asked)
    assert (len(before.train_images), len(before.test_images), len(before.warnings)) == (24, 6, 1)
    for file in broken:
        file.unlink()
    after = load(tmp_path / "cache", **asked)
    assert after.warnings == ()
    assert after.digest == before.digest
    np.testing.assert_array_equal(pixels(after.test_images), pixels(before.test_images))
    both = np.concatenate([pixels(after.train_images), pixels(after.test_images)])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in images)


def test_linked_folders_are_followed_circles_and_all(tmp_path: Path) -> None:
    folder(tmp_path / "elsewhere" / "cats", 4)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cats").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "elsewhere" / "cats" / "up").symlink_to(tmp_path / "images")
    asked: dict[str, Any] = {"source": "folder", "dir": str(tmp_path / "images"), "labels": True, "test_fraction": 0.0}
    dataset = load(**asked, follow_links=True)
    assert len(dataset.train_images) == 4
    assert dataset.classes == 1
    with pytest.raises(UserError, match=r"'cats' in .* leads out of it, to '.*/elsewhere/cats': .*follow_links=True"):
        load(**asked)


def test_only_links_that_stay_in_the_folder_are_followed_unasked(tmp_path: Path) -> None:
    folder(tmp_path / "images" / "cats", 4)
    (tmp_path / "images" / "dogs").mkdir()
    (tmp_path / "images" / "dogs" / "a.png").symlink_to("../cats/00.png")
    (tmp_path / "by another name").symlink_to(tmp_path / "images")
    asked: dict[str, Any] = {
        "source": "folder",
        "dir": str(tmp_path / "by another name"),
        "labels": True,
        "test_fraction": 0.0,
    }
    assert len(load(**asked).train_images) == 5
    (tmp_path / "images" / "dogs" / "circle.png").symlink_to("circle.png")
    assert load(**asked).warnings[0].startswith("1 of the 6 images of folder:images left out: dogs/circle.png (")
    folder(tmp_path / "private", 1)
    (tmp_path / "images" / "dogs" / "b.png").symlink_to(tmp_path / "private" / "00.png")
    with pytest.raises(UserError, match=r"'dogs/b.png' in .* leads out of it, to '.*/private/00.png'"):
        load(**asked)
    assert len(load(**asked, follow_links=True).train_images) == 6


def test_a_folder_that_cannot_be_read_is_said_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "cats", 4)
    honest = os.scandir

    def scandir(path: Any) -> Any:  # root may read any folder
        if str(path).endswith("cats"):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"cannot read the folder .*cats.*: Permission denied"):
        load(source="folder", dir=str(tmp_path))


def test_names_with_line_breaks_stay_on_one_line(tmp_path: Path) -> None:
    folder(tmp_path, 2)
    (tmp_path / "two\nlines.png").write_bytes(b"")
    (warning,) = load(source="folder", dir=str(tmp_path), test_fraction=0.0).warnings
    assert "two lines.png (" in warning
    assert "\n" not in warning


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder(tmp_path / "pictures")
    assert len(load(source="folder", dir="~/pictures", test_fraction=0.0).train_images) == 10


def test_a_digest_tells_data_apart(tmp_path: Path) -> None:
    images = folder(tmp_path / "a")
    settings: dict[str, Any] = {"source": "folder", "dir": str(tmp_path / "a"), "test_fraction": 0.0}
    first = load(**settings).digest
    assert load(tmp_path / "cache", **settings, workers=2, device_budget_mb=0).digest == first
    images[3, 0, 0, 0] ^= 1
    Image.fromarray(images[3]).save(tmp_path / "a" / "03.png")
    assert load(**settings).digest != first


def test_many_unreadable_files_are_one_line(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"30 of the 30 images .* can't be used: .*; and 25 more$") as error:
        load(source="folder", dir=str(tmp_path))
    assert str(error.value).count(".png") == 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dir": ""}, "the folder source needs data.dir"),
        ({"dir": "nowhere"}, "'nowhere' is not there; the folder source needs a folder"),
        ({"dir": "flat/00.png"}, "'flat/00.png' is a file, not a folder"),
        ({"dir": "empty"}, "no file in the folder 'empty' ends in .png"),
        ({"dir": "flat", "labels": True}, "'00.png' lies in no subfolder of 'flat'"),
        ({"dir": "flat", "name": "mnist"}, "data.name is 'mnist', but the folder source is told by data.dir alone"),
        (
            {"dir": "flat", "fit": "none", "image_size": 9},
            r"00.png \(it is 8x8, not 9x9\); set data.image_size, or data.fit",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(
    changed: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    folder(tmp_path / "flat", 1)
    with pytest.raises(UserError, match=message) as error:
        load(source="folder", **changed)
    assert "\n" not in str(error.value)


# --- classes ----------------------------------------------------------------------------------------------------------


def zoo(path: Path, **counts: int) -> Path:
    """Folders of so many grey images each, all of the first class of grey 0, of the second 1 and so on."""
    for grey, (name, count) in enumerate(counts.items()):
        (path / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (grey,) * 3).save(path / name / f"{i:03d}.png")
    return path


def greys(images: data.Images) -> list[int]:
    return sorted(int(image[0, 0, 0]) for image in pixels(images))


def test_classes_are_named_counted_and_held_out_each_by_its_share(tmp_path: Path) -> None:
    counts = {"cat": 40, "dog": 20, "fox": 1, "owl": 2}
    dataset = load(source="folder", dir=str(zoo(tmp_path, **counts)), labels=True, test_fraction=0.1)
    assert dataset.names == ("cat", "dog", "fox", "owl")
    assert dataset.description == {"classes": "4 classes: cat 40, dog 20, fox 1, owl 2"}
    assert dataset.class_counts == [
        {"name": "cat", "train": 36, "test": 4},  # of 63 images 6 are held out: 3.8, 1.9, .1 and .2
        {"name": "dog", "train": 18, "test": 2},
        {"name": "fox", "train": 1, "test": 0},
        {"name": "owl", "train": 2, "test": 0},
    ]
    assert greys(dataset.test_images) == [0] * 4 + [1] * 2
    np.testing.assert_array_equal(pixels(dataset.train_images)[:, 0, 0, 0], dataset.train_labels)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.99])
def test_a_class_keeps_an_image_to_train_on(fraction: float, tmp_path: Path) -> None:
    counts = {name: 1 + 3 * (i % 4) for i, name in enumerate("abcdefgh")}
    labels = np.repeat(np.arange(8), list(counts.values()))
    np.savez(tmp_path / "a.npz", images=noise(len(labels), 8, 8, 3), labels=labels)
    dataset = load(source="npz", dir=str(tmp_path / "a.npz"), test_fraction=fraction)
    assert set(dataset.train_labels) == set(range(8))
    wanted = round(len(labels) * fraction)
    held = np.bincount(dataset.test_labels, minlength=8)
    exact = wanted * np.bincount(labels) / len(labels)
    possible = np.bincount(labels) - 1
    assert (np.abs(held - np.minimum(exact, possible)) < 1).all()
    assert held.sum() == min(wanted, held.sum())
    assert held.sum() == wanted or fraction == 0.99
    assert not dataset.warnings


def test_a_class_of_all_numbers_is_ordered_by_them(tmp_path: Path) -> None:
    names = [str(number) for number in range(11)]
    dataset = load(source="folder", dir=str(zoo(tmp_path, **dict.fromkeys(names, 1))), labels=True)
    assert list(dataset.names) == names


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("names", ["train test", "Train TEST", "training validation", "train val test"])
def test_folders_named_as_parts_are_the_parts(names: str, labelled: bool, tmp_path: Path) -> None:
    train, *tests = names.split()
    zoo(tmp_path / train, cat=5, dog=4)
    for name in tests:
        zoo(tmp_path / name, cat=2, dog=1, owl=1)
    dataset = load(tmp_path / "cache", source="folder", dir=str(tmp_path), labels=labelled)
    assert (greys(dataset.train_images), greys(dataset.test_images)) == ([0] * 5 + [1] * 4, [0, 0, 1, 2])
    if labelled:
        assert dataset.description["classes"] == "3 classes: cat 7, dog 5, owl 1"
        unseen = f"folder:{tmp_path.name} has no image to train on of owl, only some to test on"
        assert dataset.warnings[0] == unseen  # another says that images of one colour are the same
        np.testing.assert_array_equal(dataset.test_labels, pixels(dataset.test_images)[:, 0, 0, 0])
    assert dataset.left_out == (("4 images of val/, beside test/",) if len(tests) > 1 else ())


def test_folders_named_as_parts_beside_others_are_none_and_that_is_said(tmp_path: Path) -> None:
    zoo(tmp_path, train=3, test=2, owl=1)
    dataset = load(source="folder", dir=str(tmp_path), labels=True, test_fraction=0.0)
    assert dataset.names == ("owl", "test", "train")
    assert dataset.left_out == ("nothing, though there are train/ and test/, since beside them lies 'owl'",)
    assert load(source="folder", dir=str(zoo(tmp_path / "alone", train=3)), labels=True).names == ("train",)


def test_a_folder_around_the_classes_is_no_class(tmp_path: Path) -> None:
    zoo(tmp_path / "images", cat=2, dog=2)
    with pytest.raises(UserError, match=r"in its one folder 'images'.*'cat', 'dog'.*give data.dir=.*/images$"):
        load(source="folder", dir=str(tmp_path), labels=True)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("known", [(1, 2, 3, 4, 5), (0, 40), (7, 3_000_000_000)])
def test_classes_without_images_are_none(known: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(known, 4))
    np.savez(tmp_path / "a.npz", images=noise(len(labels), 8, 8, 3), labels=labels.reshape(shape))
    dataset = load(source="npz", dir=str(tmp_path / "a.npz"), test_fraction=0.0)
    assert (dataset.classes, dataset.names) == (len(known), tuple(map(str, known)))
    np.testing.assert_array_equal(np.array(known)[dataset.train_labels], labels)
    assert dataset.train_labels.dtype == np.int32


def test_a_class_of_unreadable_images_alone_is_none(tmp_path: Path) -> None:
    zoo(tmp_path, cat=2, dog=2, owl=2)
    for file in (tmp_path / "dog").iterdir():
        file.write_bytes(b"")
    dataset = load(source="folder", dir=str(tmp_path), labels=True, test_fraction=0.0)
    assert dataset.names == ("cat", "owl")
    np.testing.assert_array_equal(dataset.train_labels, [0, 0, 1, 1])


def test_names_of_classes_can_be_shown_and_stored(tmp_path: Path) -> None:
    hostile = [b"\x1b[31mred", b"two\nlines", b"latin\xe9", "猫".encode()]
    for name in hostile:
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        Image.new("RGB", (8, 8)).save(os.path.join(os.fsencode(tmp_path), name, b"a.png"))
    dataset = load(source="folder", dir=str(tmp_path), labels=True)
    assert set(dataset.names) == {r"\x1b[31mred", r"two\nlines", r"latin\udce9", "猫"}
    json.dumps(dataset.class_counts, ensure_ascii=False).encode()


# --- what is left out -------------------------------------------------------------------------------------------------


def test_all_endings_of_kinds_that_are_read_are_known_and_others_are_counted(tmp_path: Path) -> None:
    image = Image.fromarray(noise(8, 8, 3))
    for ending, kind in {
        **{".jfif": "JPEG", ".JPE": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".TIFF": "TIFF", ".gif": "GIF"},
        ".avif": "AVIF",
    }.items():
        image.save(tmp_path / f"a{ending}", kind)
    for name in ("a.txt", "b.TXT", "c.txt", "noending", "d.mp4", "e.mp4", ".hidden.txt"):
        (tmp_path / name).touch()
    dataset = load(source="folder", dir=str(tmp_path), test_fraction=0.0)
    assert len(dataset.train_images) == 7
    assert dataset.left_out == ("files of other endings: 3 .txt, 2 .mp4, 1 none",)
    assert dataset.description["left out"] == dataset.left_out[0]
    assert not dataset.warnings
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    with pytest.raises(UserError, match=r"ends in .png, .*; left out are files of other endings: 1 .mp4$"):
        load(source="folder", dir=str(tmp_path / "videos"))


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    os.mkfifo(tmp_path / "zz.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.png").symlink_to("zz.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jpg"))
    dataset = load(source="folder", dir=str(tmp_path), test_fraction=0.0)
    assert len(dataset.train_images) == 3
    assert dataset.left_out == ("what is no regular file: 'link.png', 'pipe', 's.jpg', 'zz.png'",)
    with pytest.raises(UserError, match=r"zz.png' is no regular file; the npz source needs"):
        load(source="npz", dir=str(tmp_path / "zz.png"))


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder(tmp_path / "images", 6, (512, 512, 3))
    settings: dict[str, Any] = {"source": "folder", "dir": str(tmp_path / "images"), "image_size": 512}
    dataset = load(**settings, cache_budget_mb=0, device_budget_mb=0, test_fraction=0.0)
    (tmp_path / "images" / "02.png").unlink()
    os.mkfifo(tmp_path / "images" / "02.png")
    with pytest.raises(UserError, match=r"cannot read 02.png \(it is no regular file\)"):
        dataset.train_images[np.arange(6)]


def made_run(path: Path) -> None:
    """What a run leaves, pictures in all their places."""
    place = Workdir(path)
    place.claim(small("dcgan"))
    for where in ("samples", "reconstructions", "neighbours"):
        place.save_grid(1, noise(40, 40, 3), where)
    place.save_animation()
    Image.fromarray(noise(40, 40, 3)).save(path / "samples.png")
    (place.cache).mkdir(exist_ok=True)
    Image.fromarray(noise(40, 40, 3)).save(place.cache / "x.png")


@pytest.mark.parametrize("where", ["runs/mine", "runs/sweep/000", "cat/mine", "."])
@pytest.mark.parametrize("lost", [None, "config.json", "checkpoints"])
def test_runs_below_the_images_are_no_images(where: str, lost: str | None, tmp_path: Path) -> None:
    pictures = zoo(tmp_path / "pictures", cat=12, dog=8)
    asked: dict[str, Any] = {"source": "folder", "dir": str(pictures), "labels": True}
    before = load(**asked)
    made_run(pictures / where)
    (pictures / where / "metrics.jsonl").touch()
    if lost:
        gone = pictures / where / lost
        gone.unlink() if gone.is_file() else gone.rmdir()
    after = load(**asked)
    assert (after.digest, after.test_digest, after.names) == (before.digest, before.test_digest, ("cat", "dog"))
    own = "samples, samples.png, training.gif" if where == "." else where
    assert own in after.description["left out"]


def test_a_folder_of_images_is_no_run_for_its_names(tmp_path: Path) -> None:
    zoo(tmp_path, samples=3, checkpoints=2, reconstructions=1)
    (tmp_path / "samples" / "config.json").touch()
    assert len(load(source="folder", dir=str(tmp_path), test_fraction=0.0).train_images) == 6


# --- the cache --------------------------------------------------------------------------------------------------------


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the size of every pass over all images."""
    passes: list[int] = []
    honest = cache._decode_all

    def decode_all(images: Any, *rest: Any) -> Any:
        passes.append(len(images))
        return honest(images, *rest)

    monkeypatch.setattr(cache, "_decode_all", decode_all)
    return passes


def test_a_second_start_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "images", shape=(10, 12, 4))
    passes = counting(monkeypatch)
    settings: dict[str, Any] = {"source": "folder", "dir": str(tmp_path / "images"), "test_fraction": 0.2}
    first = load(tmp_path / "cache", **settings)
    assert passes == [10]
    second = load(tmp_path / "cache", **settings)
    assert passes == [10]
    for part in ("train_images", "test_images"):
        assert isinstance(getattr(second, part), Stored)
        np.testing.assert_array_equal(pixels(getattr(first, part)), pixels(getattr(second, part)))
    assert len(load(tmp_path / "cache", **settings | {"test_fraction": 0.3}).test_images) == 3
    assert passes == [10]
    np.testing.assert_array_equal(pixels(first.train_images), pixels(load(None, **settings).train_images))


@pytest.mark.parametrize(
    "change", ["image_size", "fit", "background", "channels", "another image", "a new time", "a cut cache"]
)
def test_what_changes_the_pixels_is_decoded_anew(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "images", shape=(10, 12, 4))
    settings: dict[str, Any] = {"source": "folder", "dir": str(tmp_path / "images"), "test_fraction": 0.0}
    load(tmp_path / "cache", **settings)
    if change == "another image":
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / "new.png")
    elif change == "a new time":
        os.utime(tmp_path / "images" / "03.png", ns=(1, 1))
    elif change == "a cut cache":
        (file,) = (tmp_path / "cache").glob("*.u8")
        file.write_bytes(file.read_bytes()[:-1])
    else:
        settings[change] = {"image_size": 6, "fit": "resize", "background": "black", "channels": 1}[change]
    passes = counting(monkeypatch)
    dataset = load(tmp_path / "cache", **settings)
    assert passes == [11 if change == "another image" else 10]
    np.testing.assert_array_equal(pixels(dataset.train_images), pixels(load(None, **settings).train_images))


def test_what_does_not_fit_the_caches_budget_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = folder(tmp_path / "images", 6, (512, 512, 3))
    (tmp_path / "images" / "broken.png").write_bytes(b"")
    settings: dict[str, Any] = {"source": "folder", "dir": str(tmp_path / "images"), "image_size": 512}
    settings |= {"cache_budget_mb": 1, "device_budget_mb": 1, "test_fraction": 0.0}
    dataset = load(tmp_path / "cache", **settings)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".json"]
    np.testing.assert_array_equal(dataset.train_images[np.array([5, 0])], images[[5, 0]])
    passes = counting(monkeypatch)
    assert load(tmp_path / "cache", **settings).warnings == dataset.warnings
    assert not passes  # what is unreadable is known
    in_memory = load(tmp_path / "cache", **settings | {"device_budget_mb": 100})
    assert isinstance(in_memory.train_images, np.ndarray)
    np.testing.assert_array_equal(in_memory.train_images, images)
    nothing = load(tmp_path / "none", **settings | {"cache_budget_mb": 0})
    assert not (tmp_path / "none").exists()
    np.testing.assert_array_equal(nothing.train_images[np.array([5, 0])], images[[5, 0]])


def test_a_file_that_breaks_while_it_is_streamed_is_named(tmp_path: Path) -> None:
    folder(tmp_path / "images", 6, (512, 512, 3))
    dataset = load(
        tmp_path / "cache",
        source="folder",
        dir=str(tmp_path / "images"),
        image_size=512,
        cache_budget_mb=1,
        device_budget_mb=1,
        test_fraction=0.0,
    )
    (tmp_path / "images" / "02.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read 02.png \("):
        dataset.train_images[np.arange(6)]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder(tmp_path / "images")
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match=r"cannot write to .*cache, where decoded images are kept"):
        load(tmp_path / "cache", source="folder", dir=str(tmp_path / "images"))


def test_images_in_files_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    folder(tmp_path / "images")
    for changed in ({}, {"cache_budget_mb": 0, "device_budget_mb": 0}):
        dataset = load(tmp_path / "cache", source="folder", dir=str(tmp_path / "images"), **changed)
        sent = pickle.loads(pickle.dumps(dataset.train_images))
        np.testing.assert_array_equal(pixels(sent), pixels(dataset.train_images))


# --- npz --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_and_left_in_the_file_where_they_can_be(save: Any, tmp_path: Path) -> None:
    images, labels = noise(20, 8, 8, 3), np.arange(20) % 4
    save(tmp_path / "a.npz", labels=labels, images=images)
    dataset = load(source="npz", dir=str(tmp_path / "a.npz"), test_fraction=0.25)
    assert (dataset.name, dataset.classes, len(dataset.train_images), len(dataset.test_images)) == ("npz:a", 4, 15, 5)
    assert isinstance(dataset.train_images, Stored if save is np.savez else np.ndarray)
    seen = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for part in ("train", "test"):
        for image, label in zip(
            pixels(getattr(dataset, f"{part}_images")), getattr(dataset, f"{part}_labels"), strict=True
        ):
            assert seen.pop(image.tobytes()) == label
    assert not seen


def test_a_test_part_of_its_own_and_other_keys_and_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=noise(6, 12, 10), y=np.arange(6), test_x=noise(2, 12, 10, seed=1), test_y=[9, 9])
    dataset = load(source="npz", dir=str(tmp_path / "a.npz"), image_key="x", label_key="y", channels=1)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((6, 8, 8, 1), (2, 8, 8, 1))
    assert dataset.names == ("0", "1", "2", "3", "4", "5", "9")
    np.testing.assert_array_equal(dataset.test_labels, [6, 6])
    assert dataset.warnings == ("npz:a has no image to train on of 9, only some to test on",)
    square = Image.fromarray(noise(6, 12, 10)[3][1:11]).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(pixels(dataset.train_images)[3, ..., 0], np.asarray(square))


WRONG_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "labels of a part only": (
        {"images": noise(2, 8, 8, 3), "labels": np.arange(2), "test_images": noise(1, 8, 8, 3)},
        "has 'labels', but no 'test_labels' beside 'test_images': add them",
    ),
    "a label beyond all": (
        {"images": noise(2, 8, 8, 3), "labels": np.array([0, 2**63], np.uint64)},
        "labels must be whole numbers from 0 up",
    ),
    "several classes of an image": (
        {"images": noise(3, 8, 8, 3), "labels": np.array([[0, 1], [1, 1], [0, 0]])},
        r"labels \[3, 2\] must be one-hot.*: row 1 is not, nor are 1 more; for several classes.*condition=2",
    ),
    "shares of classes": (
        {"images": noise(2, 8, 8, 3), "labels": [[0.5, 0.5], [0, 1]]},
        "row 0 is not, nor are 0 more",
    ),
    "a class twice": (
        {"images": noise(2, 8, 8, 3), "labels": [0, 1], "classes": ["cat", "dog", "cat"]},
        "classes: 'cat' more than once",
    ),
    "no images": ({"pictures": noise(2, 8, 8, 3)}, "has no array 'images', but 'pictures'"),
    "floats": ({"images": np.zeros((2, 8, 8, 3))}, "images must be uint8 .* not float64"),
    "two channels": ({"images": noise(2, 8, 8, 2)}, r"have 2 channels, and data.channels is 3: set it to 2"),
    "flat": ({"images": noise(2, 64)}, r"images must be uint8 .* not uint8 \[2, 64\]"),
    "none": ({"images": noise(0, 8, 8, 3)}, "npz:a has no images"),
    "too few labels": (
        {"images": noise(2, 8, 8, 3), "labels": [1]},
        r"one for each of the 2 images, .*not int64 \[1\]",
    ),
    "negative labels": ({"images": noise(2, 8, 8, 3), "labels": [0, -1]}, "whole numbers from 0 up"),
    "named labels": ({"images": noise(2, 8, 8, 3), "labels": ["a", "b"]}, "whole numbers from 0 up"),
    "pickles": ({"images": noise(2, 8, 8, 3), "labels": np.array([0, None])}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("kind", WRONG_NPZ)
def test_what_is_wrong_with_arrays_is_said(kind: str, tmp_path: Path) -> None:
    arrays, message = WRONG_NPZ[kind]
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays)
    with pytest.raises(UserError, match=message) as error:
        load(source="npz", dir=str(tmp_path / "a.npz"), labels="labels" in arrays)
    assert "\n" not in str(error.value)


def test_vectors_that_nobody_asks_for_are_no_classes(tmp_path: Path) -> None:
    """Such as those that drawn images were told of."""
    np.savez(tmp_path / "a.npz", images=noise(4, 8, 8, 3), labels=np.full((4, 2), 0.5, np.float32))
    assert load(source="npz", dir=str(tmp_path / "a.npz")).classes == 0


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_file_that_is_no_npz_is_said(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if content is None:  # cut in the middle
        np.savez(path, images=noise(50, 8, 8, 3))
        content = path.read_bytes()[:5000]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*a\.npz .*numpy.savez"):
        load(source="npz", dir=str(path))


def test_a_key_that_is_not_there_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=noise(4, 8, 8, 3), y=np.arange(4))
    with pytest.raises(UserError, match=r"has no array 'yy', but 'images', 'y'"):
        load(source="npz", dir=str(tmp_path / "a.npz"), label_key="yy")


def test_labels_that_a_run_needs_and_does_not_have(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=noise(4, 8, 8, 3))
    assert load(source="npz", dir=str(tmp_path / "a.npz")).classes == 0
    with pytest.raises(UserError, match="npz:a has no labels, and this run needs them"):
        load(source="npz", dir=str(tmp_path / "a.npz"), labels=True)


# --- TFDS -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@real
def test_real_mnist_is_read_without_tensorflow(tmp_path: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordReader

    settings: dict[str, Any] = {"source": "tfds", "name": "mnist", "dir": str(TFDS)}
    settings |= {"image_size": 28, "channels": 1, "cache_budget_mb": 1, "device_budget_mb": 0}
    records = ArrayRecordReader(str(next(TFDS.rglob("mnist-test.array_record*"))))
    dataset = load(tmp_path, **settings)
    assert (dataset.name, dataset.classes) == ("tfds:mnist", 10)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), MNIST_TEST_CLASSES)
    chosen = np.array([0, 17, 9999])
    for image, label, number in zip(dataset.test_images[chosen], dataset.test_labels[chosen], chosen, strict=True):
        record = records.read([int(number)])[0]
        start = record.index(b"\x89PNG")
        file = tmp_path / "x.png"
        file.write_bytes(record[start:])
        with Image.open(file) as picture:
            np.testing.assert_array_equal(image[..., 0], np.asarray(picture))
        assert 0 <= label < 10
    assert importlib.util.find_spec("tensorflow") is None or "tensorflow" not in __import__("sys").modules


MNIST_TEST_CLASSES = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # LeCun's file


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_a_prepared_data_set_of_any_kind_is_read(tmp_path: Path) -> None:
    images = noise(12, 8, 8, 3)
    files = [png(image) for image in images]
    files[5] = png(noise(20, 10, 4))  # transparent, and not square
    parts = {"train": files[:8], "validation": files[8:]}
    tfds_writer.write(tmp_path / "a", "tiny", parts, {"train": [2, 0, 1, 2, 0, 1, 2, 0], "validation": [4, 4, 4, 4]})
    for kept in (None, tmp_path / "cache", tmp_path / "cache"):
        dataset = load(kept, source="tfds", name="tiny", dir=str(tmp_path / "a"), labels=True)
        assert (dataset.name, dataset.classes, dataset.image_shape) == ("tfds:tiny", 4, (8, 8, 3))
        np.testing.assert_array_equal(dataset.train_labels, [2, 0, 1, 2, 0, 1, 2, 0])
        np.testing.assert_array_equal(dataset.test_labels, [3, 3, 3, 3])
        assert dataset.names == ("0", "1", "2", "4")
        whole = np.array([0, 1, 2, 3, 4, 6, 7])
        np.testing.assert_array_equal(dataset.train_images[whole], images[whole])
        np.testing.assert_array_equal(dataset.train_images[np.array([5])][0], decode(files[5], data_options(**SMALL)))
        np.testing.assert_array_equal(pixels(dataset.test_images), images[8:])


def test_a_data_set_without_labels_or_test_split_and_with_a_broken_image(tmp_path: Path) -> None:
    images = noise(20, 8, 8, 3)
    files = [png(image) for image in images]
    files[3] = files[3][:40]
    tfds_writer.write(tmp_path, "bare", {"train": files}, None)
    dataset = load(source="tfds", name="bare", dir=str(tmp_path), test_fraction=0.1)
    assert (len(dataset.train_images), len(dataset.test_images), dataset.classes) == (17, 2, 0)
    assert "1 of the 20 images of tfds:bare left out: tfds:bare, train[3] (" in dataset.warnings[0]
    with pytest.raises(UserError, match="tfds:bare has no labels, and this run needs them"):
        load(source="tfds", name="bare", dir=str(tmp_path), labels=True)
    with pytest.raises(UserError, match=r"unknown data.label_key of tfds:bare 'label'.*it has no labels"):
        load(source="tfds", name="bare", dir=str(tmp_path), label_key="label")


def test_a_prepared_data_set_that_is_damaged_is_said(tmp_path: Path) -> None:
    tfds_writer.write(tmp_path, "tiny", {"train": [png(noise(8, 8, 3))] * 4}, None)
    (file,) = tmp_path.rglob("*array_record*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"tfds:tiny") as error:
        load(source="tfds", name="tiny", dir=str(tmp_path))
    assert "\n" not in str(error.value)


@real
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": ""}, "needs data.name"),
        ({"name": "mnisst"}, "unknown data.name of the tfds source 'mnisst'; did you mean 'mnist'?"),
        ({"name": "mnist:9.9.9"}, "data.name 'mnist:9.9.9' of the tfds source: .*"),
        ({"name": "mnist", "image_key": "picture"}, "unknown data.image_key of tfds:mnist 'picture'; valid: image"),
        ({"name": "mnist", "label_key": "digit"}, "unknown data.label_key of tfds:mnist 'digit'.* valid: label"),
    ],
)
def test_what_is_wrong_with_a_tfds_name_is_said(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(source="tfds", dir=str(TFDS), **changed)
    assert "\n" not in str(error.value)


def test_what_is_not_prepared_is_one_line_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else honest(name))
    with pytest.raises(UserError) as error:
        load(source="tfds", name="cifar10", dir=str(tmp_path))
    assert f"tfds build cifar10 --file_format=array_record --data_dir={tmp_path}" in str(error.value)
    assert "pip install -e '.[prepare]'" in str(error.value)
    assert "\n" not in str(error.value)


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "embeded"}, "unknown data.source 'embeded'; did you mean 'embedded'"),
        ({"name": "mnist"}, "'mnist'; did you mean 'mnist5k'"),
        ({"dir": "there"}, "data.dir is 'there'.*leave data.dir empty"),
        ({"source": "npz"}, "the npz source needs data.dir"),
        ({"source": "npz", "dir": "no.npz"}, "'no.npz' is not there; the npz source needs an .npz or .npy file"),
        ({"source": "npz", "dir": "."}, "is a folder, not a file"),
    ],
)
def test_what_cannot_be_loaded_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(**changed)


def test_embedded_sets_come_in_any_shape(tmp_path: Path) -> None:
    digits = load(image_size=28, channels=1)
    assert (digits.name, digits.classes, digits.image_shape) == ("embedded:mnist5k", 10, (28, 28, 1))
    assert isinstance(digits.train_images, np.ndarray)
    coloured = load(tmp_path, image_size=32, channels=3)
    assert (coloured.train_images.shape, coloured.test_images.shape) == ((4500, 32, 32, 3), (500, 32, 32, 3))
    image = Image.fromarray(digits.train_images[7, ..., 0]).resize((32, 32), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(coloured.train_images[np.array([7])][0], np.asarray(image)[..., None].repeat(3, -1))
    np.testing.assert_array_equal(coloured.train_labels, digits.train_labels)
    shapes = load(name="shapes32", image_size=32)
    assert (shapes.classes, shapes.image_shape, len(shapes.test_images)) == (6, (32, 32, 3), 500)


EVERYWHERE: dict[str, dict[str, int]] = {
    "on disk": {},
    "in memory": {"cache_budget_mb": 0},
    "nowhere": {"cache_budget_mb": 0, "device_budget_mb": 0},
}


@pytest.mark.parametrize("kept", EVERYWHERE)
@pytest.mark.parametrize("kind", ["folder", "savez", "savez_compressed", "another shape", "an empty test part"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_part_without_images_is_like_any_other(kind: str, kept: str, count: int, tmp_path: Path) -> None:
    images, settings = folder(tmp_path / "images", count), {"source": "npz", "dir": str(tmp_path / "a.npz")}
    if kind == "folder":
        settings = {"source": "folder", "dir": str(tmp_path / "images")}
    elif kind == "an empty test part":
        both: dict[str, Any] = {
            "images": images,
            "labels": np.arange(count),
            "test_images": images[:0],
            "test_labels": [],
        }
        np.savez(tmp_path / "a.npz", **both)
    else:
        save = np.savez_compressed if kind == "savez_compressed" else np.savez
        save(tmp_path / "a.npz", images=images[:, :, :7] if kind == "another shape" else images)
    dataset = load(tmp_path / "cache", **settings, **EVERYWHERE[kept], test_fraction=0.0)
    assert (dataset.train_images.shape, dataset.test_images.shape) == ((count, 8, 8, 3), (0, 8, 8, 3))
    for part in (dataset.train_images, dataset.test_images):
        nothing = part[np.zeros(0, np.int64)]
        assert nothing.shape == (0, 8, 8, 3)
        assert nothing.dtype == np.uint8
    assert pixels(pickle.loads(pickle.dumps(dataset.test_images))).shape == (0, 8, 8, 3)
    assert dataset.test_digest != dataset.digest
    assert len(dataset.test_labels) == 0


def test_the_cache_describes_itself(tmp_path: Path) -> None:
    folder(tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"")
    load(tmp_path / "cache", source="folder", dir=str(tmp_path / "images"), test_fraction=0.0)
    (report,) = (tmp_path / "cache").glob("*.json")
    content = json.loads(report.read_text())
    assert content["images"] == 11
    assert content["unreadable"]["10"].startswith("broken.png (")
