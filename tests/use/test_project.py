"""Projection: that a generated image is found again, and that each part is what its paper says."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import gan_jax
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core.pixels import Pixels
from gan_jax.core.state import GANState
from gan_jax.evaluate import perceptual, vgg
from gan_jax.use import project, projected
from gan_jax.util.errors import UserError

Trained = dict[str, tuple[Path, GANState]]


@pytest.mark.parametrize("name", ["cgan", "stylegan2"])
def test_a_generated_image_is_found_again(name: str, trained: Trained) -> None:
    run = gan_jax.load(trained[name][0])
    options: dict[str, Any] = {"noise_mode": "const"} if run.has_mapping else {}
    scale = 1 if run.has_mapping else 3  # without training images are all but grey
    run.params = {**run.params, "params": jax.tree.map(lambda x: scale * x, run.params["params"])}
    image, other = (drawn(run, seed, **options) for seed in (5, 6))
    found = run.project(image, distance=perceptual.pixels(), steps=300)
    assert found.space == ("w" if run.has_mapping else "z")
    assert found.distance < 0.1 * found.start
    assert found.image.shape == image.shape
    near, far = (np.square(x / 127.5 - image / 127.5).mean() for x in (found.image, other))
    assert near < 0.1 * far
    assert len(found.frames) <= 101
    if run.has_mapping:
        w = jnp.broadcast_to(found.code, (1, 4, 6))
        run.params = found.params
        made = np.asarray(run.synthesis(w, noise_mode="const"))
    else:
        made = np.asarray(run.generate(found.code[None], found.label))
        assert np.linalg.norm(found.code) <= np.linalg.norm(run.latents(512), axis=1).max() * 1.0001
    assert_allclose(np.clip(made[0] * 127.5 + 127.5, 0, 255), found.image, atol=1)


def drawn(run: gan_jax.Trained, seed: int, **options: Any) -> np.ndarray:
    made = run.generate(run.latents(1, seed=seed), 3 if run.gan.classes else None, **options)
    image: np.ndarray = np.asarray(Pixels().whole(made))[0]
    return image


def test_the_command_writes_code_picture_and_film(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained["stylegan2"][0]
    run = gan_jax.load(path)
    height, width, channels = run.gan.image_shape
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "mine.png")
    out = tmp_path / "found"
    MODES["project"].run(Request(path, image=tmp_path / "mine.png", features="pixels", num_steps=4, out=out))
    said = capsys.readouterr().out
    assert f"the w, nearest to {tmp_path / 'mine.png'} by pixels, at step 0: {out}" in said
    with np.load(out / "code.npz") as code:
        assert code["w"].shape == (6,)
        assert float(code["distance"]) == float(f"{float(code['distance'])}")
        assert f"distance {float(code['distance']):.4g}, at first " in said
        noise = [name for name in code if name.startswith("noise.")]
        assert len(noise) == 3  # one map for the layer of 4x4, two for those of 8x8
        for name in noise:
            assert_allclose([code[name].mean(), code[name].std()], [0, 1], atol=1e-5)
    with Image.open(out / "projected.png") as beside:
        assert beside.size == (2 * width + 6, height + 4)
        target = projected.read(run, tmp_path / "mine.png")
        assert target.shape == (height, width, channels)
        assert_array_equal(np.asarray(beside)[2 : 2 + height, 2 : 2 + width].reshape(target.shape), target)
    with Image.open(out / "projected.gif") as film:
        assert film.n_frames > 1  # type: ignore[attr-defined]


def test_rates_rise_and_fall_as_published() -> None:
    """By hand: 100 steps, 5 of rise, 25 of fall."""
    found = [float(project.rate(step, 100)) for step in (0, 4, 10, 75, 87, 99)]
    fall = [0.5 - 0.5 * np.cos(np.pi * part) for part in (25 / 25, 13 / 25, 1 / 25)]
    assert_allclose(found, [0.02, 0.1, 0.1, *(0.1 * np.array(fall))], rtol=1e-5)


def test_noise_is_held_to_have_nothing_in_common() -> None:
    """The penalty of a map of 16, and of it halved to 8, by NumPy."""
    noise = np.random.default_rng(0).normal(size=(16, 16))
    half = noise.reshape(8, 2, 8, 2).mean((1, 3))
    wanted = sum((x * np.roll(x, 1, axis)).mean() ** 2 for x in (noise, half) for axis in (0, 1))
    assert_allclose(project.likeness(jnp.asarray(noise, jnp.float32)[..., None]), wanted, rtol=1e-4)


def test_pixels_are_compared_at_several_scales() -> None:
    x, y = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 1)), np.full((16, 16, 1), 100.0)
    half = x.reshape(2, 8, 2, 8, 2, 1).mean((2, 4))
    wanted = [(((a - 100) / 127.5) ** 2).mean((1, 2, 3)) for a in (x, half)]
    distance = perceptual.pixels()
    assert_allclose(distance.apply((), jnp.asarray(x), jnp.asarray(y)[None]), np.mean(wanted, 0), rtol=1e-5)


def _files(torch: Any, folder: Path) -> tuple[Any, Any]:
    """Files like those of torchvision's VGG16 and of LPIPS, of random weights; and both as modules."""
    torch.manual_seed(0)
    layers: list[Any] = []
    before = 3
    for block in vgg.BLOCKS:
        for channels in block:
            layers += [torch.nn.Conv2d(before, channels, 3, padding=1), torch.nn.ReLU()]
            before = channels
        layers.append(torch.nn.MaxPool2d(2, 2))
    features = torch.nn.Sequential(*layers)
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, folder / "vgg16.pth")
    lins = [torch.rand(1, block[-1], 1, 1) for block in vgg.BLOCKS]
    torch.save({f"lin{i}.model.1.weight": lin for i, lin in enumerate(lins)}, folder / "lpips.pth")
    return features, lins


