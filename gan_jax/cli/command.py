"""What ``launch.py`` does once its flags are defined: parse them with errors of one line, and hand over to a mode.

JAX is imported only when a mode starts, so that ``--help`` and a mistyped flag answer at once.
"""

import dataclasses
import re
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_dict import RequiredValueError

from gan_jax import sides
from gan_jax.cli import helping
from gan_jax.cli.arguments import read_override
from gan_jax.cli.modes import MODES, RUNS
from gan_jax.cli.request import Request
from gan_jax.config import check_held, dotted_keys, override
from gan_jax.config_files import load_config, resolved
from gan_jax.runtime import distributed, environment, signals
from gan_jax.util import named
from gan_jax.util.errors import EndedError, UserError, clipped, listed, printable
from gan_jax.util.hints import unknown_key

_ALONE = (None, None, None)  # no coordinator, processes, process

_KINDS = {  # what absl and Python say of a value that isn't
    "invalid literal for int": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean argument": "True or False",
}
_ERROR = 2
_LINE = 4000  # characters of an error, whatever it was made of
_FULL = ("ut of memory", "RESOURCE_EXHAUSTED")
_SMALLER = "; lower batch_size, or set generator.remat and discriminator.remat: docs/devices.md has what else there is"
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line and an exit code where an error can be expected.

    The code is 2 on a `UserError` or a failing file, 75 where the same command goes on (it was asked to end, or another
    process of the run is gone), 130 on Ctrl-C.
    """
    try:
        yield
    except (UserError, OSError, MemoryError) as error:
        distributed.leave(f"error: {clipped(printable(str(error)), _LINE)}", _ERROR)
    except EndedError as error:
        distributed.leave(str(error), signals.RESUME_ME)
    except KeyboardInterrupt:
        distributed.leave("interrupted", _INTERRUPTED)
    except Exception as error:
        distributed.leave_if_lost(error)
        # What JAX says of the machine; any other is a fault of ours, with its traceback.
        if isinstance(error, RuntimeError) and any(said in str(error) for said in (*_FULL, "initialize backend")):
            hint = _SMALLER if any(said in str(error) for said in _FULL) else ""
            distributed.leave(f"error: {str(error).splitlines()[0].rstrip('.')}{hint}", _ERROR)
        if distributed.several():
            distributed.leave(traceback.format_exc(), 1)
        raise


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Parse the command line.

    Returns:
      The program's name, and, where there is a ``--workdir`` and no ``--config``, each ``--config.KEY=VALUE``.

    Raises:
      UserError: anything wrong in it, or in the config file that it names.
    """
    if helping.asked(argv):
        print(helping.text(values, argv))
        raise SystemExit
    argv = _resolved(argv)
    if (spread := _in_two_keys(argv)) != argv:
        argv = sys.argv = spread  # where ml_collections looks for what follows --config.
    path = _config_path(argv)
    if path is not None:
        _check_overrides(load_config(path), argv)
    changes = [argument for argument in argv[1:] if path is None and re.match(r"--?(no)?config\.", argument)]
    if changes and not any(re.match(r"--?workdir\b", argument) for argument in argv):
        raise UserError(f"{changes[0]} changes a config, which --config=FILE or the --workdir of a run must give")
    for change in changes:
        if not re.match(r"--?config\.[^=]+=", change):
            raise UserError(f"{change}: without --config=FILE write --config.KEY=VALUE")
    try:
        rest = values([argument for argument in argv if argument not in changes])
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        said = named.one_line(error)
        given = re.match(r"flag --(\S+?)=(.*?): ", said)
        wanted = next((kind for words, kind in _KINDS.items() if words in said), None)
        if given and wanted:
            raise UserError(f"--{given[1]} must be {wanted}, not {given[2]!r}") from error
        raise UserError(f"{said}; see --help") from error
    except RequiredValueError as error:
        text = "the config file has a required_placeholder, which no flag can set: write placeholder(TYPE) there"
        raise UserError(text) from error
    except SystemExit:  # it was asked for more help than ours, which absl ends with 1
        raise SystemExit from None
    if len(rest) > 1 and values["mode"].value not in RUNS:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are --name=value; see --help")
    return [*rest, *changes]


def run_name(path: str, mode: str = "train") -> str:
    """Return what a run of the config ``path`` is called.

    ``configs/dcgan.py:mnist`` is ``dcgan_mnist``; a sweep ``..._sweep``, a search ``..._search``.
    """
    file, _, argument = path.partition(":")
    parts = [*re.findall(r"\w+", argument), *([mode] if mode in ("sweep", "search") else [])]
    return Path(file).stem + "".join(f"_{part}" for part in parts)


def step_of(text: str | None, mode: str = "") -> int | str | None:
    """Return what ``--step`` says: a number, `gan_jax.use.loading.BEST`, in an evaluation ``all``, or nothing.

    Raises:
      UserError: it is something else.
    """
    if text is None or text == "best" or (text == "all" and mode == "evaluate"):
        return text
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"--step must be a whole number from 0 up, or best, not {text!r}")
    return int(text)


