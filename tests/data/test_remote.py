"""Pictures in a bucket, with fsspec's file system in memory in its place."""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from gan_jax.config import default, to_plain
from gan_jax.data import remote
from gan_jax.data.images import Decoded
from gan_jax.util.errors import UserError
from tests.data.test_archives import PACK, of, same, tarred, zipped
from tests.data.test_sources import load, pixels, zoo


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Path]:
    """A folder, and the same in the bucket ``memory://bucket/pictures``."""
    place = zoo(tmp_path / "pictures", cat=6, dog=4)
    (place / "dog" / "broken.png").write_bytes(b"broken")
    (place / "notes.txt").touch()
    (place / ".hidden.png").touch()
    system = fsspec.filesystem("memory")
    system.put(str(place), "/bucket/pictures", recursive=True)
    yield place
    system.rm("/bucket", recursive=True)


URL = "memory://bucket/pictures"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_bucket_is_the_folder_that_it_holds(bucket: Path, slash: str) -> None:
    found = load(source="folder", dir=URL + slash, labels=True, test_fraction=0.25)
    same(found, of(bucket, labels=True, test_fraction=0.25))
    assert found.left_out == ("files of other endings: 1 .txt",)
    assert "dog/broken.png (not a PNG" in found.warnings[0]


def test_labels_lie_in_a_bucket_too(bucket: Path) -> None:
    names = sorted(f"{file.parent.name}/{file.name}" for file in bucket.glob("*/*.png"))
    rows = [f"{name},{'xyz'[number % 3]}" for number, name in enumerate(names)]
    (bucket / "labels.csv").write_text("\n".join(rows))
    fsspec.filesystem("memory").put(str(bucket / "labels.csv"), "/bucket/pictures/labels.csv")
    found = load(source="folder", dir=URL, labels=True, test_fraction=0.25)
    same(found, of(bucket, labels=True, test_fraction=0.25))
    assert found.names == ("x", "y", "z")


@pytest.mark.usefixtures("bucket")
def test_a_worker_reads_what_it_is_sent() -> None:
    asked: dict[str, Any] = {"source": "folder", "dir": URL, "cache_budget_mb": 0, "device_budget_mb": 0}
    images = load(**asked, test_fraction=0.0).train_images
    assert isinstance(images, Decoded)
    np.testing.assert_array_equal(pixels(pickle.loads(pickle.dumps(images))), pixels(images))
    fsspec.filesystem("memory").rm("/bucket/pictures/cat/000.png")
    with pytest.raises(UserError, match=r"cannot read cat/000.png \(it is gone\)"):
        images[np.arange(1)]


