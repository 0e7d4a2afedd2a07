"""Zips and tars of pictures: the same data as the folder that they hold, and one line where they are wrong."""

import io
import os
import pickle
import re
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import Dataset, archive, ranges, tars, zips
from gan_jax.data.folder import _walk
from gan_jax.data.images import Decoded
from gan_jax.util.errors import UserError
from tests.data.test_sources import folder, load, made_run, noise, pixels, png, zoo


def zipped(place: Path, name: str, way: int = zipfile.ZIP_DEFLATED, within: str = "") -> Path:
    """All of a folder in a zip beside it."""
    path = place.with_name(name)
    with zipfile.ZipFile(path, "w", way) as file:
        for found in sorted(place.rglob("*"), reverse=True):
            file.write(found, os.path.join(within, found.relative_to(place)))
    return path


def tarred(place: Path, name: str, form: int = tarfile.PAX_FORMAT, within: str = ".") -> Path:
    """All of a folder in a tar beside it."""
    path = place.with_name(name)
    with tarfile.open(path, "w", format=form) as file:
        file.add(place, within)
    return path


PACK: dict[str, Callable[[Path], Path]] = {
    "deflated zip": lambda place: zipped(place, "a.zip"),
    "stored zip": lambda place: zipped(place, "a.zip", zipfile.ZIP_STORED),
    "zip with a folder around": lambda place: zipped(place, "a.zip", within="around"),
    "pax": lambda place: tarred(place, "a.tar"),
    "gnu": lambda place: tarred(place, "a.tar", tarfile.GNU_FORMAT, "around"),
    "ustar": lambda place: tarred(place, "a.tar", tarfile.USTAR_FORMAT),
}


def of(path: Path, **changed: Any) -> Dataset:
    return load(source="folder", dir=str(path), **changed)


def same(one: Dataset, other: Dataset) -> None:
    assert (one.digest, one.test_digest, one.names) == (other.digest, other.test_digest, other.names)
    for part in ("train", "test"):
        images, labels = (getattr(one, f"{part}_{what}") for what in ("images", "labels"))
        np.testing.assert_array_equal(pixels(images), pixels(getattr(other, f"{part}_images")))
        np.testing.assert_array_equal(labels, getattr(other, f"{part}_labels"))


