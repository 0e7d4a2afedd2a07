"""The imports go one way, as the house has it: read from the source, not from the docs."""

import ast
from pathlib import Path

import pytest

from tests.helpers import ROOT

PACKAGE = ROOT / "gan_jax"
# The rooms, and the doors between them; one may import only from what stands above it here.
ORDER = [
    {"util"},
    {"ops"},
    {"layers"},
    {"core", "models"},
    {"keys", "sides"},
    {"config"},
    {"config_files"},
    {"stages"},
    {"runtime"},
    {"data"},
    {"assemble", "evaluate"},
    {"runs"},
    {"build"},
    {"training"},
    {"sweeps"},
    {"use"},
    {"cli"},
    {"__main__"},
]
CORE = {"core", "layers", "models", "ops"}
CORE_MAY_IMPORT = {"jax", "flax", "optax", "gan_jax", "collections", "dataclasses", "functools", "inspect", "math"}
CORE_MAY_IMPORT |= {"contextlib", "contextvars", "re", "typing", "zlib"}
HOMES = {  # of each outside thing
    "absl": {"cli", "data"},
    "array_record": {"data/pack", "data/packed"},
    "fsspec": {"data/remote"},
    "grain": {"data"},
    "imageio_ffmpeg": {"runs/film"},
    "jinja2": {"runs/page"},
    "onnx": {"use/to_onnx"},
    "optuna": {"sweeps/search"},
    "orbax": {"runs/checkpoint"},
    "submitit": {"sweeps/jobs"},
    "mlflow": {"runs/trackers/mlflow"},
    "tensorboardX": {"runs/trackers/tensorboard"},
    "tensorflow_datasets": {"data"},
    "tqdm": {"util/progress"},
    "wandb": {"runs/trackers/wandb"},
}
ASKS_FOR_HARDWARE = {"ops", "runtime", "cli/doctor"}  # the last tells what there is
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


def level(room: str) -> int:
    return next(i for i, rooms in enumerate(ORDER) if room in rooms)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_in(path: Path, homes: set[str]) -> bool:
    return bool({room(path), str(path.relative_to(PACKAGE)).removesuffix(".py")} & homes)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert set(imports(path)) <= {"typing.TYPE_CHECKING", "typing.Any"} | {
            f"gan_jax.use.trained{name}" for name in ("", ".Trained", ".get_config", ".load", ".train")
        } | {"gan_jax.use.trained"}, "see test_importing_the_package_is_light"
        return
    own = room(path)
    for name in imports(path):
        if name.startswith("gan_jax."):
            other = name.split(".")[1]
            assert other == own or level(other) < level(own), f"{own} imports {other}"
        else:
            assert name.split(".")[0] not in ("configs", "launch", "tests", "benchmarks"), f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_outside_thing_has_one_place(path: Path) -> None:
    for name in imports(path):
        package = name.split(".")[0]
        assert is_in(path, HOMES.get(package, {room(path)})), f"{package} in {path}"
        if room(path) in CORE:
            assert package in CORE_MAY_IMPORT, f"the core imports {package}"
    used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert "pmap" not in used or is_in(path, {"runtime/program"})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_hardware_is_asked_for_in_its_rooms_alone(path: Path) -> None:
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    asked = names & {"on_cpu", "default_backend", "device_kind", "memory_stats"}
    assert not asked or is_in(path, ASKS_FOR_HARDWARE), asked


def test_no_function_of_the_update_has_more_than_three_positional_arguments() -> None:
    for node in ast.walk(ast.parse((PACKAGE / "core/update.py").read_text())):
        if isinstance(node, ast.FunctionDef):
            assert len([name for name in node.args.args if name.arg != "self"]) <= 3, node.name


def test_every_room_is_in_the_plan() -> None:
    assert {room(path) for path in FILES} - {"__init__"} == set().union(*ORDER)
