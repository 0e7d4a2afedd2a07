"""The configuration: every key with its default, what values it takes, and how two configurations differ.

A file in ``configs/`` starts from `default` and sets what its paper sets. ``generator.*`` and ``discriminator.*`` are
the fields of the chosen model's modules, ``optimizer.*`` the arguments of the chosen optimizers; both are checked where
they are built (`gan_jax.build`). All others are checked here.
"""

import copy
import json
import os
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from typing import Any

from ml_collections import ConfigDict, FieldReference
from PIL import ImageColor

from gan_jax import keys
from gan_jax.util.errors import UserError, clipped, listed, unknown_name
from gan_jax.util.hints import unknown_key

# What a data set's name stands for, in one word: source, name there, side of its images as trained on, channels,
# number of classes (0: none, or nobody can know).
DATASETS = {
    "mnist5k": ("embedded", "", 28, 1, 10),
    "shapes32": ("embedded", "shapes32", 32, 3, 6),
    "shapes64": ("embedded", "shapes64", 64, 3, 6),
    "mnist": ("tfds", "mnist", 28, 1, 10),
    "fashion_mnist": ("tfds", "fashion_mnist", 28, 1, 10),
    "cifar10": ("tfds", "cifar10", 32, 3, 10),
    "celeb_a": ("tfds", "celeb_a", 64, 3, 0),
    "oxford_flowers102": ("tfds", "oxford_flowers102", 64, 3, 102),
    "lsun_bedroom": ("tfds", "lsun/bedroom", 64, 3, 0),
    "tfds": ("tfds", "", 64, 3, 0),
    "folder": ("folder", "", 64, 3, 0),
    "npz": ("npz", "", 64, 3, 0),
}

TERMS = {name: kind.defaults() for name, kind in keys.TERMS.items()}
SCHEDULES: dict[str, dict[str, float]] = {name: kind.defaults() for name, kind in keys.SCHEDULES.items()}
WITHOUT_EFFECT, OBSERVING = keys.with_role(keys.FREE), keys.with_role(keys.OBSERVES)
# Keys, and groups of them, that are leaves of the state (`gan_jax.build.build_gan`): a begun run may go on with others,
# if it is told to. Those of an optimizer that aren't (its name, its switches) make another `gan_jax.core.gan.GAN`.
LEAVES = ("optimizer", "averages", "schedules", *keys.with_role(keys.LEAF))
_OPEN = ("generator", "discriminator", "optimizer.generator", "optimizer.discriminator", "schedules", "averages")


def default(dataset: str = "mnist5k") -> ConfigDict:
    """All keys, with their defaults; ``model``, the players and ``steps`` are for the config file to set.

    Args:
      dataset: one of `DATASETS`, which ``data`` starts from, and behind an @, if wanted, another side of its images. A
        config file takes it after a colon: ``--config=configs/dcgan.py:cifar10``, ``configs/sngan.py:folder@128``.

    Raises:
      UserError: ``dataset`` is another.
    """
    name, at, side = dataset.partition("@")
    if name not in DATASETS:
        raise unknown_name("data set after the config file's colon", name, DATASETS)
    if at and not (side.isdecimal() and int(side) > 0):
        raise UserError(f"{dataset!r}: behind the @ stands the images' side in pixels, e.g. {name}@128")
    config = ConfigDict()
    for key, entry in keys.KEYS.items():
        *sections, last = key.split(".")
        reduce(_section, sections, config)[last] = entry.default
    config.labels.generator = config.labels.get_oneway_ref("real")
    # Keys of the model's Generator and Discriminator, see gan_jax/models/; these are switches of every model.
    config.generator = ConfigDict({"norm": "batch", "conditional": "none", "initializer": "normal", "spectral": False})
    config.generator.remat = False  # True: less memory for more arithmetic
    config.discriminator = ConfigDict(config.generator.to_dict() | {"minibatch": "none"})
    config.optimizer = ConfigDict({"generator": adam(), "discriminator": adam()})
    config.schedules = ConfigDict()  # what moves; a config file may add any, see `schedule`
    for player in ("generator", "discriminator"):
        config.schedules[f"{player}_rate"] = schedule(f"optimizer.{player}.learning_rate", "constant")
    # Of the generator's variables; samples are drawn with the first, see gan_jax/core/averages.py.
    config.averages = ConfigDict({"ema": average()})
    config.data.source, config.data.name, image_size, config.data.channels, _ = DATASETS[name]
    config.data.image_size = int(side) if at else image_size
    return config


def _section(config: ConfigDict, name: str) -> ConfigDict:
    if name not in config:
        config[name] = ConfigDict()
    return config[name]


