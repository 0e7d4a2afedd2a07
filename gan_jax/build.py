"""The only place that turns names in a config into objects. Everything wrong is said here, before anything compiles."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from gan_jax import augment, data, games, losses, models, optimizers, penalties, terms
from gan_jax import config as configuration
from gan_jax.errors import UserError, clipped, listed, unknown_name
from gan_jax.evaluate import Evaluator, find
from gan_jax.feed import Feed, feed
from gan_jax.hints import likely
from gan_jax.state import GAN, Hyper, init_state, never

_GIVEN_BY_US = ("image_shape", "latent_dim", "classes", "dtype", "param_dtype", "parent", "name")
_CALLED_WITH = {  # beside latents or images
    "generator": ("train", "label", "axis_name"),
    "discriminator": ("train", "label", "axis_name", "batches"),
}
_GAMES = {"images": games.IMAGES, "autoencoder": games.AUTOENCODER}
_AROUND = ("schedule", "final_rate", "historical_averaging", "clip")  # what goes with any optimizer


def build_gan(config: ConfigDict) -> tuple[GAN, Hyper]:
    """The GAN that a config describes, and its hyperparameters as leaves of the state.

    Raises:
      UserError: any key, type, name or combination that can't be.
    """
    configuration.validate(config)
    compute = jnp.dtype(config.compute_dtype)
    wide = jnp.promote_types(compute, jnp.float32)
    if config.compute_dtype == "float64" and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise UserError("compute_dtype=float64 needs 64-bit mode: call gan_jax.build.enable_float64 first")
    if config.model not in models.__all__:
        raise unknown_name("model", config.model, models.__all__)
    if config.loss not in losses.__all__:
        raise unknown_name("loss", config.loss, losses.__all__)
    if config.game not in _GAMES:
        raise unknown_name("game", config.game, _GAMES)
    if config.steps * config.d_steps * config.batch_size >= 2**32:
        raise UserError("steps x d_steps x batch_size must stay below 2^32 images: lower steps")
    if config.g_batches * config.batch_size >= 2**31:
        raise UserError("g_batches x batch_size must stay below 2^31 latents: lower g_batches")
    family, loss = getattr(models, config.model), getattr(losses, config.loss)
    shape = (config.data.image_size, config.data.image_size, config.data.channels)
    g_optimizer, g_hyper = _optimizer(config, "generator", wide)
    d_optimizer, d_hyper = _optimizer(config, "discriminator", wide)
    hyper: Hyper = {
        "generator": g_hyper,
        "discriminator": d_hyper,
        "loss": _labels(config, loss, wide),
        "ema": {"decay": np.asarray(config.ema.decay, wide), "start": np.asarray(config.ema.start, wide)},
        "weights": {name: np.asarray(value, wide) for name, value in config.weights.items()}
        | {"penalty": np.asarray(config.penalty.weight, wide)},
    }
    if config.game == "autoencoder" and not hasattr(family.Generator, "encode"):
        raise UserError(f"model {config.model!r} has no encoder, and game 'autoencoder' needs one: set model to 'aae'")
    if config.model == "aae" and config.game != "autoencoder":
        raise UserError("model 'aae' has an encoder that only the game 'autoencoder' trains: set config.game to it")
    _check_classes(config)
    _check_remat(config)
    given = {"image_shape": shape, "classes": config.classes, "latent_dim": config.latent_dim}
    gan = GAN(
        generator=_module(config, "generator", family.Generator, given, compute, wide),
        discriminator=_module(config, "discriminator", family.Discriminator, given, compute, wide),
        loss=loss,
        generator_optimizer=g_optimizer,
        discriminator_optimizer=d_optimizer,
        latent_dim=config.latent_dim,
        image_shape=shape,
        game=_GAMES[config.game],
        d_steps=config.d_steps,
        g_batches=config.g_batches,
        augment=_augmentation(config.augment),
        classes=config.classes,
        penalties=() if config.penalty.name == "none" else _named(config.penalty.name, penalties, "penalty.name"),
        penalty_every=config.penalty.every,
        d_terms=_terms(config, "auxiliary_discriminator"),
        g_terms=_terms(config, "feature_matching", "auxiliary_generator"),
        hold=WarmStart(**config.warm_start) if config.warm_start.g_steps else never,
        dtype=wide,
    )
    try:
        jax.eval_shape(lambda: init_state(gan, 0, hyper))
    except (ValueError, TypeError, ZeroDivisionError, FlaxError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"model {config.model!r} can't be built: {reason}") from error
    return gan, hyper


def _check_classes(config: ConfigDict) -> None:
    told = [player for player in ("generator", "discriminator") if config[player].get("conditional", "none") != "none"]
    if config.classes and not told:
        raise UserError(
            f"config.classes is {config.classes}, but neither player is told of classes: "
            "set config.generator.conditional and config.discriminator.conditional, or config.classes to 0"
        )
    if told and not config.classes:
        raise UserError(
            f"config.{told[0]}.conditional is {config[told[0]].conditional!r}, and config.classes is 0: "
            "set it to the number of classes of labelled data (of a folder: of its subfolders)"
        )


def _check_remat(config: ConfigDict) -> None:
    for player in ("generator", "discriminator"):
        if config.parallel.logical_shards and config[player].get("remat"):
            raise UserError(
                f"config.{player}.remat saves nothing with config.parallel.logical_shards, which computes nothing "
                "twice: set one of them off"
            )


def build_dataset(config: ConfigDict, cache: Path | None, reading: bool = False) -> data.Dataset:
    """The data set that a config names; what must be decoded for it is kept in the directory ``cache``; if it can't be,
    that is an error, or with ``reading`` a warning.

    Raises:
      UserError: see `gan_jax.data.load`; also if it has fewer images than a batch.
    """
    dataset = data.load(_options(config), cache, reading)
    if len(dataset.train_images) < config.batch_size:
        raise UserError(
            f"{dataset.name} has {len(dataset.train_images):,} images to train on, fewer than "
            f"batch_size={config.batch_size} ({len(dataset.test_images):,} more are held out to test on): "
            "lower batch_size, or add images"
        )
    if config.classes and config.classes != dataset.classes:
        found = dataset.description.get("classes", "no classes").replace(": ", " (", 1) + ")" * bool(dataset.classes)
        raise UserError(
            f"config.classes is {config.classes}, but {dataset.name} has {found}: "
            + ("set config.classes to it" if dataset.classes else "choose labelled data, or a GAN without labels")
        )
    return dataset


def check_data_place(config: ConfigDict) -> None:
    """Raises `UserError` if the folder or file of data that a config names isn't there; nothing in it is read."""
    data.check_place(_options(config))


