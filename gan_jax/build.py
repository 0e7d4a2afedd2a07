"""The only place that turns names in a config into objects. Everything wrong is said here, before anything compiles."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from gan_jax import augment, data, losses, models
from gan_jax import config as configuration
from gan_jax.errors import UserError, unknown_name
from gan_jax.state import GAN, Hyper, init_state

# Arguments of these that are numbers become hyperparameters in the state.
_OPTIMIZERS = {"adam": optax.adam, "rmsprop": optax.rmsprop, "sgd": optax.sgd}
_GIVEN_BY_US = ("image_shape", "dtype", "param_dtype", "parent", "name")


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
    if config.steps * config.d_steps * config.batch_size >= 2**32:
        raise UserError("steps x d_steps x batch_size must stay below 2^32 images: lower steps")
    if config.augment not in augment.__all__:
        raise unknown_name("augment", config.augment, augment.__all__)
    family, loss = getattr(models, config.model), getattr(losses, config.loss)
    shape = (config.data.image_size, config.data.image_size, config.data.channels)
    g_optimizer, g_hyper = _optimizer(config, "generator", wide)
    d_optimizer, d_hyper = _optimizer(config, "discriminator", wide)
    hyper: Hyper = {
        "generator": g_hyper,
        "discriminator": d_hyper,
        "loss": _labels(config, loss, wide),
        "ema": {"decay": np.asarray(config.ema.decay, wide)},
    }
    gan = GAN(
        generator=_module(config, "generator", family.Generator, {"image_shape": shape}, compute, wide),
        discriminator=_module(config, "discriminator", family.Discriminator, {}, compute, wide),
        loss=loss,
        generator_optimizer=g_optimizer,
        discriminator_optimizer=d_optimizer,
        latent_dim=config.latent_dim,
        image_shape=shape,
        d_steps=config.d_steps,
        augment=getattr(augment, config.augment),
        dtype=wide,
    )
    try:
        jax.eval_shape(lambda: init_state(gan, 0, hyper))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"model {config.model!r} can't be built: {reason}") from error
    return gan, hyper


def build_dataset(config: ConfigDict) -> data.Dataset:
    """The data set that a config names.

    Raises:
      UserError: see `gan_jax.data.load`.
    """
    c = config.data
    return data.load(c.source, c.name, c.dir, c.image_size, c.channels, c.device_budget_mb)


def enable_float64(config: ConfigDict) -> None:
    """Switches JAX to 64-bit mode if ``compute_dtype`` is float64. For a program's start: it holds for the process."""
    if config.compute_dtype == "float64":
        jax.config.update("jax_enable_x64", True)


def _module(
    config: ConfigDict, player: str, kind: type[nn.Module], given: dict[str, Any], compute: Any, wide: Any
) -> nn.Module:
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in _GIVEN_BY_US}
    values = config[player].to_dict()
    for name, value in values.items():
        if name not in fields:
            raise unknown_name(f"key of config.{player} for model {config.model!r}:", name, fields)
        values[name] = tuple(value) if isinstance(value, list | tuple) else value
        if name == "widths" and not all(type(w) is int and w > 0 for w in values[name]):
            raise UserError(f"config.{player}.widths must be positive whole numbers, not {value!r}")
    return kind(**values, **given, dtype=compute, param_dtype=wide)


def _optimizer(config: ConfigDict, player: str, wide: Any) -> tuple[Any, dict[str, ArrayLike]]:
    values = config.optimizer[player].to_dict()
    name = values.pop("name", None)
    if name not in _OPTIMIZERS:
        raise unknown_name(f"config.optimizer.{player}.name", str(name), _OPTIMIZERS)
    valid = list(inspect.signature(_OPTIMIZERS[name]).parameters)
    for key, value in values.items():
        if key not in valid:
            raise unknown_name(f"key of config.optimizer.{player} for {name}:", key, valid)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise UserError(f"config.optimizer.{player}.{key} must be a finite number from 0 up, not {value!r}")
        if key in ("b1", "b2", "decay", "momentum") and value >= 1:
            raise UserError(f"config.optimizer.{player}.{key} must be from 0 to below 1, not {value!r}")
    if "learning_rate" not in values:
        raise UserError(f"config.optimizer.{player}.learning_rate is missing")
    return _OPTIMIZERS[name], {key: np.asarray(value, wide) for key, value in values.items()}


def _labels(config: ConfigDict, loss: losses.Loss, wide: Any) -> dict[str, ArrayLike]:
    given = {"real_label": config.labels.real, "fake_label": config.labels.fake}
    if "real_label" in inspect.signature(loss).parameters:
        return {name: np.asarray(value, wide) for name, value in given.items()}
    if given != {"real_label": 1.0, "fake_label": 0.0}:
        raise UserError(f"loss {config.loss!r} has no labels: leave config.labels at real=1, fake=0")
    return {}
