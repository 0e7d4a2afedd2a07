"""Runs beside each other on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_jax.config import flat, to_plain
from gan_jax.runs import page, report
from gan_jax.runs.figures import features, shown, titled
from gan_jax.runs.workdir import Workdir
from gan_jax.util.errors import UserError

_KEYS = 100  # of configs, that are shown


def compare(folders: list[Path], out: Path) -> Path:
    """Write a page of runs to ``out``: their figures, what differs in their configs, curves, and last samples.

    Args:
      folders: workdirs, two or more.
      out: a file ``.html``.

    Raises:
      UserError: there is no run in one of them, they are too few or one is there twice.
    """
    if len({folder.absolute() for folder in folders}) < max(len(folders), 2):
        raise UserError("give two runs or more to compare, each once: --mode=compare runs/a runs/b")
    runs = dict(zip(_names(folders), folders, strict=True))
    configs = {name: flat(to_plain(Workdir(folder).config())) for name, folder in runs.items()}
    rows = []
    for name, folder in runs.items():
        place, model = Workdir(folder), configs[name].get("model", "")
        summary = place.summary() or {"verdict": "not finished", **report.newest(place.records())}
        rows.append({"run": name, "model": model, **{key: value for key, value in summary.items() if _is_short(value)}})
    tables = {"Figures": _figures(rows), "What differs in their configs": _differences(configs)}
    found = {"title": " and ".join(runs), "state": f"{len(runs)} runs", "best": [], "tables": tables}
    try:
        return page.write(out, "several.html", **found, **report.together(runs))
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error


def _names(folders: list[Path]) -> list[str]:
    """Return what each is called: its folder's name, or as much of its path as tells them apart."""
    for depth in range(1, 20):
        names = ["/".join(folder.absolute().parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder.absolute()) for folder in folders]


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a row for each figure that people compare, a column for each run."""
    keys = report.columns(rows, ("model",))
    shared = features(keys)
    cells = [[titled(key, shared), *(shown(row.get(key, "")) for row in rows)] for key in keys]
    return _table(["figure", *(str(row["run"]) for row in rows)], cells, report.measured_by(shared))


def _table(columns: list[str], rows: list[list[str]], note: str) -> dict[str, Any]:
    return {"columns": columns, "rows": rows, "links": {}, "note": note}


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a row for each key that isn't the same in all, a column for each run."""
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    unlike = [key for key in keys if len({repr(config.get(key, _ABSENT)) for config in configs.values()}) > 1]
    rows = [
        [key, *(shown(config[key]) if key in config else "" for config in configs.values())] for key in unlike[:_KEYS]
    ]
    more = len(unlike) - _KEYS
    return _table(["key", *configs], rows, f"The first {_KEYS} of {len(unlike)} keys." if more > 0 else "")


_ABSENT = object()
