"""The command line's flags, and what is done with them: ``python launch.py``, ``gan-jax``, ``python -m gan_jax``."""

import gc
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from gan_jax import config_files
from gan_jax.cli import command
from gan_jax.cli.modes import MODES, RUNS
from gan_jax.cli.request import Request
from gan_jax.util import named, progress
from gan_jax.util.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file, e.g. configs/dcgan.py.", lock_config=False)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory; default runs/<config's name>.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    list(MODES),
    "What to do: one of those below. All that use a trained generator take the config of the run in --workdir.",
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Where what is made goes: of samples a file .npz or .png, or a folder; of an evaluation the picture of neighbours; "
    "of a packed set its folder.",
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples",
    None,
    "How many images to sample (default 100), to evaluate (10,000) or to augment (10).",
    lower_bound=1,
)
_STEP = flags.DEFINE_string("step", None, "Which checkpoint: a number, best, or, to evaluate, all; default the last.")
_SEED = flags.DEFINE_integer("seed", 0, "Which samples: the same seed gives the same bytes.", 0, 2**32 - 1)
_SEEDS = flags.DEFINE_string(
    "seeds", None, "Of samples: the first image of each of these seeds, as 0-99,200; a file each in a folder."
)
_GRID = flags.DEFINE_string("grid", None, "Of samples: columns x rows of one picture, as 8x4.")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "How long a film is.", lower_bound=0.1, upper_bound=3600.0)
_FPS = flags.DEFINE_float("fps", 24.0, "Frames a second of a film.", lower_bound=1.0, upper_bound=60.0)
_LOOP = flags.DEFINE_boolean("loop", True, "Whether a film ends where it begins.")
_LABEL = flags.DEFINE_string(
    "label", None, "Which class, its name or number, or an even mix as 3+5; or a vector, as .2,0,1; default all."
)
_LABELS = flags.DEFINE_string(
    "labels", None, "Which classes, one a row, as 0,1,2, or vectors, as '.2,0;.5,1'; with --seeds a seed a column."
)
_SHIFT = flags.DEFINE_string(
    "shift",
    None,
    "How far along which directions, as --mode=directions found them, in standard deviations: '0=2 3=-1.5'.",
)
_CODES = flags.DEFINE_string(
    "codes", None, "In place of seeds: code.npz files that --mode=project wrote, with commas between them."
)
_ROWS = flags.DEFINE_string("rows", "0-3", "Seeds of the rows of a table of styles.")
_COLS = flags.DEFINE_string("cols", "4-9", "Seeds of its columns, whose styles the others get.")
_STYLES = flags.DEFINE_string(
    "styles", None, "Which copies of w come from the columns, as 0-6; default the half of the lower sides."
)
_IMAGE = flags.DEFINE_string("image", None, "The picture whose code is looked for.")
_FEATURES = flags.DEFINE_string(
    "features", "random", "What compares it beside pixels: random, pixels, lpips:VGG.pth, classifier, inception."
)
_NUM_STEPS = flags.DEFINE_integer("num_steps", 1000, "How many steps look for it.", lower_bound=1)
_METHOD = flags.DEFINE_enum("method", "sefa", ["sefa", "pca"], "How directions are found; pca needs w.")
_ONNX = flags.DEFINE_boolean("onnx", False, "Whether the generator is written as ONNX, too.")
_YES = flags.DEFINE_boolean("yes", False, "Whether it is agreed already.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Whom the page is for: this machine alone, or 0.0.0.0, anyone.")
_PORT = flags.DEFINE_integer("port", 8000, "The page's port; 0: any that is free.", 0, 65535)
_NUM_DIRECTIONS = flags.DEFINE_integer("num_directions", 10, "How many directions.", 1, 100)
_SAMPLING = flags.DEFINE_string(
    "sampling",
    None,
    "How to draw: 'truncation=0.7 standing=16', whatever the prior and G take; default of an evaluation "
    "eval.sampling of the run.",
)
_CLASSIFIERS = flags.DEFINE_integer(
    "classifiers", 0, "How many classifiers of each kind to train for GAN-train and GAN-test, in evaluation.", 0
)
_BY_CLASS = flags.DEFINE_boolean("by_class", False, "Whether an evaluation judges each class by itself, too.")
_PPL = flags.DEFINE_string(
    "ppl",
    None,
    "Also the perceptual path length in an evaluation, by lpips:VGG.pth,LPIPS.pth, lpips:VGG.pth or random.",
)
_REFERENCE = flags.DEFINE_string(
    "reference", None, "Also the FID to statistics of other images, in a file that --mode=reference wrote."
)
_SAMPLES = flags.DEFINE_string(
    "samples",
    None,
    "Pictures of any origin to evaluate, a folder or an .npz, beside the data of --config or --workdir.",
)
_SWEEP = flags.DEFINE_string(
    "sweep",
    None,
    "Trials: 'key=1,2,3 key2=a,b', FILE.py:function or package.module:function; default the config's get_hyper.",
)
_SEARCH = flags.DEFINE_string(
    "search", None, "What to search: FILE.py:function or package.module:function; default the config's get_search."
)
_TRIALS = flags.DEFINE_integer("trials", 64, "How many trials a search has in all.", lower_bound=1)
_POPULATION = flags.DEFINE_integer(
    "population", None, "Trials in a generation of a search (default 8), or in a job of a sweep (default all).", 1
)
_OBJECTIVE = flags.DEFINE_string("objective", "fid", "The figure that a search is for, as evaluations name it.")
_EXECUTOR = flags.DEFINE_enum("executor", None, ["slurm", "local"], "Sweep by jobs there; default in this process.")
_EXECUTOR_ARGS = flags.DEFINE_string(
    "executor_args", "", "Of each job: 'partition=gpu timeout_min=600 gpus_per_node=8'."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Of a run on many hosts: HOST:PORT of process 0. SLURM, Open MPI and TPU pods know it."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are; 1: this one alone.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "The number of this process, from 0.", lower_bound=0)
_FALLBACK = flags.DEFINE_string(
    "fallback", None, "A directory for the state in memory, should training no longer be able to write to its workdir."
)

_INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "The workdir of a run whose weights this one begins with, wherever they fit; RUN@STEP for another checkpoint.",
)
_TRACK = flags.DEFINE_string(
    "track", None, "Who is told of the run: tensorboard (default), wandb, mlflow, with commas between them, or none."
)
_CHANGE = flags.DEFINE_boolean(
    "change",
    False,
    "Of a run that goes on: whether --config.KEY=VALUE may change what its results depend on, as learning rates and "
    "weights of losses; it is recorded.",
)


