"""Grids, picture files, animations, and the spherical interpolation that some of them show."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np
import pytest
from PIL import Image

from gan_jax.evaluate.sample import slerp
from gan_jax.runs.visualize import captions, evenly, grid, save_animation, save_images, save_png
from gan_jax.util.errors import UserError
from gan_jax.util.files import write_atomically


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


# --- grids ------------------------------------------------------------------------------------------------------------


def test_a_grid_is_row_by_row_with_black_between() -> None:
    images = np.array([[[1, 2]], [[3, 4]], [[5, 6]]], np.uint8)[..., None]
    by_hand = [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 2, 0, 3, 4, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 5, 6, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(grid(images, 2, border=1)[..., 0], by_hand)
    np.testing.assert_array_equal(grid(images, 3, border=0)[..., 0], [[1, 2, 3, 4, 5, 6]])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_has_two_pixels_of_border_unless_told(channels: int) -> None:
    images = random_images(6, 4, 5, channels)
    picture = grid(images, 3)
    assert picture.shape == (14, 23, channels)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[2:6, 16:21], images[2])
    np.testing.assert_array_equal(picture[8:12, 9:14], images[4])
    assert np.count_nonzero(picture) == images.size


def test_rows_of_classes_have_their_names_before_them() -> None:
    images = random_images(6, 28, 28, 3)
    picture = grid(images, 3, captions(np.array([1, 0]), ["cat", "dog"]))
    plain = grid(images, 3)
    margin = picture.shape[1] - plain.shape[1]
    np.testing.assert_array_equal(picture[:, margin:], plain)
    upper, lower = picture[:30, :margin], picture[30:60, :margin]
    assert 10 < margin < 40
    assert upper.any()
    assert lower.any()
    assert (upper != lower).any()
    np.testing.assert_array_equal(upper, grid(images[:3], 3, ["dog"])[:30, :margin][:, :margin])
    wide = grid(images, 3, ["x" * 1000, ""])
    assert wide.shape[1] - plain.shape[1] == 100
    assert captions(np.array([0, 2, 1]), ["a", "b", "猫"]) == ["a", "class 2", "b"]


def test_files_of_a_folder_and_of_npz_say_the_class(tmp_path: Path) -> None:
    images, labels, names = random_images(3, 8, 8, 3), np.array([1, 0, 2]), ["cat", "../a dog$", "猫" * 60]
    save_images(images, tmp_path / "drawn", labels, names)
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "000000____a_dog_.png",
        "000001_cat.png",
        "000002_class_2.png",
    ]
    save_images(images, tmp_path / "a.npz", labels, names)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["classes"][file["labels"]].tolist() == [names[label] for label in labels]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_keeps_every_pixel(channels: int, mode: str, tmp_path: Path) -> None:
    picture = random_images(5, 7, channels)
    save_png(picture, tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(image).reshape(5, 7, channels), picture)


def test_images_to_npz_are_the_array(tmp_path: Path) -> None:
    images = random_images(5, 4, 4, 3)
    save_images(images, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        assert list(file) == ["images"]
        np.testing.assert_array_equal(file["images"], images)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


class Streamed:
    """Images in batches, of which it says how many are held at once."""

    def __init__(self, images: np.ndarray, size: int) -> None:
        self.shape, self.images, self.size = images.shape, images, size

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), self.size):
            yield self.images[start : start + self.size]


@pytest.mark.parametrize("name", ["a.npz", "a.png", "a"])
def test_images_in_batches_are_written_as_the_array(name: str, tmp_path: Path) -> None:
    images, labels, names = random_images(7, 4, 4, 3), np.array([1, 0, 2, 0, 1, 2, 2]), ["x", "y", "z"]
    (tmp_path / "whole").mkdir()
    save_images(images, tmp_path / "whole" / name, labels, names)
    save_images(Streamed(images, 3), tmp_path / "streamed" / name, labels, names)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    assert files
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "streamed" / file).read_bytes()


def test_images_of_seeds_are_named_after_them(tmp_path: Path) -> None:
    images, seeds = random_images(3, 4, 4, 3), np.array([7, 2, 4_000_000_000])
    save_images(images, tmp_path / "a", seeds=seeds)
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [
        "seed000002.png",
        "seed000007.png",
        "seed4000000000.png",
    ]
    np.testing.assert_array_equal(read(tmp_path / "a" / "seed000002.png"), images[1])
    save_images(images, tmp_path / "a.npz", seeds=seeds)
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["seeds"], seeds)
    save_images(images, tmp_path / "a.png", seeds=seeds, columns=3)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), grid(images, 3))


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_images_to_png_are_the_smallest_square_grid(count: int, columns: int, tmp_path: Path) -> None:
    images = random_images(count, 4, 4, 3)
    save_images(images, tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), grid(images, columns))


def test_images_to_a_folder_are_one_file_each(tmp_path: Path) -> None:
    images = random_images(3, 4, 4, 1)
    save_images(images, tmp_path / "new" / "folder")
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    for file, image in zip(files, images, strict=True):
        np.testing.assert_array_equal(read(file), image[..., 0])


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    """As of more samples, which would be taken for these."""
    save_images(random_images(3, 4, 4, 1), tmp_path / "a")
    save_images(random_images(3, 4, 4, 1), tmp_path / "a")
    with pytest.raises(UserError, match=r"a holds other files \(000002.png, \.\.\.\): give a new folder"):
        save_images(random_images(2, 4, 4, 1), tmp_path / "a")


def test_an_ending_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.npz or \.png, or be a folder.*a\.jpg"):
        save_images(random_images(2, 4, 4, 1), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.npz", "a.png", "a"])
def test_a_path_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"cannot write .*file/{name}: "):
        save_images(random_images(2, 4, 4, 1), tmp_path / "file" / name)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the n")
        file.flush()
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"
    for content in (b"a longer old one", b"new"):
        write_atomically(path, lambda file: file.write(content))  # noqa: B023
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_number_are_in_nobodys_way(tmp_path: Path) -> None:
    """As in containers, each of which counts its processes from 1."""

    def write(file: BinaryIO) -> None:
        file.write(b"first ")
        write_atomically(tmp_path / "a", lambda other: other.write(b"whole"))
        assert (tmp_path / "a").read_bytes() == b"whole"
        file.write(b"and last")

    write_atomically(tmp_path / "a", write)
    assert (tmp_path / "a").read_bytes() == b"first and last"


def test_a_failed_archive_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_images(random_images(2, 4, 4, 1), tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


# --- animations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_every_frame_loops_and_rests_on_the_last(channels: int, tmp_path: Path) -> None:
    frames = []
    for i in range(4):
        frames.append(tmp_path / f"{i}.png")
        save_png(np.full((8, 8, channels), 51 * i, np.uint8), frames[-1])  # greys that the palette has
    save_animation(frames, tmp_path / "a.gif", seconds=2.0)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 4, 0)  # type: ignore[attr-defined]
        durations = []
        for i in range(4):
            gif.seek(i)
            durations.append(gif.info["duration"])
            np.testing.assert_array_equal(np.asarray(gif.convert("L")), 51 * i)
    assert durations == [500, 500, 500, 1500]


def test_an_animation_of_one_frame_is_that_frame(tmp_path: Path) -> None:
    save_png(np.full((8, 8, 1), 51, np.uint8), tmp_path / "0.png")
    save_animation([tmp_path / "0.png"], tmp_path / "a.gif")
    np.testing.assert_array_equal(read(tmp_path / "a.gif").shape, (8, 8))


def test_an_animation_is_bounded_however_long_the_run(tmp_path: Path) -> None:
    """In frames, of which the first and the last are shown, and in its sides."""
    frames = []
    for i in range(151):
        frames.append(tmp_path / f"{i:03d}.png")
        Image.new("L", (12, 8), i).save(frames[-1])
    save_animation(frames, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        shown = []
        for i in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(i)
            shown.append(int(np.asarray(gif.convert("L"))[0, 0]))
            assert gif.info["duration"] == (50 if i < 119 else 1500)
    assert len(shown) == len(set(shown)) == 120
    assert (shown[0], shown[-1]) == (0, 150)
    assert set(np.diff(shown)) == {1, 2}

    Image.new("RGB", (1300, 700), "red").save(tmp_path / "wide.png")
    save_animation([tmp_path / "wide.png"], tmp_path / "b.gif")
    assert read(tmp_path / "b.gif").shape[:2] == (345, 640)  # 700 * 640 / 1300 = 344.6


def test_grids_of_other_shapes_are_frames_too(tmp_path: Path) -> None:
    """As where a run went on with another `sample.rows`."""
    Image.new("L", (8, 4), 255).save(tmp_path / "0.png")
    Image.new("L", (16, 16), 102).save(tmp_path / "1.png")
    save_animation([tmp_path / "0.png", tmp_path / "1.png"], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        first = np.asarray(gif.convert("L"))
        gif.seek(1)
        np.testing.assert_array_equal(np.asarray(gif.convert("L")), np.full((16, 16), 102))
    assert (first[4:12] == 255).all()
    assert (np.delete(first, range(4, 12), 0) == 0).all()


@pytest.mark.parametrize(("things", "count", "chosen"), [(3, 3, [0, 1, 2]), (5, 3, [0, 2, 4]), (1, 2, [0]), (0, 2, [])])
def test_few_are_chosen_evenly_with_the_first_and_the_last(things: int, count: int, chosen: list[int]) -> None:
    assert evenly(range(things), count) == chosen


# --- spherical interpolation ------------------------------------------------------------------------------------------


along = jax.jit(jax.vmap(slerp, (None, None, 0)))


def ends() -> tuple[np.ndarray, np.ndarray]:
    a, b = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    return a, b


def test_slerp_begins_and_ends_at_its_ends() -> None:
    a, b = ends()
    np.testing.assert_allclose(along(a, b, np.array([0, 1], np.float32)), (a, b), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("t", [0.1, 0.25, 0.5, 0.9])
def test_slerp_is_shoemakes_formula(t: float) -> None:
    a, b = (x.astype(np.float64) for x in ends())
    w = np.arccos(a @ b / np.sqrt((a @ a) * (b @ b)))
    desired = np.sin((1 - t) * w) / np.sin(w) * a + np.sin(t * w) / np.sin(w) * b
    np.testing.assert_allclose(along(*ends(), np.array([t], np.float32))[0], desired, rtol=1e-5, atol=1e-5)


def test_slerp_between_equal_norms_keeps_the_norm_and_turns_evenly() -> None:
    a, b = ends()
    b = b * np.linalg.norm(a) / np.linalg.norm(b)
    path = np.asarray(along(a, b, np.linspace(0, 1, 11, dtype=np.float32)))
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), np.linalg.norm(a), rtol=1e-5)
    chords = np.linalg.norm(np.diff(path, axis=0), axis=1)
    np.testing.assert_allclose(chords, chords.mean(), rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1.0 + 1e-6, 2.0])
def test_slerp_of_parallel_vectors_is_linear(scale: float) -> None:
    a = np.random.default_rng(0).standard_normal((1000, 10)).astype(np.float32)  # some of a cosine beyond 1
    for t in (0.0, 0.3, 1.0):
        out = jax.jit(jax.vmap(slerp, (0, 0, None)))(a, np.float32(scale) * a, np.float32(t))
        np.testing.assert_allclose(out, ((1 - t) + t * scale) * a, rtol=1e-5)


def test_slerp_is_finite_where_no_angle_is() -> None:
    a, _ = ends()
    for b in (-a, 0 * a, a + np.float32(1e-4)):
        for first, second in ((a, b), (b, a), (b, b)):
            path = np.asarray(along(first, second, np.linspace(0, 1, 5, dtype=np.float32)))
            assert np.isfinite(path).all()
            np.testing.assert_allclose(path[0], first, atol=1e-5)
            np.testing.assert_allclose(path[-1], second, atol=1e-5)