def check_flags(mode: str, given: Collection[str]) -> None:
    """Refuse flags, by name, that ``mode`` (one of `gan_jax.cli.modes.MODES`) doesn't read."""
    for flag in given:
        if flag not in MODES[mode].reads:
            *others, last = (name for name, other in MODES.items() if flag in other.reads)
            readers = f"{listed(others)} and {last}" if others else last
            raise UserError(f"--mode={mode} takes no --{flag}, which is for {readers}: leave it out")


def check_overrides(mode: str, overrides: Mapping[str, Any], config: ConfigDict | None = None) -> None:
    """Refuse keys of a config on the command line that ``mode`` takes from the run's own, or that don't hold.

    The keys are those of ``overrides``. Whether they hold is asked of ``config``, if there is one.
    """
    for key in overrides:
        allowed = MODES[mode].changes
        if allowed is not None and key not in allowed:
            *first, last = allowed or ("",)
            also = f", but for {listed(first)} and {last}" if first else ""
            raise UserError(f"--config.{key}: --mode={mode} takes the config of the run{also}: leave it out")
    if config is not None:
        check_held(config, overrides)


def own_overrides(mode: str, changes: Sequence[str], workdir: Path) -> dict[str, Any]:
    """Return ``changes``, each ``--config.KEY=VALUE``, of the config of the run in ``workdir``, by key."""
    from gan_jax.runs.workdir import Workdir

    if changes and mode != "train" and MODES[mode].changes is None:
        raise UserError(f"{changes[0]} changes a config, which --config=FILE must give for --mode={mode}")
    place = Workdir(workdir)
    if mode == "evaluate" and place.holds_sweep():
        place = Workdir(place.trials()[0])  # keys are of one type in all
    config = place.config() if changes else ConfigDict()
    return dict(read_override(change, config) for change in changes)


def with_flag(
    flag: str, value: str, overrides: Mapping[str, Any], config: ConfigDict | None, key: str = ""
) -> dict[str, Any]:
    """Return ``overrides`` with ``--FLAG=VALUE``, which is ``--config.KEY=VALUE``; a ``config`` gets it too."""
    key = key or flag
    if overrides.get(key, value) != value:
        raise UserError(f"--{flag}={value}, and --config.{key}={overrides[key]}: leave one out")
    if config is not None:
        override(config, key, value)
    return {**overrides, key: value}


def run(mode: str, request: Request) -> None:
    """Do what is asked for by ``mode``, one of `gan_jax.cli.modes.MODES`; training is on all hosts."""
    hosts = (request.coordinator, request.processes, request.process)
    with signals.listening() if mode in ("train", "sweep", "search") else nullcontext() as stop:
        if request.fallback is not None:
            try:  # so that it fails now, if it does
                request.fallback.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = error.strerror or error
                raise UserError(f"--fallback={request.fallback}: cannot make this directory: {reason}") from error
        environment.prepare()
        if mode == "train":
            distributed.start(*hosts)
            if distributed.several() and request.fallback is not None:
                raise UserError("--fallback is for a run of one process: leave it out")
        elif hosts not in (_ALONE, (None, 1, None)) or (
            mode in ("sweep", "search") and hosts == _ALONE and distributed.in_a_cluster()
        ):
            raise UserError(f"--mode={mode} runs in one process, not in several: start one, with --processes=1")
        MODES[mode].run(dataclasses.replace(request, stop=stop))


def _resolved(argv: Sequence[str]) -> list[str]:
    """``argv`` with the path of ``--config`` written out: shells leave a ``~`` alone after an ``=``, and a built-in
    config has its name alone."""
    found = list(argv)
    for i, argument in enumerate(argv):
        if re.match(r"--?config=", argument):
            flag, _, path = argument.partition("=")
            found[i] = f"{flag}={_path_of(path)}"
        elif i and re.fullmatch("--?config", argv[i - 1]):
            found[i] = _path_of(argument)
    return found


def _in_two_keys(argv: Sequence[str]) -> list[str]:
    """``argv`` with ``--config.data.image_size=64x96`` as its two keys, which are whole numbers."""
    flag, found = f"--config.{sides.KEY}", list(argv)
    for i in range(len(found) - 2, -1, -1):
        if re.fullmatch(f"-?{re.escape(flag)}|{re.escape(flag[1:])}", found[i]):
            found[i : i + 2] = [f"{flag}={found[i + 1]}"]
    for i in range(len(found) - 1, 0, -1):
        name, _, value = found[i].partition("=")
        if name in (flag, flag[1:]) and "x" in value:
            try:
                found[i : i + 1] = [f"--config.{key}={of}" for key, of in sides.keys_of(*sides.read(value)).items()]
            except UserError as error:
                raise UserError(f"{flag}={value}: {error}") from error
    return found


def _path_of(text: str) -> str:
    return str(named.path(text, "--config")) if text.startswith("~") else resolved(text)


def _config_path(argv: Sequence[str]) -> str | None:
    """Return the value of ``--config`` in ``argv``, the last one as for any flag."""
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
                raise unknown_key(key, known)
            if inner:
                raise UserError(f"config.{key} is a group of keys: set one of {listed(f'config.{k}' for k in inner)}")