@pytest.mark.parametrize("how", PACK)
@pytest.mark.parametrize("parts", ["", "train test"])
def test_an_archive_is_the_folder_that_it_holds(how: str, parts: str, tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    for part, seed in zip(parts.split() or [""], (0, 1), strict=False):
        for number, name in enumerate(("zebra", "ant", "bee", f"{'long' * 30}")):
            (place / part / name / "Zoo").mkdir(parents=True)
            for i in range(4):
                where = place / part / name / ("Zoo" if i % 2 else "")
                Image.fromarray(noise(9, 12, 3, seed=100 * seed + 10 * number + i)).save(where / f"{i}.png")
    (place / parts.split(" ")[0] / "ant" / "0.png").write_bytes(b"broken")
    (place / "notes.txt").touch()
    for hidden in (".hidden", "__MACOSX"):
        (place / hidden).mkdir()
        (place / hidden / "._a.png").touch()
    wanted, found = of(place, labels=True, test_fraction=0.25), of(PACK[how](place), labels=True, test_fraction=0.25)
    same(found, wanted)
    assert len(found.names) == 4
    assert found.left_out == wanted.left_out == ("files of other endings: 1 .txt",)
    (warning,) = found.warnings
    assert warning.startswith(f"1 of the {32 if parts else 16} images of folder:a.")
    assert "ant/0.png (not a PNG" in warning


LABELS = {
    "labels.csv": "file,label\ncat/000.png,a\ncat/001.png,b\ndog/000.png,a\ngone.png,c\n",
    "dataset.json": '{"labels": [["cat/001.png", 7], ["cat/000.png", 10], ["dog/000.png", 10]]}',
    "mine.csv": "cat/000.png;y\ncat/001.png;x\ndog/000.png;x\n",
}


@pytest.mark.parametrize("how", PACK)
@pytest.mark.parametrize("name", LABELS)
def test_labels_in_an_archive_are_those_of_the_folder(how: str, name: str, tmp_path: Path) -> None:
    place = zoo(tmp_path / "pictures", cat=2, dog=1)
    (place / name).write_text(LABELS[name])
    asked = {"labels": True, "test_fraction": 0.0, "label_key": name if name == "mine.csv" else ""}
    found, wanted = of(PACK[how](place), **asked), of(place, **asked)
    same(found, wanted)
    assert (found.left_out, found.train_labels.tolist()) == (wanted.left_out, wanted.train_labels.tolist())
    assert (
        found.train_labels.tolist() == {"labels.csv": [0, 1, 0], "dataset.json": [1, 0, 1], "mine.csv": [1, 0, 0]}[name]
    )


@pytest.mark.parametrize("within", ["", "around"])
def test_labels_of_an_archive_without_folders_lie_beside_the_images(within: str, tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    folder(place, 3)
    (place / "labels.csv").write_text("00.png,y\n01.png,x\n02.png,y\n")
    found = of(zipped(place, "a.zip", within=within), labels=True, test_fraction=0.0)
    assert (found.names, found.train_labels.tolist()) == (("x", "y"), [1, 0, 1])


def test_labels_beside_the_folder_around_all_name_that_too(tmp_path: Path) -> None:
    place = zoo(tmp_path / "whole" / "around", cat=1, dog=1)
    (place.parent / "labels.csv").write_text("around/cat/000.png,y\naround/dog/000.png,x\n")
    found = of(zipped(place.parent, "a.zip"), labels=True, test_fraction=0.0)
    assert (found.names, found.train_labels.tolist()) == (("x", "y"), [1, 0])


def test_what_is_wrong_with_labels_in_an_archive_is_one_line(tmp_path: Path) -> None:
    place = zoo(tmp_path / "pictures", cat=2)
    (place / "labels.csv").write_text("cat/000.png,a\n")
    path = zipped(place, "a.zip")
    with pytest.raises(UserError, match=r"a.zip/labels.csv has no label for 1 of the 2 images \('cat/001.png'\)"):
        of(path, labels=True)
    path = zipped(place, "a.zip", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"cat/000.png,a", b"cat/000.png,b"))
    with pytest.raises(UserError, match=r"cannot read .*a.zip/labels.csv: damaged in the zip: its checksum"):
        of(path, labels=True)
    with pytest.raises(UserError, match=r"data.label_key: 'mine.csv' is not in '.*a.zip'"):
        of(path, labels=True, label_key="mine.csv")


def test_runs_in_an_archive_are_no_images(tmp_path: Path) -> None:
    pictures = zoo(tmp_path / "pictures", cat=12, dog=8)
    before = of(pictures, labels=True)
    for where in ("runs/mine", "cat/mine"):
        made_run(pictures / where)
        (pictures / where / "metrics.jsonl").touch()
    wanted = of(pictures, labels=True)
    for path in (zipped(pictures, "a.zip"), tarred(pictures, "a.tar")):
        found = of(path, labels=True)
        same(found, before)
        assert found.left_out == wanted.left_out
        assert "runs/mine" in found.left_out[-1]


def test_members_are_read_by_threads_and_by_who_gets_them_sent(tmp_path: Path) -> None:
    images = folder(tmp_path / "pictures", 40)
    for path in (zipped(tmp_path / "pictures", "a.zip"), tarred(tmp_path / "pictures", "a.tar")):
        dataset = of(path, cache_budget_mb=0, device_budget_mb=0, test_fraction=0.0)
        assert isinstance(dataset.train_images, Decoded)
        sent = pickle.loads(pickle.dumps(dataset.train_images))
        orders = [np.random.default_rng(seed).permutation(40) for seed in range(8)]
        with ThreadPoolExecutor(4) as pool:
            for order, found in zip(orders, pool.map(sent.__getitem__, orders), strict=True):
                np.testing.assert_array_equal(found, images[order])
        os.utime(path, ns=(1, 1))
        with pytest.raises(UserError, match=r"cannot read 00.png \(a\....? is not what it was at the start\)"):
            dataset.train_images[np.arange(2)]


def test_an_archive_that_changed_is_decoded_anew(tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    folder(place, 6)
    asked: dict[str, Any] = {"source": "folder", "dir": str(zipped(place, "a.zip")), "test_fraction": 0.0}
    first = load(tmp_path / "cache", **asked)
    Image.fromarray(noise(8, 8, 3, seed=9)).save(place / "03.png")
    again = zipped(place, "a.zip")
    os.utime(again, ns=(1, 1))
    assert load(tmp_path / "cache", **asked).digest != first.digest
    assert len(list((tmp_path / "cache").glob("*.u8"))) == 2


# --- zips -------------------------------------------------------------------------------------------------------------


def listed_by_zipfile(path: Path) -> list[tuple[Any, ...]]:
    with zipfile.ZipFile(path) as file:
        return [(i.filename, i.header_offset, i.compress_size, i.file_size, i.CRC) for i in file.infolist()]


@pytest.mark.parametrize("before", [b"", b"#!/bin/sh unpacks itself\n" * 9])
@pytest.mark.parametrize("comment", [b"", b"a comment PK\5\6"])
def test_a_zips_list_is_what_pythons_own_module_reads(before: bytes, comment: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", b"one")
        file.writestr("日本/ü.png", b"two" * 1000, zipfile.ZIP_DEFLATED)
        with file.open(zipfile.ZipInfo("large.png"), "w", force_zip64=True) as member:
            member.write(b"three")
        file.mkdir("folder")
    path.write_bytes(before + path.read_bytes())
    wanted = listed_by_zipfile(path)
    path.write_bytes(path.read_bytes()[:-2] + struct.pack("<H", len(comment)) + comment)
    with ranges.opened(path) as opened:
        found = list(zips.members(opened))
        assert [member[:5] for member in found] == wanted
        contents = [zips.content(opened, member[1:6]) for member in found]
    assert contents == [b"one", b"two" * 1000, b"three", b""]


def test_a_zip_of_more_files_than_its_first_form_can_count_is_read(tmp_path: Path) -> None:
    path, count = tmp_path / "a.zip", 2**16 + 5
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", b"one")
    local, listed, _ = re.split(rb"(?s)(?=PK\x01\x02)|(?=PK\x05\x06)", path.read_bytes())
    size, end = count * len(listed), len(local) + count * len(listed)
    large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, len(local))
    large += struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(local + listed * count + large + last)
    with ranges.opened(path) as opened:
        assert [member[:5] for member in zips.members(opened)] == listed_by_zipfile(path)


def test_numbers_that_have_no_room_are_read_from_the_field_behind(tmp_path: Path) -> None:
    """As of a member beyond 4 GB: its size, packed size and place are in the extra field, each only if it must be."""
    extra = struct.pack("<2H", 0x5455, 5) + b"other" + struct.pack("<2H2Q", 1, 16, 2**33, 2**34)
    assert zips._larger(extra, [2**32 - 1, 7, 2**32 - 1]) == [2**33, 7, 2**34]
    assert zips._larger(b"", [2**32 - 1, 7, 8]) == [2**32 - 1, 7, 8]


def test_names_in_old_code_pages_and_with_backslashes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("k\\a.png", "d/\xe9.png", "../../etc/b.png", "/abs/c.png"):
            info = zipfile.ZipInfo(name)
            info.create_system = 0
            file.writestr(info, png(noise(8, 8, 3)))
    data = path.read_bytes().replace("d/\xe9.png".encode(), b"d/\x82x.png")  # of the same length
    for magic, between in ((rb"PK\x03\x04", 2), (rb"PK\x01\x02", 4)):  # the flags
        data = re.sub(rb"(?s)(%s.{%d}).." % (magic, between), rb"\1\0\0", data)
    path.write_bytes(data)
    assert sorted(name for name, *_ in archive.look(path).images) == ["abs/c.png", "d/éx.png", "etc/b.png", "k/a.png"]


def test_of_two_members_of_one_name_the_last_counts(tmp_path: Path) -> None:
    (old, new), path = noise(2, 8, 8, 3), tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", png(old))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.png", png(new))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for image in (old, new):
            info = tarfile.TarInfo("./a.png")
            info.size = len(png(image))
            tar.addfile(info, io.BytesIO(png(image)))
    for either in (path, tmp_path / "a.tar"):
        dataset = of(either, test_fraction=0.0)
        np.testing.assert_array_equal(pixels(dataset.train_images), new[None])
        assert dataset.left_out == ("files whose path another one has, too: 1",)


def test_links_and_the_like_are_left_out(tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    folder(place, 2)
    (place / "link.png").symlink_to("00.png")
    os.mkfifo(place / "pipe.png")
    os.link(place / "01.png", place / "twin.png")
    found = of(tarred(place, "a.tar"), test_fraction=0.0)
    assert (len(found.train_images), found.left_out) == (3, ("what is no regular file: 'link.png', 'pipe.png'",))
    (place / "link.png").unlink()
    same(found, of(place, test_fraction=0.0))
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as file:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
        file.write(place / "00.png", "a.png")
    assert of(path, test_fraction=0.0).left_out == ("what is no regular file: 'link.png'",)


def test_what_claims_to_be_huge_is_never_unpacked(tmp_path: Path) -> None:
    path, image = tmp_path / "a.zip", png(noise(8, 8, 3))
    bomb = zlib.compressobj(9, wbits=-15)
    packed = bomb.compress(bytes(2**24)) + bomb.flush()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", image)
        file.writestr("large.png", bytes(2**24))
        file.writestr("more.png", bytes(2**24))
    data = path.read_bytes()
    sizes = [i for i in range(len(data)) if data[i : i + 4] == struct.pack("<L", 2**24)]
    assert len(sizes) == 4
    for place, size in ((sizes[2], 2**31), (sizes[3], 1000)):  # in the list: more than may be, and less than it holds
        data = data[:place] + struct.pack("<L", size) + data[place + 4 :]
    path.write_bytes(data)
    assert len(packed) < 2**15
    dataset = of(path, test_fraction=0.0)
    assert len(dataset.train_images) == 1
    (warning,) = dataset.warnings
    assert "large.png (its file has 2,147,483,648 bytes, and may have 268,435,456)" in warning
    assert "more.png (damaged in the zip: its checksum is another)" in warning


def test_damaged_and_strange_members_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", png(noise(8, 8, 3)))
        file.writestr("b.png", png(noise(8, 8, 3, seed=1)), zipfile.ZIP_LZMA)
        file.writestr("c.png", b"0123456789")
        file.writestr("d.png", b"1" * 1000, zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace(b"0123456789", b"9876543210")
    at = data.index(b"d.png") + len(b"d.png")
    path.write_bytes(data[:at] + b"\xff\xff" + data[at + 2 :])
    (warning,) = of(path, test_fraction=0.0).warnings
    for said in (
        "b.png (compressed by lzma: zip it with deflate, or store it)",
        "c.png (damaged in the zip: its checksum is another)",
        "d.png (damaged in the zip: ",
    ):
        assert said in warning


# --- tars -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tars_list_is_what_pythons_own_module_reads(form: int, tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    for name in ("a", "x" * 90 + "/b", *([] if form == tarfile.USTAR_FORMAT else ["ü" * 60 + "/" + "y" * 90])):
        (place / name).mkdir(parents=True)
        (place / name / "a.png").write_bytes(os.urandom(700))
    os.link(place / "a" / "a.png", place / "a" / "twin.png")
    path = tarred(place, "a.tar", form, "top")
    with tarfile.open(path) as file:
        wanted = [(m.name, m.offset_data, m.size if m.isreg() else 0) for m in file]
    with ranges.opened(path) as opened:
        found = list(tars.members(opened))
    assert [(m.name.rstrip("/"), m.at, m.size) for m in found] == wanted
    assert {m.kind for m in found} == {"file", "folder", "link"}


@pytest.mark.skipif(not shutil.which("tar"), reason="there is no program tar")
def test_a_file_with_holes_in_a_tar_is_left_out_and_what_follows_is_read(tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    images = folder(place, 2)
    with (place / "00hole.png").open("wb") as file:
        for number in range(40):  # more pieces than its first header has room for
            file.seek(number * 2**16)
            file.write(b"x" * 512)
        file.truncate(2**22)
    for form in ("gnu", "posix"):
        command = ["tar", "-cSf", str(tmp_path / "a.tar"), f"--format={form}", "-C", str(place), "."]
        subprocess.run(command, check=True)
        dataset = of(tmp_path / "a.tar", test_fraction=0.0)
        np.testing.assert_array_equal(pixels(dataset.train_images), images)
        if dataset.left_out:  # the file system may have kept no holes
            assert "00hole.png" in dataset.left_out[0]


# --- what is wrong with whole archives --------------------------------------------------------------------------------


def damaged(place: Path) -> dict[str, tuple[bytes, str]]:
    """Archives of ``place`` that can't be read: their bytes by name, and what is said."""
    whole, tar = zipped(place, "ok.zip").read_bytes(), tarred(place, "ok.tar").read_bytes()
    locked = bytearray(whole)
    locked[whole.index(b"PK\1\2") + 8] |= 1
    listing = whole.index(b"PK\1\2")
    return {
        "cut.zip": (whole[:-30], "is no zip or tar that can be read: it has no list of files at its end"),
        "cut2.zip": (whole[: len(whole) // 2], "it has no list of files at its end: it is no zip, or not whole"),
        "front.zip": (whole[:4] + whole[104:], "its list of files is not where it should be: is it whole"),
        "list.zip": (whole[:listing] + b"XX" + whole[listing + 2 :], "its list of files is damaged"),
        "locked.zip": (bytes(locked), r"'0.\.png' in it is encrypted: unpack it, or zip it without a password"),
        "empty.zip": (b"", "it has no list of files at its end"),
        "text.zip": (b"hello" * 1000, "it has no list of files at its end"),
        "cut.tar": (tar[: len(tar) // 3], "is it whole"),
        "noend.tar": (tar.rstrip(b"\0")[:-3], "it ends within"),
        "middle.tar": (tar[:1024] + b"garbage" * 512 + tar[1024:], "its header at byte .* is damaged"),
        "empty.tar": (b"", "it is no tar"),
        "text.tar": (b"hello" * 1000, "it is no tar"),
        "a.tar.gz": (
            b"\x1f\x8b" + bytes(20),
            "compressed by gzip, .* unpack it and give the folder, or give a zip",
        ),
        "named.tar": (b"\x28\xb5\x2f\xfd" + bytes(600), "it is compressed by zstd"),
        "other.7z": (b"7z\xbc\xaf" + bytes(600), "it is no tar"),
        "none.zip": (b"PK\5\6" + bytes(18), "no file in the archive .*none.zip' ends in .png"),
    }


_ZIPS = "cut.zip cut2.zip front.zip list.zip locked.zip empty.zip text.zip none.zip"
_TARS = "cut.tar noend.tar middle.tar empty.tar text.tar a.tar.gz named.tar other.7z"


@pytest.mark.parametrize("name", f"{_ZIPS} {_TARS}".split())
def test_what_is_wrong_with_an_archive_is_one_line(name: str, tmp_path: Path) -> None:
    folder(tmp_path / "pictures", 4)
    content, message = damaged(tmp_path / "pictures")[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        of(tmp_path / name)
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_any_damage_is_a_line_or_a_picture_less(kind: str, tmp_path: Path) -> None:
    folder(tmp_path / "pictures", 3)
    made = (zipped if kind == "zip" else tarred)(tmp_path / "pictures", f"a.{kind}")
    whole = made.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        made.write_bytes(data[: random.integers(1, len(data))] if random.random() < 0.2 else data)
        assert _outcome(made) in range(1, 4)


def _outcome(path: Path) -> int:
    """How many images are read; 1 if none are, for a reason in one line."""
    try:
        return len(of(path, test_fraction=0.0).train_images)
    except UserError as error:
        return 1 + str(error).count("\n") * 10


def test_an_index_takes_bytes_and_not_objects(tmp_path: Path) -> None:
    path, count = tmp_path / "a.zip", 3000
    with zipfile.ZipFile(path, "w") as file:
        for number in range(count):
            file.writestr(f"{number:06d}.png", b"")
    found = archive.look(path)
    assert len(pickle.dumps(found.reader(found.images))) < 40 * count


def test_a_folders_walk_and_an_archives_list_find_the_same(tmp_path: Path) -> None:
    zoo(tmp_path / "pictures", cat=3, dog=2)
    (tmp_path / "pictures" / "a.MP4").touch()
    walked, found = (
        _walk(tmp_path / "pictures", "data.dir", False, None),
        archive.look(zipped(tmp_path / "pictures", "a.zip")),
    )
    assert sorted(image[:2] for image in walked.images) == sorted(image[:2] for image in found.images)
    assert walked.endings == found.endings
