"""An exported generator: the same images with jax alone, by ONNX Runtime, and loaded again; of every family."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gan_jax
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core.pixels import Pixels
from gan_jax.core.state import GANState
from gan_jax.runs.workdir import Workdir
from gan_jax.training.train import train
from gan_jax.use import export
from gan_jax.util.errors import UserError
from tests.helpers import NAMES, begun, small

Trained = dict[str, tuple[Path, GANState]]
QUICK = ("cgan", "projection", "stylegan2", "r3gan")  # the others: python -m pytest -m slow


def away_from_the_start(run: gan_jax.Trained) -> None:
    """Give it weights that make images of some contrast, and no 0 in gates, noise and offsets."""
    rng = np.random.default_rng(0)
    spread = 0.02 if run.config.model == "fastgan" else 0.1  # beyond it all of its pixels are black or white
    params = jax.tree.map(lambda x: x + rng.normal(0, spread, x.shape).astype(x.dtype), run.params["params"])
    run.params = {**run.params, "params": params}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_onnx_makes_the_same_images(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    begun(small(name), tmp_path / "run")
    run = gan_jax.load(tmp_path / "run")
    away_from_the_start(run)
    run.export(tmp_path / "out", onnx=True)
    session = runtime.InferenceSession(tmp_path / "out/generator.onnx")
    for count in (1, 5):
        z = np.asarray(run.latents(count, seed=3), np.float32)
        labels = (np.arange(count) % max(run.gan.classes, 1)).astype(np.int32)
        told = {"latents": z, **({"labels": labels} if run.gan.classes else {})}
        (images,) = session.run(None, told)
        options: dict[str, Any] = {"noise_mode": "const"} if name in ("stylegan2", "fastgan") else {}
        wanted = np.asarray(run.generate(z, labels, **options))
        assert wanted.std() > 0.01
        levels = [np.clip(x, -1, 1) * 127.5 for x in (images, wanted)]
        assert_allclose(levels[0], levels[1], atol=0.05)


CONSUMER = """
import sys
import numpy as np
import jax
import jax.numpy as jnp
from jax import export, numpy as jnp
with open("generator.stablehlo", "rb") as file:
    generator = export.deserialize(file.read())
assert generator.platforms == ("cpu", "cuda", "tpu"), generator.platforms
given = np.load(sys.argv[1])
images = generator.call(jnp.asarray(given["z"]), jnp.asarray(given["labels"]))
assert "gan_jax" not in sys.modules
np.save(sys.argv[2], images)
"""


@pytest.mark.parametrize("name", ["cgan", "stylegan2"])
def test_jax_alone_runs_it_in_batches_of_any_size(name: str, trained: Trained, tmp_path: Path) -> None:
    path = trained[name][0]
    run, out = gan_jax.load(path), tmp_path / "out"
    sampling = "truncation=0.7" if run.has_mapping else None
    MODES["export"].run(Request(path, out=out, sampling=sampling))
    z, labels = np.asarray(run.latents(7, seed=3)), np.arange(7) % max(run.gan.classes, 1)
    np.savez(tmp_path / "given.npz", z=z, labels=labels.astype(np.int32))
    command = [sys.executable, "-I", "-c", CONSUMER, str(tmp_path / "given.npz"), str(tmp_path / "images.npy")]
    subprocess.run(command, check=True, cwd=out)
    options: dict[str, Any] = {"noise_mode": "const", "truncation": 0.7} if run.has_mapping else {}
    assert_allclose(np.load(tmp_path / "images.npy"), run.generate(z, labels, **options), atol=2e-5)


def test_it_is_loaded_as_a_run_is(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = trained["cgan"]
    run, out = gan_jax.load(path), tmp_path / "out"
    MODES["export"].run(Request(path, out=out))
    files = ["README.md", "card.png", "config.json", "data.json", "generator.stablehlo", "params.safetensors"]
    assert sorted(file.name for file in out.iterdir()) == files
    assert f"the generator of step 0, {', '.join(files)}: {out}" in capsys.readouterr().out
    (out / "generator.onnx").touch()  # of an export before, of other weights
    MODES["export"].run(Request(path, out=out))  # once more
    assert not (out / "generator.onnx").exists()
    own = gan_jax.load(out)
    assert (own.step, own.classes) == (0, [str(label) for label in range(10)])
    assert_array_equal(own.sample(12, seed=4, truncation=0.8), run.sample(12, seed=4, truncation=0.8))
    MODES["sample"].run(Request(out, num_samples=3, label="2", out=tmp_path / "s.npz"))
    with np.load(tmp_path / "s.npz") as kept:
        assert_array_equal(kept["images"], run.sample(3, label="2"))
    assert own.metrics() == []
    again = own.export(tmp_path / "again")
    assert (tmp_path / "again/params.safetensors").read_bytes() == (out / "params.safetensors").read_bytes()
    assert again == files
    card = (out / "README.md").read_text()
    for text in (
        "# dcgan of classes, non_saturating",
        "| images | 16x16x1 |",
        "embedded:mnist5k, 4,500 images",
        "jax.random.key(0), (16, 8)",
    ):
        assert text in card
    refused: dict[str, Any] = {
        "holds an exported generator, without a D: load the run": lambda: own.discriminate(own.sample(2)),
        "holds an exported generator, without a D: evaluate the run": lambda: MODES["evaluate"].run(Request(out)),
        "holds an exported generator, which can't be trained": lambda: train(Workdir(out).config(), out),
        "holds the exported generator of step 0, and no 7": lambda: gan_jax.load(out, step=7),
        "--mode=export writes a folder: give --out=FOLDER": lambda: MODES["export"].run(Request(path)),
        "holds other files: give a new folder": lambda: run.export(path),
        "truncation is an option of the prior": lambda: run.export(tmp_path / "x", truncation=0.5),
        "unknown option of an export: 'psi'": lambda: run.export(tmp_path / "x", psi=0.5),
        "an export is a folder: give a name without an ending": lambda: run.export(tmp_path / "x.zip"),
    }
    for message, call in refused.items():
        with pytest.raises(UserError, match=message):
            call()
    (out / "params.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"cannot read .*params\.safetensors"):
        gan_jax.load(out)


def test_a_generator_with_noise_is_exported_without(trained: Trained, tmp_path: Path) -> None:
    run = gan_jax.load(trained["stylegan2"][0])
    with pytest.raises(UserError, match="an exported generator draws nothing by itself: noise_mode is const or none"):
        run.export(tmp_path / "out", noise_mode="random")
    run.export(tmp_path / "out", noise_mode="none")
    assert "noise_mode=none" in (tmp_path / "out/README.md").read_text()
    assert_array_equal(gan_jax.load(tmp_path / "out").sample(3), run.sample(3))
    assert json.loads((tmp_path / "out/config.json").read_text())["model"] == "stylegan2"


@pytest.mark.parametrize("pixels", [Pixels(), Pixels(8, "premultiplied"), Pixels(16, "none", 300, 4000)])
def test_the_cards_program_makes_the_numbers_that_are_drawn(pixels: Pixels) -> None:
    images = jnp.linspace(-1.2, 1.2, 900, dtype=jnp.float32)
    last = export._consumer(pixels).strip().splitlines()[-1]
    found: dict[str, Any] = {"images": images, "jnp": jnp}
    exec(last, found)
    np.testing.assert_array_equal(found["pixels"], pixels.whole(images))
    notes = {"none": "0 is the grey 300 of the data, 65535 the grey 4000", "premultiplied": "multiplied by alpha"}
    assert (notes[pixels.alpha] in last) == (pixels != Pixels())
