"""A trained GAN in Python: as the docs have it, and as the command line draws it."""

import re
import subprocess
import sys
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
from gan_jax.core.networks import call
from gan_jax.core.state import GANState
from gan_jax.evaluate import perceptual
from gan_jax.runs import visualize
from gan_jax.util.errors import UserError
from tests.helpers import ONE, ROOT, small

Array = Any


def test_importing_the_package_is_light() -> None:
    code = "import sys, gan_jax; assert not {'jax', 'flax', 'numpy'} & sys.modules.keys(); print(dir(gan_jax))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "['Trained', '__version__', 'get_config', 'load', 'train']"
    with pytest.raises(AttributeError, match="module 'gan_jax' has no attribute 'lode'"):
        _ = gan_jax.lode


def test_samples_are_those_of_the_command_line(trained: dict[str, tuple[Path, GANState]], tmp_path: Path) -> None:
    path, _ = trained["cgan"]
    MODES["sample"].run(Request(path, num_samples=12, seed=3, out=tmp_path / "s.npz", sampling="truncation=0.5"))
    with np.load(tmp_path / "s.npz") as kept:
        found = gan_jax.load(path).sample(12, seed=3, truncation=0.5)
        assert_array_equal(found, kept["images"])
        assert_array_equal(gan_jax.load(str(path)).sample(12, seed=3, label=kept["labels"], truncation=0.5), found)
    MODES["sample"].run(Request(path, num_samples=12, seed=3, out=tmp_path / "l.npz", label="4"))
    with np.load(tmp_path / "l.npz") as kept:
        three: Any = np.int64(3)
        for label in (4, "4", [4] * 12):
            assert_array_equal(gan_jax.load(path).sample(12, seed=three, label=label), kept["images"])


