"""What ``launch.py`` does once its flags are defined: parse them with errors of one line, and hand over to a mode.

JAX is imported only when a mode starts, so that ``--help`` and a mistyped flag answer at once.
"""

import ast
import os
import re
import runpy
import shlex
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from gan_jax import distributed, hyper, signals
from gan_jax.config import differences, dotted_keys
from gan_jax.errors import EndedError, UserError, unknown_name

Hosts = tuple[str | None, int | None, int | None]  # as `gan_jax.distributed.start` wants them
ALONE: Hosts = (None, None, None)

_ERROR = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line and exit code 2 on a `UserError` or a failing file, 75 where the same command
    goes on (it was asked to end, or another process of the run is gone), 130 on Ctrl-C."""
    try:
        yield
    except (UserError, OSError, MemoryError) as error:
        distributed.leave(f"error: {error}", _ERROR)
    except EndedError as error:
        distributed.leave(str(error), signals.RESUME_ME)
    except KeyboardInterrupt:
        distributed.leave(
            "interrupted; the same command resumes from the last checkpoint, if there is one", _INTERRUPTED
        )
    except Exception as error:
        distributed.leave_if_lost(error)
        # What JAX says of the machine; any other is a fault of ours, with its traceback.
        machine = ("ut of memory", "RESOURCE_EXHAUSTED", "initialize backend")
        if isinstance(error, RuntimeError) and any(said in str(error) for said in machine):
            distributed.leave(f"error: {str(error).splitlines()[0]}", _ERROR)
        if distributed.several():
            distributed.leave(traceback.format_exc(), 1)
        raise


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Parses the command line.

    Raises:
      UserError: anything wrong in it, or in the config file that it names.
    """
    path = _config_path(argv)
    if path is not None:
        _check_overrides(load_config(path), argv)
    try:
        rest = values(list(argv))
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{_one_line(error)}; see --help") from error
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are --name=value; see --help")
    return rest


def load_config(path: str) -> ConfigDict:
    """What ``get_config`` of the Python file ``path`` returns; after a colon in ``path`` stands its argument.

    Raises:
      UserError: there is no such file, or running it fails.
    """
    file, *argument = path.split(":", 1)
    if not Path(file).is_file():
        near = unknown_name("config file", file, [str(p) for p in Path(file).parent.glob("[!_]*.py")])
        raise near if near.args[0].count(".py") > 1 else UserError(f"there is no config file {file!r}")
    try:
        config = runpy.run_path(file)["get_config"](*argument)
    except UserError:
        raise
    except Exception as error:  # the file is the user's own code: anything may come
        raise UserError(f"config file {file}: {type(error).__name__}: {_one_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config file {file}: get_config() must return an ml_collections.ConfigDict, not {config!r}")
    return config


def run_name(path: str, mode: str = "train") -> str:
    """What a run of the config ``path`` is called: ``configs/dcgan.py:mnist`` is ``dcgan_mnist``; ``..._sweep`` a
    sweep, ``..._search`` a search."""
    file, _, argument = path.partition(":")
    parts = [*re.findall(r"\w+", argument), *([mode] if mode in ("sweep", "search") else [])]
    return Path(file).stem + "".join(f"_{part}" for part in parts)


def run(mode: str, config: ConfigDict | None, workdir: Path, hosts: Hosts, **others: Any) -> None:
    """Runs ``mode`` (one of `MODES`) on ``workdir``, with ``others`` of the flags; training on all ``hosts``, which are
    ``coordinator``, ``processes``, ``process``."""
    with signals.listening() if mode in ("train", "sweep", "search") else nullcontext() as stop:
        if others["fallback"] is not None:
            try:  # so that it fails now, if it does
                others["fallback"].mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = error.strerror or error
                raise UserError(f"--fallback={others['fallback']}: cannot make this directory: {reason}") from error
        _prepare_jax()
        if mode == "train":
            distributed.start(*hosts)
            if distributed.several() and others["fallback"] is not None:
                raise UserError("--fallback is for a run of one process: leave it out")
        elif hosts not in (ALONE, (None, 1, None)) or (
            mode in ("sweep", "search") and hosts == ALONE and distributed.in_a_cluster()
        ):
            raise UserError(f"--mode={mode} runs in one process, not in several: start one, with --processes=1")
        MODES[mode](config, workdir, stop=stop, **others)


