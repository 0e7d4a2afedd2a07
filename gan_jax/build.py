"""The only place that turns names in a config into objects. Everything wrong is said here, before anything compiles."""

import dataclasses
import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import FlaxError
from ml_collections import ConfigDict

from gan_jax import assemble, data, models, sides, stages
from gan_jax import config as configuration
from gan_jax.core import losses
from gan_jax.core.gan import GAN, Hyperparams, Task
from gan_jax.core.priors import PRIORS
from gan_jax.core.state import named_leaves, state_shapes
from gan_jax.core.tasks import TASKS, deceived, faded, in_sides
from gan_jax.core.update import update
from gan_jax.data.feed import Feed, feed
from gan_jax.evaluate import Evaluator, automatic, find, sampling, seen
from gan_jax.keys import FEWEST_SAMPLES
from gan_jax.runtime import placement
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed, unknown_name
from gan_jax.util.hints import likely

GIVEN_BY_US = ("image_shape", "latent_dim", "classes", "dtype", "param_dtype", "parent", "name")
_CALLED_WITH = {  # beside latents or images; keys too, if it takes them
    "generator": ("train", "label", "axis_name"),
    "discriminator": ("train", "label", "axis_name", "batches"),
}


def build_stages(config: ConfigDict) -> list[tuple[stages.Stage, GAN, Hyperparams]]:
    """Every stage of a run with what `build_gan` makes of it.

    Raises:
      UserError: see `build_gan`; names the stage, if there are several.
    """
    configuration.validate(config)
    found: list[tuple[stages.Stage, GAN, Hyperparams]] = []
    for stage in stages.plan(config):
        try:
            found.append((stage, *build_gan(stage.config, stage.count)))
        except UserError as error:
            if not found:
                raise
            raise UserError(f"config.stages.{stage.name}: {error}") from error
    return found


def build_gan(config: ConfigDict, count: stages.Count | None = None) -> tuple[GAN, Hyperparams]:
    """Build the GAN that a config describes, and its hyperparameters as leaves of the state.

    The config's stages are left out of account.

    Args:
      config: of a run, or of one of its stages.
      count: that of the stage.

    Raises:
      UserError: any key, type, name or combination that can't be.
    """
    configuration.validate(config)
    compute = jnp.dtype(config.compute_dtype)
    wide = jnp.promote_types(compute, jnp.float32)
    if config.compute_dtype == "float64" and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise UserError("compute_dtype=float64 needs 64-bit mode: call gan_jax.build.enable_float64 first")
    family = _family(config)
    loss = assemble.chosen("loss", config.loss, {name: getattr(losses, name) for name in losses.__all__})
    prior = assemble.chosen("prior", config.prior, PRIORS)
    if config.task not in TASKS:
        raise unknown_name("task", config.task, TASKS)
    if (count or stages.count(config)).total >= 2**32:
        raise UserError("steps x d_steps x batch_size must stay below 2^32 images: lower steps")
    if config.g_batches * config.batch_size >= 2**31:
        raise UserError("g_batches x batch_size must stay below 2^31 latents: lower g_batches")
    if config.checkpoint.patience and config.checkpoint.best == "none":
        raise UserError("checkpoint.patience waits for a better figure: set checkpoint.best to one, e.g. to fid")
    if config.checkpoint.patience and config.eval.features == "none":
        raise UserError("checkpoint.patience waits for a better figure: set eval.features, e.g. to auto")
    shape = (*sides.of(config.data), config.data.channels)
    players = ("generator", "discriminator")
    (g_optimizer, g_numbers), (d_optimizer, d_numbers) = (assemble.optimizer(config, name, wide) for name in players)
    d_terms, g_terms, term_numbers = assemble.terms(config, wide)
    averages, average_numbers = assemble.averages(config, wide, count=count)
    pixels = image_options(config).pixels
    augmentation, augment_numbers = assemble.augmentation(config, wide, pixels.alpha)
    hyper: Hyperparams = {
        "optimizer": {"generator": g_numbers, "discriminator": d_numbers},
        "labels": assemble.labels(config, loss, wide),
        "terms": term_numbers,
        "averages": average_numbers,
        "augment": augment_numbers,
        **assemble.fade(config, family, wide),
    }
    schedules, hyper["schedules"] = assemble.schedules(config, hyper, wide, count=count)
    if config.task == "autoencoder" and not hasattr(family.Generator, "encode"):
        raise UserError(f"model {config.model!r} has no encoder, and task 'autoencoder' needs one: set model to 'aae'")
    if config.model == "aae" and config.task != "autoencoder":
        raise UserError("model 'aae' has an encoder that only the task 'autoencoder' trains: set config.task to it")
    assemble.check_condition(config)
    _check_classes(config, family)
    if not config.parallel.logical_shards:
        check_batch(config)
    _check_remat(config)
    given = {"image_shape": shape, "classes": config.classes or config.data.condition, "latent_dim": config.latent_dim}
    generator = _module(config, "generator", family.Generator, given, compute, wide)
    gan = GAN(
        generator=generator,
        discriminator=_module(config, "discriminator", family.Discriminator, given, compute, wide),
        loss=loss,
        generator_optimizer=g_optimizer,
        discriminator_optimizer=d_optimizer,
        latent_dim=config.latent_dim,
        image_shape=shape,
        task=_task(config, hyper, generator),
        prior=prior,
        d_steps=config.d_steps,
        g_batches=config.g_batches,
        augment=augmentation,
        classes=config.classes,
        condition=config.data.condition,
        d_terms=d_terms,
        g_terms=g_terms,
        schedules=schedules,
        averages=averages,
        dtype=wide,
        pixels=pixels,
    )
    state = _shapes(config, gan, hyper)
    for player in players:
        assemble.check_frozen(config, player, named_leaves(getattr(state, player).params))
    _check_step(config, gan, state)
    sampling.of_evaluations(gan, config.eval)  # refuses what can't be
    return gan, hyper


