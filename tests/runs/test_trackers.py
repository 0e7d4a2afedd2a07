"""Trackers: what they are told, once, whatever happens to the run; and that a broken one does nothing to it."""

import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from gan_jax.runs import logs as runs_logs
from gan_jax.runs.trackers import Told, background, check
from gan_jax.runs.trackers.tags import tag, tagged
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps import sweep
from gan_jax.util.errors import UserError
from tests.helpers import ONE, launch, records, run, run_until, small

GRID = np.zeros((6, 5, 3), np.uint8)


class Fake:
    """A service that remembers, in lists that all of its runs share."""

    told: ClassVar[list[tuple[str, str, int, Any]]] = []
    ended: ClassVar[list[tuple[str, Any]]] = []

    def __init__(self, told: Told) -> None:
        self.identity, self.name = told.identity or f"id of {told.name}", told.name

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append((self.identity, "scalars", step, values))

    def picture(self, step: int, picture: np.ndarray) -> None:
        self.told.append((self.identity, "picture", step, picture.shape))

    def finish(self, figures: Mapping[str, float] | None) -> None:
        self.ended.append((self.identity, figures))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """All services are fake ones, without what an earlier test told them."""
    Fake.told, Fake.ended = [], []
    monkeypatch.setattr(runs_logs, "opener", lambda name: Fake)
    return Fake


def write(path: Path, track: str, steps: Callable[[], Iterator[int]] = lambda: iter((5, 10)), end: bool = True) -> None:
    """A run of two lines and a picture, without training."""
    (path / "tensorboard").mkdir(parents=True, exist_ok=True)
    config = small("gan")
    config.log.track = track
    place = Workdir(path)
    try:
        with place.logs(-1, config) as log:
            for step in steps():
                log.write({"step": step, "seconds": 1.0, "d_loss": step / 10}, 8 * step)
                log.write_picture(step, GRID)
            if not end:
                raise KeyboardInterrupt
        log.finish({"fid[classifier:digits:ab]": 3.0, "verdict": "healthy", "resources": {"gflops": 1.0}})
    except KeyboardInterrupt:
        pass


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("d_loss", "losses/d_loss"),
        ("d_r1", "losses/d_r1"),
        ("d_real", "output/d_real"),
        ("fid[classifier:embedded:mnist5k:aabca6b5]", "quality/fid_classifier"),
        ("best_fid[inception:0a]", "quality/best_fid_inception"),
        ("duplicates", "collapse/duplicates"),
        ("schedule_augment", "schedules/augment"),
        ("images_per_second", "run/images_per_second"),
        ("schedule_my own", "schedules/my_own"),
    ],
)
def test_a_tag_is_a_group_and_a_name_that_all_trackers_take(name: str, expected: str) -> None:
    assert tag(name) == expected


def test_rates_are_told_whether_a_schedule_moves_them_or_not() -> None:
    config = {
        "optimizer.generator.learning_rate": 2e-4,
        "optimizer.discriminator.learning_rate": 1e-4,
        "schedules.generator_rate.key": "optimizer.generator.learning_rate",
    }
    still, moving = tagged({"step": 1}, config), tagged({"step": 1, "schedule_generator_rate": 1e-5}, config)
    assert still == {"rates/generator": 2e-4, "rates/discriminator": 1e-4}
    assert moving["rates/generator"] == 1e-5
    assert tagged({"steps": 3, "why": "so"}, {}) == {"run/steps": 3.0}


def test_names_are_checked_before_anything_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = launch("--config=configs/gan.py", f"--workdir={tmp_path / 'run'}", "--track=tensorbord", code=2)
    assert "config.log.track must be any of tensorboard, wandb, mlflow, with commas between them" in said
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="mlflow isn't installed: pip install mlflow"):
        check("tensorboard, mlflow")
    check("tensorboard")
    check("")
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_stopped_and_resumed_is_one_run_with_each_step_once(fake: type[Fake], tmp_path: Path) -> None:
    config = small("gan")
    config.log.track = "wandb"
    run_until(config, tmp_path / "run", ONE, "draw", at=10)  # after the line of step 10, the checkpoint is of step 8
    assert fake.ended == [("id of run", None)]
    run(config, tmp_path / "run")
    lines = [(step, values) for _, what, step, values in fake.told if what == "scalars"]
    assert [step for step, _ in lines] == [line["step"] for line in records(tmp_path / "run")]
    assert [step for _, what, step, _ in fake.told if what == "picture"] == [0, 5, 10]
    assert {who for who, *_ in fake.told} == {"id of run"}
    for (_, values), line in zip(lines, records(tmp_path / "run"), strict=True):
        assert values["losses/d_loss"] == line["d_loss"]
        assert values["images"] == line["step"] * config.batch_size * config.d_steps
        assert values["rates/generator"] == config.optimizer.generator.learning_rate
    (_, figures) = fake.ended[-1]
    assert figures["run/steps"] == 10
    assert not (tmp_path / "run/tensorboard").exists() or not [*(tmp_path / "run/tensorboard").iterdir()]


