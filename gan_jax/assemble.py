"""Sections of a config as parts of a GAN with their hyperparameters: optimizers, terms, schedules, averages and so on.

Each function returns what is static, and a dict of numbers: leaves of the state, under the section's own name.
"""

import dataclasses
import difflib
import fnmatch
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from gan_jax import config as configuration
from gan_jax import stages
from gan_jax.core import augment, losses, optimizers
from gan_jax.core.ada import GROUPS, Ada
from gan_jax.core.averages import AVERAGES, Average
from gan_jax.core.gan import Term, leaf
from gan_jax.core.plain import PlainAverage, PlainSchedule, PlainTerm
from gan_jax.core.schedules import SCHEDULES, Schedule
from gan_jax.core.terms import TERMS
from gan_jax.keys import BELOW_1, FROM_0, OPTIMIZER, at_least
from gan_jax.stages import Count
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed, unknown_name
from gan_jax.util.hints import likely

Numbers = dict[str, ArrayLike]
_OF_AVERAGES = {
    "decay": BELOW_1,
    "start": at_least(0),
    "half_life": FROM_0,  # 0: the newest variables; a schedule may begin there
    "ramp_up": FROM_0,
}
_ADA_IMAGES = 500_000  # in which its p would move from 0 to 1 (Karras et al. 2020, section 3.1)
_BELOW_1 = ("b1", "b2", "decay", "momentum")
# Metrics of a player that no term has: a term of one of these names would take their place.
_TAKEN = ("loss", "real", "fake", "margin", "accuracy_real", "accuracy_fake", "grad_norm", "param_norm")


def chosen(what: str, name: str, known: Mapping[str, Any]) -> Any:
    """Return what ``name``, the value of the config's key ``what``, means: one of ours, or something of the user's own.

    Raises:
      UserError: neither has such a name, or the user's own code can't be run.
    """
    if name in known:
        return known[name]
    if not named.is_function(name):
        raise unknown_name(what, name, known)
    key = f"config.{what.removeprefix('config.')}"
    found = named.thing(name, key)
    if not (callable(found) or hasattr(found, "apply") or isinstance(found, Schedule)):
        raise UserError(f"{key}={name} is of type {type(found).__name__}: name a function")
    return found


def _check_call(where: str, name: str, function: Callable[..., Any], call: tuple[int, Collection[str]]) -> None:
    """Refuses a function of the user's own that can't be called with so many arguments and these numbers by name."""
    first, numbers = call
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled ones may have none
        return
    try:
        signature.bind(*[None] * first, **dict.fromkeys(numbers))
    except TypeError as error:
        told = f"{first} arguments" + (f" and, by name, {listed(numbers)}" if numbers else "")
        raise UserError(f"{where}: {name}{signature} is called with {told}, and that can't be: {error}") from error


def optimizer(config: ConfigDict, player: str, wide: Any) -> tuple[optimizers.Recipe, Numbers]:
    """Return the optimizer of ``player`` and its arguments; those of no effect are left out."""
    values, where = config.optimizer[player].to_dict(), f"config.optimizer.{player}"
    name = values.pop("name", None)
    if name not in optimizers.OPTIMIZERS:
        raise unknown_name(f"{where}.name", str(name), optimizers.OPTIMIZERS)
    parameters = inspect.signature(optimizers.OPTIMIZERS[name]).parameters
    valid = [key for key in (*parameters, *OPTIMIZER) if not key.endswith("_dtype")]
    flags = {key for key, parameter in parameters.items() if isinstance(parameter.default, bool)}
    for key, value in values.items():
        if key in ("schedule", "final_rate"):
            raise UserError(
                f"{where}.{key} is config.schedules.{player}_rate now: set its kind ({', '.join(SCHEDULES)}) and final"
            )
        if key not in valid:
            what = f"key of config.optimizer.{player} for {name}:"
            raise unknown_name(what, key, valid, likely(key, valid))
        if key in flags:
            if not isinstance(value, bool):
                raise UserError(f"{where}.{key} must be True or False, not {clipped(repr(value))}")
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise UserError(f"{where}.{key} must be a finite number from 0 up, not {clipped(repr(value))}")
        if key in _BELOW_1 and value >= 1:
            raise UserError(f"{where}.{key} must be from 0 to below 1, not {value!r}")
    if "learning_rate" not in values:
        raise UserError(f"{where}.learning_rate is missing")
    if values.get("nesterov") and "momentum" in parameters and "momentum" not in values:
        raise UserError(f"{where}.nesterov changes nothing without momentum: set {where}.momentum too")
    clip, historical = (values.pop(key, 0.0) for key in ("clip", "historical_averaging"))
    active = values.pop("active", 1.0)
    paused = active != 1 or f"optimizer.{player}.active" in _moved(config)
    values |= {"historical_averaging": historical} if historical else {}
    values |= {"clip": clip} if clip else {}
    values |= {"active": active} if paused else {}
    static = tuple((key, values.pop(key)) for key in sorted(flags & values.keys()))
    recipe = optimizers.Recipe(name, historical=historical > 0, clipped=clip > 0, paused=paused, flags=static)
    still = tuple(map(fnmatch.translate, _patterns(config, player)))
    return dataclasses.replace(recipe, frozen=still), _leaves(f"optimizer.{player}", values, wide)


