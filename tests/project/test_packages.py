"""What is installed is all of the package."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers import ROOT


def test_every_folder_of_the_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "gan_jax").rglob("__init__.py")}
    assert set(listed) == {".".join(folder.parts) for folder in folders} | {"gan_jax.configs"}


@pytest.mark.slow
def test_the_wheel_works_alone(tmp_path: Path) -> None:
    """Built, unpacked elsewhere, and run there: flags, built-in configs that import each other, the page's file."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = tmp_path / "source"  # building leaves files behind
    for name in ("gan_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, place = tmp_path / "site", tmp_path / "place"
    place.mkdir()
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", str(site), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    short = ["--config.steps=2", "--config.batch_size=16", "--config.eval.features=none", "--config.sample.rows=2"]
    said = run(sys.executable, "-m", "gan_jax", "--config=sagan", "--workdir=run", *short)  # imports configs.sngan
    assert "finished: 2 steps" in said
    assert run(sys.executable, "-m", "gan_jax", "--help").startswith("python -m gan_jax --config=FILE")
    assert run(str(site / "bin/gan-jax"), "--mode=sample", "--workdir=run", "--num_samples=4", "--out=s.png")
    where = "import gan_jax, gan_jax.use.play as p; from importlib import resources; "
    where += "print(gan_jax.__file__, len(resources.files('gan_jax.use').joinpath('play.html').read_text()) > 1000)"
    assert run(sys.executable, "-c", where).split() == [str(site / "gan_jax/__init__.py"), "True"]
