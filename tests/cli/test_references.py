"""Keys of a config that refer to others have the same values whoever sets those: a flag, a sweep, a job, a search."""

import json
import pickle
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_dict import placeholder, required_placeholder

from gan_jax import config, config_files
from gan_jax.cli import command, modes
from gan_jax.sweeps import planning, sweep
from gan_jax.util.errors import UserError
from tests.helpers import SMALL, launch, small

G, D = "optimizer.generator.learning_rate", "optimizer.discriminator.learning_rate"
FILE = """
from tests.conftest import small

def get_config():
    config = small("gan")
    config.optimizer.discriminator.learning_rate = config.optimizer.generator.get_ref("learning_rate") * 4
    config.eval.every = config.get_ref("steps") // 2
    config.checkpoint.every = config.eval.get_oneway_ref("every")
    config.optimizer.discriminator.b1 = config.optimizer.generator.get_ref("b1")
    return config
"""
# Overrides, and what comes of them: G's rate and D's (4 times as large), steps, eval.every (half of them),
# checkpoint.every (as eval.every), b1 of both (they are one).
CASES: list[tuple[dict[str, Any], tuple[float, ...]]] = [
    ({}, (2e-4, 8e-4, 10, 5, 5, 0.9, 0.9)),
    ({G: 1e-3}, (1e-3, 4e-3, 10, 5, 5, 0.9, 0.9)),
    ({D: 1e-3}, (2e-4, 1e-3, 10, 5, 5, 0.9, 0.9)),
    ({G: 1e-3, D: 2e-3}, (1e-3, 2e-3, 10, 5, 5, 0.9, 0.9)),
    ({D: 2e-3, G: 1e-3}, (1e-3, 2e-3, 10, 5, 5, 0.9, 0.9)),
    ({"steps": 40}, (2e-4, 8e-4, 40, 20, 20, 0.9, 0.9)),
    ({"checkpoint.every": 3, "steps": 40}, (2e-4, 8e-4, 40, 20, 3, 0.9, 0.9)),
    ({"optimizer.discriminator.b1": 0.5}, (2e-4, 8e-4, 10, 5, 5, 0.5, 0.5)),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def own(path: Path) -> ConfigDict:
    found: ConfigDict = config_files.load_config(str(path))
    return found


def values(of: ConfigDict | dict[str, Any]) -> tuple[float, ...]:
    g, d = of["optimizer"]["generator"], of["optimizer"]["discriminator"]
    rates = g["learning_rate"], d["learning_rate"]
    return (*rates, of["steps"], of["eval"]["every"], of["checkpoint"]["every"], g["b1"], d["b1"])


def by_flags(line: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The config of a command line, and the flags of it, as ``launch.py`` has them."""
    monkeypatch.setattr(sys, "argv", line)
    found = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=found, lock_config=True)
    flags.DEFINE_string("workdir", None, "", flag_values=found)
    command.parse(found, line)
    return found


ignored = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections' own


@ignored
@pytest.mark.parametrize(("overrides", "expected"), CASES)
def test_a_flag_a_sweep_and_a_job_give_the_same_values(
    overrides: dict[str, Any],
    expected: tuple[float, ...],
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = ["launch.py", f"--config={file}", *(f"--config.{key}={value}" for key, value in overrides.items())]
    assert values(by_flags(line, monkeypatch)["config"].value) == pytest.approx(expected, abs=0)
    whole = own(file).lock()
    (other, member) = planning.plan(whole, [{"seed": 1}, overrides], tmp_path)
    assert values(member.config) == pytest.approx(expected, abs=0)
    assert values(other.config) == values(whole) == pytest.approx(CASES[0][1], abs=0)  # nobody changed those
    assert float(member.hyperparams["optimizer"]["discriminator"]["learning_rate"]) == pytest.approx(
        expected[1], rel=1e-7
    )


@ignored
def test_flags_and_the_trials_of_a_job_add_up(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloudpickle = pytest.importorskip("cloudpickle", reason="comes with submitit: pip install -e '.[slurm]'")
    line = ["launch.py", f"--config={file}", "--config.steps=40", f"--config.{G}=1e-3"]
    whole = by_flags(line, monkeypatch)["config"].value
    trained: list[planning.Trial] = []
    monkeypatch.setattr(sweep, "train", lambda members, devices: trained.extend(members))
    trials: list[dict[str, Any]] = [{}, {G: 2e-3}, {"steps": 60}]
    sweep.job(*pickle.loads(cloudpickle.dumps((whole, trials, tmp_path, [0, 1, 2]))))
    expected = [(1e-3, 4e-3, 40, 20, 20), (2e-3, 8e-3, 40, 20, 20), (1e-3, 4e-3, 60, 30, 30)]
    for member, alone in zip(trained, expected, strict=True):
        assert values(member.config) == pytest.approx((*alone, 0.9, 0.9), abs=0)


@ignored
@pytest.mark.parametrize("given", [{}, {G: 1e-3}, {"steps": 40}, {D: 1e-2, "steps": 40}])
@pytest.mark.parametrize(("overrides", "_"), CASES)
def test_the_command_of_the_best_trial_trains_its_config(
    given: dict[str, Any], overrides: dict[str, Any], _: object, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = config.changed(own(file), given)
    line = modes.alone(str(file), whole, overrides, Path("best"), given)
    alone = by_flags(shlex.split(line)[1:], monkeypatch)["config"].value
    assert config.to_plain(alone) == config.to_plain(config.changed(whole, overrides))
    if not given.keys() & overrides.keys():
        assert line.count("--config.") == len(given | overrides)  # what follows by itself isn't said


def test_two_values_for_keys_that_are_one_are_refused(file: Path, tmp_path: Path) -> None:
    both = {"optimizer.generator.b1": 0.5, "optimizer.discriminator.b1": 0.6}
    with pytest.raises(UserError, match=r"trial 000 .*config.optimizer.generator.b1 can't be 0.5: it is one with"):
        planning.plan(own(file), [both], tmp_path)
    same = dict.fromkeys(both, 0.5)
    assert values(config.changed(own(file), same))[-2:] == (0.5, 0.5)
    printed = launch(f"--config={file}", *(f"--config.{key}={value}" for key, value in both.items()), code=2)
    assert "config.optimizer.generator.b1 can't be 0.5: it is one with another key" in printed


def test_what_cannot_be_computed_or_has_no_value_is_one_line() -> None:
    for broken, message in {
        "required": "config.steps has no value: set it, in the config file or by --config.steps=VALUE",
        "empty": "config.steps has no value",
        "zero": "config.eval.every can't be computed from the keys that it refers to: ZeroDivisionError",
    }.items():
        found = small("gan")
        if broken == "zero":
            found.classes = 1
            found.eval.every = found.get_ref("steps") // found.get_ref("classes")
            found.classes = 0
        else:
            del found.steps
            found.steps = required_placeholder(int) if broken == "required" else placeholder(int)
        assert "eval.every" in config.dotted_keys(found)  # so that a flag can set it
        with pytest.raises(UserError, match=message) as error:
            config.validate(found)
        assert "\n" not in str(error.value)
        found.classes = found.steps = 5
        config.validate(found)


def test_players_that_are_one_stay_one() -> None:
    found = small("gan")
    found.optimizer.discriminator = found.optimizer.get_ref("generator")
    other = config.changed(found, {G: 3e-3})
    assert (other.optimizer.discriminator.learning_rate, found.optimizer.discriminator.learning_rate) == (3e-3, 2e-4)


@pytest.mark.slow
def test_a_run_alone_and_the_same_in_a_sweep_begin_with_the_same_config(file: Path, tmp_path: Path) -> None:
    common = [f"--config={file}", *SMALL[2:4], "--config.steps=4", "--config.log.every=2"]
    launch(*common, f"--config.{G}=1e-3", f"--workdir={tmp_path}/alone")
    launch(*common, "--mode=sweep", f"--sweep={G}=1e-3", f"--workdir={tmp_path}/sweep")
    launch(*common, "--mode=sweep", f"--sweep={G}=1e-3", "--executor=local", f"--workdir={tmp_path}/jobs")
    alone, *others = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("alone", "sweep/000", "jobs/000")
    )
    assert values(alone)[:3] == (1e-3, 4e-3, 4)
    assert others == [alone, alone]
