"""Eight virtual CPU devices, one compilation cache for the whole run, and small GANs to test on."""

import os
import site
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"gan_jax_tests_{os.getuid()}"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # programs are forgotten after each module

import pytest
from ml_collections import ConfigDict

from gan_jax.runtime import program
from tests.faults import EVERY
from tests.helpers import ROOT, small

ORBAX_THREADS = ("write_metadata_after_commits", "np_type_handler", "json_ch_save", "save_finalize")
_numbers = count()  # of the places that tests had
_LINKED = ("benchmarks", "configs", "gan_jax", "launch.py", "tests")


def pytest_configure(config: pytest.Config) -> None:
    """Quick tests compile without LLVM's effort, in a third of the time: what XLA makes of a program is the same.

    Slow tests compile as users do; quick ones with ``XLA_FLAGS=--xla_backend_optimization_level=3``.
    """
    level = "--xla_backend_optimization_level"
    if config.getoption("markexpr") == "not slow" and level not in os.environ["XLA_FLAGS"]:
        os.environ["XLA_FLAGS"] += f" {level}=0"
        if version("jax").startswith("0.10."):  # later ones have no other code for fusions
            os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases of ``slow.txt``; in a run of all tests these are there, and those of faults, quick."""
    lines = (ROOT / "tests/slow.txt").read_text().splitlines()
    slow = {line for line in lines if not line.startswith("#")}
    for item in items:
        if item.nodeid in slow:
            item.add_marker("slow")
    if not (config.getoption("lf", False) or any("::" in argument for argument in config.args)):
        whole = {item.nodeid.partition("::")[0] for item in items}
        quick = {item.nodeid for item in items if not item.get_closest_marker("slow")}
        quick |= {name.partition("[")[0] for name in quick}
        unknown = slow - {item.nodeid for item in items}
        late = {test for fault in EVERY.values() for test in fault.tests} - quick
        for names, what in (
            (unknown, "tests/slow.txt names no tests"),
            (late, "faults have no such quick tests"),
        ):
            if names := {name for name in names if name.partition("::")[0] in whole}:
                raise pytest.UsageError(f"{what}: {', '.join(sorted(names))}")


def _own_place(path: Path) -> Path:
    """Makes a folder where the checkout's commands work, and what they leave in it isn't in the checkout."""
    path.mkdir()
    for name in _LINKED:
        (path / name).symlink_to(ROOT / name)
    return path


@pytest.fixture(scope="session", autouse=True)
def _places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the places of all tests lie, and one for what several of them share."""
    path = tmp_path_factory.mktemp("places")
    os.chdir(_own_place(path / "shared"))
    yield path
    os.chdir(ROOT)


@pytest.fixture(autouse=True)
def _in_a_place_of_its_own(_places: Path) -> Iterator[None]:
    """No test meets what another left, or what the checkout's user has: ``runs/`` and the home are its own."""
    before, known = set(os.listdir(ROOT)), set(threading.enumerate())
    path = _own_place(_places / str(next(_numbers)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONUSERBASE", site.getuserbase())  # packages may lie in the home
        patch.setenv("HOME", str(path))
        patch.chdir(path)
        yield
    left = {name for name in set(os.listdir(ROOT)) - before if not name.startswith((".", "__"))}
    assert not left, f"the test left {left} in the checkout"
    end = time.monotonic() + 10
    while waiting := [t.name for t in set(threading.enumerate()) - known if t.name in ORBAX_THREADS]:
        assert time.monotonic() < end, f"the test left {waiting}: what they would have written is never awaited"
        time.sleep(0.05)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """Compiled programs of other modules are of no use, and there are gigabytes of them."""
    yield
    program.forget()


@pytest.fixture(autouse=True)
def _forget_many_programs() -> Iterator[None]:
    """Linux lets a process have 65,530 mappings and aborts it at more; a compiled program may have 2,000."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
        program.forget()


@pytest.fixture(params=["dcgan", "gan"])
def config(request: pytest.FixtureRequest) -> ConfigDict:
    """`small` of each config."""
    return small(request.param)
