"""Directions: that they are the singular vectors and components of their papers, and move images as they say."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import gan_jax
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core.state import GANState
from gan_jax.use import directions
from gan_jax.util.errors import UserError

Trained = dict[str, tuple[Path, GANState]]


def unit(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return found


def alike(found: np.ndarray, wanted: np.ndarray) -> None:
    """The same lines, whichever way they point."""
    assert_allclose(np.abs((unit(found) * unit(wanted)).sum(-1)), 1, atol=1e-4)


def test_sefa_is_of_the_first_dense_layer(trained: Trained) -> None:
    run = gan_jax.load(trained["cgan"][0])
    kernels = [value for value in run.params["params"].values() if "kernel" in value and value["kernel"].ndim == 2]
    kernel = np.asarray(kernels[0]["kernel"], np.float64)[: run.gan.latent_dim]  # the label comes behind
    _, vectors = np.linalg.eigh(kernel @ kernel.T)
    found = run.directions(count=4)
    assert (found.space, found.method, found.vectors.shape) == ("z", "sefa", (4, 8))
    alike(found.vectors, vectors[:, ::-1].T[:4])
    assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=0.05)  # of N(0, 1), one standard deviation


def test_sefa_is_of_all_styles_at_once(trained: Trained) -> None:
    run = gan_jax.load(trained["stylegan2"][0])
    layers = run.params["params"]["synthesis_network"].values()
    styles = [
        np.asarray(layer["style"]["kernel"], np.float64)
        for layer in layers
        if isinstance(layer, dict) and "style" in layer
    ]
    assert len(styles) == 5
    affine = np.concatenate(styles, 1).T
    _, _, vectors = np.linalg.svd(affine)
    found = run.directions(count=3)
    assert found.space == "w"
    alike(found.vectors, vectors[:3])


def test_pca_is_of_w(trained: Trained) -> None:
    run = gan_jax.load(trained["stylegan2"][0])
    w = np.asarray(run.mapping(run.latents(10_000)))[:, 0].astype(np.float64)
    _, sizes, vectors = np.linalg.svd(w - w.mean(0), full_matrices=False)
    found = run.directions("pca", 100)
    assert found.vectors.shape == (6, 6)
    alike(found.vectors, vectors)
    assert_allclose(np.linalg.norm(found.vectors, axis=1), sizes / np.sqrt(len(w)), rtol=1e-3)
    with pytest.raises(UserError, match="pca is of w, and dcgan has no mapping network: take sefa"):
        gan_jax.load(trained["cgan"][0]).directions("pca")
    with pytest.raises(UserError, match="method must be sefa or pca, not 'ica'"):
        run.directions("ica")
    with pytest.raises(UserError, match="count must be a whole number from 1 up, not 0"):
        run.directions(count=0)
    with pytest.raises(
        UserError, match=r"a shift is strengths by the directions' numbers, as \{0: 2.0\}, not \[1, 2\]"
    ):
        found.shift([1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cgan", "stylegan2"])
def test_a_shift_is_added_to_codes(
    name: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (run, out) = trained[name][0], (gan_jax.load(trained[name][0]), tmp_path / "directions")
    MODES["directions"].run(Request(path, num_directions=2, seed=3, out=out))
    assert f"2 directions in {'w' if run.has_mapping else 'z'} by sefa, of step 0: {out}" in capsys.readouterr().out
    found = directions.load(out / "directions.npz")
    assert_array_equal(found.vectors, run.directions(count=2).vectors)
    shift = found.shift({0: 2.0, 1: -1.0})
    assert_allclose(shift, 2 * found.vectors[0] - found.vectors[1], rtol=1e-6)
    z = run.latents(3, seed=3)
    moved = run.generate(z, seed=3, shift=shift)
    styled = run.has_mapping
    by_hand = run.synthesis(run.mapping(z) + shift, seed=3) if styled else run.generate(z + shift, seed=3)
    assert_allclose(moved, by_hand, atol=1e-5)
    images = run.sample(3, seed=3, label=[0] * 3, shift=shift)
    assert_allclose(np.clip(np.asarray(moved) * 127.5 + 127.5, 0, 255), images, atol=1)
    with Image.open(out / "direction_00.png") as picture:
        height, width, _ = run.gan.image_shape
        assert picture.size == (7 * (width + 2) + 2, 4 * (height + 2) + 2)
        shown = np.asarray(picture).reshape(picture.size[1], picture.size[0], -1)
        middle = shown[2 : 2 + height, 2 + 3 * (width + 2) : 2 + 3 * (width + 2) + width]
        assert_allclose(middle, run.sample(1, seed=3, label=[0])[0], atol=1)


def test_the_command_draws_along_directions(trained: Trained, tmp_path: Path) -> None:
    path = trained["stylegan2"][0]
    run = gan_jax.load(path)
    with pytest.raises(UserError, match=r"directions\.npz isn't there: .*--mode=directions writes it"):
        MODES["sample"].run(Request(path, shift="0=2", out=tmp_path / "none.png"))
    MODES["directions"].run(Request(path, num_directions=2))
    try:
        MODES["sample"].run(Request(path, num_samples=4, shift="1=-1.5", out=tmp_path / "s.npz"))
        with np.load(tmp_path / "s.npz") as kept:
            shift = run.directions(count=2).shift({1: -1.5})
            assert_array_equal(kept["images"], run.sample(4, shift=shift))
        for text in ("0", "x=1", "0=a", "0=1 0=2", "0=1e9", "0=nan", "-1=2"):
            with pytest.raises(UserError, match=r"--shift=.*: write number=strength of each direction, as '0=2"):
                MODES["sample"].run(Request(path, shift=text, out=tmp_path / "s.png"))
        with pytest.raises(UserError, match="there is no direction 2: there are 2,"):
            MODES["sample"].run(Request(path, shift="2=1", out=tmp_path / "s.png"))
    finally:
        for file in (path / "directions").iterdir():
            file.unlink()


def test_styles_are_mixed_as_by_hand(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained["stylegan2"][0]
    run, out = gan_jax.load(path), tmp_path / "mixed.png"
    MODES["mix"].run(Request(path, rows="1-2", cols="5,7,9", styles="0,2", sampling="truncation=0.7", out=out))
    assert "2 x 3 images of step 0, the styles 0, 2 of 4 from the columns" in capsys.readouterr().out
    height, width, channels = run.gan.image_shape

    def cell(row: int, column: int) -> np.ndarray:
        top, left = 2 + row * (height + 2), 2 + column * (width + 2)
        return shown[top : top + height, left : left + width]

    with Image.open(out) as picture:
        shown = np.asarray(picture).reshape(picture.size[1], picture.size[0], channels)
    assert shown.shape[:2] == (3 * (height + 2) + 2, 4 * (width + 2) + 2)
    w = {seed: run.mapping(run.latents(1, seed=seed), truncation=0.7) for seed in (1, 2, 5, 7, 9)}
    for row, seed in enumerate((1, 2), start=1):
        assert_allclose(cell(row, 0), run.sample(1, seed=seed, truncation=0.7)[0], atol=1)
        for column, other in enumerate((5, 7, 9), start=1):
            mixed = w[seed].at[:, [0, 2]].set(w[other][:, [0, 2]])
            wanted = np.clip(np.asarray(run.synthesis(mixed, seed=seed))[0] * 127.5 + 127.5, 0, 255)
            assert_allclose(cell(row, column), wanted, atol=1)
            assert_allclose(cell(0, column), run.sample(1, seed=other, truncation=0.7)[0], atol=1)
    assert not cell(0, 0).any()
    with pytest.raises(UserError, match="--styles: there are 4 copies of w, from 0 to 3, and no 7"):
        MODES["mix"].run(Request(path, styles="7", out=out))
    with pytest.raises(UserError, match="styles are those of w, and dcgan has no mapping network: interpolate"):
        MODES["mix"].run(Request(trained["cgan"][0], out=out))
