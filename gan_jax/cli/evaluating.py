"""``--mode=evaluate`` and ``--mode=reference``: judging a run's images, and statistics to judge by."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax.cli.given import needed_config, of_run
from gan_jax.cli.request import Request
from gan_jax.keys import FEWEST_SAMPLES
from gan_jax.util import named
from gan_jax.util.errors import UserError

ALL = "all"  # of --step: every checkpoint that was kept
_IN_TABLE = ("fid", "fid_infinity", "kid", "precision", "recall", "density", "coverage")
_MOST_PICTURES = 50_000  # that --samples looks at


def evaluate_run(request: Request) -> None:
    """Judge the images of a run, of all its checkpoints, of a sweep's trials, or pictures of any origin."""
    from gan_jax.runs.workdir import Workdir
    from gan_jax.use import export as exporting

    workdir, out, count = request.workdir, request.out, request.num_samples
    if count is not None and count < FEWEST_SAMPLES:
        raise UserError(f"--num_samples={count}: an evaluation needs {FEWEST_SAMPLES} or more")
    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png in this mode: it gets a picture, not {str(out)!r}")
    if request.samples is not None:
        judge_pictures(request, request.samples)
        return
    if exporting.is_export(workdir):
        raise UserError(f"{workdir} holds an exported generator, without a D: evaluate the run that it is of")
    place = Workdir(workdir)
    runs = place.trials() if place.holds_sweep() else [workdir]
    several = [(run, step) for run in runs for step in _steps(Workdir(run), request.step)]
    if not several:
        raise UserError(f"{workdir} holds no checkpoint: --step={ALL} evaluates those that were kept")
    if len(several) == 1:
        _evaluate(request, *several[0])
        return
    if out is not None:
        raise UserError("--out gets the picture of one evaluation, and these are several: leave it out")
    found: dict[str, dict[str, float]] = {}
    for run, step in several:
        if not Workdir(run).saved():
            print(f"{run.name}: left out, it has no checkpoint")
            continue
        at, figures = _evaluate(request, run, step)
        found[f"{run.name}, step {at:,}" if len(runs) > 1 else f"step {at:,}"] = figures
    _print_table(found)


def _steps(place: Any, asked: int | str | None) -> Sequence[int | str | None]:
    """Return the steps to evaluate, of those that are ``asked`` for."""
    steps: Sequence[int | str | None] = place.saved() if asked == ALL else [asked]
    return steps