@pytest.mark.usefixtures("bucket")
def test_a_network_that_fails_loses_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> bytes:
        raise ConnectionResetError("reset\nby peer")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", fails)
    with pytest.raises(UserError, match=r"cannot read 'memory://.*' \(ConnectionResetError: reset by peer\)"):
        load(source="folder", dir=URL)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each request asks for; None: for a whole file."""
    found: list[int] = []
    kind = fsspec.get_filesystem_class("memory")
    whole = kind.cat_file

    def cat_file(self: Any, path: str, start: int | None = None, end: int | None = None) -> bytes:
        assert start is not None
        assert end is not None
        found.append(end - start)
        content: bytes = whole(self, path, start=start, end=end)
        return content

    monkeypatch.setattr(kind, "cat_file", cat_file)
    return found


@pytest.mark.parametrize("how", PACK)
def test_an_archive_in_a_bucket_is_the_folder_that_it_holds(how: str, bucket: Path, asked: list[int]) -> None:
    names = sorted(f"{file.parent.name}/{file.name}" for file in bucket.glob("*/*.png"))
    (bucket / "labels.csv").write_text("".join(f"{name},{'xy'[at % 2]}\n" for at, name in enumerate(names)))
    (bucket / "dog" / "noise.txt").write_bytes(np.random.default_rng(0).bytes(3 * 2**20))
    path = PACK[how](bucket)
    fsspec.filesystem("memory").put(str(path), f"/bucket/{path.name}")
    wanted: dict[str, Any] = {"labels": True, "test_fraction": 0.25, "cache_budget_mb": 0, "device_budget_mb": 0}
    found = load(source="folder", dir=f"memory://bucket/{path.name}", **wanted)
    assert found.names == ("x", "y")
    assert sum(asked) < path.stat().st_size  # of the large file in it at most a part
    listing = len(asked)
    images = found.train_images
    np.testing.assert_array_equal(pixels(pickle.loads(pickle.dumps(images))), pixels(images))
    assert len(asked) - listing == 2 * len(images)  # one request a picture, each time
    same(found, of(bucket, **wanted))


def test_an_archive_in_a_bucket_that_is_another_now_is_not_read_on(bucket: Path) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(zipped(bucket, "a.zip")), "/bucket/a.zip")
    given: dict[str, Any] = {"source": "folder", "dir": "memory://bucket/a.zip", "test_fraction": 0.0}
    images = load(**given, cache_budget_mb=0, device_budget_mb=0).train_images
    system.put(str(zipped(bucket, "a.zip")), "/bucket/a.zip")
    with pytest.raises(UserError, match=r"a.zip is not what it was at the start"):
        images[np.arange(1)]
    system.rm("/bucket/a.zip")
    with pytest.raises(UserError, match=r"'memory://bucket/a.zip' is not there"):
        images[np.arange(1)]


def test_who_gives_no_parts_of_files_is_told_of(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").put(str(zipped(bucket, "a.zip")), "/bucket/a.zip")
    kind = fsspec.get_filesystem_class("memory")
    whole = kind.cat_file
    monkeypatch.setattr(kind, "cat_file", lambda self, path, **_: whole(self, path))
    (bucket / "large").write_bytes(bytes(2**17))
    fsspec.filesystem("memory").put(str(zipped(bucket, "b.zip", zipfile.ZIP_STORED)), "/bucket/b.zip")
    with pytest.raises(UserError, match=r"'memory://bucket/b.zip' is read in parts, .* copy it to this machine"):
        load(source="folder", dir="memory://bucket/b.zip")


def test_shards_elsewhere_are_refused_in_one_line(bucket: Path) -> None:
    system = fsspec.filesystem("memory")
    (bucket / "cat" / "000.cls").write_text("1")
    system.put(str(tarred(bucket, "a.tar")), "/bucket/shards/a.tar")
    for url in ("memory://bucket/shards", "memory://bucket/shards/a.tar", "memory://bucket/shards/a-{0..3}.tar"):
        with pytest.raises(
            UserError, match=r"WebDataset's shards, as at .*, are not read from elsewhere: copy"
        ) as error:
            load(source="folder", dir=url)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nothing://bucket/x", r"'nothing://bucket/x' can't be reached \(ValueError: .*: copy the pictures into"),
        ("memory://bucket/none.zip", r"data.dir: 'memory://bucket/none.zip' is not there"),
        ("memory://bucket/empty", r"no file in the place 'memory://bucket/empty' ends in .png"),
    ],
)
def test_what_is_wrong_with_a_bucket_is_one_line(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(source="folder", dir=url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "package"), [("gs", "gcsfs"), ("s3", "s3fs")])
def test_the_package_that_a_bucket_needs_is_named(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(url: str) -> None:
        raise ImportError(f"Please install {package}")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(UserError, match=f"'{kind}://b/x' can't be reached .*: pip install {package}$"):
        remote.look(f"{kind}://b/x")


def test_an_address_is_kept_as_it_is() -> None:
    config = default("folder")
    config.data.dir = "gs://bucket/pictures"
    assert to_plain(config)["data"]["dir"] == "gs://bucket/pictures"