def _patterns(config: ConfigDict, player: str) -> list[str]:
    """The shell patterns of parameters that stand still."""
    return [pattern for part in config.freeze[player].split(",") if (pattern := part.strip())]


def frozen(config: ConfigDict, player: str, names: Collection[str]) -> list[str]:
    """Return those of the dotted ``names`` of a player's parameters that stand still."""
    patterns = _patterns(config, player)
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def check_frozen(config: ConfigDict, player: str, names: Collection[str]) -> None:
    """Refuses patterns of ``config.freeze`` that match none of the parameters' dotted ``names``, or all of them.

    Raises:
      UserError: names the pattern, and the nearest names.
    """
    patterns, where = _patterns(config, player), f"config.freeze.{player}"
    parts = [name.split(".") for name in names]
    groups = sorted({f"{'.'.join(part[:depth])}.*" for part in parts for depth in range(1, len(part))})
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, [*groups, *names], n=3, cutoff=0.6)
            raise unknown_name(f"parameters in {where}:", pattern, names, near)
    if patterns and len(frozen(config, player, names)) == len(names):
        raise UserError(
            f"{where}={config.freeze[player]!r} is all of the {player}'s parameters: leave some out, or set "
            f"config.optimizer.{player}.active=0"
        )


def labels(config: ConfigDict, loss: losses.Loss, wide: Any) -> Numbers:
    """Return the label values that ``loss`` takes."""
    taken = inspect.signature(loss).parameters
    if "real_label" not in taken and (config.labels.real, config.labels.fake) != (1, 0):
        raise UserError(f"loss {config.loss!r} has no labels: leave config.labels at real=1, fake=0")
    if "generator_label" not in taken and config.labels.generator != config.labels.real:
        raise UserError(f"loss {config.loss!r} has no label that G aims at: leave config.labels.generator unset")
    return _leaves("labels", {name: value for name, value in config.labels.items() if f"{name}_label" in taken}, wide)


def terms(config: ConfigDict, wide: Any) -> tuple[tuple[Term, ...], tuple[Term, ...], dict[str, Numbers]]:
    """Return D's terms, G's terms, and the numbers of both: those with a weight, and something to work on."""
    d_terms, g_terms = [], []
    numbers = {"adversarial": _leaves("terms.adversarial", {"weight": config.terms.adversarial.weight}, wide)}
    for name, kind in TERMS.items():
        values = config.terms[name].to_dict()
        if not values["weight"] or not _HAVE.get(name, lambda config: True)(config):
            continue
        every = values.pop("every")
        options = {key: values.pop(key) for key in [key for key, value in values.items() if type(value) is bool]}
        of_d, of_g = kind.terms(name, every, **options)
        d_terms += [of_d] if of_d else []
        g_terms += [of_g] if of_g else []
        numbers[name] = _leaves(f"terms.{name}", values, wide)
    for name in configuration.own_terms(config):
        player, term, values = _own_term(name, config.terms[name].to_dict())
        if values["weight"]:
            (d_terms if player == "discriminator" else g_terms).append(term)
            numbers[name] = _leaves(f"terms.{name}", values, wide)
    return tuple(d_terms), tuple(g_terms), numbers