def build_feed(
    config: ConfigDict, gan: GAN, dataset: data.Dataset, devices: Sequence[jax.Device], seed: int | None = None
) -> Feed:
    """How the steps of a run get their images, in the order of ``seed`` (default the config's); see `gan_jax.feed`."""
    return feed(
        dataset,
        _options(config),
        batch_size=config.batch_size,
        d_steps=config.d_steps,
        seed=config.seed if seed is None else seed,
        steps_per_dispatch=config.steps_per_dispatch,
        dtype=gan.dtype,
        devices=devices,
        shards=config.parallel.logical_shards,
    )


def build_evaluator(
    config: ConfigDict,
    gan: GAN,
    dataset: data.Dataset,
    cache: Path | None,
    devices: Sequence[jax.Device],
    samples: int | None = None,
) -> Evaluator:
    """What judges the GAN by the config's features, on ``samples`` samples (or as many as the config says).

    Raises:
      UserError: there are too few images to compare with; or see `gan_jax.evaluate.extractors.find`.
    """
    extractor = find(config.eval.features, dataset, cache)
    least = configuration.FEWEST_SAMPLES
    if extractor is not None and len(dataset.train_images) < least:
        raise UserError(
            f"{dataset.name} has {len(dataset.train_images)} images to compare samples with, and an evaluation needs "
            f"{least} or more: give more of them, or set config.eval.features='none'"
        )
    return Evaluator(gan, dataset, extractor, samples or config.eval.samples, devices, cache)


def _options(config: ConfigDict) -> data.Options:
    return data.Options(**{field.name: config.data[field.name] for field in dataclasses.fields(data.Options)})


def enable_float64(config: ConfigDict) -> None:
    """Switches JAX to 64-bit mode if ``compute_dtype`` is float64. For a program's start: it holds for the process."""
    if config.compute_dtype == "float64":
        jax.config.update("jax_enable_x64", True)


def _augmentation(names: str) -> augment.Augmentation:
    """What the names with commas between them stand for."""
    functions = _named(names, augment, "augment")
    return functions[0] if len(functions) == 1 else augment.Chain(functions)


def _named(names: str, module: Any, key: str) -> tuple[Any, ...]:
    """The functions of ``module`` that the names with commas between them stand for."""
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in module.__all__:
            raise unknown_name(key, name, sorted({"none", *module.__all__}))
        if chosen.count(name) > 1:
            raise UserError(f"config.{key} names {name} twice")
    return tuple(getattr(module, name) for name in chosen)


def _terms(config: ConfigDict, *names: str) -> tuple[tuple[str, terms.Term], ...]:
    """Those of the terms that have a weight, and something to work on."""
    auxiliary = config.discriminator.get("conditional") == "auxiliary"
    used = [name for name in names if config.weights[name] and (auxiliary or not name.startswith("auxiliary"))]
    return tuple((name, getattr(terms, name)) for name in used)


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """Steps in which G stands still, so that D has a start (Arjovsky et al. 2017; 100 D steps a G step in their code).

    For its first ``g_steps`` moves, and once more after every ``period`` of them, G moves only in the last of
    ``factor`` steps: it has ``factor x d_steps`` D steps before it.
    """

    g_steps: int
    factor: int
    period: int

    def __call__(self, step: jax.Array) -> jax.Array:
        """Whether G stands still in ``step``."""
        begin = self.g_steps * self.factor
        later = (step - begin) % (self.period + self.factor - 1) >= self.period
        return jnp.where(step < begin, (step + 1) % self.factor != 0, later)

    def moves(self, steps: int) -> int:
        """How often G moves in the first ``steps``."""
        begin, turn = self.g_steps * self.factor, self.period + self.factor - 1
        whole, rest = divmod(max(steps - begin, 0), turn)
        return min(steps, begin) // self.factor + whole * self.period + min(rest, self.period)


