"""What each ``--mode`` of ``launch.py`` does, of the flags that it reads; JAX is imported when a mode starts."""

import dataclasses
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax.cli import using
from gan_jax.cli.arguments import read_arguments, read_search, read_sweep
from gan_jax.cli.request import Request
from gan_jax.config import changed, check_references, dotted_keys, override
from gan_jax.config_files import load_config
from gan_jax.keys import FEWEST_SAMPLES
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed, needed


def _train(request: Request) -> None:
    from gan_jax.runs.workdir import Workdir
    from gan_jax.training.train import train

    place, config = Workdir(request.workdir), request.config
    if config is None and (place.holds_run() or place.holds_sweep()):
        config = _of_run(place, request.overrides)
    config = _needed("training", config, ", or the --workdir of a run to go on with")
    train(config, request.workdir, stop=request.stop, fallback=request.fallback, change=request.change)


def _sweep(request: Request) -> None:
    import jax

    from gan_jax.sweeps.sweep import sweep

    config = _needed("a sweep", request.config)
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
    config, workdir, objective = _needed("a search", request.config), request.workdir, request.objective
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


def _evaluate(request: Request) -> None:
    import jax

    from gan_jax import build, evaluate, stages
    from gan_jax.runs import visualize
    from gan_jax.runs.report import write_report
    from gan_jax.runs.workdir import Workdir
    from gan_jax.use import export as exporting
    from gan_jax.use import loading
    from gan_jax.util.files import keep

    workdir, out, count = request.workdir, request.out, request.num_samples
    if count is not None and count < FEWEST_SAMPLES:
        raise UserError(f"--num_samples={count}: an evaluation needs {FEWEST_SAMPLES} or more")
    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png in this mode: it gets a picture, not {str(out)!r}")
    if exporting.is_export(workdir):
        raise UserError(f"{workdir} holds an exported generator, without a D: evaluate the run that it is of")
    _, gan, state, step = loading.restore(workdir, request.step)
    place = Workdir(workdir)
    planned = stages.plan(_of_run(place, request.overrides))
    config = stages.that_made(planned, step).config
    given = [None] if request.sampling is None else evaluate.sampling.several(request.sampling)
    hows = [evaluate.sampling.of_evaluations(gan, config.eval, each) for each in given]
    dataset = build.build_dataset(config, place.cache, reading=True)
    # What is known of a run's data is that of its first stage.
    first = dataset if len(planned) == 1 else build.build_dataset(planned[0].config, place.cache, reading=True)
    place.check_data(first.name, first.digest, len(first.train_images), first.class_counts)
    distance = _path_distance(request.ppl, config)
    for how in hows:
        evaluator = build.build_evaluator(config, gan, dataset, place.cache, jax.local_devices(), count or 10_000, how)
        _check_evaluation(request, gan.classes, dataset, evaluator.extractor is not None)
        drawn = evaluator.draw(state) if evaluator.extractor else None
        figures, intervals = _judged(request, evaluator, state, drawn, dataset)
        figures |= evaluator.path_lengths(state, distance) if distance else {}
        _print_figures(f"step {step:,}, {evaluator.description}", figures, evaluator.floor, intervals)
        described = {"step": step, "samples": evaluator.samples, "features": config.eval.features}
        described |= {"sampling": str(how)} if str(how) else {}
        found = {**described, "floor": evaluator.floor, "intervals": intervals, **figures}
        keep(partial(place.save_evaluation, found), f"the figures in {workdir}")  # one may read runs of others
    if drawn is not None:
        picture = visualize.grid(evaluate.neighbours(evaluator, drawn, dataset), evaluate.NEIGHBOURS + 1)
        if out is not None:
            visualize.save_png(picture, out)
        hint = "" if out else ": --out=FILE.png puts it elsewhere"
        kept = keep(lambda: place.save_grid(step, picture, "neighbours"), f"the picture in {workdir}", hint)
        if shown := out or kept:
            print(f"each sample before the train images nearest to it: {shown}")
    if page := keep(lambda: write_report(place), f"the report in {workdir}"):
        print(f"report: {page}")


def _check_evaluation(request: Request, classes: int, dataset: Any, features: bool) -> None:
    """Refuses what the GAN or its data has not, before anything is drawn."""
    if request.classifiers:
        reason = _no_classes(classes, dataset.classes, len(dataset.test_images), features)
        if reason:
            raise UserError(f"--classifiers={request.classifiers}: GAN-train and GAN-test need {reason}")
    if request.by_class and not (classes and features):
        lacking = "a GAN of classes" if not classes else "features: set eval.features, e.g. to random"
        raise UserError(f"--by_class: the FID of each class needs {lacking}")


def _path_distance(named_by: str | None, config: ConfigDict) -> Any:
    """By what path lengths are measured, if they are asked for."""
    from gan_jax.evaluate import perceptual

    if named_by is None:
        return None
    if config.compute_dtype not in ("float32", "float64"):
        raise UserError(
            f"--ppl: steps of 1e-4 are lost in this run's compute_dtype, {config.compute_dtype}: "
            "leave it out, or evaluate a run of float32"
        )
    return perceptual.of_paths(named_by, lambda file: named.path(file, "--ppl"), config.data.image_size)