def _task(config: ConfigDict, hyper: Hyperparams, generator: nn.Module) -> Task:
    """Return what the players play for, with what the numbers in ``hyper``, and images of several sides, ask for."""
    task = TASKS[config.task]
    if halvings := getattr(generator, "halvings", ()):
        task = in_sides(task, halvings)
    task = faded(task) if "fade" in hyper else task
    return deceived(task) if "pseudo" in hyper["augment"] else task


def _family(config: ConfigDict) -> Any:
    """Return what has the classes Generator and Discriminator of the config's model: a module of ours or the user's."""
    if config.model in models.__all__:
        return getattr(models, config.model)
    if not (named.is_function(config.model) or named.is_module(config.model)):
        raise unknown_name("model", config.model, models.__all__)
    family = named.thing(config.model, "config.model")
    for player in ("Generator", "Discriminator"):
        kind = getattr(family, player, None)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise UserError(
                f"config.model={config.model} has no {player} that is a flax.linen.Module: "
                'see "Add a GAN" in docs/extending.md'
            )
    return family


def _own(config: ConfigDict) -> list[str]:
    """Return the names of what a step has of the user's own."""
    return [name for name in configuration.names_outside(config) if name != config.data.source]


def _shapes(config: ConfigDict, gan: GAN, hyper: Hyperparams) -> Any:
    """Return the state's shapes; raise `UserError` if the networks can't be made."""
    own = _own(config)
    expected = (Exception,) if own else (ValueError, TypeError, ZeroDivisionError, FlaxError)
    try:
        return state_shapes(gan, hyper)
    except expected as error:
        text = f"model {config.model!r} can't be built"
        if own:
            raise named.failed(text, error) from error
        raise UserError(f"{text}: {str(error).splitlines()[0]}") from error


def _check_step(config: ConfigDict, gan: GAN, state: Any) -> None:
    """Raise `UserError` if, with code of the user's own, no step can be made."""
    known = gan, config.batch_size, jax.tree.structure(state)
    if not (own := _own(config)) or known in _traced:
        return
    batch = {
        "image": jax.ShapeDtypeStruct((gan.d_steps, config.batch_size, *gan.image_shape), gan.dtype),
        "label": jax.eval_shape(partial(gan.labels, gan.d_steps, config.batch_size)),
        "index": jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    }
    try:
        jax.eval_shape(partial(update, gan), state, batch)
    except Exception as error:  # the user's own code: anything may come
        places = dict.fromkeys(named.parts(name)[0].rpartition("/")[2] for name in own)
        raise named.failed(f"no step can be made with what is in {listed(places)}", error) from error
    _traced.add(known)


_traced: set[Any] = set()  # of which a step is known to work: trials of a sweep are alike


def check_batch(config: ConfigDict, devices: int = 1) -> None:
    """Refuse a batch size that so many devices can't share.

    Raises:
      UserError: names the sizes, or the numbers of devices, that can be.
    """
    own = placement.shard_index(config.batch_size, devices, config.parallel.logical_shards)[0]
    halved = config.terms.path_length.weight and config.terms.path_length.half_batch
    if halved and len(own) * max(config.g_batches, 1) % 2:
        raise UserError(
            f"terms.path_length.half_batch takes every second of {len(own)} examples (batch_size {config.batch_size} "
            f"by {config.batch_size // len(own)}): make that an even number, or set half_batch to False"
        )


