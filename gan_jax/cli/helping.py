"""What ``--help`` says: the modes, and the flags of each."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from gan_jax.cli.modes import HOSTS, MODES
from gan_jax.util import named
from gan_jax.util.errors import listed

_ASKS = re.compile(r"--?(help|helpshort|h|\?)(=true)?", re.IGNORECASE)
_ALWAYS = ("config", "workdir", "mode")
_WIDTH, _COLUMN = 110, 24


def asked(argv: Sequence[str]) -> bool:
    """Return whether the command line asks for help."""
    return any(map(_ASKS.fullmatch, argv[1:]))


def text(values: flags.FlagValues, argv: Sequence[str]) -> str:
    """Return the help: of the mode in ``argv``, if one is there, else of all."""
    given = [match[1] for argument in argv if (match := re.fullmatch(r"--?mode=(\w+)", argument))]
    shown = [name for name in given if name in MODES][-1:] or list(MODES)
    lines = [f"{named.program()} --config=FILE [--mode=MODE] [--FLAG=VALUE ...] [--config.KEY=VALUE ...]", ""]
    lines += _described(values, _ALWAYS)
    told: set[str] = set(HOSTS)
    for name in shown:
        mode = MODES[name]
        lines += ["", f"--mode={name}{' (the default)' if name == 'train' else ''}: {mode.help}"]
        own = [flag for flag in mode.reads if flag not in told]
        lines += _described(values, own)
        above = [f"--{flag}" for flag in mode.reads if flag in told and flag not in HOSTS]
        lines += (
            textwrap.wrap(f"also {listed(above)}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
            if above
            else []
        )
        told |= set(mode.reads)
    if "train" in shown:
        lines += ["", "One run on several hosts:", *_described(values, HOSTS)]
    lines += ["", "Each key of a config is a flag, --config.KEY=VALUE: docs/config.md explains them."]
    if len(shown) > 1:
        lines.append(f"The flags of one mode alone: {named.program()} --mode=sample --help")
    return "\n".join(lines)


def help_of(flag: Any) -> str:
    """Return a flag's help, without absl's list of values before it where that is what the rest of the help is."""
    found: str = flag.help
    return found.partition(">: ")[2] if flag.name == "mode" else found


def _described(values: flags.FlagValues, names: Iterable[str]) -> list[str]:
    lines = []
    for name in names:
        flag = values[name]
        default = "" if flag.default in (None, False, "") else f" Default {flag.default}."
        head = f"  --{name}"
        lines += textwrap.wrap(
            f"{help_of(flag).rstrip('.')}.{default}",
            _WIDTH,
            initial_indent=f"{head:<{_COLUMN}}",
            subsequent_indent=" " * _COLUMN,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
