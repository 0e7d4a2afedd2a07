"""The configs that come with the package, by their names."""

import subprocess
import sys
from pathlib import Path

import pytest

from gan_jax import config_files
from tests.helpers import NAMES, ROOT, launch


def test_they_are_found_by_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_files.names() == NAMES
    monkeypatch.chdir(tmp_path)
    dcgan = str(ROOT / "configs/dcgan.py")
    for text, found in {
        "dcgan": dcgan,
        "configs/dcgan.py": dcgan,
        "dcgan:folder@64": f"{dcgan}:folder@64",
        "dcgan.py": "dcgan.py",
        "configs/dcgan": "configs/dcgan",
        "mine": "mine",
        "mine/dcgan.py": "mine/dcgan.py",
    }.items():
        assert config_files.resolved(text) == found
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/dcgan.py").touch()
    assert config_files.resolved("configs/dcgan.py") == "configs/dcgan.py"  # one's own
    assert config_files.resolved("dcgan") == dcgan


def test_config_files_import_them_without_a_checkout(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[1])]; sys.path.append(sys.argv[2]);"
        "from gan_jax import config_files; config_files.importable(); from configs import sagan; print(sagan.__file__)"
    )
    (tmp_path / "gan_jax").symlink_to(ROOT / "gan_jax")
    (tmp_path / "configs_elsewhere").mkdir()
    command = [sys.executable, "-c", code, str(ROOT), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said.strip() == str(ROOT / "configs/sagan.py")


def test_a_run_of_one_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    said = launch("--config=gan", "--mode=sample", code=2)
    assert "no run in runs/gan: train first" in said
