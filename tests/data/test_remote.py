"""Pictures in a bucket, with fsspec's file system in memory in its place."""

import pickle
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
from tests.data.test_archives import of, same
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


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nothing://bucket/x", r"'nothing://bucket/x' can't be reached \(ValueError: .*: copy the pictures into"),
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
