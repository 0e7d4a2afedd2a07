"""The configuration: every key with its default, what values it takes, and how two configurations differ.

A file in ``configs/`` starts from `default` and sets what its paper sets. ``generator.*`` and ``discriminator.*`` are
the fields of the chosen model's modules, ``optimizer.*`` the arguments of the chosen optimizers; both are checked where
they are built (`gan_jax.build`). All others are checked here.
"""

import copy
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import reduce
from typing import Any

from ml_collections import ConfigDict, FieldReference
from PIL import ImageColor

from gan_jax import keys, sides
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed, unknown_name
from gan_jax.util.hints import unknown_key

# What a data set's name stands for, in one word: source, name there, side of its images as trained on, channels,
# number of classes (0: none, or nobody can know).
DATASETS = {
    "mnist5k": ("embedded", "", 28, 1, 10),
    "shapes32": ("embedded", "shapes32", 32, 3, 6),
    "shapes64": ("embedded", "shapes64", 64, 3, 6),
    "earth32": ("embedded", "earth32", 32, 3, 6),
    "earth64": ("embedded", "earth64", 64, 3, 6),
    "earth128": ("embedded", "earth128", 128, 3, 6),
    "mnist": ("tfds", "mnist", 28, 1, 10),
    "fashion_mnist": ("tfds", "fashion_mnist", 28, 1, 10),
    "cifar10": ("tfds", "cifar10", 32, 3, 10),
    "imagenet32": ("tfds", "imagenet_resized/32x32", 32, 3, 1000),
    "imagenet64": ("tfds", "imagenet_resized/64x64", 64, 3, 1000),
    "celeb_a": ("tfds", "celeb_a", 64, 3, 0),
    "oxford_flowers102": ("tfds", "oxford_flowers102", 64, 3, 102),
    "lsun_bedroom": ("tfds", "lsun/bedroom", 64, 3, 0),
    "tfds": ("tfds", "", 64, 3, 0),
    "folder": ("folder", "", 64, 3, 0),
    "npz": ("npz", "", 64, 3, 0),
    "packed": ("packed", "", 64, 3, 0),
}

SMALL = ("mnist5k", "mnist", "fashion_mnist", "shapes32", "shapes64", "earth32", "earth64")  # for two CPU cores

TERMS = {name: kind.defaults() for name, kind in keys.TERMS.items()}
SCHEDULES: dict[str, dict[str, float]] = {name: kind.defaults() for name, kind in keys.SCHEDULES.items()}
WITHOUT_EFFECT, OBSERVING, LATER = keys.with_role(keys.FREE), keys.with_role(keys.OBSERVES), keys.LATER
# Keys, and groups of them, that are leaves of the state (`gan_jax.build.build_gan`): a begun run may go on with others,
# if it is told to. Those of an optimizer that aren't (its name, its switches) make another `gan_jax.core.gan.GAN`.
# ``code`` is no key: it stands for the files that a run's config names, see `gan_jax.runs.code`.
LEAVES = ("optimizer", "averages", "schedules", "terms", "code", *keys.with_role(keys.LEAF))
_OPEN = (
    "generator",
    "discriminator",
    "optimizer.generator",
    "optimizer.discriminator",
    "schedules",
    "averages",
    "stages",
)
# Keys whose value is a name of ours or of something of the user's own, FILE.py:NAME or package.module:NAME.
_NAMES = re.compile(
    r"model|loss|prior|augment\.name|data\.source|schedules\.[^.]+\.kind|averages\.[^.]+\.rule|terms\.[^.]+\.function"
)