def _check_classes(config: ConfigDict, family: Any) -> None:
    """Refuse classes that no player is told of; those of the user's own may have no key ``conditional``."""
    players = ("generator", "discriminator")
    told = [player for player in players if config[player].get("conditional", "none") != "none"]
    fields = [{f.name for f in dataclasses.fields(getattr(family, player.capitalize()))} for player in players]
    key = "data.condition" if config.data.condition else "classes"
    count = config.classes or config.data.condition
    if count and not told and not any("classes" in own and "conditional" not in own for own in fields):
        raise UserError(
            f"config.{key} is {count}, but neither player is told of classes: "
            f"set config.generator.conditional and config.discriminator.conditional, or config.{key} to 0"
        )
    if told and not count:
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
    """Build the data set that a config names.

    What must be decoded for it is kept in the directory ``cache``; if it can't be, that is an error, or with
    ``reading`` a warning.

    Raises:
      UserError: see `gan_jax.data.load`; also if it has fewer images than a batch.
    """
    dataset = data.load(image_options(config), cache, reading)
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
    """Raise `UserError` if the folder or file of data that a config names isn't there; nothing in it is read."""
    data.check_place(image_options(config))


def build_feed(
    config: ConfigDict,
    gan: GAN,
    dataset: data.Dataset,
    devices: Sequence[jax.Device],
    seed: int | None = None,
    ahead: int = 0,
) -> Feed:
    """Return what gives a run's steps their images (`gan_jax.data.feed`), by ``seed`` (default: the config's).

    ``ahead`` is that of a stage's `gan_jax.stages.Count`.
    """
    return feed(
        dataset,
        image_options(config),
        batch_size=config.batch_size,
        d_steps=config.d_steps,
        seed=config.seed if seed is None else seed,
        steps_per_dispatch=config.steps_per_dispatch,
        dtype=gan.dtype,
        devices=devices,
        shards=config.parallel.logical_shards,
        ahead=ahead,
    )


def build_evaluator(
    config: ConfigDict,
    gan: GAN,
    dataset: data.Dataset,
    cache: Path | None,
    devices: Sequence[jax.Device],
    samples: int | None = None,
    how: sampling.Sampling | None = None,
) -> Evaluator:
    """Build what judges the GAN by the config's features, on ``samples`` samples drawn as ``how``, or the config, says.

    Raises:
      UserError: there are too few images to compare with; or see `gan_jax.evaluate.extractors.find`.
    """
    extractor = find(config.eval.features, dataset, cache, seen.of(image_options(config)))
    if extractor is not None and len(dataset.train_images) < FEWEST_SAMPLES:
        raise UserError(
            f"{dataset.name} has {len(dataset.train_images)} images to compare samples with, and an evaluation needs "
            f"{FEWEST_SAMPLES} or more: give more of them, or set config.eval.features='none'"
        )
    how = how or sampling.of_evaluations(gan, config.eval)
    chosen = automatic(dataset) if config.eval.features == "auto" else ""
    count = samples or config.eval.samples
    return Evaluator(gan, dataset, extractor, count, devices, cache, how=how, automatic=chosen)


def image_options(config: ConfigDict) -> data.Options:
    """Return how images are found and brought to one shape."""
    return data.Options(**{field.name: config.data[field.name] for field in dataclasses.fields(data.Options)})


def enable_float64(config: ConfigDict) -> None:
    """Switch JAX to 64-bit mode if ``compute_dtype`` is float64. For a program's start: it holds for the process."""
    if config.compute_dtype == "float64":
        jax.config.update("jax_enable_x64", True)


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
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in GIVEN_BY_US}
    values, switches = config[player].to_dict(), configuration.default()[player]
    for name, value in list(values.items()):
        if name not in fields and name in switches and value == switches[name]:
            del values[name]  # a switch of our own models, as `default` has it
            continue
        if name not in fields:
            what = f"key of config.{player} for model {config.model!r}:"
            raise unknown_name(what, name, fields, likely(name, fields))
        values[name] = tuple(value) if isinstance(value, list | tuple) else value
        if name.endswith("widths") and not all(type(w) is int and w > 0 for w in values[name]):
            raise UserError(f"config.{player}.{name} must be positive whole numbers, not {clipped(repr(value))}")
    own = {f.name for f in dataclasses.fields(kind)}
    given = given | {"dtype": compute, "param_dtype": wide}
    if compute != jnp.float32 and not {"dtype", "param_dtype"} <= own:
        raise UserError(
            f"{player.capitalize()} of model {config.model!r} has no fields dtype and param_dtype, which "
            f"compute_dtype={config.compute_dtype} is told by: add them, or leave it at float32"
        )
    try:
        return kind(**values, **{name: value for name, value in given.items() if name in own})
    except TypeError as error:
        raise UserError(f"config.{player} of model {config.model!r}: {named.one_line(error)}") from error
