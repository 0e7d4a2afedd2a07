"""A run that begins with another's weights: what fits is taken, what doesn't is told, and the other isn't needed
again."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.core.state import GANState, named_leaves
from gan_jax.runs import origin
from gan_jax.runtime import program
from gan_jax.sweeps.sweep import sweep
from gan_jax.training.train import train
from gan_jax.util.errors import UserError
from tests.helpers import ONE, assert_identical, launch, run, run_until, saved, small


def of_side(side: int, *, like: Path | None = None) -> ConfigDict:
    config = small("dcgan")
    config.data.image_size, config.steps = side, 6
    config.sample.every = config.eval.every = 6
    config.init_from = str(like or "")
    return config


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GANState]:
    path = tmp_path_factory.mktemp("source") / "run"
    return path, run(of_side(8), path)


def fresh(config: ConfigDict) -> GANState:
    gan, hyper = build.build_gan(config)
    state: GANState = jax.device_get(program.begun(gan, config.seed, hyper))
    return state


def begun(config: ConfigDict, path: Path) -> GANState:
    """The state before the first step of a run, which it keeps."""
    run_until(config, path, ONE, "pause", 4)
    return saved(config, path)


def test_what_fits_is_taken_and_the_rest_is_told(source: tuple[Path, GANState], tmp_path: Path) -> None:
    config = of_side(16, like=source[0])  # D's last layer, and G's first, are of another size
    state, before = begun(config, tmp_path / "larger"), fresh(config)
    there, here, new = (named_leaves(of) for of in (source[1], state, before))
    learnt = [name for name in here if ".params." in name or ".stats." in name or name.startswith("averages.")]
    unlike = {name for name in learnt if there[name].shape != here[name].shape}
    assert unlike == {f"{part}.Dense_0.kernel" for part in ("generator.params", "discriminator.params")} | {
        name for name in unlike if name.startswith("averages.")
    }
    for name in learnt:
        if name not in unlike:
            np.testing.assert_array_equal(here[name], there[name], name)
        elif not name.startswith("averages."):
            np.testing.assert_array_equal(here[name], new[name], name)
    assert_identical(state.averages["ema"]["params"]["Dense_0"], state.generator.params["Dense_0"])
    assert_identical(state.generator.opt_state, before.generator.opt_state)
    assert int(state.step) == 0
    told = json.loads((tmp_path / "larger/init_from.json").read_text())
    assert set(told["other_shape"]) == unlike
    assert set(told["taken"]) == set(learnt) - unlike
    assert (told["step"], told["run"], told["not_there"], told["left_over"]) == (6, str(source[0]), {}, {})


def test_a_run_resumes_without_the_one_that_it_began_with(source: tuple[Path, GANState], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source[0], copy)
    whole = run(of_side(8, like=copy), tmp_path / "whole")
    config, path = of_side(8, like=copy), tmp_path / "killed"
    run_until(config, path, ONE, "pause", 4)  # no step of it is saved
    shutil.rmtree(copy)
    assert_identical(run(config, path), whole)
    page = (path / "report.html").read_text()
    assert "Weights at the start" in page
    assert "arrays taken; 0 other shape, 0 not there, 0 left over" in page


@pytest.mark.slow
def test_each_trial_of_a_sweep_begins_so(source: tuple[Path, GANState], tmp_path: Path) -> None:
    config = of_side(8, like=source[0])
    sweep(config, [{"seed": 0}, {"seed": 1}], tmp_path / "sweep", ONE)
    alone = run(of_side(8, like=source[0]), tmp_path / "alone")
    assert_identical(saved(config, tmp_path / "sweep/000"), alone)
    assert (tmp_path / "sweep/001/init_from.json").exists()
    config.init_from = str(tmp_path / "none")
    with pytest.raises(UserError, match="there is no such run"):
        sweep(config, [{"seed": 0}], tmp_path / "another", ONE)


def test_a_checkpoint_is_chosen_and_a_damaged_one_passed_over(
    source: tuple[Path, GANState], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert origin.read(f"{source[0]}@4").step == 4
    assert origin.read(str(source[0])).step == 6
    shutil.copytree(source[0], tmp_path / "copy")
    for file in (tmp_path / "copy/checkpoints/6/state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"\0" * file.stat().st_size)
    assert origin.read(str(tmp_path / "copy")).step == 4
    assert "checkpoint 6 of" in capsys.readouterr().err


def _nothing(path: Path, source: Path) -> str:
    return str(path / "none")


def _no_run(path: Path, source: Path) -> str:
    return str(path)


def _no_step(path: Path, source: Path) -> str:
    return f"{source}@5"


def _a_sweep(path: Path, source: Path) -> str:
    (path / "000").mkdir()
    return str(path)


def _foreign(path: Path, source: Path) -> str:
    (path / "checkpoints/3").mkdir(parents=True)
    return str(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_nothing, "there is no such run: give the workdir of one, or RUN@STEP"),
        (_no_run, "it has no checkpoint: give the workdir of a run that has"),
        (_no_step, "it has no checkpoint of step 5; kept are 0, 4, 6|kept are 4, 6"),
        (_a_sweep, "holds a sweep or a search: give the workdir of a trial"),
        (_foreign, r"no checkpoint of it is whole: 3 \(its list of leaves is missing\)"),
    ],
)
def test_what_is_no_run_is_refused_in_a_line(
    make: Any, said: str, source: tuple[Path, GANState], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        train(of_side(8, like=Path(make(tmp_path, source[0]))), tmp_path / "run", ONE)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run/config.json").exists()


def test_a_run_of_which_nothing_fits_is_refused(source: tuple[Path, GANState], tmp_path: Path) -> None:
    config = small("gan")
    config.init_from = str(source[0])
    with pytest.raises(UserError, match=r"nothing of .*, step 6, fits this GAN: no array has name and shape"):
        train(config, tmp_path / "run", ONE)
    assert not (tmp_path / "run").exists()


def test_the_flag_is_the_key(tmp_path: Path) -> None:
    said = launch("--config=configs/gan.py", "--init_from=nowhere", f"--workdir={tmp_path / 'run'}", code=2)
    assert "error: init_from=nowhere: there is no such run" in said
    said = launch("--config=configs/gan.py", "--init_from=a", "--config.init_from=b", code=2)
    assert "--init_from=a, and --config.init_from=b: leave one out" in said
