"""What trackers call the values of a run: ``losses/d_loss``, ``quality/fid_classifier``, ``rates/generator``."""

import re
from collections.abc import Mapping
from typing import Any

from gan_jax.runs.figures import bare, group

RATES = {f"rates/{player}": f"optimizer.{player}.learning_rate" for player in ("generator", "discriminator")}


def tag(name: str) -> str:
    """Return the tag of a value that the log calls ``name``: its group, a slash, and its name.

    Brackets become the kind of features alone, as ``fid[classifier:mnist5k:0a1b2c3d]`` is ``quality/fid_classifier``.
    All is of letters, digits, ``_``, ``-``, ``.`` and slashes, which every tracker takes.
    """
    inside = re.search(r"\[([^:\]]*)", name)
    own = bare(name).removeprefix("schedule_") + (f"_{inside[1]}" if inside else "")
    return group(name.removeprefix("best_")) + "/" + re.sub(r"[^\w.-]", "_", own)


def tagged(record: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a ``record`` by their tags, and the learning rates of both players.

    Args:
      record: a line of the log, or a summary.
      config: dotted keys and values; its learning rates hold where no schedule of the record moves them.
    """
    numbers = {name: value for name, value in record.items() if type(value) in (int, float)}
    values = {tag(name): float(value) for name, value in numbers.items() if name not in ("step", "ended")}
    moved = {config[key]: key.split(".")[1] for key in config if re.fullmatch(r"schedules\.\w+\.key", key)}
    for name, key in RATES.items():
        schedule = f"schedule_{moved.get(key)}"
        if "step" in record and (schedule in record or key in config):
            values[name] = float(record.get(schedule, config.get(key)))
    return values
