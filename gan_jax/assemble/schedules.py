"""What moves over a run, and G's averages: both count images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configuration
from gan_jax import stages
from gan_jax.assemble.checks import Numbers, check_call, check_keys, chosen, leaves
from gan_jax.core.averages import AVERAGES, Average
from gan_jax.core.gan import leaf
from gan_jax.core.plain import PlainAverage, PlainSchedule
from gan_jax.core.schedules import SCHEDULES, Schedule
from gan_jax.keys import BELOW_1, FROM_0, at_least
from gan_jax.stages import Count
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, unknown_name

_OF_AVERAGES = {
    "decay": BELOW_1,
    "start": at_least(0),
    "half_life": FROM_0,  # 0: the newest variables; a schedule may begin there
    "ramp_up": FROM_0,
}
_ADA_IMAGES = 500_000  # in which its p would move from 0 to 1 (Karras et al. 2020, section 3.1)


def schedules(
    config: ConfigDict, hyperparams: Mapping[str, Any], wide: Any, *, count: Count | None = None
) -> tuple[tuple[tuple[str, str, Schedule], ...], dict[str, Numbers]]:
    """Return what moves, and its numbers, images counted in steps, by ``count`` where the run has stages.

    Raises:
      UserError: a kind or key is unknown, two move the same, or a number is missing.
    """
    found: list[tuple[str, str, Schedule]] = []
    numbers = {}
    for name, entry in config.schedules.items():
        where, values = f"config.schedules.{name}", entry.to_dict()
        kind, key = values.get("kind", "constant"), values.get("key", "")
        if kind == "constant":
            continue
        schedule = chosen(f"{where}.kind", str(kind), {"constant": None, **SCHEDULES})
        try:
            start = leaf(hyperparams, key)
        except (KeyError, TypeError):
            start = None
        if start is None or isinstance(start, dict):
            known = sorted(configuration.flat(dict(hyperparams)))
            raise unknown_name(f"{where}.key, which must be a number of this run:", key, known)
        wanted = _wanted(kind, values)
        check_keys(where, values, ("key", "kind", "unit", *configuration.SCHEDULES["linear"], *wanted))
        if key in [other for _, other, _ in found]:
            raise UserError(f"{where}: another schedule moves {key} already: leave one out")
        if not isinstance(schedule, Schedule):
            check_call(where, kind.rpartition("/")[2], schedule, (2, wanted))
            schedule = Schedule(PlainSchedule(schedule))
        found.append((name, key, schedule))
        own = _in_steps(config, where, values, wanted, count=count)
        if _is_half_life(config, key) and "final" in own:  # in images in a config, in steps as a leaf
            own["final"] /= (count or stages.count(config)).per_step
        numbers[name] = leaves(f"schedules.{name}", own, wide)
    return tuple(found), numbers


def _is_half_life(config: ConfigDict, key: str) -> bool:
    """Whether a dotted key is that of an average of ours, which counts images."""
    section, _, rest = key.partition(".")
    name, _, number = rest.rpartition(".")
    return section == "averages" and number == "half_life" and config.averages[name].rule == "half_life"


def _wanted(kind: str, values: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the numbers of a kind of schedule, with their defaults; of the user's own those that its entry has."""
    own: dict[str, float] = {key: value for key, value in values.items() if key not in ("key", "kind", "unit")}
    return configuration.SCHEDULES.get(kind, own)


def generator_updates(config: ConfigDict) -> int:
    """Return in how many of the run's steps G moves."""
    return sum(map(_generator_updates, stages.plan(config)))


def _generator_updates(stage: stages.Stage) -> int:
    config, steps = stage.config, np.arange(stage.begin, stage.end)
    active = np.ones(len(steps))
    for name, entry in config.schedules.items():
        if entry.get("key") == "optimizer.generator.active" and entry.kind in SCHEDULES:
            wanted = configuration.SCHEDULES[entry.kind]
            where, values = f"config.schedules.{name}", entry.to_dict()
            numbers = leaves(
                f"schedules.{name}", _in_steps(config, where, values, wanted, count=stage.count), np.float32
            )
            given: Any = np.float32(1), numbers, {}, steps
            active = np.asarray(SCHEDULES[entry.kind].value(*given))
    return int((active > 0).sum())


def _in_steps(
    config: ConfigDict, where: str, values: dict[str, Any], wanted: Mapping[str, float], *, count: Count | None
) -> dict[str, float]:
    """Return the numbers of a schedule; a ``length`` of 0 is what is left of the run."""
    count = count or stages.count(config)
    unit = values.get("unit", "steps")
    if unit not in ("steps", "images"):
        raise unknown_name(f"{where}.unit", str(unit), ("steps", "images"))
    found = {name: float(values.get(name, default)) for name, default in wanted.items()}
    end = float(config.steps)
    if unit == "images":
        end = count.step_at(count.total)
        found |= {"begin": count.step_at(found["begin"])} if "begin" in found else {}
        found |= {"length": found["length"] / count.per_step} if "length" in found else {}
    if "begin" in found and not found.get("length", 1):
        found["length"] = max(end - found["begin"], 1)
    if values.get("kind") == "ada" and not found["length"]:
        found["length"] = _ADA_IMAGES / count.per_step
    return found


def averages(
    config: ConfigDict, wide: Any, *, count: Count | None = None
) -> tuple[tuple[tuple[str, Average], ...], dict[str, Numbers]]:
    """Return the averages' rules, and their numbers, images counted in steps."""
    found, numbers = [], {}
    count = count or stages.count(config)
    for name, entry in config.averages.items():
        where = f"config.averages.{name}"
        if named.is_function(text := str(entry.get("rule", ""))):
            rule, own = chosen(f"{where}.rule", text, {}), entry.to_dict()
            del own["rule"]
            check_keys(where, own, own)
            if not isinstance(rule, Average):
                check_call(where, text.rpartition("/")[2], rule, (1, own))
                rule = Average(PlainAverage(rule))
            found.append((name, rule))
            numbers[name] = leaves(f"averages.{name}", own, wide)
            continue
        check_keys(where, entry.to_dict(), list(configuration.average()), every=True)
        found.append((name, chosen(f"{where}.rule", text, AVERAGES)))
        for key, check in _OF_AVERAGES.items():
            if not check.holds(entry[key]):
                raise UserError(f"config.averages.{name}.{key} must be {check.rule}, not {clipped(repr(entry[key]))}")
        own = {"decay": entry.decay, "start": entry.start}
        if entry.rule == "half_life":
            own = {"half_life": entry.half_life / count.per_step, "ramp_up": entry.ramp_up}
            own |= {"ahead": count.ahead / count.per_step} if count.ahead else {}
        numbers[name] = leaves(f"averages.{name}", own, wide)
    return tuple(found), numbers
