"""What each ``--mode`` of ``launch.py`` does, of the flags that it reads; JAX is imported when a mode starts."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax.cli import evaluating, using
from gan_jax.cli.arguments import read_arguments, read_search, read_sweep
from gan_jax.cli.given import needed_config, of_run
from gan_jax.cli.request import Request
from gan_jax.config import changed, dotted_keys, override
from gan_jax.config_files import load_config
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed, needed


def _train(request: Request) -> None:
    from gan_jax.runs.workdir import Workdir
    from gan_jax.training.train import train

    place, config = Workdir(request.workdir), request.config
    if config is None and (place.holds_run() or place.holds_sweep()):
        config = of_run(place, request.overrides)
    config = needed_config("training", config, ", or the --workdir of a run to go on with")
    train(config, request.workdir, stop=request.stop, fallback=request.fallback, change=request.change)


def _sweep(request: Request) -> None:
    import jax

    from gan_jax.sweeps.sweep import sweep

    config = needed_config("a sweep", request.config)
    planned = read_sweep(request.sweep or f"{request.config_path.partition(':')[0]}:get_hyper")
    if request.executor is None:
        sweep(config, planned, request.workdir, stop=request.stop, fallback=request.fallback)
        return
    with needed("submitit", "slurm"):
        from gan_jax.sweeps.jobs import sweep_by_jobs
    jax.config.update("jax_platforms", "cpu")  # accelerators are for the jobs
    arguments = read_arguments(request.executor_args)
    sweep_by_jobs(config, planned, request.workdir, request.executor, arguments, request.population)


def _search(request: Request) -> None:
    config, workdir, objective = needed_config("a search", request.config), request.workdir, request.objective
    function = read_search(request.search or f"{request.config_path.partition(':')[0]}:get_search")
    with needed("optuna", "search"):
        from gan_jax.sweeps.search import search
    generation, fallback = request.population or 8, request.fallback
    best = search(
        config, function, workdir, request.trials, generation, objective, stop=request.stop, fallback=fallback
    )
    if best is None:
        print("no trial reached its end: all diverged")
        return
    found = best.user_attrs["overrides"]
    setting = listed(f"{key}={value}" for key, value in found.items())
    print(f"best: trial {workdir / f'{best.number:03d}'}, {objective} {best.value:.6g}, with {setting}")
    command = alone(request.config_path, config, found, workdir.with_name(f"{workdir.name}_best"), request.overrides)
    print(f"alone: {command}")


def alone(
    config_path: str, config: ConfigDict, overrides: Mapping[str, Any], workdir: Path, given: Collection[str] = ()
) -> str:
    """Return the command that trains ``config`` with ``overrides`` in ``workdir``.

    Args:
      config_path: of the config file that ``config`` is from.
      config: see above.
      overrides: dotted keys to values.
      workdir: see above.
      given: keys that the command line changed already.
    """
    found, wanted = load_config(config_path), changed(config, overrides)
    flags: dict[str, Any] = {}
    order = dict.fromkeys([*given, *overrides, *dotted_keys(wanted)])  # those first: others may follow by references

    def unlike(key: str) -> bool:
        inner = key.split(".")
        return key not in flags and bool(reduce(getitem, inner, found) != reduce(getitem, inner, wanted))

    while (key := next(filter(unlike, order), None)) is not None:
        flags[key] = reduce(getitem, key.split("."), wanted)
        override(found, key, flags[key])
    set_all = [f"--config.{key}={value}" for key, value in flags.items()]
    return f"{named.program()} {shlex.join([f'--config={config_path}', f'--workdir={workdir}', *set_all])}"


def _augment(request: Request) -> None:
    import numpy as np

    from gan_jax import build
    from gan_jax.evaluate.augmented import CHANCES, augmented
    from gan_jax.runs import visualize
    from gan_jax.runs.workdir import Workdir
    from gan_jax.training.classes import with_classes

    config = needed_config("a picture of augmented images", request.config)
    if config.augment.name == "none":
        raise UserError("config.augment.name is none, and there is nothing to show: set it, e.g. to ada")
    out = request.out or request.workdir.with_name(f"{request.workdir.name}_augmented.png")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png in this mode: it gets a picture, not {str(out)!r}")
    config, dataset = with_classes(config, Workdir(request.workdir))
    gan, hyperparams = build.build_gan(config)
    dataset = dataset or build.build_dataset(config, Workdir(request.workdir).cache, reading=True)
    count = min(request.num_samples or 10, len(dataset.train_images))
    chosen = np.sort(np.random.default_rng(request.seed).permutation(len(dataset.train_images))[:count])
    shown = augmented(gan, hyperparams["augment"], dataset.train_images[chosen], request.seed)
    captions = [f"p = {p:.1f}" for p in CHANCES]
    shown = gan.pixels.shown(shown.reshape(-1, *shown.shape[2:]))
    visualize.save_png(visualize.grid(shown, count, captions), out)
    print(f"{count} images of {dataset.name} as {config.augment.name} augments them, p from 0 to 1: {out}")


def _doctor(request: Request) -> None:
    from gan_jax.cli.clean import show
    from gan_jax.cli.doctor import examine
    from gan_jax.runs.workdir import Workdir

    place = Workdir(request.workdir)
    if place.holds_run() or place.holds_sweep():
        show(request.workdir)
    examine(request.config, request.workdir)


def _prepare(request: Request) -> None:
    from gan_jax import build, data, stages
    from gan_jax.data.pack import pack
    from gan_jax.runs.workdir import Workdir

    if request.out is None:
        raise UserError("--mode=prepare needs --out=DIR, a new folder, which the packed images go to")
    config = needed_config("packing", request.config)
    largest = max((stage.config for stage in stages.plan(config)), key=lambda each: each.data.image_size)
    options = build.image_options(largest)
    dataset = data.load(options, Workdir(request.workdir).cache, reading=True)
    for line in dataset.warnings:
        print(f"warning: {line}", file=sys.stderr)
    written = pack(dataset, request.out, {"data": largest.data.to_dict()}, pixels=options.pixels)
    size = sum(file.stat().st_size for file in request.out.iterdir()) / 2**20
    shape = "x".join(map(str, dataset.image_shape))
    counts = f"{len(dataset.train_images):,} train and {len(dataset.test_images):,} test images of {shape}"
    print(f"{dataset.name}: {counts}, {size:,.1f} MB, {'packed in' if written else 'lie packed in'} {request.out}")
    found = {"data.source": "packed", "data.name": "", "data.dir": str(request.out)}
    found |= {"data.alpha": options.pixels.alpha} if options.channels == 4 else {}
    place = request.workdir.with_name(f"{request.workdir.name}_packed")
    print(f"train on it: {alone(request.config_path, config, found, place, request.overrides)}")


def _compare(request: Request) -> None:
    from gan_jax.runs.compare import compare

    out = request.out or Path("compare.html")
    if out.suffix.lower() != ".html":
        raise UserError(f"--out must end in .html in this mode: it gets a page, not {str(out)!r}")
    print(f"{len(request.runs)} runs beside each other: {compare(list(request.runs), out)}")


def _clean(request: Request) -> None:
    from gan_jax.cli.clean import clean

    clean(request.workdir, request.yes)


@dataclasses.dataclass(frozen=True)
class Mode:
    """What a ``--mode`` does.

    Attributes:
      run: does it.
      help: what it does, for ``--help``.
      reads: the flags that it reads, beside ``--config`` and ``--workdir``.
      changes: keys of the run's own config that flags may change, where it takes that; None: it takes any config.
    """

    run: Callable[[Request], None]
    help: str
    reads: tuple[str, ...]
    changes: tuple[str, ...] | None = None


HOSTS = ("coordinator", "processes", "process")
_RUN = ("out", "step")
_DRAWN = (*_RUN, "seed", "sampling")
_ALL = ("fallback", "init_from", "track", *HOSTS)
MODES: dict[str, Mode] = {
    "train": Mode(_train, "Train what --config says, or go on with the run in --workdir.", ("change", *_ALL)),
    "sweep": Mode(
        _sweep, "Train a trial for each setting.", ("sweep", "population", "executor", "executor_args", *_ALL)
    ),
    "search": Mode(_search, "Search for the best setting.", ("search", "trials", "population", "objective", *_ALL)),
    "sample": Mode(
        using.sample,
        "Draw images: a picture, a folder of files, or an .npz.",
        (*_DRAWN, "label", "labels", "shift", "codes", "seeds", "grid", "num_samples", *HOSTS),
        changes=(),
    ),
    "interpolate": Mode(
        using.interpolate, "Draw rows of images between two.", (*_DRAWN, "label", "labels", *HOSTS), changes=()
    ),
    "walk": Mode(
        using.walk,
        "Make a film that goes from image to image.",
        (*_DRAWN, "label", "shift", "codes", "seeds", "grid", "seconds", "fps", "loop", *HOSTS),
        changes=(),
    ),
    "mix": Mode(
        using.mix,
        "Draw a table of images with the styles of two: of GANs with a mapping network.",
        (*_DRAWN[:2], "sampling", "label", "rows", "cols", "styles", *HOSTS),
        changes=(),
    ),
    "project": Mode(
        using.project,
        "Find the code whose image is nearest to a picture of yours.",
        (*_RUN, "seed", "label", "image", "features", "num_steps", *HOSTS),
        changes=(),
    ),
    "directions": Mode(
        using.directions,
        "Find directions that change something of an image, and draw each.",
        (*_DRAWN, "label", "method", "num_directions", *HOSTS),
        changes=(),
    ),
    "play": Mode(
        using.play,
        "Serve a page to play with the generator, in a browser.",
        ("step", "host", "port", *HOSTS),
        changes=(),
    ),
    "export": Mode(
        using.export,
        "Write the generator as files for others: weights, StableHLO, ONNX, a model card.",
        (*_RUN, "sampling", "onnx", *HOSTS),
        changes=(),
    ),
    "evaluate": Mode(
        evaluating.evaluate_run,
        "Judge the images: FID and its like, in the report.",
        (*_RUN, "num_samples", "samples", "sampling", "classifiers", "by_class", "ppl", "reference", *HOSTS),
        changes=("eval.features", "data.dir", "data.test_dir", "data.test_list"),
    ),
    "reference": Mode(
        evaluating.reference,
        "Write statistics of the data's features, for evaluations by --reference.",
        ("out", *HOSTS),
    ),
    "augment": Mode(_augment, "Draw images of the data as D sees them.", ("out", "seed", "num_samples", *HOSTS)),
    "prepare": Mode(
        _prepare,
        "Pack the images, fitted and split, into shards that are read as fast as they lie there.",
        ("out", *HOSTS),
    ),
    "compare": Mode(_compare, "Put runs on one page: --mode=compare runs/a runs/b ...", ("out", *HOSTS), changes=()),
    "doctor": Mode(_doctor, "Look at the machine, the data and the config, and at what a run takes on disk.", HOSTS),
    "clean": Mode(_clean, "Delete what a run can do without, once you have agreed.", ("yes", *HOSTS), changes=()),
}


RUNS = ("compare",)  # modes of several runs, which stand behind the flags
