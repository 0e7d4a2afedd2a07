"""The configuration: every key with its default, what values it takes, and how two configurations differ.

A file in ``configs/`` starts from `default` and sets what its paper sets. ``generator.*`` and ``discriminator.*`` are
the fields of the chosen model's modules, ``optimizer.*`` the arguments of the chosen optimizers; both are checked where
they are built (`gan_jax.build`). All others are checked here.
"""

import copy
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from typing import Any

from ml_collections import ConfigDict, FieldReference
from PIL import ImageColor

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

# Terms of the losses (gan_jax/core/terms.py), with what each has beside weight and interval: numbers, which may be
# swept, and options, which choose another function.
TERMS: dict[str, dict[str, float | bool]] = {
    "wgan_gp": {},
    "dragan": {},
    "r1": {"finite_difference": False, "sigma": 0.01},
    "r2": {"finite_difference": False, "sigma": 0.01},
    "drift": {},
    "lecam": {"decay": 0.99, "start": 1000.0},
    "consistency": {"real": 10.0, "fake": 10.0, "latent": 5.0, "diversity": 0.5, "noise": 0.05},
    "orthogonal": {},
    "auxiliary_discriminator": {},
    "auxiliary_generator": {},
    "feature_matching": {},
    "path_length": {"decay": 0.01},
    "reconstruction": {},
}
_ON = ("auxiliary_discriminator", "auxiliary_generator", "reconstruction")  # wherever there is what they work on

# Schedules (gan_jax/core/schedules.py), with the numbers of each; a length of 0 lasts to the run's end. ADA's are the
# paper's for batches of 64.
_COURSE = {"final": 0.0, "begin": 0.0, "length": 0.0}
SCHEDULES: dict[str, dict[str, float]] = {
    "linear": _COURSE,
    "cosine": _COURSE,
    "warm_up": _COURSE,
    "ada": {"target": 0.6, "every": 4.0, "length": 7812.5, "most": 1.0},
    "critic_first": {"moves": 25.0, "factor": 20.0, "period": 500.0},
}

# Keys that say where data lies and how it is read, or what is done in an emergency, and change nothing of what a run
# computes: it may go on with others.
WITHOUT_EFFECT = (
    *("data.dir", "data.workers", "data.device_budget_mb", "data.cache_budget_mb", "data.strict", "data.follow_links"),
    *("on_divergence", "steps_per_dispatch"),
)
# Keys that say how often and how a run is looked at and kept, and change nothing of what is trained.
OBSERVING = (
    *("log.every", "sample.every", "sample.rows", "eval.every", "eval.samples", "eval.features"),
    *("checkpoint.every", "checkpoint.keep"),
)
# Keys, and groups of them, that are leaves of the state (`gan_jax.build.build_gan`): a begun run may go on with others,
# if it is told to. Those of an optimizer that aren't (its name, its switches) make another `gan_jax.core.gan.GAN`.
LEAVES = ("labels", "optimizer", "terms", "averages", "schedules", "augment.p")
FEWEST_SAMPLES = 10  # of an evaluation
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
    config.seed = 0
    config.steps = 1000  # of training: d_steps of the discriminator, and one of the generator but in a warm_start
    config.batch_size = 128  # global, over all devices
    config.d_steps = 1  # discriminator steps per generator step
    config.g_batches = 0  # of fresh latents in the generator's step; 0: those of the last discriminator step once more
    config.steps_per_dispatch = 0  # steps that one call of the compiled program makes; 0: as many as take .25 s
    config.compute_dtype = "float32"  # of the networks' arithmetic: float32, bfloat16 or float64

    config.model = "dcgan"
    config.task = "images"  # what D tells apart; autoencoder: codes from draws of the prior, see gan_jax/core/tasks.py
    config.prior = "normal"  # what a latent's numbers are drawn from: normal, or uniform
    config.latent_dim = 100
    config.classes = 0  # how many G and D are told of, where their key conditional isn't none
    # Keys of the model's Generator and Discriminator, see gan_jax/models/; these are switches of every model.
    config.generator = ConfigDict({"norm": "batch", "conditional": "none", "initializer": "normal", "spectral": False})
    config.generator.remat = False  # True: less memory for more arithmetic
    config.discriminator = ConfigDict(config.generator.to_dict() | {"minibatch": "none"})
    config.loss = "non_saturating"
    config.terms = _terms()
    # Of all that D sees: color, translation, cutout, or several with commas; and the chance of each.
    config.augment = ConfigDict({"name": "none", "p": 1.0})
    config.schedules = ConfigDict()  # what moves; a config file may add any, see `schedule`
    for player in ("generator", "discriminator"):
        config.schedules[f"{player}_rate"] = schedule(f"optimizer.{player}.learning_rate", "constant")
    config.labels = ConfigDict({"real": 1.0, "fake": 0.0})  # the discriminator's targets
    config.labels.generator = config.labels.get_oneway_ref("real")  # least_squares alone: what G wants D to say
    config.optimizer = ConfigDict({"generator": adam(), "discriminator": adam()})
    # Of the generator's variables; samples are drawn with the first, see gan_jax/core/averages.py.
    config.averages = ConfigDict({"ema": average()})

    config.data = ConfigDict()  # each explained in gan_jax/data/options.py
    source, name, image_size, channels, _ = DATASETS[name]
    image_size = int(side) if at else image_size
    config.data.source = source  # embedded, tfds, folder or npz
    config.data.name = name  # of the embedded source: mnist5k (if empty), shapes32, shapes64; of tfds: any of its names
    config.data.dir = ""  # the folder, the .npz file, or where TFDS keeps its data
    config.data.image_size = image_size
    config.data.channels = channels  # 1 or 3
    config.data.fit = "crop"  # images of another shape: crop, resize, or none (an error)
    config.data.background = "white"  # behind transparent images
    config.data.labels = False  # whether classes are needed; then a folder's subfolders are its classes
    config.data.image_key = ""
    config.data.label_key = ""
    config.data.test_fraction = 0.05  # held out where a source has no test images of its own
    config.data.follow_links = False  # those that lead out of the folder of images
    config.data.strict = False  # whether an unreadable image is an error, or is left out
    config.data.flip = False  # mirror half of the images, left for right
    config.data.device_budget_mb = 1024  # data sets up to this size are kept on each device, larger ones streamed
    config.data.cache_budget_mb = 16384  # decoded images up to this size are kept on disk beside the workdir
    config.data.workers = 0  # processes that read a stream; 0: threads

    config.log = ConfigDict({"every": 50})
    config.sample = ConfigDict({"every": 200, "rows": 10})  # a grid of rows x rows images
    config.eval = ConfigDict({"every": 500, "samples": 2000})
    config.eval.features = "auto"  # auto, none, classifier, inception, inception:FILE, FILE.py:f, package.module:f
    config.checkpoint = ConfigDict({"every": 500, "keep": 3})
    config.parallel = ConfigDict()
    config.parallel.logical_shards = (
        0  # 8: the same bits on 1, 2, 4 and 8 devices, see gan_jax/runtime/lockstep.py; 0: without
    )
    config.parallel.population = "auto"  # in sweeps, a device's trials: vmap (at once), map (in turn), or as measured
    # Where loss or state are no longer finite: stop, or rollback, to the last checkpoint and on with another seed.
    config.on_divergence = "stop"
    return config