def _judged(
    request: Request, evaluator: Any, state: Any, drawn: Any, dataset: Any
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Figures of what was ``drawn``, and intervals about them."""
    import numpy as np

    from gan_jax import evaluate

    figures = evaluator.figures(state, drawn)
    if drawn is None:
        return figures, {}
    if request.classifiers:
        labels = evaluator.labels(np.arange(len(drawn[2])))
        figures |= evaluate.gan_train(dataset, drawn[2], labels, request.classifiers)
    if request.by_class:
        figures |= evaluator.by_class(drawn)
    further, intervals = evaluator.confidence(figures, drawn)
    return _beside("fid", figures, further), intervals


def _beside(name: str, figures: Mapping[str, float], further: Mapping[str, float]) -> dict[str, float]:
    """``figures`` with ``further`` ones behind that of this name, by whatever features."""
    found: dict[str, float] = {}
    for key, value in figures.items():
        found |= {key: value} | (dict(further) if key.partition("[")[0] == name else {})
    return found


def _print_figures(
    head: str, figures: Mapping[str, float], floor: Mapping[str, float], intervals: Mapping[str, Sequence[float]]
) -> None:
    """Print an evaluation, beside its intervals and what fresh images come to."""
    print(head)
    width = max(60, *map(len, figures))
    if floor or intervals:
        print(f"{'':{width}}{'samples':>12}{'95 % interval' if intervals else '':>22}{'fresh images':>15}")
    for name, value in figures.items():
        fresh = f"{floor[name]:15.5g}" if name in floor else ""
        interval = "{:.4g} to {:.4g}".format(*intervals[name]) if name in intervals else ""
        print(f"{name:{width}}{value:12.5g}{interval:>{22 if intervals else 0}}{fresh}".rstrip())


def _no_classes(told: int, classes: int, tests: int, features: bool) -> str | None:
    """Return what is missing for GAN-train, in words."""
    if not told:
        return "a GAN of classes: train configs/cgan.py, acgan.py or projection.py"
    if classes < 2 or not tests:
        return "labelled test images of two classes or more"
    return None if features else "features: set eval.features to classifier"


def _augment(request: Request) -> None:
    import numpy as np

    from gan_jax import build
    from gan_jax.evaluate.augmented import CHANCES, augmented
    from gan_jax.runs import visualize
    from gan_jax.runs.workdir import Workdir

    config = _needed("a picture of augmented images", request.config)
    if config.augment.name == "none":
        raise UserError("config.augment.name is none, and there is nothing to show: set it, e.g. to ada")
    out = request.out or request.workdir.with_name(f"{request.workdir.name}_augmented.png")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png in this mode: it gets a picture, not {str(out)!r}")
    gan, hyperparams = build.build_gan(config)
    dataset = build.build_dataset(config, Workdir(request.workdir).cache, reading=True)
    count = min(request.num_samples or 10, len(dataset.train_images))
    chosen = np.sort(np.random.default_rng(request.seed).permutation(len(dataset.train_images))[:count])
    shown = augmented(gan, hyperparams["augment"], dataset.train_images[chosen], request.seed)
    captions = [f"p = {p:.1f}" for p in CHANCES]
    visualize.save_png(visualize.grid(shown.reshape(-1, *shown.shape[2:]), count, captions), out)
    print(f"{count} images of {dataset.name} as {config.augment.name} augments them, p from 0 to 1: {out}")


def _doctor(request: Request) -> None:
    from gan_jax.cli.clean import show
    from gan_jax.cli.doctor import examine
    from gan_jax.runs.workdir import Workdir

    place = Workdir(request.workdir)
    if place.holds_run() or place.holds_sweep():
        show(request.workdir)
    examine(request.config, request.workdir)


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
        _evaluate,
        "Judge the images: FID and its like, in the report.",
        (*_RUN, "num_samples", "sampling", "classifiers", "by_class", "ppl", *HOSTS),
        changes=("eval.features", "data.dir"),
    ),
    "augment": Mode(_augment, "Draw images of the data as D sees them.", ("out", "seed", "num_samples", *HOSTS)),
    "compare": Mode(_compare, "Put runs on one page: --mode=compare runs/a runs/b ...", ("out", *HOSTS), changes=()),
    "doctor": Mode(_doctor, "Look at the machine, the data and the config, and at what a run takes on disk.", HOSTS),
    "clean": Mode(_clean, "Delete what a run can do without, once you have agreed.", ("yes", *HOSTS), changes=()),
}


RUNS = ("compare",)  # modes of several runs, which stand behind the flags


def _of_run(place: Any, overrides: Mapping[str, Any]) -> ConfigDict:
    """Return the config of the run in ``place``, with ``overrides``."""
    config: ConfigDict = place.config()
    for key, value in overrides.items():
        override(config, key, value)
    place.code.check_place(config)
    return config


def _needed(what: str, config: ConfigDict | None, otherwise: str = "") -> ConfigDict:
    """``config``, in float64 mode if it asks for it; there must be one, or what an error says ``otherwise``."""
    from gan_jax import build

    if config is None:
        raise UserError(f"{what} needs a config: --config=configs/dcgan.py{otherwise}")
    check_references(config)
    build.enable_float64(config)
    return config
