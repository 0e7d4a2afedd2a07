"""Evaluations of many: all checkpoints of a run, the trials of a sweep, and pictures of any origin."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import embedded
from tests.helpers import MEANS, SMALL, launch

GAN = "--config=configs/gan.py"
FIGURES = (f"--config.eval.features={MEANS}", "--num_samples=40")


def table(said: str) -> dict[str, list[float]]:
    """The lines below the heads of the table, by what stands before them."""
    lines = said[said.rindex("\n\n") :].strip().splitlines()
    found = {}
    for line in lines[1:]:
        label, *cells = re.split(r"\s{2,}", line.strip())
        if cells:
            found[label] = [float(cell) for cell in cells]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints."""
    path = tmp_path_factory.mktemp("many") / "run"
    launch(GAN, f"--workdir={path}", *SMALL, "--config.steps=4", "--config.checkpoint.every=2")
    return path


def test_all_checkpoints_are_judged_as_each_alone(run: Path) -> None:
    said = launch("--mode=evaluate", f"--workdir={run}", "--step=all", *FIGURES)
    assert list(table(said)) == ["step 2", "step 4"]
    kept = {json.loads(file.read_text())["step"]: file for file in run.glob("evaluation_*.json")}
    assert sorted(kept) == [2, 4]
    both = {step: file.read_text() for step, file in kept.items()}
    for step in kept:
        launch("--mode=evaluate", f"--workdir={run}", f"--step={step}", *FIGURES)
        assert kept[step].read_text() == both[step]
        fid = next(value for name, value in json.loads(both[step]).items() if name.startswith("fid["))
        assert table(said)[f"step {step}"][0] == pytest.approx(fid, rel=1e-3)
    lowest = min(table(said), key=lambda label: table(said)[label][0])
    assert f"the lowest fid: {lowest}" in said
    assert "several: leave it out" in launch(
        "--mode=evaluate", f"--workdir={run}", "--step=all", "--out=x.png", *FIGURES, code=2
    )
    assert "whole number from 0 up, or best" in launch("--mode=sample", f"--workdir={run}", "--step=all", code=2)


def test_the_trials_of_a_sweep_are_judged(tmp_path: Path) -> None:
    small = [*SMALL, "--config.steps=2"]
    launch(GAN, "--mode=sweep", "--sweep=seed=0,1", f"--workdir={tmp_path / 'sweep'}", *small)
    said = launch("--mode=evaluate", f"--workdir={tmp_path / 'sweep'}", *FIGURES)
    assert [label.partition(",")[0] for label in table(said)] == ["000", "001"]
    assert len([*tmp_path.glob("sweep/*/evaluation_*.json")]) == 2


def test_pictures_of_any_origin_are_judged(tmp_path: Path) -> None:
    """The train images themselves have a FID of 0 and are learnt by heart; noise is far from all."""
    images = embedded.mnist5k()[0][:200]
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    np.savez(tmp_path / "same.npz", images=embedded.mnist5k()[0])
    for folder, pictures in {"some": images, "noise": noise}.items():
        (tmp_path / folder).mkdir()
        for number, image in enumerate(pictures):
            Image.fromarray(image[..., 0]).save(tmp_path / folder / f"{number:03d}.png")
    judged = {}
    for name in ("same.npz", "some", "noise"):
        given = GAN, f"--workdir={tmp_path / 'nothing'}", f"--samples={tmp_path / name}", FIGURES[0]
        said = launch("--mode=evaluate", *given, f"--out={tmp_path / 'near.png'}")
        judged[name] = {key: float(value) for key, value in re.findall(r"^(\w+)(?:\[\S+\])? +(-?\d\S*)", said, re.M)}
    assert abs(judged["same.npz"]["fid"]) < 1e-3
    assert judged["same.npz"]["precision"] == judged["same.npz"]["memorised"] == judged["some"]["memorised"] == 1
    assert judged["same.npz"]["fid"] < judged["some"]["fid"] < judged["noise"]["fid"]
    assert judged["noise"]["recall"] == judged["noise"]["memorised"] == 0
    assert (tmp_path / "near.png").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--samples=nowhere"], "data.dir: 'nowhere' is not there"),
        (["--samples=nowhere", "--by_class"], "--by_class is of a generator, and --samples are pictures"),
        (["--samples=nowhere", "--config.eval.features=none"], "is not there"),
    ],
)
def test_what_can_t_be_judged_is_one_line(flags: list[str], said: str, tmp_path: Path) -> None:
    assert said in launch("--mode=evaluate", GAN, f"--workdir={tmp_path}/x", *flags, code=2)