def schedule(key: str, kind: str, **numbers: float | str) -> ConfigDict:
    """Return an entry of ``config.schedules``.

    Args:
      key: of the number that moves, as ``optimizer.generator.learning_rate`` or ``terms.r1.weight``.
      kind: constant, linear, cosine, warm_up, critic_first or ada; see gan_jax/core/schedules.py.
      **numbers: of that kind: where it ends (``final``), from when (``begin``), how long (``length``; 0: to the run's
        end), and their ``unit``, steps or images.
    """
    shared = {"key": key, "kind": kind, "unit": "steps", "final": 0.0, "begin": 0.0, "length": 0.0}
    return ConfigDict(shared | SCHEDULES.get(kind, {}) | numbers)


def average(rule: str = "decay", **numbers: float) -> ConfigDict:
    """Return an entry of ``config.averages``.

    Args:
      rule: decay or half_life.
      **numbers: ``decay`` and from which step on (``start``); or ``half_life`` in images, and the share of the images
        seen that it may be at most (``ramp_up``; 0: no bound).
    """
    return ConfigDict({"rule": rule, "decay": 0.999, "start": 0, "half_life": 500e3, "ramp_up": 0.05} | numbers)


def adam(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> ConfigDict:
    """An Adam optimizer's entry; the defaults are DCGAN's."""
    return optimizer("adam", learning_rate, b1=b1, b2=b2)


def optimizer(name: str, learning_rate: float, **arguments: float | bool) -> ConfigDict:
    """An optimizer's entry.

    Args:
      name: adam, rmsprop or sgd.
      learning_rate: at the start.
      **arguments: further ones of that optimizer of optax: numbers, which can be swept, True or False.

    Returns:
      These, and what goes with any optimizer: ``historical_averaging`` (weight of Salimans' term; 0: without),
      ``clip`` (of every parameter, to its negative and itself; 0: none), ``active`` (0: it stands still).
    """
    shared = {"historical_averaging": 0.0, "clip": 0.0, "active": 1.0}
    return ConfigDict({"name": name, "learning_rate": learning_rate, **arguments, **shared})


def rmsprop(learning_rate: float = 1e-2, decay: float = 0.99, eps: float = 1e-8) -> ConfigDict:
    """An RMSProp optimizer's entry; the defaults are PyTorch's, and so is where eps stands, outside the root.

    optax's own are another: a decay of .9, and eps inside the root, where it is a floor of 1e-4 under gradients.
    """
    return optimizer("rmsprop", learning_rate, decay=decay, eps=eps, eps_in_sqrt=False)


def by_side(choices: dict[int, Any], side: int) -> Any:
    """What ``choices`` has for images of ``side`` pixels.

    Raises:
      UserError: it has nothing for them.
    """
    if side not in choices:
        known = listed(choices)
        raise UserError(
            f"this config has networks for images of side {known}, none for {side}: choose one of those sides"
        )
    return choices[side]


def set_conditional(config: ConfigDict, dataset: str, generator: str, discriminator: str) -> None:
    """Makes ``config`` a GAN of the classes of ``dataset``, told to the players as their keys ``conditional`` say."""
    config.classes, config.data.labels = DATASETS[dataset.partition("@")[0]][-1], True
    config.generator.conditional, config.discriminator.conditional = generator, discriminator


def validate(config: ConfigDict) -> None:
    """Checks keys, types and ranges.

    Raises:
      UserError: a key is unknown or missing, or a value is of the wrong type or out of range.
    """
    check_references(config)
    given, known = flat(config.to_dict()), flat(default().to_dict())
    for key in given:
        if key not in known and not key.startswith(tuple(f"{name}." for name in _OPEN)):
            raise unknown_key(key, known)
    for key in known:
        if key not in given and not key.startswith(tuple(f"{name}." for name in _OPEN)):
            raise UserError(f"config.{key} is missing: start from gan_jax.config.default()")
        if key in given and type(given[key]) is not type(known[key]) and not _widens(given[key], known[key]):
            kind = type(known[key]).__name__
            raise UserError(f"config.{key} must be of type {kind}, not {clipped(repr(given[key]))}")
    try:
        ImageColor.getrgb(config.data.background)
    except ValueError as error:
        raise UserError(f"config.data.background: {error}; give a name or #rrggbb") from error
    for key, entry in keys.KEYS.items():
        if entry.check and not entry.check.holds(given[key]):
            raise UserError(f"config.{key} must be {entry.check.rule}, not {clipped(repr(given[key]))}")


def to_plain(config: ConfigDict) -> dict[str, Any]:
    """Nested dicts of JSON values, with keys in alphabetical order, to be kept: files are named for any folder."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict(), sort_keys=True))
    plain["data"]["dir"] = _anywhere(plain["data"]["dir"])
    features = plain["eval"]["features"]
    kind, colon, file = features.partition(":")
    if kind == "inception" and file:
        plain["eval"]["features"] = kind + colon + _anywhere(file)
    elif ".py:" in features:
        file, colon, function = features.rpartition(":")
        plain["eval"]["features"] = _anywhere(file) + colon + function
    return plain


def _anywhere(path: str) -> str:
    """``path`` as it is found from other folders, too."""
    return os.path.abspath(os.path.expanduser(path)) if path else path


def differences(one: dict[str, Any], other: dict[str, Any], ignored: Collection[str] = ()) -> list[str]:
    """``["batch_size: 64 -> 128", ...]``: every dotted key, but those ``ignored``, that differs in the two configs."""
    a, b = flat(one), flat(other)
    keys = sorted(key for key in (a.keys() | b.keys()) - set(ignored) if a.get(key, ...) != b.get(key, ...))
    return [f"{key}: {a.get(key, 'absent')} -> {b.get(key, 'absent')}" for key in keys]


def replaced(plain: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``plain``, of `to_plain`, with other ``values``, by dotted keys."""
    found = copy.deepcopy(plain)
    for key, value in values.items():
        *sections, name = key.split(".")
        reduce(lambda inner, section: inner.setdefault(section, {}), sections, found)[name] = value
    return found


def is_leaf(key: str) -> bool:
    """Whether a dotted key is one of `LEAVES`."""
    return any(key == leaf or key.startswith(f"{leaf}.") for leaf in LEAVES)


def open_ended(config: ConfigDict) -> bool:
    """Whether what a run does at a step depends in nothing on how many steps it will have: no rate has a schedule."""
    ending = (entry for entry in config.schedules.values() if "length" in entry and not entry.length)
    return all(entry.kind in ("constant", "critic_first", "ada") for entry in ending)


def dotted_keys(config: ConfigDict) -> list[str]:
    """Every leaf's dotted key."""
    return [key for key, _ in _leaves(config)]


def check_references(config: ConfigDict) -> None:
    """Computes each key that refers to others (``config.get_ref``).

    Raises:
      UserError: one can't be computed, or it has no value.
    """
    for key, value in _leaves(config):
        if not isinstance(value, FieldReference):
            continue
        try:
            missing = value.empty() or value.get() is None
        except Exception as error:  # arithmetic of the user's own
            said = " ".join(str(error).split())
            raise UserError(
                f"config.{key} can't be computed from the keys that it refers to: {type(error).__name__}: {said}"
            ) from error
        if missing:
            raise UserError(f"config.{key} has no value: set it, in the config file or by --config.{key}=VALUE")


def changed(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of ``config`` with ``overrides``, dotted keys to values.

    A key that refers to others (``config.get_ref``) follows those of the copy, or has its own override. This is the one
    way to copy a config that is changed afterwards: ``to_dict`` puts values in the place of references.

    Raises:
      UserError: see `override` and `check_held`.
    """
    own: ConfigDict = copy.deepcopy(config)
    for key, value in overrides.items():
        override(own, key, value)
    check_held(own, overrides)
    return own


def check_held(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Refuses overrides that don't hold once all are set, as two of keys that are one by a reference.

    Raises:
      UserError: names the first such key.
    """
    for key, value in overrides.items():
        found = reduce(getattr, key.split("."), config)
        wanted, has = (tuple(of) if isinstance(of, list) else of for of in (value, found))
        if wanted != has and wanted == wanted:  # nan isn't; `validate` has better words for it
            raise UserError(
                f"config.{key} can't be {value!r}: it is one with another key that is set, by a reference in the "
                f"config file, and became {found!r}; set one of them, or use get_oneway_ref in the file"
            )


def override(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a dotted key.

    Raises:
      UserError: it is unknown, or ``value`` is of another type.
    """
    if key not in (known := dotted_keys(config)):
        raise unknown_key(key, known)
    try:
        config.update_from_flattened_dict({key: value})
    except TypeError as error:
        kind = type(reduce(getattr, key.split("."), config)).__name__
        raise UserError(f"config.{key} must be of type {kind}, not {clipped(repr(value))}") from error


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf's dotted key, and its value or reference."""
    for key, value in config.items(preserve_field_references=True):
        if isinstance(value, FieldReference) and issubclass(value.get_type(), ConfigDict):
            value = value.get()
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one, by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _widens(value: Any, like: Any) -> bool:
    return isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool)
