"""Stages of a run: what fits goes on, images are counted over all, a run killed anywhere ends as one that wasn't."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from gan_jax import build, stages
from gan_jax.config import schedule, stage
from gan_jax.core.state import GANState, hyperparams_now, init_state, named_leaves
from gan_jax.data.order import sample_index
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.stages import that_made
from gan_jax.sweeps.sweep import sweep
from gan_jax.training.stages import parts
from gan_jax.util.errors import UserError
from tests.helpers import ONE, assert_identical, launch, records, run, run_until, small

EIGHT = jax.devices()[:8]


def growing(**changes: Any) -> ConfigDict:
    """8 pixels to step 6, 16 to step 12; the batch changes, too."""
    config = small("dcgan")
    config.data.image_size, config.steps, config.batch_size = 8, 12, 16
    config.checkpoint.update({"every": 4, "keep": 9})
    config.sample.every = config.eval.every = 12
    config.stages.grown = stage(6, {"data.image_size": 16, "batch_size": 8, **changes})
    return config


def state_at(config: ConfigDict, path: Path, step: int) -> GANState:
    shapes = that_made(parts(config, None, ONE), step).shapes
    with Checkpoints(path / "checkpoints") as checkpoints:
        state: GANState = checkpoints.restore(shapes, step)
    return state


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GANState]:
    path = tmp_path_factory.mktemp("grown") / "run"
    return path, run(growing(), path)


@pytest.mark.slow
def test_a_run_grows_and_writes_grids_of_every_resolution(grown: tuple[Path, GANState]) -> None:
    path, state = grown
    assert int(state.step) == 12
    assert sorted(map(int, (p.name for p in (path / "checkpoints").iterdir()))) == [4, 6, 8, 12]
    sizes = []
    for step in (0, 6, 12):
        with Image.open(path / f"samples/step_{step:08d}.png") as grid:
            sizes.append(grid.size)
    assert sizes == [(22, 22), (22, 22), (38, 38)]  # two rows of images, and borders of 2
    # A grid a stage, that of the start, the last at large, and reals.
    assert (path / "report.html").read_text().count("<img") == 5
    assert [line["step"] for line in records(path)] == list(range(1, 13))
    summary = (path / "summary.json").read_text()
    assert f'"images": {6 * 16 + 6 * 8}' in summary


def test_what_fits_goes_on_and_optimizers_begin_anew(grown: tuple[Path, GANState]) -> None:
    config, path = growing(), grown[0]
    before = state_at(config, path, 6)
    part = parts(config, None, ONE)[1]
    fresh = jax.device_get(part.first_state(config.seed))
    for reset in (True, False):
        part.stage = dataclasses.replace(part.stage, reset_optimizer=reset)
        state, told = part.entered(before)
        old, new, initial = (named_leaves(of) for of in (before, state, fresh))
        for name in new:
            moments = ".opt_state." in name
            fits = name in old and old[name].shape == new[name].shape and not (moments and reset)
            if name.startswith("averages.") and not fits:
                expected = new[name.replace("averages.ema.params", "generator.params")]
            else:
                expected = old[name] if fits and not name.startswith("hyperparams.") else initial[name]
            np.testing.assert_array_equal(new[name], expected, name)
        assert int(state.step) == 6
        assert told == "26 arrays go on, 3 begin anew, 0 are left behind"


@pytest.mark.parametrize(
    ("dies", "at"),  # the last checkpoint is that of step 8, in a stage; 6, between two; 4, before
    [("pause", 12), *(pytest.param(dies, at, marks=pytest.mark.slow) for dies, at in (("pause", 8), ("save", 6)))],
)
def test_a_run_killed_in_a_stage_or_between_two_ends_as_one_that_was_not(
    dies: str, at: int, grown: tuple[Path, GANState], tmp_path: Path
) -> None:
    config = growing()
    run_until(config, tmp_path, ONE, dies, at)
    assert_identical(run(config, tmp_path), grown[1])
    assert records(tmp_path) == records(grown[0])


def fading() -> ConfigDict:
    """The progressive GAN: 4 pixels to step 4, 8 that fade in to step 12, and whole to step 16."""
    config = small("progan")
    config.data.image_size, config.steps, config.batch_size = 4, 16, 8
    config.checkpoint.update({"every": 2, "keep": 9})
    config.sample.every = config.eval.every = 16
    moves = {"kind": "linear", "begin": 4.0, "length": 8.0, "final": 1.0}
    moves = {f"schedules.fade.{key}": value for key, value in moves.items()}
    config.stages.to8 = stage(4, {"data.image_size": 8, "fade": 0.0, **moves})
    config.stages.at8 = stage(12, {"fade": 1.0, "schedules.fade.kind": "constant"})
    return config


@pytest.mark.slow
def test_a_run_killed_while_layers_fade_in_ends_as_one_that_was_not(tmp_path: Path) -> None:
    config = fading()
    whole = run(config, tmp_path / "whole")
    run_until(config, tmp_path / "killed", ONE, "pause", 12)
    killed = state_at(config, tmp_path / "killed", 10)
    # The tenth step was five of eight behind the beginning; what is drawn then is drawn so.
    assert [float(of["moving"]["fade"]) for of in (killed.ema, killed.discriminator.variables)] == [0.625] * 2
    assert_identical(run(config, tmp_path / "killed"), whole)
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    assert float(whole.ema["moving"]["fade"]) == 1
    assert sorted(path.name for path in (tmp_path / "whole/samples").iterdir()) == [
        f"step_{step:08d}.png" for step in (0, 4, 12, 16)
    ]


@pytest.mark.slow
def test_a_run_grows_and_resumes_on_eight_devices_as_on_one(tmp_path: Path) -> None:
    config = growing()
    config.parallel.logical_shards = 8
    one = run(config, tmp_path / "one")
    run_until(config, tmp_path / "eight", EIGHT, "pause", 8)
    assert_identical(run(config, tmp_path / "eight", EIGHT), one)


@pytest.mark.slow
def test_a_stage_that_changes_nothing_is_no_stage(tmp_path: Path) -> None:
    config = growing()
    config.schedules.generator_rate.update({"kind": "linear", "unit": "images", "begin": 32.0})
    config.stages = ConfigDict()
    whole = run(config, tmp_path / "whole")
    config.stages.same = stage(96, {"batch_size": 16}, unit="images", reset_optimizer=False)
    assert_identical(run(config, tmp_path / "staged"), whole)


def test_images_are_counted_over_stages() -> None:
    config = growing(**{"d_steps": 2, "batch_size": 4})
    config.schedules.decay = schedule("terms.adversarial.weight", "linear", unit="images", begin=48, final=0.0)
    config.schedules.later = schedule("augment.p", "linear", unit="images", begin=80, length=64, final=0.0)
    config.averages.ema.update({"rule": "half_life", "half_life": 640.0, "ramp_up": 0.5})
    built = build.build_stages(config)
    drawn = [16 * min(step, 6) + 8 * max(step - 6, 0) for step in range(13)]  # 144 in all
    assert [stages.images([one for one, *_ in built], step) for step in range(13)] == drawn
    for step in range(12):
        (part, gan, hyper) = next(one for one in reversed(built) if one[0].begin <= step)
        state = init_state(gan, 0, hyper).replace(step=np.int32(step))
        now, images = hyperparams_now(gan, state), drawn[step]
        wanted = {"decay": np.clip((images - 48) / (144 - 48), 0, 1), "later": np.clip((images - 80) / 64, 0, 1)}
        np.testing.assert_allclose(now["terms"]["adversarial"]["weight"], 1 - wanted["decay"], atol=1e-6)
        np.testing.assert_allclose(now["augment"]["p"], 1 - wanted["later"], atol=1e-6)
        half_life = min(640, 0.5 * drawn[step + 1])
        decay = gan.averages[0][1].decay(now["averages"]["ema"], jnp.int32(step))
        np.testing.assert_allclose(decay, 0.5 ** ((drawn[step + 1] - images) / half_life), rtol=1e-5)
        order = sample_index(
            step,
            np.arange(part.config.batch_size),
            1000,
            part.config.batch_size,
            part.config.d_steps,
            0,
            np,
            part.count.ahead,
        )
        one_by_one = sample_index(np.uint32(0), np.arange(images, drawn[step + 1]), 1000, 1, 1, 0, np)
        np.testing.assert_array_equal(order.ravel(), one_by_one.ravel())


def test_samples_of_an_earlier_stage_are_drawn_by_its_networks(grown: tuple[Path, GANState], tmp_path: Path) -> None:
    for step, side in ((6, 8), (8, 16)):
        file = tmp_path / f"{step}.npz"
        launch("--mode=sample", f"--workdir={grown[0]}", f"--step={step}", "--num_samples=2", f"--out={file}")
        assert np.load(file)["images"].shape == (2, side, side, 1)
    assert "step 6" in launch("--mode=evaluate", f"--workdir={grown[0]}", "--step=6", "--num_samples=20")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (stage(6, {"data.image_sice": 16}), "config.stages.grown.set: unknown config key 'data.image_sice'"),
        (stage(6, {"steps": 16}), r"config.stages.grown.set.steps: a stage can't change it: set config.steps, for all"),
        (stage(6, {"data.dir": "x"}), "config.stages.grown.set.data.dir: a stage can't change it"),
        (stage(6, {"eval.every": 2}), "config.stages.grown.set.eval.every: a stage can't change it"),
        (stage(0, {"batch_size": 8}), "config.stages.grown.begin: it begins at step 0, and the one before it at 0"),
        (stage(6, unit="epochs"), "unknown config.stages.grown.unit 'epochs'"),
        (stage(6, {"loss": "hing"}), "config.stages.grown: unknown loss 'hing'; did you mean 'hinge'"),
        (
            ConfigDict({"begin": 6}),
            r"config.stages.grown.reset_optimizer is missing: make the entry by gan_jax.config.stage",
        ),
        (stage(6.5), "config.stages.grown.begin must be of type int, not 6.5"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_in_a_stage_is_said_before_the_run(entry: ConfigDict, said: str) -> None:
    config = growing()
    config.stages.grown = entry
    with pytest.raises(UserError, match=said) as caught:
        build.build_stages(config)
    assert "\n" not in str(caught.value)


def test_a_sweep_of_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a sweep can't grow: leave config.stages \(grown\) empty"):
        sweep(growing(), [{"seed": 1}], tmp_path, ONE)