def default(dataset: str = "mnist5k") -> ConfigDict:
    """All keys, with their defaults; ``model``, the players and ``steps`` are for the config file to set.

    Args:
      dataset: one of `DATASETS`, which ``data`` starts from, and behind an @, if wanted, another side of its images, or
        height x width. A config file takes it after a colon: ``--config=configs/dcgan.py:cifar10``,
        ``configs/sngan.py:folder@128``, ``configs/dcgan.py:folder@64x96``.

    Raises:
      UserError: ``dataset`` is another.
    """
    name, at, side = dataset.partition("@")
    if name not in DATASETS:
        raise unknown_name("data set after the config file's colon", name, DATASETS)
    try:
        both = sides.read(side) if at else None
    except UserError as error:
        text = f"{dataset!r}: behind the @ stands the images' side in pixels, e.g. {name}@128, or {name}@64x96"
        raise UserError(f"{text}, height x width") from error
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
    config.schedules.augment = schedule("augment.p", "constant")
    config.schedules.pseudo = schedule("augment.pseudo", "constant")
    # Of the generator's variables; samples are drawn with the first, see gan_jax/core/averages.py.
    config.averages = ConfigDict({"ema": average()})
    config.stages = ConfigDict()  # what holds from a later step on; a config file may add any, see `stage`
    config.data.source, config.data.name, image_size, config.data.channels, _ = DATASETS[name]
    config.update_from_flattened_dict(sides.keys_of(*(both or (image_size, image_size))))
    return config


def _section(config: ConfigDict, name: str) -> ConfigDict:
    if name not in config:
        config[name] = ConfigDict()
    return config[name]


def schedule(key: str, kind: str, **numbers: float | str) -> ConfigDict:
    """Return an entry of ``config.schedules``.

    Args:
      key: of the number that moves, as ``optimizer.generator.learning_rate`` or ``terms.r1.weight``.
      kind: constant, linear, cosine, warm_up, critic_first or ada; see gan_jax/core/schedules.py. Or one's own, of
        `outside`.
      **numbers: of that kind: where it ends (``final``), from when (``begin``), how long (``length``; 0: to the run's
        end), and their ``unit``, steps or images. Of one's own kind all that it takes.
    """
    shared: dict[str, float | str] = {"key": key, "kind": kind, "unit": "steps"}
    if not named.is_function(kind):
        shared |= {"final": 0.0, "begin": 0.0, "length": 0.0}
    return ConfigDict(shared | SCHEDULES.get(kind, {}) | numbers)


def average(rule: str = "decay", **numbers: float) -> ConfigDict:
    """Return an entry of ``config.averages``.

    Args:
      rule: decay or half_life; or one's own, of `outside`.
      **numbers: ``decay`` and from which step on (``start``); or ``half_life`` in images, and the share of the images
        seen that it may be at most (``ramp_up``; 0: no bound). Of one's own rule all that it takes.
    """
    shared = {} if named.is_function(rule) else keys.defaults(keys.AVERAGE)
    return ConfigDict({**shared, "rule": rule, **numbers})


def stage(
    begin: int,
    overrides: Mapping[str, Any] | None = None,
    *,
    unit: str = keys.STAGE["unit"][0],
    reset_optimizer: bool = keys.STAGE["reset_optimizer"][0],
) -> ConfigDict:
    """Return an entry of ``config.stages``.

    Args:
      begin: after how many steps, or images, it begins.
      overrides: what holds from then on, by dotted keys: ``{"data.image_size": 16, "batch_size": 32}``.
      unit: steps or images.
      reset_optimizer: whether the optimizers forget what they remember.
    """
    found = {
        "begin": begin,
        "unit": unit,
        "reset_optimizer": reset_optimizer,
        "set": replaced({}, sides.spread(overrides or {})),
    }
    return ConfigDict(found)


def term(function: str, player: str, weight: float = 1.0, every: int = 1, **numbers: float) -> ConfigDict:
    """Return an entry of ``config.terms``, under a name of its own.

    Args:
      function: one's own, of `outside`; see "Terms of your own" in docs/extending.md for what it takes.
      player: whose loss it is added to, discriminator or generator.
      weight: of it; it is the number ``terms.NAME.weight``.
      every: steps between two of it; it weighs as many times as much.
      **numbers: that the function takes by name; they sweep, and schedules move them.
    """
    return ConfigDict({"function": function, "player": player, "weight": float(weight), "every": every, **numbers})


