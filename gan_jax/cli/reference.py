"""The reference of config keys, ``docs/config.md``: ``python -m gan_jax.cli.reference > docs/config.md`` writes it."""

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gan_jax import keys, models
from gan_jax.build import GIVEN_BY_US
from gan_jax.config import default
from gan_jax.core.optimizers import OPTIMIZERS

_ROLES = {
    keys.RESULT: "",
    keys.LEAF: "by `--change`",
    keys.OBSERVES: "freely",
    keys.FREE: "freely",
}
_HEAD = """# Configuration

Every key is a flag: `--config.KEY=VALUE`. This page is written by `python -m gan_jax.cli.reference`, from the table in
[gan_jax/keys.py](../gan_jax/keys.py); a test keeps it so.

"May change" says whether a begun run goes on with another value: freely, by `--change` (which is recorded), or, where
nothing stands, not at all. `steps` may change where no schedule ends with the run. Numbers that may change by
`--change` are leaves of the state: a sweep over them compiles nothing.

Where a key names something of gan_jax, "one's own" is `FILE.py:NAME` or `package.module:NAME`; see
[Extending](extending.md#bring-your-own).
"""


def page() -> str:
    """Return the whole page, in Markdown."""
    parts = [_HEAD]
    for title, group in _groups().items():
        rows = [(f"`{name}`", _shown(key.default), key.meaning, _ROLES[key.role]) for name, key in group.items()]
        parts.append(f"## {title}\n\n{_table(('key', 'default', 'meaning', 'may change'), rows)}")
    parts += [_schedules(), _averages(), _stages(), _optimizers(), _networks()]
    return "\n".join(parts)


def _groups() -> dict[str, dict[str, keys.Key]]:
    """Return the keys by the title of their section."""
    titles = {
        "terms": "Terms of the losses",
        "augment": "Augmentation",
        "labels": "Labels",
        "data": "Data",
        "parallel": "Devices",
    }
    looks = ("log", "sample", "eval", "checkpoint")
    titles |= dict.fromkeys(looks, "What a run writes")
    found: dict[str, dict[str, keys.Key]] = {}
    for name, key in keys.KEYS.items():
        section = name.partition(".")[0] if "." in name else ""
        name = re.sub(r"^terms\.\w+\.every$", "terms.NAME.every", name)  # they are all alike
        found.setdefault(titles.get(section, "The run and the GAN"), {})[name] = key
    return found


def _schedules() -> str:
    rows = []
    for kind, entry in keys.SCHEDULES.items():
        numbers = "<br>".join(f"`{name}` ({value:g}): {meaning}" for name, (value, meaning) in entry.numbers.items())
        rows.append((f"`{kind}`", entry.meaning, numbers))
    text = (
        "## Schedules\n\nAn entry `schedules.NAME` moves one number of the run: its `key`, a `kind`, and a `unit` "
        "(`steps` or `images`) of `begin` and `length`. `generator_rate`, `discriminator_rate` and `augment` (of "
        "`augment.p`) are there, constant; "
        "a config file adds others by `gan_jax.config.schedule`, whose kind may be one's own. They may change by "
        "`--change`.\n\n"
    )
    return text + _table(("kind", "meaning", "numbers (default)"), rows)


def _averages() -> str:
    rows = [(f"`averages.NAME.{name}`", _shown(value), meaning) for name, (value, meaning) in keys.AVERAGE.items()]
    text = (
        "## Averages\n\nOf the generator's parameters and statistics, as many as there are entries; samples are drawn "
        "with the first, which is `ema`. They may change by `--change`.\n\n"
    )
    return text + _table(("key", "default", "meaning"), rows)


def _stages() -> str:
    rows = [
        (f"`stages.NAME.{name}`", "" if name in ("begin", "set") else _shown(value), meaning)
        for name, (value, meaning) in keys.STAGE.items()
    ]
    text = (
        "## Stages\n\nWhat holds from a later step on, as many as there are entries; see [Transfer](transfer.md). A "
        "config file adds them by `gan_jax.config.stage`. They may not change.\n\n"
    )
    return text + _table(("key", "default", "meaning"), rows)


def _optimizers() -> str:
    around = {"learning_rate": (2e-4, "At the start."), **keys.OPTIMIZER}
    rows = [(f"`{name}`", _shown(value), meaning) for name, (value, meaning) in around.items()]
    of_each = []
    for name, function in OPTIMIZERS.items():
        parameters = inspect.signature(function).parameters
        taken = [f"`{key}`" for key in parameters if key not in around and not key.endswith("_dtype")]
        of_each.append(f"`{name}` takes {', '.join(taken)}")
    text = (
        "## Optimizers\n\n`optimizer.generator` and `optimizer.discriminator` have a `name` and the arguments of that "
        f"optimizer of optax: {'; '.join(of_each)}. Numbers may change by `--change`. Any takes these too:\n\n"
    )
    return text + _table(("key", "default", "meaning"), rows)


def _networks() -> str:
    switches = default()
    parts = [
        "## Networks\n\n`generator` and `discriminator` have the fields of the modules of `model`, a file of "
        "[gan_jax/models/](../gan_jax/models/__init__.py), which explains them.\n"
    ]
    for name in sorted(models.__all__):
        for player in ("generator", "discriminator"):
            kind = getattr(getattr(models, name), player.capitalize())
            fields = [f for f in dataclasses.fields(kind) if f.name not in GIVEN_BY_US]
            texts = [f"`{f.name}` ({_shown(_default(f, switches[player]))})" for f in fields]
            parts.append(f"- `{name}`, `{player}.`: {', '.join(texts)}")
    return "\n".join(parts) + "\n"


def _default(field: Any, switches: Mapping[str, Any]) -> Any:
    if field.name in switches:
        return switches[field.name]
    return "to be set" if field.default is dataclasses.MISSING else field.default


def _shown(value: Any) -> str:
    return "" if value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *map(list, rows)]
    cells = ([cell.replace("|", "\\|").replace("``", "`") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


if __name__ == "__main__":
    print(page(), end="")