def test_each_trial_of_a_sweep_is_a_run(fake: type[Fake], tmp_path: Path) -> None:
    config = small("gan")
    config.log.track = "mlflow"
    sweep.sweep(config, [{"seed": 0}, {"seed": 1}], tmp_path / "both", ONE)
    assert {who for who, *_ in fake.told} == {"id of 000", "id of 001"}
    assert sorted(who for who, figures in fake.ended if figures) == ["id of 000", "id of 001"]


@pytest.mark.parametrize("where", ["__init__", "scalars", "picture", "finish"])
def test_a_service_that_fails_is_a_warning_and_the_run_goes_on(
    where: str, fake: type[Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(fake, where, broken)
    write(tmp_path / "run", "wandb")
    said = f"\nwarning: wandb is told nothing more of {tmp_path / 'run'}: ConnectionError: no route to host\n"
    assert capsys.readouterr().err == said
    if where == "scalars":
        config = small("gan")
        config.log.track = "wandb"
        run(config, tmp_path / "trained")
        assert said.replace("/run", "/trained") in capsys.readouterr().err
        assert (tmp_path / "trained/summary.json").exists()


def test_a_service_that_hangs_is_left_behind(
    fake: type[Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forever = threading.Event()
    monkeypatch.setattr(fake, "scalars", lambda *_: forever.wait())
    monkeypatch.setattr(background, "PATIENCE", 0.2)
    write(tmp_path / "run", "wandb")
    assert "it has not taken all within 0 s" in capsys.readouterr().err
    monkeypatch.setattr(background, "_MOST", 3)
    write(tmp_path / "full", "wandb", lambda: iter(range(10)))
    assert "3 lines wait for it" in capsys.readouterr().err
    forever.set()


def messages(data: bytes, message: Any) -> list[Any]:
    """What lies in a file of wandb's: a head of 7 bytes, then LevelDB's log, blocks of 32 kB of parts of records."""
    at, part, found = 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part, at = part + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(message.FromString(part))
            part = b""
    return found


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(background, "_HURRIED", 60.0)
    write(tmp_path / "run", "wandb", end=False)
    write(tmp_path / "run", "wandb", lambda: iter((10, 15)))
    files = sorted((tmp_path / "run/tracking/wandb").glob("offline-run-*/*.wandb"))
    known = json.loads((tmp_path / "run/tracking/wandb.json").read_text())
    assert [file.name for file in files] == [f"run-{known['identity']}.wandb"] * len(files)
    steps = {}
    for file in files:
        for record in messages(file.read_bytes(), vars(wandb_internal_pb2)["Record"]):
            if record.HasField("history"):
                items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                steps[record.history.step.num] = items
            if record.HasField("run") and record.run.config.update:
                config = {entry.key: json.loads(entry.value_json) for entry in record.run.config.update}
                assert config["batch_size"] == small("gan").batch_size
    assert sorted(steps) == [5, 10, 15]
    assert {step: float(items["losses/d_loss"]) for step, items in steps.items()} == {5: 0.5, 10: 1.0, 15: 1.5}
    assert all(float(items["images"]) == 8 * step for step, items in steps.items())
    assert len([*(tmp_path / "run/tracking/wandb").glob("offline-run-*/files/media/images/*.png")]) == 3


@pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy
@pytest.mark.parametrize("store", ["sqlite", pytest.param("file", marks=pytest.mark.slow)])
def test_mlflow_with_a_local_store(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    where = {"sqlite": f"sqlite:///{tmp_path / 'mlflow.db'}", "file": f"file:{tmp_path / 'mlruns'}"}[store]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(background, "_HURRIED", 60.0)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run", "mlflow", end=False)
    client = mlflow.MlflowClient()
    (begun,) = client.search_runs([client.get_experiment_by_name("gan_jax").experiment_id])
    identity = begun.info.run_id
    assert client.get_run(identity).info.status == "KILLED"
    write(tmp_path / "run", "mlflow", lambda: iter((10, 15)))
    found = client.get_run(identity)
    assert found.info.status == "FINISHED"
    assert (found.info.run_name, found.data.tags["group"]) == ("run", tmp_path.name)
    assert found.data.params["optimizer.generator.learning_rate"] == "0.0002"
    assert found.data.metrics["final/quality/fid_classifier"] == 3.0
    history = client.get_metric_history(identity, "losses/d_loss")
    assert [(metric.step, metric.value) for metric in history] == [(5, 0.5), (10, 1.0), (15, 1.5)]
    images = [item.path for item in client.list_artifacts(identity, "images") if item.path.endswith(".png")]
    assert len(images) == 3


def test_tensorboard_has_the_config_as_hyperparameters(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    write(tmp_path / "run", "tensorboard")
    (file,) = (tmp_path / "run/tensorboard").iterdir()
    data, at, found = file.read_bytes(), 0, {}
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        for value in Event.FromString(data[at + 12 : at + 12 + size]).summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                found[value.tag] = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        at += 16 + size
    begin = found["_hparams_/session_start_info"].session_start_info.hparams
    assert begin["optimizer.generator.learning_rate"].number_value == 2e-4
    assert begin["model"].string_value == "mlp"
    assert "_hparams_/session_end_info" in found