def outside(thing: Any) -> str:
    """Return the name of something of one's own, ``FILE.py:NAME``, as a config may hold it.

    Args:
      thing: what stands at the top of the file that calls this, or of a module that can be imported: a function, a
        class, any object.

    Raises:
      UserError: it stands elsewhere.
    """
    caller = sys._getframe(1).f_globals
    name, file = getattr(thing, "__name__", ""), caller.get("__file__")
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    importable = module is not None and module.__spec__ is not None and getattr(module, "__file__", None) != file
    if module is not None and importable and getattr(module, name, None) is thing:
        return f"{module.__name__}:{name}"
    found = name if caller.get(name) is thing else next((key for key, of in caller.items() if of is thing), None)
    if found is None or file is None:
        raise UserError(
            f"outside({clipped(repr(thing))}): a run must find it again: give what has a name at the top of a file"
        )
    return f"{os.path.abspath(file)}:{found}"


def adam(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> ConfigDict:
    """Return an Adam optimizer's entry; the defaults are DCGAN's."""
    return optimizer("adam", learning_rate, b1=b1, b2=b2)


def optimizer(name: str, learning_rate: float, **arguments: float | bool) -> ConfigDict:
    """Return an optimizer's entry.

    Args:
      name: adam, rmsprop or sgd.
      learning_rate: at the start.
      **arguments: further ones of that optimizer of optax: numbers, which can be swept, True or False.

    Returns:
      These, and what goes with any optimizer: ``historical_averaging`` (weight of Salimans' term; 0: without),
      ``clip`` (of every parameter, to its negative and itself; 0: none), ``active`` (0: it stands still).
    """
    shared = keys.defaults(keys.OPTIMIZER)
    return ConfigDict({"name": name, "learning_rate": learning_rate, **arguments, **shared})


def rmsprop(learning_rate: float = 1e-2, decay: float = 0.99, eps: float = 1e-8) -> ConfigDict:
    """Return an RMSProp optimizer's entry; the defaults are PyTorch's, and so is where eps stands, outside the root.

    optax's own are another: a decay of .9, and eps inside the root, where it is a floor of 1e-4 under gradients.
    """
    return optimizer("rmsprop", learning_rate, decay=decay, eps=eps, eps_in_sqrt=False)


def by_side(choices: dict[int, Any], side: int) -> Any:
    """Return what ``choices`` has for images whose shorter side is ``side``; 56 and 112 take those of 64 and 128.

    Raises:
      UserError: it has nothing for them.
    """
    eighths, rest = divmod(8 * side, 7)
    own = side if side in choices or rest else eighths
    if own not in choices:
        known = listed(choices)
        raise UserError(
            f"this config has networks for images of side {known}, none for {side}: choose one of those sides for the "
            "shorter one, or seven eighths of it"
        )
    return choices[own]


def set_conditional(config: ConfigDict, dataset: str, generator: str, discriminator: str) -> None:
    """Make ``config`` a GAN of the classes of ``dataset``, told to the players as their keys ``conditional`` say."""
    config.classes, config.data.labels = DATASETS[dataset.partition("@")[0]][-1], True
    config.generator.conditional, config.discriminator.conditional = generator, discriminator


def validate(config: ConfigDict) -> None:
    """Check keys, types and ranges.

    Raises:
      UserError: a key is unknown or missing, or a value is of the wrong type or out of range.
    """
    check_references(config)
    given, known = flat(config.to_dict()), flat(default().to_dict())
    free = (*_OPEN, *(f"terms.{name}" for name in own_terms(config)))
    for key in given:
        if key not in known and not key.startswith(tuple(f"{name}." for name in free)):
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


def fill_in(config: ConfigDict) -> None:
    """Give ``config``, of an earlier version's run, the keys that it lacks: of how a run is looked at, and `LATER`."""
    for key in (*OBSERVING, *LATER):
        group, _, name = key.rpartition(".")
        if isinstance(config.get(group), ConfigDict) and name not in config[group]:
            config[group][name] = keys.KEYS[key].default


def own_terms(config: ConfigDict) -> list[str]:
    """Return the names of the entries of ``config.terms`` that are the user's own; see `term`."""
    entries = config.get("terms", {}).items()
    ours = {key.split(".")[1] for key in keys.KEYS if key.startswith("terms.")}
    return [
        name for name, entry in entries if name not in ours and isinstance(entry, ConfigDict) and "function" in entry
    ]


def to_plain(config: ConfigDict) -> dict[str, Any]:
    """Nested dicts of JSON values, with keys in alphabetical order, to be kept: files are named for any folder."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict(), sort_keys=True))
    plain = with_names(plain, named.anywhere)
    plain["data"] |= {key: _anywhere(plain["data"][key]) for key in ("dir", "test_dir", "test_list")}
    plain["init_from"] = _anywhere(plain["init_from"])
    features = plain["eval"]["features"]
    kind, colon, file = features.partition(":")
    if kind in keys.WITH_WEIGHTS and file:
        plain["eval"]["features"] = kind + colon + _anywhere(file)
    elif ".py:" in features:
        plain["eval"]["features"] = named.anywhere(features)
    return plain


def with_names(plain: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return a copy of ``plain``, of `to_plain`, with ``change`` made to the name of each thing of the user's own."""
    values = flat(plain)
    return replaced(plain, {key: _renamed(key, value, change) for key, value in values.items() if _is_name(key, value)})


def names_outside(config: ConfigDict | dict[str, Any]) -> list[str]:
    """Return the names, ``FILE.py:NAME`` and the like, of all that a config has of the user's own; see `outside`."""
    found: dict[str, None] = {}

    def note(name: str) -> str:
        found[name] = None
        return name

    with_names(config.to_dict() if isinstance(config, ConfigDict) else config, note)
    return list(found)


def _is_name(key: str, value: Any) -> bool:
    key = re.sub(r"^stages\.[^.]+\.set\.", "", key)
    return isinstance(value, str) and _NAMES.fullmatch(key) is not None


def _renamed(key: str, value: str, change: Callable[[str], str]) -> str:
    """``value`` with ``change`` made to the names in it that aren't ours."""
    parts = [part.strip() for part in value.split(",")] if key == "augment.name" else [value]
    own = [named.is_function(part) or (key == "model" and named.is_module(part)) for part in parts]
    return ",".join(change(part) if yes else part for part, yes in zip(parts, own, strict=True)) if any(own) else value


def _anywhere(path: str) -> str:
    """``path`` as it is found from other folders, too."""
    elsewhere = re.match(r"[a-z][a-z0-9+]*://", path)
    return os.path.abspath(os.path.expanduser(path)) if path and not elsewhere else path


def differences(one: dict[str, Any], other: dict[str, Any], ignored: Collection[str] = ()) -> dict[str, str]:
    """Return each dotted key, but those ``ignored``, in which two configs differ: ``batch_size: 64 -> 128`` by key.

    The name of a file of the user's own is the same in any folder: what is in it is compared by `gan_jax.runs.code`.
    """
    earlier = {key: keys.KEYS[key].default for key in LATER}
    a, b = (earlier | flat(with_names(of, lambda name: name.rpartition("/")[2])) for of in (one, other))
    unlike = sorted(key for key in (a.keys() | b.keys()) - set(ignored) if a.get(key, ...) != b.get(key, ...))
    return {key: f"{key}: {a.get(key, 'absent')} -> {b.get(key, 'absent')}" for key in unlike}


def replaced(plain: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``plain``, of `to_plain`, with other ``values``, by dotted keys."""
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
    """Compute each key that refers to others (``config.get_ref``).

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
    """Return a copy of ``config`` with ``overrides``, dotted keys to values.

    A key that refers to others (``config.get_ref``) follows those of the copy, or has its own override. This is the one
    way to copy a config that is changed afterwards: ``to_dict`` puts values in the place of references.

    Raises:
      UserError: see `override` and `check_held`.
    """
    own: ConfigDict = copy.deepcopy(config)
    overrides = sides.spread(overrides)
    for key, value in overrides.items():
        override(own, key, value)
    check_held(own, overrides)
    return own


def check_held(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Refuse overrides that don't hold once all are set, as two of keys that are one by a reference.

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
    """Set a dotted key.

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