def _train(config: ConfigDict | None, workdir: Path, *, stop: signals.Stop, fallback: Path | None, **_: Any) -> None:
    from gan_jax import build
    from gan_jax.train import train

    if config is None:
        raise UserError("training needs a config: --config=configs/dcgan.py")
    build.enable_float64(config)
    train(config, workdir, stop=stop, fallback=fallback)


def _sweep(
    config: ConfigDict | None,
    workdir: Path,
    *,
    config_path: str | None,
    trials: str | None,
    population: int | None,
    executor: str | None,
    executor_args: str,
    stop: signals.Stop | None = None,
    fallback: Path | None = None,
    **_: Any,
) -> None:
    import jax

    from gan_jax import build
    from gan_jax.sweep import sweep

    if config is None or config_path is None:
        raise UserError("a sweep needs a config: --config=configs/dcgan.py")
    build.enable_float64(config)
    planned = read_sweep(trials or f"{config_path.partition(':')[0]}:get_hyper")
    if executor is None:
        sweep(config, planned, workdir, stop=stop, fallback=fallback)
        return
    with _extra("submitit", "slurm"):
        from gan_jax.jobs import sweep_by_jobs
    jax.config.update("jax_platforms", "cpu")  # accelerators are for the jobs
    sweep_by_jobs(config, planned, workdir, executor, read_arguments(executor_args), population)


def _search(
    config: ConfigDict | None,
    workdir: Path,
    *,
    config_path: str | None,
    space: str | None,
    number: int,
    population: int | None,
    objective: str,
    stop: signals.Stop | None = None,
    fallback: Path | None = None,
    **_: Any,
) -> None:
    if config is None or config_path is None:
        raise UserError("a search needs a config: --config=configs/dcgan.py")
    function = read_search(space or f"{config_path.partition(':')[0]}:get_search")
    with _extra("optuna", "search"):
        from gan_jax import build
        from gan_jax.search import search
    build.enable_float64(config)
    best = search(config, function, workdir, number, population or 8, objective, stop=stop, fallback=fallback)
    if best is None:
        print("no trial reached its end: all diverged")
        return
    overrides = best.user_attrs["overrides"]
    changed = ", ".join(f"{key}={value}" for key, value in overrides.items())
    print(f"best: trial {workdir / f'{best.number:03d}'}, {objective} {best.value:.6g}, with {changed}")
    print(f"alone: {alone(config_path, config, overrides, workdir.with_name(f'{workdir.name}_best'))}")


def alone(config_path: str, config: ConfigDict, overrides: dict[str, Any], workdir: Path) -> str:
    """The command that trains ``config`` with ``overrides`` in ``workdir``."""
    own = ConfigDict(config.to_dict())
    own.update_from_flattened_dict(overrides)
    changed = [line.partition(":")[0] for line in differences(load_config(config_path).to_dict(), own.to_dict())]
    flags = [f"--config.{key}={reduce(getitem, key.split('.'), own)}" for key in changed]
    return shlex.join(["python", "launch.py", f"--config={config_path}", f"--workdir={workdir}", *flags])


