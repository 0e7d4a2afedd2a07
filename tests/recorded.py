"""Numbers of the training core, recorded: every config, shrunken, in float64, after six steps.

``python -m tests.recorded`` writes them to ``tests/recorded.json`` anew (with names: those of these configs), which is
for changes that mean to compute something else; `tests/core/test_recorded.py` compares. Of each array there are its
largest entry, and its sums weighted by three waves, so that any entry that changes shows, and so do two that change
places.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax.build import build_gan
from gan_jax.core.state import GANState, init_state, named_leaves
from gan_jax.core.update import update
from tests.helpers import NAMES, QUICKLY, small

FILE = Path(__file__).with_suffix(".json")
STEPS, BATCH = 6, 4
Numbers = dict[str, list[float]]

# What a config is tried with beyond its own: techniques that none has, and intervals that six steps come to.
CHANGED: dict[str, dict[str, Any]] = {
    "relativistic": {"terms.r1.every": 2, "terms.r2.every": 2, "augment.name": "color,translation,cutout"},
    "dcgan": {"generator.spectral": True, "discriminator.minibatch": "stddev", "terms.feature_matching.weight": 0.3},
    "dragan": {"d_steps": 3, "terms.dragan.every": 2},
    "stylegan2": {
        **{"terms.r1.every": 2, "terms.path_length.every": 3, "classes": 10, "averages.ema.ramp_up": 0.0},
        **{"generator.conditional": "concat", "discriminator.conditional": "projection"},
    },
    "lsgan": {"schedules.generator_rate.kind": "cosine", "schedules.discriminator_rate.kind": "linear"},
    "wgan_gp": {"terms.wgan_gp.every": 2},
    "wgan": {
        "schedules.critic_first.moves": 2.0,
        "schedules.critic_first.period": 2.0,
        "schedules.critic_first.factor": 2.0,
    },
}


def tiny(name: str) -> ConfigDict:
    """The config ``name`` with the smallest networks."""
    config = small(name)
    config.update({"compute_dtype": "float64", "batch_size": BATCH, "steps": 10, "latent_dim": 5})
    config.d_steps = min(config.d_steps, 2)
    config.data.image_size = 8
    widths: dict[str, Any] = {"widths": (6, 4)}
    if config.model == "aae":
        widths = {"widths": (6,)}
        config.generator.encoder_widths = (5,)
    if config.generator.get("attention"):
        widths = {"widths": (8, 8), "attention": 4}
    if config.model == "biggan":
        config.latent_dim = 6
    if config.model == "r3gan":
        widths |= {"blocks": (1, 1), "groups": (2, 2)}
    if config.model == "fastgan":
        config.data.image_size, config.generator.width, config.discriminator.width = 32, 1, 1
    elif config.model not in ("stylegan2", "progan"):  # whose networks are as small as can be
        config.generator.update(widths)
        config.discriminator.update(widths)
    config.update_from_flattened_dict(CHANGED.get(name, {}))
    return config


def steps(name: str) -> Iterator[tuple[GANState, dict[str, Any]]]:
    """State and metrics after each of the first `STEPS` steps, on noise for images."""
    config = tiny(name)
    gan, hyper = build_gan(config)
    state = jax.jit(init_state, static_argnums=0)(gan, 7, hyper)
    rng, index = np.random.default_rng(11), np.arange(BATCH)
    step = jax.jit(partial(update, gan)).lower(state, _batch(config, rng, index)).compile(compiler_options=QUICKLY)
    for _ in range(STEPS):
        state, metrics = step(state, _batch(config, rng, index))
        yield state, metrics


def _batch(config: ConfigDict, rng: np.random.Generator, index: np.ndarray) -> dict[str, np.ndarray]:
    side, channels = config.data.image_size, config.data.channels
    images = rng.uniform(-1, 1, (config.d_steps, BATCH, side, side, channels))
    return {"image": images, "label": rng.integers(0, 10, images.shape[:2], np.int32), "index": index.astype(np.int32)}


def observed(name: str) -> Numbers:
    """The numbers of the config ``name``; JAX must be in 64-bit mode."""
    found: Numbers = {}
    for number, (state, metrics) in enumerate(steps(name)):  # noqa: B007 (the last state is looked at)
        found |= {f"metrics.{number}.{key}": [float(value)] for key, value in metrics.items()}
    parts = {
        "generator": state.generator.params,
        "generator_stats": state.generator.stats,
        "discriminator": state.discriminator.params,
        "discriminator_stats": state.discriminator.stats,
        "average": state.averages["ema"]["params"],
    }
    return found | {key: _summary(np.asarray(leaf)) for key, leaf in named_leaves(parts).items()}


def _summary(leaf: np.ndarray) -> list[float]:
    flat = leaf.astype(np.float64).ravel()
    place = np.arange(1, flat.size + 1)
    return [float(np.abs(flat).max()), *(float((flat * np.cos(wave * place)).sum()) for wave in (0.1, 1.0, 2.3))]


def main() -> None:
    """Writes the file anew, or, of configs that are named, their part."""
    names = sys.argv[1:]
    known: dict[str, Numbers] = json.loads(FILE.read_text()) if names else {}
    with jax.enable_x64(True):
        every = known | {name: observed(name) for name in names or NAMES}
    FILE.write_text(json.dumps(every, indent=0, sort_keys=True) + "\n")
    print(f"{FILE.name}: {sum(map(len, every.values())):,} arrays of {len(every)} configs")


if __name__ == "__main__":
    main()