def _terms() -> ConfigDict:
    """Summands of the players' losses, see gan_jax/core/terms.py: weight 0 is off."""
    found = ConfigDict({"adversarial": {"weight": 1.0}})  # in G's loss
    for name, more in TERMS.items():
        found[name] = ConfigDict({"weight": 1.0 if name in _ON else 0.0, "every": 1, **more})
    return found


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
    for key, (holds, rule) in _RANGES.items():
        if not holds(given[key]):
            raise UserError(f"config.{key} must be {rule}, not {clipped(repr(given[key]))}")


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


def _at_least(low: int) -> tuple[Any, str]:
    return (lambda value: value >= low), f"at least {low}"


_finite = (math.isfinite, "finite")
_from_0 = ((lambda value: 0 <= value < math.inf), "finite and from 0 up")
_RANGES = {
    "seed": ((lambda value: 0 <= value < 2**32), "from 0 to 2^32 - 1"),
    **{key: _at_least(1) for key in ("steps", "batch_size", "d_steps", "latent_dim")},
    **{key: _at_least(0) for key in ("g_batches", "classes", "steps_per_dispatch")},
    **{f"terms.{name}.every": _at_least(1) for name in TERMS},
    **{f"terms.{name}.weight": _from_0 for name in ("adversarial", *TERMS)},
    "augment.p": ((lambda value: 0 <= value <= 1), "from 0 to 1"),
    **{f"{key}.every": _at_least(1) for key in ("log", "sample", "eval", "checkpoint")},
    **{key: _at_least(1) for key in ("checkpoint.keep", "sample.rows", "data.image_size")},
    "eval.samples": _at_least(FEWEST_SAMPLES),
    "parallel.logical_shards": ((lambda value: value >= 0 and value & (value - 1) == 0), "0 or a power of two"),
    **{f"data.{key}": _at_least(0) for key in ("device_budget_mb", "cache_budget_mb", "workers")},
    "compute_dtype": (("float32", "bfloat16", "float64").__contains__, "float32, bfloat16 or float64"),
    "parallel.population": (("auto", "vmap", "map").__contains__, "auto, vmap or map"),
    "on_divergence": (("stop", "rollback").__contains__, "stop or rollback"),
    "data.channels": ((1, 3).__contains__, "1 or 3"),
    "data.fit": (("crop", "resize", "none").__contains__, "crop, resize or none"),
    "data.test_fraction": ((lambda value: 0 <= value < 1), "from 0 to below 1"),
    "averages.ema.decay": ((lambda value: 0 <= value < 1), "from 0 to below 1"),
    "averages.ema.start": _at_least(0),
    "labels.real": _finite,
    "labels.fake": _finite,
    "labels.generator": _finite,
}