@contextmanager
def _extra(package: str, extra: str) -> Iterator[None]:
    """Around imports that need an optional package."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(f"this needs {package}, which is not installed: pip install -e '.[{extra}]'") from error


def read_search(text: str) -> Callable[[Any], dict[str, Any]]:
    """The function that ``--search`` names, ``FILE.py:function``, from an Optuna trial to overrides.

    Raises:
      UserError: there is none.
    """
    if not text.rpartition(":")[0].endswith(".py"):
        raise UserError(f"--search={text!r}: give FILE.py:function")
    return _function("search", text, "trial")


def _function(flag: str, text: str, argument: str) -> Callable[[Any], Any]:
    """What ``FILE.py:function`` names, for a flag."""
    file, _, name = text.rpartition(":")
    try:
        found = runpy.run_path(file).get(name)
    except FileNotFoundError as error:
        raise UserError(f"--{flag}={text}: there is no file {error.filename}") from error
    except Exception as error:  # the file is the user's own code: anything may come
        raise UserError(f"{flag} {text}: {type(error).__name__}: {_one_line(error)}") from error
    if not callable(found):
        raise UserError(f"{file} has no function {name}({argument}): write it, or give --{flag}=FILE.py:function")
    function: Callable[[Any], Any] = found
    return function


_COMMA = re.compile(r",(?![^()]*\))")  # not within brackets


def read_sweep(text: str) -> list[dict[str, Any]]:
    """The trials that ``--sweep`` asks for.

    Args:
      text: ``FILE.py:function``, called with `gan_jax.hyper`; or ``'key=1,2,3 key2=a,b'``, each value with each;
        a tuple is written in brackets, without spaces.

    Raises:
      UserError: it's neither, or the function fails.
    """
    if text.rpartition(":")[0].endswith(".py"):
        function = _function("sweep", text, "hyper")
        try:
            trials = function(hyper)
        except Exception as error:  # the file is the user's own code: anything may come
            raise UserError(f"sweep {text}: {type(error).__name__}: {_one_line(error)}") from error
        if not (isinstance(trials, list) and all(isinstance(trial, dict) for trial in trials)):
            raise UserError(f"sweep {text}: must return a list of dicts of overrides, not {type(trials).__name__}")
        return trials
    sweeps = []
    for part in text.split():
        key, equals, values = part.partition("=")
        if not equals or not values:
            raise UserError(f"--sweep={text!r}: {part!r} is no key=1,2,3; give such, or FILE.py:function")
        sweeps.append(hyper.sweep(key.removeprefix("config."), map(_value, _COMMA.split(values))))
    try:
        return hyper.product(sweeps)
    except ValueError as error:
        raise UserError(f"--sweep={text!r}: {error}") from error


def read_arguments(text: str) -> dict[str, Any]:
    """What ``--executor_args`` says: ``"partition=gpu timeout_min=600"``, as a dict.

    Raises:
      UserError: a part has no ``=``, or asks for several processes.
    """
    found: dict[str, Any] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"--executor_args={text!r}: give 'name=value name2=value2'")
        found[name] = _value(value)
    for name in ("nodes", "tasks_per_node"):
        if found.get(name, 1) != 1:
            raise UserError(f"--executor_args: {name}={found[name]}, but a job is one process: leave it out")
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _sample(
    _: ConfigDict | None,
    workdir: Path,
    *,
    out: Path | None,
    count: int | None,
    seed: int,
    step: int | None,
    label: int | None,
    **__: Any,
) -> None:
    import numpy as np

    from gan_jax import sample, visualize

    out = out or workdir / "samples.png"
    visualize.check_ending(out)
    gan, state, step = _restore(workdir, step)
    count = count or 100
    labels = sample.row_labels(gan, count)
    if label is not None:
        if label >= gan.classes:
            known = f"it has {gan.classes} classes, from 0" if gan.classes else "it was trained without labels"
            raise UserError(f"--label={label}: the GAN in {workdir} has no such class: {known}")
        labels = np.full_like(labels, label)
    images = sample.sample(gan, state, seed, labels)
    visualize.save_images(images, out, labels if gan.classes else None)
    print(f"{count} samples of step {step:,}, seed {seed}: {out}")


def _interpolate(
    _: ConfigDict | None, workdir: Path, *, out: Path | None, seed: int, step: int | None, **__: Any
) -> None:
    from gan_jax import sample, visualize

    out = out or workdir / "interpolations.png"
    visualize.check_ending(out)
    gan, state, step = _restore(workdir, step)
    images = sample.interpolate(gan, state, seed, rows=10, columns=10)
    visualize.save_images(images, out)
    print(f"10 spherical interpolations of step {step:,}, seed {seed}: {out}")


def _evaluate(
    _: ConfigDict | None,
    workdir: Path,
    *,
    out: Path | None,
    count: int | None,
    step: int | None,
    classifiers: int,
    **__: Any,
) -> None:
    import jax
    import numpy as np

    from gan_jax import build, evaluate, visualize
    from gan_jax.report import write_report
    from gan_jax.workdir import Workdir

    out = out or workdir / "neighbours.png"
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png in this mode: it gets a picture, not {str(out)!r}")
    gan, state, step = _restore(workdir, step)
    place = Workdir(workdir)
    config = place.config()
    dataset = build.build_dataset(config, place.cache)
    evaluator = build.build_evaluator(config, gan, dataset, place.cache, jax.local_devices(), count or 10_000)
    if classifiers:
        reason = _no_classes(gan.classes, dataset.classes, len(dataset.test_images), evaluator.extractor is not None)
        if reason:
            raise UserError(f"--classifiers={classifiers}: GAN-train and GAN-test need {reason}")
    drawn = evaluator.draw(state) if evaluator.extractor else None
    figures = evaluator.figures(state, drawn)
    if classifiers and drawn is not None:
        labels = evaluator.labels(np.arange(len(drawn[2])))
        figures |= evaluate.gan_train(dataset, drawn[2], labels, classifiers)
    print(f"step {step:,}, {evaluator.description}")
    for name, value in figures.items():
        print(f"{name:60}{value:12.5g}")
    place.save_evaluation(step, {"step": step, "samples": evaluator.samples, "floor": evaluator.floor, **figures})
    if drawn is not None:
        picture = evaluate.neighbours(evaluator, drawn, dataset)
        visualize.save_png(visualize.grid(picture, evaluate.NEIGHBOURS + 1), out)
        print(f"each sample beside the train images nearest to it: {out}")
    print(f"report: {write_report(place)}")


def _doctor(config: ConfigDict | None, workdir: Path, **_: Any) -> None:
    from gan_jax.doctor import examine

    examine(config, workdir)


def _no_classes(told: int, classes: int, tests: int, features: bool) -> str | None:
    """What is missing for GAN-train, in words."""
    if not told:
        return "a GAN of classes: train configs/cgan.py, acgan.py or projection.py"
    if not classes or not tests:
        return "labelled test images"
    return None if features else "features: set eval.features to classifier"


MODES: dict[str, Callable[..., None]] = {
    "train": _train,
    "sweep": _sweep,
    "search": _search,
    "sample": _sample,
    "interpolate": _interpolate,
    "evaluate": _evaluate,
    "doctor": _doctor,
}


def _restore(workdir: Path, step: int | None) -> tuple[Any, Any, int]:
    """The GAN of the run in ``workdir``, its state after ``step`` steps (None: the last kept), and that step."""
    import jax

    from gan_jax import build
    from gan_jax.checkpoint import Checkpoints
    from gan_jax.state import init_state
    from gan_jax.workdir import Workdir

    place = Workdir(workdir)
    config = place.config()
    build.enable_float64(config)
    gan, hyper = build.build_gan(config)
    if not place.checkpoints.is_dir():
        raise UserError(f"no checkpoint in {place.checkpoints} yet: train first")
    with Checkpoints(place.checkpoints) as checkpoints:
        state = checkpoints.restore(jax.eval_shape(lambda: init_state(gan, 0, hyper)), step)
    return gan, jax.device_put(state), int(state.step)


def _prepare_jax() -> None:
    """Compiled programs are kept on disk, in ``$JAX_COMPILATION_CACHE_DIR`` or the user's cache directory."""
    import jax

    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "gan_jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _config_path(argv: Sequence[str]) -> str | None:
    """The value of ``--config`` in ``argv``, the last one as for any flag."""
    path = None
    for i, argument in enumerate(argv[1:], start=1):
        name, given, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            path = value if given else next(iter(argv[i + 1 :]), None)
    return path


def _check_overrides(config: ConfigDict, argv: Sequence[str]) -> None:
    known = dotted_keys(config)
    for argument in argv[1:]:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name.removeprefix("no").startswith("config."):
            key = name.partition(".")[2]
            inner = [k for k in known if k.startswith(f"{key}.")]
            if key not in known and not inner:
                raise unknown_name("config key", key, known)
            if inner:
                raise UserError(f"config.{key} is a group of keys: set one of config.{', config.'.join(inner)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
