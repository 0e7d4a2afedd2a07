"""What is installed is all of the package."""

import tomllib

from tests.helpers import ROOT


def test_every_folder_of_the_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "gan_jax").rglob("__init__.py")}
    assert set(listed) == {".".join(folder.parts) for folder in folders}