def _own_term(name: str, values: dict[str, Any]) -> tuple[str, Term, dict[str, float]]:
    """Whose loss a term of the user's own is added to, the term, and its numbers."""
    where = f"config.terms.{name}"
    if not name.isidentifier() or name in _TAKEN:
        raise UserError(f"{where}: a term can't be called so, as its metric has its name: call it otherwise")
    if missing := [key for key in ("function", "player", "weight", "every") if key not in values]:
        raise UserError(f"{where}.{missing[0]} is missing: make the entry by gan_jax.config.term(...)")
    text, player, every = values.pop("function"), values.pop("player"), values.pop("every")
    if player not in ("discriminator", "generator"):
        raise unknown_name(f"{where}.player", str(player), ("discriminator", "generator"))
    if type(every) is not int or every < 1:
        raise UserError(f"{where}.every must be a whole number from 1 up, not {clipped(repr(every))}")
    for key, value in values.items():
        _check_number(f"{where}.{key}", value)
    found = chosen(f"{where}.function", str(text), {})
    taken, init = tuple(key for key in values if key != "weight"), getattr(found, "init", None)
    apply = getattr(found, "apply", found) if init else found
    _check_call(where, str(text).rpartition("/")[2], apply, (2 if init else 1, taken))
    plain = PlainTerm(apply, name, taken, remembers=init is not None)
    return player, Term(name, plain, init, every) if init else Term(name, plain, every=every), values


# What a term works on, where not every GAN has it.
_HAVE: dict[str, Callable[[ConfigDict], bool]] = {
    "auxiliary_discriminator": lambda config: config.discriminator.get("conditional") == "auxiliary",
    "auxiliary_generator": lambda config: config.discriminator.get("conditional") == "auxiliary",
    "reconstruction": lambda config: config.task == "autoencoder",
}


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
        _check_keys(where, values, ("key", "kind", "unit", *configuration.SCHEDULES["linear"], *wanted))
        if key in [other for _, other, _ in found]:
            raise UserError(f"{where}: another schedule moves {key} already: leave one out")
        if not isinstance(schedule, Schedule):
            _check_call(where, kind.rpartition("/")[2], schedule, (2, wanted))
            schedule = Schedule(PlainSchedule(schedule))
        found.append((name, key, schedule))
        own = _in_steps(config, where, values, wanted, count=count)
        if _is_half_life(config, key) and "final" in own:  # in images in a config, in steps as a leaf
            own["final"] /= (count or stages.count(config)).per_step
        numbers[name] = _leaves(f"schedules.{name}", own, wide)
    return tuple(found), numbers


def _is_half_life(config: ConfigDict, key: str) -> bool:
    """Whether a dotted key is that of an average of ours, which counts images."""
    section, _, rest = key.partition(".")
    name, _, number = rest.rpartition(".")
    return section == "averages" and number == "half_life" and config.averages[name].rule == "half_life"


def _wanted(kind: str, values: Mapping[str, Any]) -> Mapping[str, float]:
    """The numbers of a kind of schedule, with their defaults; of the user's own those that its entry has."""
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
            numbers = _leaves(
                f"schedules.{name}", _in_steps(config, where, values, wanted, count=stage.count), np.float32
            )
            given: Any = np.float32(1), numbers, {}, steps
            active = np.asarray(SCHEDULES[entry.kind].value(*given))
    return int((active > 0).sum())