_READ = (
    *(_OUT, _NUM_SAMPLES, _STEP, _SEED, _SEEDS, _GRID, _LABEL, _LABELS, _SHIFT, _CODES, _SAMPLING),
    *(_ROWS, _COLS, _STYLES, _IMAGE, _FEATURES, _NUM_STEPS, _METHOD, _NUM_DIRECTIONS, _ONNX, _HOST, _PORT, _YES),
    *(_SAMPLES, _SECONDS, _FPS, _LOOP, _CLASSIFIERS, _BY_CLASS, _PPL, _REFERENCE),
    *(_SWEEP, _SEARCH, _TRIALS, _POPULATION, _OBJECTIVE, _EXECUTOR, _EXECUTOR_ARGS),
    *(_COORDINATOR, _PROCESSES, _PROCESS, _FALLBACK, _CHANGE, _INIT_FROM, _TRACK),
)


def main(argv: list[str]) -> None:
    """Hand the parsed flags over to their mode."""
    path = config_flags.get_config_filename(flags.FLAGS["config"]) if _CONFIG.value is not None else None
    if _WORKDIR.value:
        workdir = named.path(_WORKDIR.value, "--workdir")
    elif path is not None:
        workdir = Path("runs") / command.run_name(path, _MODE.value)
    elif _MODE.value == "doctor":
        workdir = Path("runs/doctor")
    elif _MODE.value in RUNS:
        workdir = Path("runs")
    else:
        raise UserError("give --config=FILE, e.g. --config=configs/dcgan.py, or the --workdir of a run")
    command.check_flags(_MODE.value, [flag.name for flag in _READ if flag.present])
    given = config_flags.get_override_values(flags.FLAGS["config"]) if path else {}
    several = argv[1:] if _MODE.value in RUNS else []
    overrides = given or command.own_overrides(_MODE.value, [] if several else argv[1:], workdir)
    if _INIT_FROM.value:
        overrides = command.with_flag("init_from", _INIT_FROM.value, overrides, _CONFIG.value)
    if _TRACK.value is not None:
        who = "" if _TRACK.value == "none" else _TRACK.value
        overrides = command.with_flag("track", who, overrides, _CONFIG.value, "log.track")
    command.check_overrides(_MODE.value, overrides, _CONFIG.value)
    values: dict[str, Any] = {flag.name: flag.value for flag in _READ}
    values["step"] = command.step_of(_STEP.value, _MODE.value)
    values |= {
        name: named.path(values[name], f"--{name}") if values[name] else None
        for name in ("out", "fallback", "image", "samples", "reference")
    }
    values["runs"] = tuple(named.path(run, "a run") for run in several)
    request = Request(workdir, config=_CONFIG.value, config_path=path or "", overrides=overrides, **values)
    command.run(_MODE.value, request)


def run() -> None:
    """Do what the command line asks for."""
    gc.set_threshold(50_000)  # to search what imports and traces leave for cycles takes a tenth of a start
    config_files.importable()
    logging.set_verbosity(logging.FATAL)  # orbax and TFDS tell their lives below; errors are raised as well
    with progress.plain_output(), command.one_line_errors():
        app.run(main, flags_parser=lambda argv: command.parse(flags.FLAGS, argv))