def _print_table(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print the figures that tell evaluations apart, a line each, in their order."""
    names = list(dict.fromkeys(name for figures in found.values() for name in figures if "[" in name))
    shown = [name for name in names if name.partition("[")[0] in _IN_TABLE]
    features = {name[name.index("[") :] for name in shown}
    heads = [name.partition("[")[0] if len(features) == 1 else name for name in shown]
    width = max(map(len, found), default=0)
    print(f"\n{'':{width}}" + "".join(f"{head:>{max(12, len(head) + 2)}}" for head in heads))
    for label, figures in found.items():
        cells = (f"{figures[name]:12.4g}" if name in figures else "" for name in shown)
        print(f"{label:{width}}" + "".join(f"{c:>{max(12, len(h) + 2)}}" for c, h in zip(cells, heads, strict=True)))
    judged = {label: figures[shown[0]] for label, figures in found.items() if shown and shown[0] in figures}
    if judged and heads[0].startswith("fid"):
        print(f"the lowest {heads[0]}: {min(judged, key=lambda label: judged[label])}")


def judge_pictures(request: Request, pictures: Path) -> None:
    """Judge pictures of any origin against the data of a config, or of a run."""
    import jax
    import numpy as np

    from gan_jax import build, data, evaluate
    from gan_jax.runs import visualize
    from gan_jax.runs.workdir import Workdir

    refused = [name for name in ("step", "sampling", "ppl") if getattr(request, name) is not None]
    refused += [name for name in ("classifiers", "by_class") if getattr(request, name)]
    if refused:
        raise UserError(f"--{refused[0]} is of a generator, and --samples are pictures: leave it out")
    place = Workdir(request.workdir)
    told = ", or the --workdir of a run, whose data they are beside"
    config, gan, dataset = _built(_config(request, place, "an evaluation of --samples", told), place)
    beside = request.reference and evaluate.reference.read(request.reference)
    kind = "npz" if pictures.suffix.lower() in (".npz", ".npy") else "folder"
    options = data.alone(build.image_options(config), kind, pictures)
    found = data.load(options, place.cache, reading=True)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    count = min(len(found.train_images), request.num_samples or _MOST_PICTURES)
    if count < FEWEST_SAMPLES:
        raise UserError(f"--samples={pictures} has {count} pictures: an evaluation needs {FEWEST_SAMPLES} or more")
    evaluator = build.build_evaluator(config, gan, dataset, place.cache, jax.local_devices(), count)
    if evaluator.extractor is None:
        raise UserError("--samples needs features: set --config.eval.features, e.g. to random or inception")
    _check_reference(request, evaluator, beside)
    drawn = evaluator.looked_at(np.asarray(found.train_images[np.arange(count)]))
    figures, intervals = _with_intervals(evaluator, evaluator.of_samples(drawn), drawn, beside)
    _print_figures(f"{pictures}, {evaluator.description}", figures, evaluator.floor, intervals)
    if request.out is not None:
        near = evaluate.neighbours(evaluator, drawn, dataset)
        picture = visualize.grid(gan.pixels.shown(near), evaluate.NEIGHBOURS + 1)
        visualize.save_png(picture, request.out)
        print(f"each picture before the train images nearest to it: {request.out}")


def _evaluate(request: Request, workdir: Path, asked: int | str | None) -> tuple[int, dict[str, float]]:
    """Judge the images of a run at a checkpoint; returns its step, and the last figures."""
    import jax

    from gan_jax import build, evaluate, stages
    from gan_jax.runs import visualize
    from gan_jax.runs.report import write_report
    from gan_jax.runs.workdir import Workdir
    from gan_jax.use import loading
    from gan_jax.util.files import keep

    out, count = request.out, request.num_samples
    _, gan, state, step = loading.restore(workdir, asked)
    place = Workdir(workdir)
    planned = stages.plan(of_run(place, request.overrides))
    config = stages.that_made(planned, step).config
    given = [None] if request.sampling is None else evaluate.sampling.several(request.sampling)
    hows = [evaluate.sampling.of_evaluations(gan, config.eval, each) for each in given]
    dataset = build.build_dataset(config, place.cache, reading=True)
    # What is known of a run's data is that of its first stage.
    first = dataset if len(planned) == 1 else build.build_dataset(planned[0].config, place.cache, reading=True)
    place.check_data(first.name, first.digest, len(first.train_images), first.class_counts, first.conditions)
    distance = path_distance(request.ppl, config)
    beside = request.reference and evaluate.reference.read(request.reference)  # before a classifier is trained
    for how in hows:
        evaluator = build.build_evaluator(config, gan, dataset, place.cache, jax.local_devices(), count or 10_000, how)
        _check_evaluation(request, gan.classes, dataset, evaluator.extractor is not None)
        _check_reference(request, evaluator, beside)
        drawn = evaluator.draw(state) if evaluator.extractor else None
        figures, intervals = _judged(request, evaluator, dataset, state=state, drawn=drawn, beside=beside)
        figures |= evaluator.path_lengths(state, distance) if distance else {}
        _print_figures(f"step {step:,}, {evaluator.description}", figures, evaluator.floor, intervals)
        described = {"step": step, "samples": evaluator.samples, "features": config.eval.features}
        described |= {"sampling": str(how)} if str(how) else {}
        found = {**described, "floor": evaluator.floor, "intervals": intervals, **figures}
        keep(partial(place.save_evaluation, found), f"the figures in {workdir}")  # one may read runs of others
    if drawn is not None:
        near = evaluate.neighbours(evaluator, drawn, dataset)
        picture = visualize.grid(gan.pixels.shown(near), evaluate.NEIGHBOURS + 1)
        if out is not None:
            visualize.save_png(picture, out)
        hint = "" if out else ": --out=FILE.png puts it elsewhere"
        kept = keep(lambda: place.save_grid(step, picture, "neighbours"), f"the picture in {workdir}", hint)
        if shown := out or kept:
            print(f"each sample before the train images nearest to it: {shown}")
    if page := keep(lambda: write_report(place), f"the report in {workdir}"):
        print(f"report: {page}")
    return step, figures


def reference(request: Request) -> None:
    """Write statistics of the data's features to a file."""
    import jax

    from gan_jax import build, evaluate
    from gan_jax.core.pixels import USUAL
    from gan_jax.runs.workdir import Workdir

    place = Workdir(request.workdir)
    config = _config(request, place, "a reference", ", or the --workdir of a run")
    out = request.out or request.workdir.with_name(f"{request.workdir.name}_reference.npz")
    if out.suffix.lower() != ".npz":
        raise UserError(f"--out must end in .npz in this mode: it gets statistics, not {str(out)!r}")
    config, gan, dataset = _built(config, place)
    evaluator = build.build_evaluator(config, gan, dataset, place.cache, jax.local_devices())
    if evaluator.extractor is None:
        raise UserError("a reference needs features: set --config.eval.features, e.g. to random or inception")
    options: dict[str, Any] = dataclasses.asdict(build.image_options(config))
    kept: dict[str, Any] = {name: options[name] for name in ("source", "image_size", "channels", "fit")}
    kept |= {"pixels": dataclasses.astuple(gan.pixels)} if gan.pixels != USUAL else {}
    made = evaluate.reference.made_of(dataset.image_shape, dataset.digest, kept)
    found = evaluator.reference(made)
    found.write(out)
    print(f"{found.count:,} train images of {found.data} by {found.features}, named {found.name}: {out}")


def _built(config: ConfigDict, place: Any) -> tuple[ConfigDict, Any, Any]:
    """Return ``config`` with its data's classes, its GAN and its data set."""
    from gan_jax import build
    from gan_jax.training.classes import with_classes

    config, known = with_classes(config, place)
    gan, _ = build.build_gan(config)
    return config, gan, known or build.build_dataset(config, place.cache, reading=True)


def _config(request: Request, place: Any, what: str, otherwise: str) -> ConfigDict:
    """Return the config that is given, or that of the run in ``place``; see `gan_jax.cli.given.needed_config`."""
    config = request.config
    if config is None and place.holds_run():
        config = of_run(place, request.overrides)
    return needed_config(what, config, otherwise)


def _check_evaluation(request: Request, classes: int, dataset: Any, features: bool) -> None:
    """Refuses what the GAN or its data has not, before anything is drawn."""
    if request.classifiers:
        reason = _no_classes(classes, dataset.classes, len(dataset.test_images), features)
        if reason:
            raise UserError(f"--classifiers={request.classifiers}: GAN-train and GAN-test need {reason}")
    if request.reference is not None and not features:
        raise UserError("--reference: a FID needs features: set --config.eval.features to those of the file")
    if request.by_class and not (classes and features):
        lacking = "a GAN of classes" if not classes else "features: set eval.features, e.g. to random"
        raise UserError(f"--by_class: the FID of each class needs {lacking}")


def path_distance(named_by: str | None, config: ConfigDict) -> Any:
    """Return by what path lengths are measured, if they are asked for."""
    from gan_jax import build
    from gan_jax.evaluate import perceptual, seen

    if named_by is None:
        return None
    if config.compute_dtype not in ("float32", "float64"):
        raise UserError(
            f"--ppl: steps of 1e-4 are lost in this run's compute_dtype, {config.compute_dtype}: "
            "leave it out, or evaluate a run of float32"
        )
    eyes = seen.of(build.image_options(config))
    return perceptual.of_paths(named_by, lambda file: named.path(file, "--ppl"), config.data.image_size, eyes)


def _check_reference(request: Request, evaluator: Any, beside: Any) -> None:
    """Refuse statistics ``beside`` the data's that are of other features, before anything is drawn."""
    if beside is not None and evaluator.extractor is not None:
        beside.check(request.reference, evaluator.extractor.name)


def _judged(
    request: Request, evaluator: Any, dataset: Any, *, state: Any, drawn: Any, beside: Any
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
    return _with_intervals(evaluator, figures, drawn, beside)


def _with_intervals(
    evaluator: Any, figures: dict[str, float], drawn: Any, beside: Any
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """``figures`` of ``drawn`` with those that take longer, such as FIDs to ``beside``, and intervals about all."""
    further, intervals = evaluator.confidence(figures, drawn)
    if beside is not None:
        others, about = evaluator.beside(beside, drawn)
        further, intervals = further | others, intervals | about
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
        between = f"  {interval:>20}" if intervals else ""
        print(f"{name:{width}}{value:12.5g}{between}{fresh}".rstrip())


def _no_classes(told: int, classes: int, tests: int, features: bool) -> str | None:
    """Return what is missing for GAN-train, in words."""
    if not told:
        return "a GAN of classes: train configs/cgan.py, acgan.py or projection.py"
    if classes < 2 or not tests:
        return "labelled test images of two classes or more"
    return None if features else "features: set eval.features to classifier"