def _module(
    config: ConfigDict, player: str, kind: type[nn.Module], given: dict[str, Any], compute: Any, wide: Any
) -> nn.Module:
    taken = inspect.signature(kind.__call__).parameters.values()
    missing = [name for name in _CALLED_WITH[player] if name not in {parameter.name for parameter in taken}]
    if missing and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        raise UserError(
            f"{player.capitalize()} of model {config.model!r} is called with {listed(missing)} too: "
            'see "Add a GAN" in docs/extending.md'
        )
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in _GIVEN_BY_US}
    values = config[player].to_dict()
    for name, value in values.items():
        if name not in fields:
            what = f"key of config.{player} for model {config.model!r}:"
            raise unknown_name(what, name, fields, likely(name, fields))
        values[name] = tuple(value) if isinstance(value, list | tuple) else value
        if name.endswith("widths") and not all(type(w) is int and w > 0 for w in values[name]):
            raise UserError(f"config.{player}.{name} must be positive whole numbers, not {clipped(repr(value))}")
    own = {f.name for f in dataclasses.fields(kind)}
    return kind(**values, **{k: v for k, v in given.items() if k in own}, dtype=compute, param_dtype=wide)


def _optimizer(config: ConfigDict, player: str, wide: Any) -> tuple[optimizers.Recipe, dict[str, ArrayLike]]:
    values, where = config.optimizer[player].to_dict(), f"config.optimizer.{player}"
    name, schedule = values.pop("name", None), values.pop("schedule", "constant")
    if name not in optimizers.OPTIMIZERS:
        raise unknown_name(f"{where}.name", str(name), optimizers.OPTIMIZERS)
    if schedule != "constant" and schedule not in optimizers.SCHEDULES:
        raise unknown_name(f"{where}.schedule", str(schedule), ("constant", *optimizers.SCHEDULES))
    parameters = inspect.signature(optimizers.OPTIMIZERS[name]).parameters
    valid = [key for key in (*parameters, *_AROUND) if not key.endswith("_dtype")]
    flags = {key for key, parameter in parameters.items() if isinstance(parameter.default, bool)}
    for key, value in values.items():
        if key not in valid:
            what = f"key of config.optimizer.{player} for {name}:"
            raise unknown_name(what, key, valid, likely(key, valid))
        if key in flags:
            if not isinstance(value, bool):
                raise UserError(f"{where}.{key} must be True or False, not {clipped(repr(value))}")
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise UserError(f"{where}.{key} must be a finite number from 0 up, not {clipped(repr(value))}")
        if key in ("b1", "b2", "decay", "momentum") and value >= 1:
            raise UserError(f"{where}.{key} must be from 0 to below 1, not {value!r}")
    if "learning_rate" not in values:
        raise UserError(f"{where}.learning_rate is missing")
    if values.get("nesterov") and "momentum" in parameters and "momentum" not in values:
        raise UserError(f"{where}.nesterov changes nothing without momentum: set {where}.momentum too")
    final, clip, historical = (values.pop(key, 0.0) for key in ("final_rate", "clip", "historical_averaging"))
    static = tuple((key, values.pop(key)) for key in sorted(flags & values.keys()))
    recipe = optimizers.Recipe(name, schedule, historical=historical > 0, clipped=clip > 0, flags=static)
    if schedule != "constant":
        moves = config.steps * config.d_steps
        if player == "generator":
            moves = WarmStart(**config.warm_start).moves(config.steps) if config.warm_start.g_steps else config.steps
        values |= {"updates": max(moves, 1), "final_rate": final}
    values |= {"historical_averaging": historical} if historical else {}
    values |= {"clip": clip} if clip else {}
    return recipe, {key: np.asarray(value, wide) for key, value in values.items()}


def _labels(config: ConfigDict, loss: losses.Loss, wide: Any) -> dict[str, ArrayLike]:
    given = {f"{name}_label": value for name, value in config.labels.items()}
    taken = inspect.signature(loss).parameters
    if "real_label" not in taken and (config.labels.real, config.labels.fake) != (1, 0):
        raise UserError(f"loss {config.loss!r} has no labels: leave config.labels at real=1, fake=0")
    if "generator_label" not in taken and config.labels.generator != config.labels.real:
        raise UserError(f"loss {config.loss!r} has no label that G aims at: leave config.labels.generator unset")
    return {name: np.asarray(value, wide) for name, value in given.items() if name in taken}