def _in_steps(
    config: ConfigDict, where: str, values: dict[str, Any], wanted: Mapping[str, float], *, count: Count | None
) -> dict[str, float]:
    """The numbers of a schedule; a ``length`` of 0 is what is left of the run."""
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
            _check_keys(where, own, own)
            if not isinstance(rule, Average):
                _check_call(where, text.rpartition("/")[2], rule, (1, own))
                rule = Average(PlainAverage(rule))
            found.append((name, rule))
            numbers[name] = _leaves(f"averages.{name}", own, wide)
            continue
        _check_keys(where, entry.to_dict(), list(configuration.average()), every=True)
        found.append((name, chosen(f"{where}.rule", text, AVERAGES)))
        for key, check in _OF_AVERAGES.items():
            if not check.holds(entry[key]):
                raise UserError(f"config.averages.{name}.{key} must be {check.rule}, not {clipped(repr(entry[key]))}")
        own = {"decay": entry.decay, "start": entry.start}
        if entry.rule == "half_life":
            own = {"half_life": entry.half_life / count.per_step, "ramp_up": entry.ramp_up}
            own |= {"ahead": count.ahead / count.per_step} if count.ahead else {}
        numbers[name] = _leaves(f"averages.{name}", own, wide)
    return tuple(found), numbers


def augmentation(config: ConfigDict, wide: Any) -> tuple[augment.Augment, dict[str, Any]]:
    """Return what the names with commas between them stand for, and its numbers: chances, and ada's factors."""
    names = [] if config.augment.name == "none" else [name.strip() for name in config.augment.name.split(",")]
    known: dict[str, Any] = {name: getattr(augment, name) for name in augment.__all__}
    factors = _factors(config) if "ada" in names else {}
    known["ada"] = _ada(config, factors)
    for name in names:
        if name not in known and not named.is_function(name):
            raise unknown_name("augment.name", name, ("none", *known))
        if names.count(name) > 1:
            raise UserError(f"config.augment.name names {name} twice")
    functions = tuple(chosen("augment.name", name, known) for name in names)
    numbers: dict[str, Any] = _leaves("augment", {"p": config.augment.p}, wide)
    by_chance = config.augment.p != 1 or "augment.p" in _moved(config)
    if "ada" in names:
        numbers["ada"] = _leaves("augment.ada", factors, wide)
        if not by_chance:
            raise UserError(
                "config.augment.name has ada, and config.augment.p=1 would leave no image as it is: set it below .8, "
                "or let it follow D by config.schedules.augment.kind=ada"
            )
    return augment.Augment(functions, by_chance), numbers


def _factors(config: ConfigDict) -> dict[str, float]:
    """By how much the chances of ada's groups are p's, of those that are on or may come on."""
    found, moved = config.augment.ada, _moved(config)
    return {group: found[group] for group in GROUPS if found[group] or f"augment.ada.{group}" in moved}


def _ada(config: ConfigDict, factors: Collection[str]) -> Ada:
    """The augmentation ``ada`` of these groups, without what the config leaves out."""
    every = [name for names in GROUPS.values() for name in names]
    without = [name for part in config.augment.ada.without.split(",") if (name := part.strip())]
    for name in without:
        if name not in every:
            raise unknown_name("transform in augment.ada.without:", name, every)
    return Ada(tuple(name for group in factors for name in GROUPS[group] if name not in without))


def _check_keys(where: str, values: Mapping[str, Any], known: Collection[str], every: bool = False) -> None:
    """Refuses keys that aren't known, what is no number where one is wanted, and, of ``every``, those missing."""
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"key of {where}:", key, known)
        if key not in ("key", "kind", "unit", "rule"):
            _check_number(f"{where}.{key}", value)
    if every and (missing := [key for key in known if key not in values]):
        raise UserError(f"{where}.{missing[0]} is missing: make the entry by gan_jax.config.average(...)")


def _check_number(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{key} must be a number, not {clipped(repr(value))}")


def _moved(config: ConfigDict) -> list[str]:
    """The keys that have a schedule."""
    return [entry.get("key", "") for entry in config.schedules.values() if entry.get("kind") != "constant"]


def _leaves(where: str, values: Mapping[str, Any], wide: Any) -> Numbers:
    """The numbers of a group of keys as leaves of the state; raises `UserError` if their type can't hold one."""
    with np.errstate(over="ignore"):
        found: Numbers = {name: np.asarray(value, wide) for name, value in values.items()}
    for name, value in values.items():
        if math.isfinite(value) and not np.isfinite(found[name]):
            raise UserError(
                f"config.{where}.{name}={value} is beyond what {np.dtype(wide).name} holds: give a smaller number"
            )
    return found
