"""The command line as users have it: each in a process of its own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from gan_jax import config_files
from gan_jax.cli import arguments
from gan_jax.cli.modes import MODES
from gan_jax.evaluate.torch_weights import read_state_dict
from gan_jax.runs.workdir import Workdir
from gan_jax.use import loading
from gan_jax.util.errors import UserError
from gan_jax.util.files import read_arrays
from tests.helpers import DCGAN, MEANS, ROOT, SMALL, assert_identical, charts_of, launch, records, saved, small


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --config=FILE"),
        (["--config=configs/dcgn.py"], "unknown config file 'configs/dcgn.py'; did you mean 'configs/dcgan.py'?"),
        (["--config=elsewhere/none.py"], "there is no config file 'elsewhere/none.py'"),
        (
            ["--config=elsewhere/dcgan"],
            "there is no config file 'elsewhere/dcgan'; did you mean 'dcgan', a built-in one?",
        ),
        (["--config=dcgann"], "there is no config file 'dcgann': give the path of one, or of aae, acgan, "),
        (["--config.steps=1"], "--config.steps=1 changes a config, which --config=FILE or the --workdir of a run"),
        (["--workdir=/nowhere"], "training needs a config: --config=configs/dcgan.py, or the --workdir of a run"),
        ([DCGAN, "--config.stepz=1"], "unknown config key 'stepz'; did you mean 'steps'?"),
        ([DCGAN, "--config.steps=many"], "--config.steps must be a whole number, not 'many'"),
        ([DCGAN, "--config.averages.ema.decay=much"], "--config.averages.ema.decay must be a number, not 'much'"),
        (
            [DCGAN, "--config.discriminator.spectral=yes"],
            "--config.discriminator.spectral must be True or False, not 'yes'",
        ),
        (
            [DCGAN, "--num_samples=5"],
            "--mode=train takes no --num_samples, which is for sample, evaluate and augment: leave it out",
        ),
        ([DCGAN, "--ppl=random"], "--mode=train takes no --ppl, which is for evaluate: leave it out"),
        (["--mode=sample", "--workdir=/nowhere", "--fallback=x"], "--mode=sample takes no --fallback, which is for"),
        ([DCGAN, "--config.optimizer.generator.learn_rate=1"], "did you mean 'optimizer.generator.learning_rate'?"),
        (
            [DCGAN, "--config.terms.drift=1"],
            "config.terms.drift is a group of keys: set one of config.terms.drift.every, config.terms.drift.weight",
        ),
        ([DCGAN, "--workdri=x"], "Unknown command line flag 'workdri'. Did you mean: workdir"),
        (
            [DCGAN, "--mode=simple"],
            "--mode=simple: value should be one of "
            "<train|sweep|search|sample|interpolate|walk|mix|project|directions|play|export|evaluate|reference|augment|prepare|compare|doctor|clean>",
        ),
        ([DCGAN, "more"], "unexpected argument 'more'"),
        ([DCGAN, "--config.loss=hing"], "did you mean 'hinge'?"),
        ([DCGAN, "--config.model=dcgam"], "did you mean 'dcgan'?"),
        ([DCGAN, "--workdir=/dev/null/x"], "cannot write to the workdir /dev/null/x"),
        (["--mode=sample", "--workdir=/nowhere/at/all"], "no run in /nowhere/at/all"),
        (["--mode=evaluate", "--workdir=/nowhere/at/all"], "no run in /nowhere/at/all"),
        (["--mode=evaluate", "--workdir=/nowhere", "--out=x.npz"], "--out must end in .png in this mode"),
        (
            [DCGAN, "--mode=reference", "--out=x.png"],
            "--out must end in .npz in this mode: it gets stat",
        ),
        (["--mode=sample", "--seed=4294967296"], "--seed=4294967296"),
        (["--mode=sample", "--workdir=/nowhere", "--out=x.jpg"], "must end in .npz or .png"),
        (
            ["--config=configs/lsgan.py", "--mode=search"],
            "lsgan.py has no function get_search(trial): write it, or give",
        ),
        ([DCGAN, "--mode=sweep", "--sweep=seed"], "'seed' is no key=1,2,3; give such, FILE.py:function or"),
        (
            [DCGAN, "--mode=sweep", "--sweep=sed=1"],
            "trial 000 of the sweep (sed=1): unknown config key 'sed'; did you mean 'seed'?",
        ),
        ([DCGAN, "--config.data.image_size=100000"], "GB, and a device has"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(flags: list[str], message: str) -> None:
    (line,) = [line for line in launch(*flags, code=2).splitlines() if line]
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def get_config(): return None", "must return an ml_collections.ConfigDict"),
        ("x = 1", "mine.py has no function get_config(): write it, as the files in configs/ do, or give another"),
        ("x = 1\n\n\ndef get_config(): return y", "mine.py, line 4: NameError: name 'y' is not defined"),
        (
            "from ml_collections import *\ndef get_config(): return FrozenConfigDict()",
            "which no flag can change",
        ),
    ],
)
def test_a_config_file_that_fails_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    (line,) = launch(f"--config={file}", code=2).splitlines()
    assert message in line
    assert "mine.py" in line


def test_train_sample_and_interpolate_as_a_user_does(tmp_path: Path) -> None:
    run = f"--workdir={tmp_path}/run"
    printed = launch(DCGAN, run, *SMALL, "--config.steps=8")
    for said in (
        "generator 8,496, discriminator 2,992",
        "embedded:mnist5k, 4,500 train and 500 test images of 28x28x1",
        "finished: 8 steps",
    ):
        assert said in printed
    assert "nothing to do" in launch(DCGAN, run, *SMALL, "--config.steps=8")
    assert "steps: 8 -> 7" in launch(DCGAN, run, *SMALL, "--config.steps=7", code=2)
    assert "9, resumed from the checkpoint of step 8" in launch(DCGAN, run, *SMALL, "--config.steps=9")

    assert "11, resumed from the checkpoint of step 9" in launch(run, "--config.steps=11")
    for flags, said in {
        ("--config.stesp=12",): "unknown config key 'stesp'; did you mean 'steps'?",
        ("--config.steps=x",): "config.steps must be of type int, not 'x'",
        ("--config.steps",): "--config.steps: without --config=FILE write --config.KEY=VALUE",
        ("--config.steps=12", "--mode=sample"): "--config.steps: --mode=sample takes the config of the run",
        ("--config.steps=12", "--mode=sweep"): "which --config=FILE must give for --mode=sweep",
    }.items():
        (line,) = launch(run, *flags, code=2).splitlines()
        assert said in line

    for name in ("a.npz", "b.npz"):
        launch("--mode=sample", run, "--num_samples=5", f"--out={tmp_path}/{name}", "--seed=3")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    images = np.load(tmp_path / "a.npz")["images"]
    assert (images.shape, images.dtype) == ((5, 28, 28, 1), np.uint8)
    launch("--mode=sample", DCGAN, run, "--num_samples=3", f"--out={tmp_path}/folder", "--seed=3")
    for i in range(3):
        np.testing.assert_array_equal(picture(tmp_path / f"folder/{i:06d}.png"), images[i, ..., 0])
    launch("--mode=sample", run, "--num_samples=9", f"--out={tmp_path}/grid.png", "--seed=4")
    assert picture(tmp_path / "grid.png").shape == (92, 92)
    launch("--mode=interpolate", run, f"--out={tmp_path}/between.png")
    assert picture(tmp_path / "between.png").shape == (302, 302)
    assert "cannot write" in launch("--mode=interpolate", run, "--out=/dev/null/x.png", code=2)
    assert "must end in .npz or .png" in launch("--mode=sample", run, f"--out={tmp_path}/x.jpg", code=2)


@pytest.mark.slow
def test_a_run_killed_by_sigkill_resumes_and_ends_bit_identical(tmp_path: Path) -> None:
    flags = [DCGAN, *SMALL, "--config.steps=60"]
    launch(*flags, f"--workdir={tmp_path}/whole")
    command = [sys.executable, "launch.py", *flags, f"--workdir={tmp_path}/cut"]
    kills = 0
    for steps in (9, 30):  # killed twice, somewhere after these steps
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            log = tmp_path / "cut" / "metrics.jsonl"
            while process.poll() is None:
                if log.exists() and log.read_text().count("\n") > steps:
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.01)
        kills += process.returncode == -signal.SIGKILL
    assert kills == 2
    assert "resumed from the checkpoint of step" in launch(f"--workdir={tmp_path}/cut")
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert len(records(tmp_path / "whole")) == 60
    config = small("dcgan")
    assert_identical(saved(config, tmp_path / "cut"), saved(config, tmp_path / "whole"))


@pytest.mark.slow
def test_float64_is_switched_on_by_the_config(tmp_path: Path) -> None:
    launch(DCGAN, *SMALL, "--config.steps=2", "--config.compute_dtype=float64", f"--workdir={tmp_path}")
    config = small("dcgan")
    config.compute_dtype = "float64"
    with jax.enable_x64(True):
        state = saved(config, tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.generator.params, state.ema))} == {np.dtype(np.float64)}


@pytest.mark.slow
def test_a_sweep_is_run_and_its_trials_are_runs(tmp_path: Path) -> None:
    common = [DCGAN, *SMALL, "--config.steps=2"]
    out = launch(*common, "--mode=sweep", "--sweep=seed=0,1", f"--workdir={tmp_path}")
    assert "2 trials, 1 program, " in out
    assert "finished: 2 trials" in out
    out = launch(*common, "--config.seed=1", f"--workdir={tmp_path / '001'}")
    assert "holds a finished run" in out
    launch("--mode=sample", f"--workdir={tmp_path / '001'}", f"--out={tmp_path / 'x.npz'}", "--num_samples=3")
    assert (tmp_path / "x.npz").exists()


def test_a_class_is_asked_for(tmp_path: Path) -> None:
    launch("--config=configs/cgan.py", *SMALL, "--config.steps=2", f"--workdir={tmp_path}")
    launch("--mode=sample", f"--workdir={tmp_path}", "--num_samples=12", f"--out={tmp_path / 'all.npz'}")
    launch("--mode=sample", f"--workdir={tmp_path}", "--num_samples=12", f"--out={tmp_path / 'ones.npz'}", "--label=1")
    with np.load(tmp_path / "all.npz") as every, np.load(tmp_path / "ones.npz") as ones:
        np.testing.assert_array_equal(every["labels"], [0] * 10 + [1] * 2)
        np.testing.assert_array_equal(ones["labels"], [1] * 12)
        np.testing.assert_array_equal(every["images"][10:], ones["images"][10:])
        assert (every["images"][:10] != ones["images"][:10]).any()
    launch("--mode=interpolate", f"--workdir={tmp_path}", f"--out={tmp_path / 'between.npz'}", "--label=1")
    with np.load(tmp_path / "between.npz") as between, np.load(tmp_path / "ones.npz") as ones:
        np.testing.assert_array_equal(between["labels"], [1] * 100)
        ends = between["images"][[0, 9, 10, 19]].astype(int)
        np.testing.assert_allclose(ends, ones["images"][:4].astype(int), atol=1)
    for mode in ("sample", "interpolate"):
        line = launch(f"--mode={mode}", f"--workdir={tmp_path}", "--label=10", code=2)
        assert "no such class: it has 10 classes: 0, 1, 2" in line


def test_a_class_is_its_name_or_where_no_name_is_a_number_its_number(tmp_path: Path) -> None:
    place = Workdir(tmp_path)
    gan: Any = SimpleNamespace(classes=3, condition=0)
    for names, known in (
        (["cat", "dog", "fox"], {"cat": 0, "fox": 2, "2": 2, "0": 0, "3": None, "Cat": None, "": None, "-1": None}),
        (["1", "2", "5"], {"1": 0, "5": 2, "0": None}),
        (["a", "1", "b"], {"a": 0, "1": 1, "2": None}),
    ):
        classes = [{"name": name, "train": 1, "test": 0} for name in names]
        (tmp_path / "data.json").write_text(json.dumps({"classes": classes}))
        assert place.class_names(3) == names
        for label, number in known.items():
            if number is None:
                with pytest.raises(UserError, match=f"--label={label}: .* has 3 classes: {', '.join(names)}$"):
                    loading.labels(gan, tmp_path, 20, label, "--label")
            else:
                np.testing.assert_array_equal(loading.labels(gan, tmp_path, 20, label, "--label")[0], [number] * 20)
    np.testing.assert_array_equal(loading.labels(gan, tmp_path, 20, None, "--label")[0], [0] * 10 + [1] * 10)
    for damaged in ("", "[]", '{"classes": 3}', '{"classes": [{}]}', '{"classes": [{"name": "a"}]}'):
        (tmp_path / "data.json").write_text(damaged)
        assert place.class_names(3) == ["0", "1", "2"]
    nobody: Any = SimpleNamespace(classes=0, condition=0)
    with pytest.raises(UserError, match=r"--label=1: .* was trained without labels"):
        loading.labels(nobody, tmp_path, 20, "1", "--label")


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.py"
    os.mkfifo(pipe)
    for read in (
        lambda: config_files.load_config(str(pipe)),
        lambda: arguments.read_sweep(f"{pipe}:few"),
        lambda: arguments.read_search(f"{pipe}:space"),
        lambda: read_state_dict(pipe),
    ):
        with pytest.raises(UserError, match="no regular file"):
            read()
    for name in ("config.json", "data.json", "summary.json", "metrics.jsonl"):
        os.mkfifo(tmp_path / name)
    place = Workdir(tmp_path)
    assert place.summary() is None
    assert place.class_names(1) == ["0"]
    assert read_arrays(pipe) is None
    with pytest.raises(UserError, match="no regular file"):
        place.config()
    with pytest.raises(OSError, match="no regular file"):
        place.records()


def test_a_set_is_packed_and_the_command_that_is_printed_trains_on_it(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "images" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / "ab"[number % 2] / f"{number}.png")
    (tmp_path / "images" / "b" / "99.png").touch()
    config = "--config=configs/dcgan.py:folder"
    short = [*SMALL, "--config.steps=2", "--config.data.image_size=16"]
    changed = ["--config.data.labels=True", f"--config.data.dir={tmp_path / 'images'}", *short]
    out = f"--out={tmp_path / 'packed'}"
    said = launch("--mode=prepare", config, *changed, f"--workdir={tmp_path / 'runs/one'}", out)
    assert "1 of the 41 images of folder:images left out: b/99.png (" in said
    wanted = f"folder:images: 38 train and 2 test images of 16x16x3, 0.* MB, packed in {tmp_path / 'packed'}"
    assert re.search(f"^{wanted}$", said, re.M)
    (command,) = re.findall(r"^train on it: python launch.py (.*)$", said, re.M)
    assert "finished: 2 steps" in launch(*shlex.split(command))
    launch(config, *changed, f"--workdir={tmp_path / 'runs/two'}")
    assert records(tmp_path / "runs/one_packed") == records(tmp_path / "runs/two")
    assert launch("--mode=prepare", config, *changed, f"--workdir={tmp_path / 'runs/one'}", code=2).splitlines() == [
        "error: --mode=prepare needs --out=DIR, a new folder, which the packed images go to"
    ]


def test_help_is_no_mistake_and_says_where_keys_are() -> None:
    assert "--config.KEY=VALUE: docs/config.md" in launch("--help", code=0)


def test_help_is_grouped_by_mode() -> None:
    whole, own = launch("--help", code=0), launch("--mode=sample", "--help", code=0)
    for name, mode in MODES.items():
        assert f"--mode={name}" in whole
        assert (f"--mode={name}:" in own) == (name == "sample")
        for flag in mode.reads:
            assert whole.count(f"\n  --{flag} ") == 1
    assert "\n  --seeds " in own
    assert "\n  --objective " not in own


def test_help_and_mistakes_answer_before_jax_is_imported() -> None:
    code = "import sys; sys.argv = ['launch.py', '--help']; import launch; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_training_imports_neither_tensorflow_nor_torch(tmp_path: Path) -> None:
    unwanted = "torch", "tensorflow", "tensorflow_datasets", "pandas", "sklearn", "wandb", "mlflow"
    code = (
        "import sys, pathlib, jax; from configs import gan; from gan_jax.training.train import train;"
        "c = gan.get_config();"
        f"c.steps = 1; c.eval.features = 'none'; train(c, pathlib.Path({str(tmp_path)!r}), jax.devices()[:1]);"
        f"print([m for m in {unwanted!r} if sys.modules.get(m)])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 1


def test_a_run_can_be_evaluated_at_any_checkpoint_that_was_kept(tmp_path: Path) -> None:
    workdir = f"--workdir={tmp_path / 'run'}"
    features = "--config.eval.features=tests.evaluate.test_evaluate:means"
    launch(DCGAN, *SMALL, workdir, features, "--config.steps=10")
    out = launch("--mode=evaluate", workdir, "--num_samples=60", "--step=8")
    said = f"step 8, 60 samples by {MEANS}, against 4,500 train images; 60 fresh images have an FID of "
    assert said in out
    figures = json.loads(
        (tmp_path / "run" / "evaluation_00000008_000060_tests-evaluate-test_evaluate-means.json").read_text()
    )
    assert figures["fid[tests.evaluate.test_evaluate:means]"] > 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Samples, each before the training images nearest to it" in page
    assert "Quality is measured by tests.evaluate.test_evaluate:means." in page
    assert page.count("data:image/png;base64,") >= 3
    assert charts_of(page)
    with Image.open(tmp_path / "run" / "neighbours" / "step_00000008.png") as picture:
        assert picture.size == (6 * 30 + 2, 20 * 30 + 2)
    (line,) = launch("--mode=evaluate", workdir, "--num_samples=9", code=2).splitlines()
    assert line == "error: --num_samples=9: an evaluation needs 10 or more"
    (tmp_path / "run" / "evaluation_00000007_000010_none.json").write_text("[]")
    out = launch("--mode=evaluate", workdir, "--num_samples=10")
    assert "evaluation_00000007_000010_none.json is damaged, and left out of the report" in out
    other = "--config.eval.features=none"
    assert "for FID and the like set config.eval.features" in launch(
        DCGAN, "--mode=evaluate", workdir, "--num_samples=10", other
    )
    names = {path.name for path in (tmp_path / "run").glob("evaluation_00000010_*")}
    assert names == {
        f"evaluation_00000010_000010_{name}.json" for name in ("none", "tests-evaluate-test_evaluate-means")
    }
    for mode, but in (
        ("evaluate", ", but for eval.features, data.dir, data.test_dir and data.test_list"),
        ("sample", ""),
    ):
        (line,) = launch(DCGAN, f"--mode={mode}", workdir, "--config.steps=20", code=2).splitlines()
        expected = f"error: --config.steps: --mode={mode} takes the config of the run{but}: leave it out"
        assert line == expected
    (line,) = launch("--mode=evaluate", workdir, "--step=3", code=2).splitlines()
    assert "no checkpoint of step 3" in line
    assert "there are" in line or "kept are" in line


@pytest.mark.parametrize(
    ("text", "seeds"), [("5", [5]), ("0-3,7", [0, 1, 2, 3, 7]), ("9,2", [9, 2]), ("4294967295", [4294967295])]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert arguments.read_seeds(text).tolist() == seeds


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "5-2", "1,,2", "1.5", "4294967296", "0-99999999"])
def test_seeds_are_nothing_else(text: str) -> None:
    with pytest.raises(UserError, match=r"^--seeds="):
        arguments.read_seeds(text)


@pytest.mark.parametrize("text", ["8", "8x", "8x4x2", "0x4", "ax4", "8x4000"])
def test_a_grid_has_columns_and_rows(text: str) -> None:
    assert arguments.read_grid("8x4") == (8, 4)
    with pytest.raises(UserError, match=r"^--grid="):
        arguments.read_grid(text)
