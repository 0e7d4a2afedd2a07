"""The imports go one way, as the house has it: read from the source, not from the docs."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "gan_jax"
# A module may import only from layers below its own.
LAYERS = [
    {"errors"},
    {"hyper", "means", "process", "progress", "shards", "signals"},
    {"layers", "files", "distributed", "named", "hints"},
    {"core", "models"},
    {"config", "data", "sample", "visualize", "checkpoint", "parallel"},
    {"assemble", "evaluate", "feed", "resources"},
    {"build", "workdir"},
    {"report"},
    {"trial"},
    {"sweep", "train"},
    {"doctor", "jobs", "search"},
    {"arguments"},
    {"modes"},
    {"command"},
]
CORE = {"core", "layers", "models"}
CORE_MAY_IMPORT = {"jax", "flax", "optax", "gan_jax", "collections", "dataclasses", "functools", "inspect", "math"}
CORE_MAY_IMPORT |= {"re", "typing", "zlib"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    """Full dotted names of everything that a file imports, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def part(name: str) -> str:
    """The part of the house that ``gan_jax.part...`` belongs to."""
    return name.split(".")[1]


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def own_part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not imports(path)
        return
    own = own_part(path)
    for name in imports(path):
        if name.startswith("gan_jax."):
            other = part(name)
            assert other == own or level(other) < level(own), f"{own} imports {other}"
        else:
            assert name.split(".")[0] not in ("configs", "launch", "tests", "benchmarks"), f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_outside_thing_has_one_place(path: Path) -> None:
    homes = {"orbax": {"checkpoint"}, "tensorboardX": {"workdir"}, "absl": {"command", "data"}}
    homes |= {
        "grain": {"data"},
        "tensorflow_datasets": {"data"},
        "optuna": {"search"},
        "submitit": {"jobs"},
        "tqdm": {"progress"},
    }
    for name in imports(path):
        package = name.split(".")[0]
        assert own_part(path) in homes.get(package, {own_part(path)}), f"{package} in {path}"
        if own_part(path) in CORE:
            assert package in CORE_MAY_IMPORT, f"the core imports {package}"
    uses_pmap = any(isinstance(n, ast.Attribute) and n.attr == "pmap" for n in ast.walk(ast.parse(path.read_text())))
    assert not uses_pmap or own_part(path) == "parallel"


def test_every_part_is_in_the_plan() -> None:
    parts = {own_part(path) for path in FILES} - {"__init__"}
    assert parts == set().union(*LAYERS)
