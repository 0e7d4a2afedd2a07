"""The config that a command line gives, or the run that it names."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gan_jax.config import check_references, override
from gan_jax.util.errors import UserError


def of_run(place: Any, overrides: Mapping[str, Any]) -> ConfigDict:
    """Return the config of the run in ``place``, with ``overrides``."""
    config: ConfigDict = place.config()
    for key, value in overrides.items():
        override(config, key, value)
    place.code.check_place(config)
    return config


def needed_config(what: str, config: ConfigDict | None, otherwise: str = "") -> ConfigDict:
    """Return ``config``, in float64 mode if it asks for it; there must be one, or what an error says ``otherwise``."""
    from gan_jax import build

    if config is None:
        raise UserError(f"{what} needs a config: --config=configs/dcgan.py{otherwise}")
    check_references(config)
    build.enable_float64(config)
    return config