def test_lpips_is_pytorchs(tmp_path: Path) -> None:
    """By the formula of Zhang et al. 2018, eq. 1, in PyTorch."""
    torch = pytest.importorskip("torch")
    features, lins = _files(torch, tmp_path)
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    x = (torch.tensor(images).permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / (
        torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    )
    wanted = {"alike": 0.0, "weighed": 0.0}
    taps = np.cumsum([2 * len(block) + 1 for block in vgg.BLOCKS]) - 2  # the last ReLU of each block
    with torch.no_grad():
        for number, layer in enumerate(features):
            x = layer(x)
            if number in taps:
                unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
                square = (unit[:2] - unit[2:]).square()
                wanted["alike"] += square.sum(1).mean((1, 2)).numpy()
                weights = lins[list(taps).index(number)]
                wanted["weighed"] += (square * weights).sum(1).mean((1, 2)).numpy()
    x, y = jnp.asarray(images[:2]), jnp.asarray(images[2:])
    by_pixels = perceptual.pixels().apply((), x, y)
    for name, files in {"alike": ["vgg16.pth"], "weighed": ["vgg16.pth", "lpips.pth"]}.items():
        distance = perceptual.lpips(*(tmp_path / file for file in files))
        assert_allclose(distance.apply(distance.variables, x, y) - by_pixels, wanted[name], rtol=2e-3)
    with pytest.raises(UserError, match=r"lpips\.pth isn't torchvision's VGG16"):
        perceptual.lpips(tmp_path / "lpips.pth")
    with pytest.raises(UserError, match=r"vgg16\.pth isn't LPIPS' weights"):
        perceptual.lpips(tmp_path / "vgg16.pth", tmp_path / "vgg16.pth")


def test_features_are_compared_relative_to_those_of_the_target(trained: Trained) -> None:
    run = gan_jax.load(trained["cgan"][0])
    distance = projected.distance(run, "tests.evaluate.test_evaluate:means")
    assert "means" in distance.name
    x, y = jnp.full((1, 16, 16, 1), 100.0), jnp.full((1, 16, 16, 1), 50.0)
    found = distance.apply(distance.variables, x, y)
    assert_allclose(found, (50 / 127.5) ** 2 + (50 / 50) ** 2, rtol=1e-5)
    assert float(jax.grad(lambda x: distance.apply(distance.variables, x, y).sum())(x).sum()) > 0


@pytest.mark.parametrize(
    ("request_of", "message"),
    [
        ({}, "--mode=project finds the code of a picture: give --image=FILE"),
        ({"image": "nothing.png"}, r"cannot read nothing\.png: No such file"),
        ({"image": __file__}, "cannot read .*test_project.py: not a PNG"),
        ({"image": "PNG", "out": Path("x.png")}, "--out must be a folder without an ending in this mode, not 'x.png'"),
        ({"image": "PNG", "features": "vgg"}, "unknown --features 'vgg'; valid: random, pixels, lpips"),
        ({"image": "PNG", "features": "lpips:a,b,c"}, "--features=lpips:a,b,c: write lpips:VGG.pth"),
        ({"image": "PNG", "label": "1+2"}, r"--label=1\+2: a picture has one class: give one"),
    ],
)
def test_what_cannot_be_is_one_line(request_of: dict[str, Any], message: str, trained: Trained, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    asked = dict(request_of)
    if "image" in asked:
        asked["image"] = tmp_path / "black.png" if asked["image"] == "PNG" else Path(asked["image"])
    with pytest.raises(UserError, match=message):
        MODES["project"].run(Request(trained["cgan"][0], **{"out": tmp_path / "out", **asked}))
    own = gan_jax.load(trained["cgan"][0])
    with pytest.raises(UserError, match=r"the image must be uint8 \[16, 16, 1\], not uint8 \[8, 8\]"):
        own.project(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("name", ["cgan", pytest.param("stylegan2", marks=pytest.mark.slow)])
def test_what_was_found_is_drawn_moved_and_walked(name: str, trained: Trained, tmp_path: Path) -> None:
    path = trained[name][0]
    run = gan_jax.load(path)
    found = run.project(run.sample(1, seed=5)[0], distance=perceptual.pixels(), steps=20)
    for folder in ("one", "two"):
        projected.save(found, run.sample(1)[0], tmp_path / folder)
    MODES["sample"].run(Request(path, codes=str(tmp_path / "one/code.npz"), out=tmp_path / "s.npz"))
    with np.load(tmp_path / "s.npz") as kept:
        assert_allclose(kept["images"], found.image[None], atol=1)
    shift = run.directions(count=2).shift({1: 2.0})
    moved = projected.image(run, projected.load(run, tmp_path / "one/code.npz"), shift)
    run.params = found.params
    if run.has_mapping:
        made = run.synthesis(np.tile(found.code + shift, (1, 4, 1)), noise_mode="const")
    else:
        made = run.generate((found.code + shift)[None], found.label)
    assert_allclose(moved, np.asarray(Pixels().whole(made))[0], atol=1)
    both = f"{tmp_path / 'one/code.npz'},{tmp_path / 'two/code.npz'}"
    MODES["walk"].run(Request(path, codes=both, seconds=0.2, fps=20, loop=False, out=tmp_path / "w.gif"))
    with Image.open(tmp_path / "w.gif") as film:
        scale = film.size[0] // found.image.shape[1]
        for frame in (0, film.n_frames - 1):  # type: ignore[attr-defined]
            film.seek(frame)
            shown = np.asarray(film.convert("RGB"))[::scale, ::scale][: len(found.image), : len(found.image)]
            assert_allclose(shown, np.broadcast_to(found.image, shown.shape), atol=4)
    other = trained["dcgan" if name == "stylegan2" else "stylegan2"][0]
    wrong: dict[str, dict[str, Any]] = {
        r"one/code\.npz is of another GAN: this one's codes are": {"codes": str(tmp_path / "one/code.npz")},
        r"no code in nowhere\.npz: .*--mode=project writes such files": {"codes": "nowhere.npz"},
        "says what is drawn: leave out --seeds": {"codes": "x.npz", "seeds": "1"},
    }
    for message, asked in wrong.items():
        with pytest.raises(UserError, match=message):
            MODES["sample"].run(Request(other, out=tmp_path / "x.png", **asked))
