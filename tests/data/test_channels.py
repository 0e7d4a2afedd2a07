"""RGBA, up to 16 channels, and 16 bits: from files and arrays to what networks are fed, and back to files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import Dataset, duplicates, pack
from gan_jax.data.decode import decode, fit_array
from gan_jax.data.images import Stored, megabytes
from gan_jax.data.stream import Reader
from gan_jax.runs import visualize
from gan_jax.util.errors import UserError
from tests.data.test_sources import load, pixels
from tests.helpers import data_options


def noise(*shape: int, seed: int = 0, kind: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, kind)


def png(image: Image.Image | np.ndarray, **how: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "PNG", **how)
    return file.getvalue()


def options(channels: int = 4, size: int = 6, **changed: Any) -> Any:
    return data_options(image_size=size, channels=channels, **changed)


def multiplied(image: np.ndarray, top: int = 255) -> np.ndarray:
    wide = image.astype(float)
    return np.concatenate([np.floor(wide[..., :3] * wide[..., 3:] / top + 0.5), wide[..., 3:]], -1)


def of(path: Path, **changed: Any) -> Dataset:
    kind = "folder" if path.is_dir() else "npz"
    return load(source=kind, dir=str(path), **({"test_fraction": 0.0} | changed))


# --- transparent pictures ---------------------------------------------------------------------------------------------


def test_a_picture_is_brought_to_the_form_of_alpha_that_is_asked_for() -> None:
    image = noise(6, 6, 4)
    np.testing.assert_array_equal(decode(png(image), options()), multiplied(image))
    for form in ("straight", "none"):
        np.testing.assert_array_equal(decode(png(image), options(alpha=form)), image)
    wide = image.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(png(image), options(bits=16)), multiplied(wide, 65535))


def test_pictures_of_any_kind_become_transparent_ones() -> None:
    rgb, grey = noise(6, 6, 3), noise(6, 6)
    opaque = np.full((6, 6, 1), 255)
    np.testing.assert_array_equal(decode(png(rgb), options()), np.concatenate([rgb, opaque], -1))
    whole = np.concatenate([np.repeat(grey[..., None], 3, -1), opaque], -1)
    np.testing.assert_array_equal(decode(png(grey), options()), whole)
    np.testing.assert_array_equal(fit_array(grey[..., None], options()), whole)
    pair = [Image.fromarray(np.ascontiguousarray(noise(6, 6, 2)[..., i])) for i in range(2)]
    both = np.stack([np.asarray(pair[i]) for i in (0, 0, 0, 1)], -1)
    np.testing.assert_array_equal(decode(png(Image.merge("LA", pair)), options()), multiplied(both))
    palette = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6) % 2).convert("P")
    palette.frombytes(bytes(i % 2 for i in range(36)))
    palette.putpalette([200, 100, 0, 7, 8, 9])
    found = decode(png(palette, transparency=bytes([51, 255])), options()).reshape(-1, 4)
    np.testing.assert_array_equal(found[:2], [[40, 20, 0, 51], [7, 8, 9, 255]])


@pytest.mark.parametrize("form", ["premultiplied", "straight"])
def test_hidden_colours_do_not_bleed_when_a_picture_is_made_small(form: str) -> None:
    image = np.zeros((24, 24, 4), np.uint8)
    image[..., 1] = 255  # green, which nobody sees
    image[:, 13:] = (255, 0, 0, 255)
    found = decode(png(image), options(alpha=form)).astype(int)
    shows = found[..., 3] > 0
    assert 0 < shows.mean() < 1
    assert (found[..., 1][shows] <= 2).all()
    if form == "straight":
        assert (found[..., 0][shows] >= 250).all()
    else:
        np.testing.assert_array_equal(found[..., 0], found[..., 3])
        assert (found[..., :3] <= found[..., 3:]).all()


def test_an_array_is_taken_as_it_is_and_made_small_in_its_own_form() -> None:
    image = noise(6, 6, 4)
    for form in ("", "premultiplied", "straight", "none"):
        assert fit_array(image, options(source="npz", alpha=form)) is image
    large = noise(12, 12, 4)
    found = fit_array(large, options(source="npz"))
    for i in range(4):
        band = Image.fromarray(large[..., i].astype(np.float32)).resize((6, 6), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(found[..., i], np.rint(np.clip(np.asarray(band), 0, 255)))
    assert (fit_array(large, options(3, source="npz")) <= 255).all()  # over the background, as ever


# --- arrays of other channels and of 16 bits --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 7, 16])
def test_arrays_of_any_channels_are_read_where_they_lie(channels: int, kind: Any, tmp_path: Path) -> None:
    images, bits = noise(20, 6, 8, channels, kind=kind), np.iinfo(kind).bits
    np.savez(tmp_path / "a.npz", images=images)
    np.save(tmp_path / "b.npy", images)
    swapped = images.astype(images.dtype.newbyteorder(">"))
    np.savez(tmp_path / "c.npz", images=swapped)
    np.save(tmp_path / "d.npy", np.asfortranarray(swapped))
    np.savez_compressed(tmp_path / "e.npz", images=images)
    for name in ("a.npz", "b.npy", "c.npz", "d.npy", "e.npz"):
        dataset = of(tmp_path / name, channels=channels, image_size=6, image_width=8, bits=bits)
        found = dataset.train_images
        np.testing.assert_array_equal(pixels(found), images)
        assert pixels(found).dtype == kind
        assert isinstance(found, Stored) == (name[0] in "ab" or (name == "c.npz" and bits == 8))
        assert dataset.megabytes == images.nbytes / 2**20 == megabytes(found)
        batch = Reader(found, dataset.train_labels, np.arange(4), 4, 2, 0)
        assert batch.nbytes == batch(0)["image"].nbytes
        part = dataset.train_images[np.array([3, 1])]
        np.testing.assert_array_equal(part, images[[3, 1]])


def test_each_channel_is_resized_by_itself(tmp_path: Path) -> None:
    images = noise(3, 13, 10, 5, kind=np.uint16)
    np.savez(tmp_path / "a.npz", images=images)
    found = pixels(of(tmp_path / "a.npz", channels=5, image_size=6, bits=16, fit="resize").train_images)
    for i, channel in np.ndindex(3, 5):
        band = Image.fromarray(images[i, ..., channel].astype(np.float32)).resize((6, 6), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(found[i, ..., channel], np.rint(np.clip(np.asarray(band), 0, 65535)))
    cut = pixels(of(tmp_path / "a.npz", channels=5, image_size=10, bits=16).train_images)
    np.testing.assert_array_equal(cut, images[:, 1:11])


@pytest.mark.parametrize("kept", ["cache", "memory", "nowhere"])
def test_greys_of_a_window_come_back_as_they_were(kept: str, tmp_path: Path) -> None:
    images = noise(12, 6, 6, 1, kind=np.uint16) % 3701 + 300
    np.savez(tmp_path / "a.npz", images=images)
    asked: dict[str, Any] = {"channels": 1, "image_size": 6, "bits": 16, "range": "300,4000"}
    asked |= {"device_budget_mb": 0} if kept == "nowhere" else {}
    cached = tmp_path / "cache" if kept == "cache" else None
    for _ in range(2):
        dataset = load(cached, source="npz", dir=str(tmp_path / "a.npz"), test_fraction=0.0, **asked)
        found = pixels(dataset.train_images)
        np.testing.assert_array_equal(found, np.floor((images - 300) / 3700 * 65535 + 0.5))
    other = load(cached, source="npz", dir=str(tmp_path / "a.npz"), test_fraction=0.0, **(asked | {"range": "0,4000"}))
    np.testing.assert_array_equal(pixels(other.train_images), np.floor(images / 4000 * 65535 + 0.5))
    drawn = options(1, **{key: value for key, value in asked.items() if key not in ("channels", "image_size")}).pixels
    visualize.save_images(found, tmp_path / "drawn.npz", pixels=drawn)
    with np.load(tmp_path / "drawn.npz") as file:
        np.testing.assert_array_equal(file["images"], images)
    again = pixels(of(tmp_path / "drawn.npz", **asked).train_images)
    np.testing.assert_array_equal(again, found)
    visualize.save_images(found, tmp_path / "drawn", pixels=drawn)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "drawn" / "000003.png")), images[3, ..., 0])
    np.testing.assert_array_equal(pixels(of(tmp_path / "drawn", **asked).train_images), found)
    narrow = pixels(of(tmp_path / "a.npz", **(asked | {"bits": 8})).train_images)
    np.testing.assert_array_equal(narrow, np.floor((images - 300) / 3700 * 255 + 0.5))


def test_pictures_of_8_bits_fill_16() -> None:
    rgb, wide = noise(6, 6, 3), noise(6, 6, kind=np.uint16)
    np.testing.assert_array_equal(decode(png(rgb), options(3, bits=16)), rgb.astype(int) * 257)
    np.testing.assert_array_equal(fit_array(rgb, options(3, bits=16)), rgb.astype(int) * 257)
    np.testing.assert_array_equal(decode(png(wide), options(1, bits=16))[..., 0], wide)
    np.testing.assert_array_equal(decode(png(wide), options(3, bits=16)), np.repeat(wide[..., None], 3, -1))


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "seven.npz", images=noise(4, 6, 6, 7))
    np.savez(tmp_path / "floats.npz", images=np.zeros((4, 6, 6, 7)))
    np.savez(tmp_path / "many.npz", images=noise(4, 6, 6, 17))
    (tmp_path / "pictures").mkdir()
    wrong = {
        "data.channels is 3: set it to 7": (tmp_path / "seven.npz", 3),
        r"uint8 or uint16 .*, not float64": (tmp_path / "floats.npz", 7),
        r"C up to 16, not uint8 \[4, 6, 6, 17\]": (tmp_path / "many.npz", 16),
        "pictures of the folder source have 1, 3 or 4": (tmp_path / "pictures", 7),
    }
    for said, (path, channels) in wrong.items():
        with pytest.raises(UserError, match=said):
            of(path, channels=channels, image_size=6)
    np.save(tmp_path / "bare.npy", noise(4, 6, 6, 3))
    with pytest.raises(UserError, match="one array without a name"):
        of(tmp_path / "bare.npy", label_key="labels")


# --- packed, compared, written ----------------------------------------------------------------------------------------


def test_a_packed_set_keeps_bits_and_window_and_refuses_others(tmp_path: Path) -> None:
    images = noise(12, 8, 8, 2, kind=np.uint16) % 3701 + 300
    np.savez(tmp_path / "a.npz", images=images)
    asked: dict[str, Any] = {"channels": 2, "image_size": 8, "bits": 16, "range": "300,4000"}
    source = of(tmp_path / "a.npz", **asked)
    assert pack.pack(source, tmp_path / "packed", {}, pixels=_pixels(asked))
    found = load(source="packed", dir=str(tmp_path / "packed"), **asked)
    np.testing.assert_array_equal(pixels(found.train_images), pixels(source.train_images))
    assert found.digest == source.digest
    half = load(source="packed", dir=str(tmp_path / "packed"), **(asked | {"image_size": 4}))
    np.testing.assert_array_equal(
        pixels(half.train_images), pixels(of(tmp_path / "a.npz", **(asked | {"image_size": 4})).train_images)
    )
    for changed in ({"bits": 8}, {"range": ""}):
        with pytest.raises(UserError, match=r"set data\.bits=16, data.alpha=none, data.range=300,4000"):
            load(source="packed", dir=str(tmp_path / "packed"), **(asked | changed))


def _pixels(asked: dict[str, Any]) -> Any:
    return data_options(**asked).pixels


@pytest.mark.parametrize(("channels", "kind"), [(7, np.uint8), (1, np.uint16), (4, np.uint16)])
def test_near_duplicates_are_found_on_all_channels(channels: int, kind: Any) -> None:
    coarse = noise(6, 4, 4, channels, kind=kind)
    train = np.repeat(np.repeat(coarse, 8, 1), 8, 2)
    test = train[[4]].copy()
    assert duplicates.near(train, test).tolist() == [1, 4, 0]
    test[..., -1] = test[::, ::-1, :, -1]  # one channel is another
    assert duplicates.near(train, test)[0] == 0


def test_a_folder_of_transparent_pngs_is_read_as_it_was(tmp_path: Path) -> None:
    drawn = multiplied(noise(5, 6, 6, 4)).astype(np.uint8)
    form = options().pixels
    visualize.save_images(drawn, tmp_path / "drawn", pixels=form)
    with Image.open(tmp_path / "drawn" / "000002.png") as file:
        assert file.mode == "RGBA"
        np.testing.assert_array_equal(multiplied(np.asarray(file)), drawn[2])
    np.testing.assert_array_equal(pixels(of(tmp_path / "drawn", channels=4, image_size=6).train_images), drawn)
    visualize.save_images(drawn, tmp_path / "drawn.npz", pixels=form)
    same = of(tmp_path / "drawn.npz", channels=4, image_size=6, alpha="premultiplied")
    np.testing.assert_array_equal(pixels(same.train_images), drawn)
    visualize.save_images(drawn, tmp_path / "grid.png", pixels=form)
    with Image.open(tmp_path / "grid.png") as file:
        assert file.mode == "RGB"


def test_images_that_no_png_holds_are_refused_before_they_are_drawn(tmp_path: Path) -> None:
    wide = options(3, bits=16).pixels
    for images, form in ((noise(4, 6, 6, 7), options(1).pixels), (noise(4, 6, 6, 3, kind=np.uint16), wide)):
        with pytest.raises(UserError, match=r"drawn.npz, which holds all, or .*drawn.png"):
            visualize.save_images(images, tmp_path / "drawn", pixels=form)
        assert not (tmp_path / "drawn").exists()
        visualize.save_images(images, tmp_path / "drawn.png", pixels=form)
        visualize.save_images(images, tmp_path / "drawn.npz", pixels=form)
        with np.load(tmp_path / "drawn.npz") as file:
            np.testing.assert_array_equal(file["images"], images)


def test_what_decides_images_of_8_bits_is_what_it_was() -> None:
    for channels in (1, 3):
        assert options(channels).beyond == []  # in the names of what is cached
    assert options(1, bits=16).beyond
    assert options(1, range="0,4095").beyond
    assert options(4).beyond


@pytest.mark.parametrize(
    ("brightest", "window", "warned"), [(4000, "", True), (4000, "0,4000", False), (65000, "", False)]
)
def test_greys_of_twelve_bits_without_a_window_are_warned_of(
    brightest: int, window: str, warned: bool, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, brightest, (20, 6, 6), np.uint16)
    images[:, 0, 0] = brightest
    np.save(tmp_path / "a.npy", images)
    for bits, seen in ((16, f"{brightest:,} of 65,535"), (8, f"{(brightest + 128) // 257} of 255")):
        found = of(tmp_path / "a.npy", channels=1, image_size=6, bits=bits, range=window).warnings
        assert [seen in line and "data.range" in line for line in found] == [True] * warned