def test_seeds_and_grids_are_of_the_same_samples(
    trained: dict[str, tuple[Path, GANState]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = trained["dcgan"]
    own = gan_jax.load(path)
    MODES["sample"].run(Request(path, seeds="3,0-1", out=tmp_path / "seeds"))
    assert "3 samples of 3 seeds of step 2: " in capsys.readouterr().out
    for seed in (0, 1, 3):
        with Image.open(tmp_path / f"seeds/seed{seed:06d}.png") as picture:
            assert_array_equal(np.asarray(picture), own.sample(1, seed=seed)[0, ..., 0])
    MODES["sample"].run(Request(path, seed=3, grid="5x2", out=tmp_path / "grid.png"))
    with Image.open(tmp_path / "grid.png") as picture:
        assert_array_equal(np.asarray(picture), visualize.grid(own.sample(10, seed=3), 5)[..., 0])
    MODES["sample"].run(Request(path, seeds="7", out=tmp_path / "seeds"))  # joins them
    assert len(list((tmp_path / "seeds").iterdir())) == 4
    of_classes = gan_jax.load(trained["cgan"][0])
    MODES["sample"].run(Request(of_classes.workdir, seeds="0-11", out=tmp_path / "of_classes"))
    with Image.open(tmp_path / "of_classes/seed000011_0.png") as picture:  # whatever stands before it
        assert_array_equal(np.asarray(picture), of_classes.sample(1, seed=11)[0, ..., 0])
    MODES["sample"].run(Request(of_classes.workdir, grid="3x2", out=tmp_path / "classes.png"))
    labels = np.array([0, 0, 0, 1, 1, 1])
    shown = visualize.grid(of_classes.sample(6, label=labels), 3, ["0", "1"])
    with Image.open(tmp_path / "classes.png") as picture:
        assert_array_equal(np.asarray(picture), shown[..., 0])
    wrong: dict[str, dict[str, Any]] = {
        "--grid=5x2 has 10 places, and there are 11 images": {"grid": "5x2", "num_samples": 11},
        "--grid=5x2 is of one picture: --out must end in .png": {"grid": "5x2", "out": tmp_path / "x.npz"},
        "--seeds=1 says which images: leave out --num_samples": {"seeds": "1", "num_samples": 2},
        "--seeds=1 says which images: leave out --seed": {"seeds": "1", "seed": 2},
    }
    for message, request in wrong.items():
        with pytest.raises(UserError, match=message):
            MODES["sample"].run(Request(path, **request))


@pytest.mark.parametrize("name", ["dcgan", "stylegan2", "fastgan"])
def test_a_generator_is_a_pure_function_of_its_weights(name: str, trained: dict[str, tuple[Path, GANState]]) -> None:
    path, state = trained[name]
    own = gan_jax.load(path)
    jax.tree.map(assert_array_equal, own.params, state.ema)
    jax.tree.map(assert_array_equal, gan_jax.load(path, weights="current").params, state.generator.variables)
    z = own.latents(3, seed=5)
    made = own.generate(z, seed=5)
    assert_allclose(np.asarray(jnp.round((made.clip(-1, 1) + 1) * 127.5)), own.sample(3, seed=5), atol=1.01)
    assert_allclose(jax.jit(own.apply)(own.params, z), own.generate(z), atol=1e-5)
    slope = jax.grad(lambda z: own.apply(own.params, z).sum())(z)
    assert float(jnp.abs(slope).max()) > 0
    assert own.step == (2 if name == "dcgan" else 0)
    assert repr(own).startswith(f"<{own.config.model} of {path}, step {own.step}, images ")


@pytest.mark.parametrize("seed", [2**31, 2**32 - 1])
def test_all_seeds_have_samples(seed: int, trained: dict[str, tuple[Path, GANState]]) -> None:
    own = gan_jax.load(trained["stylegan2"][0])
    z = own.latents(2, seed=seed)
    made = own.generate(z, seed=seed)
    assert_allclose(np.asarray(jnp.round((made.clip(-1, 1) + 1) * 127.5)), own.sample(2, seed=seed), atol=1.01)
    assert_allclose(own.synthesis(own.mapping(z), seed=seed), made, atol=1e-5)


def test_a_mapping_network_has_its_halves(trained: dict[str, tuple[Path, GANState]]) -> None:
    own, other = gan_jax.load(trained["stylegan2"][0]), gan_jax.load(trained["dcgan"][0])
    z = own.latents(3, seed=5)
    w = own.mapping(z)
    assert w.shape == (3, 4, 6)
    assert_allclose(own.synthesis(w, seed=2), own.generate(z, seed=2), atol=1e-5)
    assert_allclose(own.synthesis(w, noise_mode="const"), own.generate(z, noise_mode="const"), atol=1e-5)
    assert_allclose(own.synthesis(w[:, 0], seed=2), own.synthesis(w, seed=2), atol=1e-5)
    for wrong in (np.zeros((2, 3, 6)), np.zeros(6)):
        with pytest.raises(UserError, match=r"w must be \[B, 4, 6\], or \[B, 6\] for all copies, not "):
            own.synthesis(wrong)
    for call_of in (lambda: other.mapping(z), lambda: other.synthesis(w)):
        with pytest.raises(UserError, match="dcgan has no mapping network, and so no w"):
            call_of()


@pytest.mark.parametrize("name", ["dcgan", "fastgan"])
def test_d_judges_each_image_by_itself(name: str, trained: dict[str, tuple[Path, GANState]]) -> None:
    path, state = trained[name]
    own = gan_jax.load(path)
    images = own.sample(5)
    said = own.discriminate(images)
    assert said.shape == (5,)
    if name == "dcgan":
        logits = call(
            own.gan.discriminator,
            state.discriminator.variables,
            jnp.asarray(images, jnp.float32) / 127.5 - 1,
            train=False,
        ).logits
        assert_allclose(said, 1 / (1 + np.exp(-np.asarray(logits))), atol=1e-5)
        assert_allclose(own.discriminate(images[2:3]), said[2:3], atol=1e-6)
    assert_allclose(own.discriminate(images.astype(np.float32) / 127.5 - 1), said, atol=1e-5)
    assert len(own.discriminate(images[:0])) == 0


def test_nothing_is_said_but_what_is_asked(
    trained: dict[str, tuple[Path, GANState]], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    gan_jax.load(trained["dcgan"][0]).sample(2)
    assert capfd.readouterr().out == ""
    assert not caplog.records


def test_the_log_is_a_table(trained: dict[str, tuple[Path, GANState]]) -> None:
    lines = gan_jax.load(trained["dcgan"][0]).metrics()
    assert [line["step"] for line in lines if "d_loss" in line] == [1, 2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda own: own.sample(4, label="cat"), "label=cat: the GAN in .* has no such class: it has 10 classes"),
        (lambda own: own.sample(4, label=[1, 2]), "labels must be one number, or one for each of 4"),
        (lambda own: own.sample(1, label=np.eye(10, dtype=int)[:1]), r"shares of each class as floats \[1, 10\]"),
        (lambda own: own.sample(1, label=np.full(10, 0.2)), "shares of classes must be from 0 to 1, and add up to 1"),
        (lambda own: own.sample(1, label=np.full(10, np.nan)), "shares of classes must be from 0 to 1"),
        (lambda own: own.sample(2.5), "count must be a whole number from 1 up, not 2.5"),
        (lambda own: own.sample(-4), "count must be a whole number from 1 up, not -4"),
        (lambda own: own.latents(0), "count must be a whole number from 1 up, not 0"),
        (lambda own: own.sample(2, shift={0: 2.0}), r"a shift must be \[8\], as directions\(\).shift.*, not dict"),
        (lambda own: own.sample(2, shift=np.zeros(3)), r"a shift must be \[8\], .*, not \[3\]"),
        (lambda own: own.generate(own.latents(2), shift=1.0), r"a shift must be \[8\], .*, not float"),
        (lambda own: own.sample(4, label=[1, 2, 3, 10]), "labels must be from 0 to 9"),
        (lambda own: own.sample(4, psi=0.5), "psi"),
        (lambda own: own.sample(4, seed=-1), r"a seed must be a whole number from 0 to 2\^32 - 1, not -1"),
        (lambda own: own.generate(own.latents(2), noise_mod="const"), r"unknown option of generate\(\):"),
        (lambda own: own.latents(2, psi=0.5), r"unknown option of latents\(\):.*truncation"),
        (lambda own: own.apply(own.params, own.latents(2), psi=0.5), r"unknown option of apply\(\):"),
        (lambda own: own.discriminate(np.zeros((2, 16, 16, 1), int)), "images must be uint8, uint16 or floats"),
        (lambda own: own.generate(np.zeros((2, 9))), r"latents must be \[B, 8\], not \[2, 9\]"),
        (lambda own: own.discriminate(np.zeros((2, 5, 5, 1))), r"images must be \[N, 16, 16, 1\], not"),
        (lambda own: gan_jax.load(own.workdir, weights="best"), "weights must be 'average' or 'current', not 'best'"),
        (lambda own: gan_jax.load(own.workdir, step=7), "7"),
        (lambda own: gan_jax.load("/nowhere/at/all"), "no run in /nowhere/at/all"),
    ],
)
def test_what_cannot_be_is_one_line(wrong: Any, message: str, trained: dict[str, tuple[Path, GANState]]) -> None:
    with pytest.raises(UserError, match=message) as caught:
        wrong(gan_jax.load(trained["cgan"][0]))
    assert "\n" not in str(caught.value)


def test_the_docs_do_what_they_say(
    trained: dict[str, tuple[Path, GANState]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of docs/python.md, one after the other; images compared by pixels, as VGG takes long to compile."""
    monkeypatch.setattr(perceptual, "random", lambda _: perceptual.pixels())
    path, _ = trained["dcgan"]
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks[:3]:
        exec(block.replace("runs/dcgan", str(path)), names)
    assert names["images"].shape == (64, 28, 28, 1)
    assert names["likely"].shape == (64,)
    first = names["distance"](names["run"].latents(1, seed=2))
    assert float(names["nearest"]) < float(first)
    assert names["moved"].shape == (1, 28, 28, 1)
    exec(blocks[3].replace("runs/from_python", str(tmp_path / "run")), names)
    assert names["run"].step == 20


@pytest.mark.slow
def test_a_run_is_trained_from_python(tmp_path: Path) -> None:
    config = small("gan")
    done = gan_jax.train(config, tmp_path / "run", devices=ONE)
    assert done.step == config.steps
    config.steps = 12
    assert gan_jax.train(config, tmp_path / "run", devices=ONE).step == 12
