"""Workdirs that the tests of this folder only read."""

from pathlib import Path

import pytest

from gan_jax.core.state import GANState
from tests.helpers import begun, run, small


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, GANState]]:
    """A DCGAN after two steps; one of classes, StyleGAN2, and FastGAN, whose D looks at two sides, before the first."""
    config, path = small("dcgan"), tmp_path_factory.mktemp("dcgan")
    config.steps = 2
    found = {"dcgan": (path, run(config, path))}
    for name in ("cgan", "stylegan2", "fastgan"):
        path = tmp_path_factory.mktemp(name)
        found[name] = path, begun(small(name), path)
    return found
