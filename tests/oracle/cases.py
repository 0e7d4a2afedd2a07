"""Tiny GANs, one of each kind, with nothing trivial in them, and a few steps of `gan_jax` from there.

Initial values and images are NumPy's, so that an oracle, or what was recorded of it, starts from the same.
"""

import functools
import json
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_jax.build import build_gan
from gan_jax.core.gan import GAN, Hyperparams
from gan_jax.core.state import GANState, Player, init_state
from gan_jax.core.update import update
from tests.helpers import QUICKLY, small

Tree: TypeAlias = Any
Outcome: TypeAlias = dict[str, Any]

RECORD = Path(__file__).parent / "recorded.json"
STEPS = 2
_CONV = {"generator.widths": (4, 3), "discriminator.widths": (3, 4)}
_DENSE = {"model": "mlp", "generator.widths": (5, 4), "discriminator.widths": (5, 4)}
# Of each kind the config, and what is changed of it: no weight is 1, no label constant, no step the first one only.
CASES: dict[str, dict[str, Any]] = {
    "cgan": {**_CONV, "d_steps": 2, "data.channels": 3, "augment.name": "color,translation"},
    "acgan": {
        **_DENSE,
        **{"terms.adversarial.weight": 0.6, "terms.feature_matching.weight": 0.4},
        **{"terms.auxiliary_discriminator.weight": 0.7, "terms.auxiliary_generator.weight": 0.3},
    },
    "projection": {
        **{"g_batches": 2, "generator.widths": (4,), "generator.first": 3, "discriminator.widths": (6, 5)},
        "discriminator.wide": False,  # as the authors', where digits have wide ones
    },
    "sagan": {
        **{"generator.widths": (16, 8), "generator.first": 3, "discriminator.widths": (8, 6), "generator.biased": True},
        **{"generator.attention": 4, "discriminator.attention": 4, "g_batches": 1, "d_steps": 2},
    },
    "biggan": {
        **{"generator.widths": (16, 8), "generator.first": 3, "discriminator.widths": (8, 6), "latent_dim": 6},
        **{"generator.attention": 4, "discriminator.attention": 4, "generator.embedding": 3, "data.channels": 3},
        **{"terms.r1.weight": 0.3, "terms.r1.every": 1, "d_steps": 1, "optimizer.generator.learning_rate": 4e-4},
    },
    "biggan:cifar10_deep": {
        **{
            "generator.widths": (16, 8),
            "generator.first": 16,
            "discriminator.widths": (16, 20),
            "generator.biased": True,
        },
        **{
            "generator.attention": 8,
            "discriminator.attention": 4,
            "generator.embedding": 3,
            "discriminator.first": 8,
            "averages.ema.start": 0,
            "d_steps": 1,
        },
    },
    "progan": {  # between 4x4 and 8x8
        **{"fade": 0.4, "data.image_size": 8, "data.channels": 3, "terms.wgan_gp.weight": 4.0, "g_batches": 1},
        **{"terms.drift.weight": 0.2, "d_steps": 2},
    },
    "fastgan": {  # noise, gates of both players, decoders; of 64x64, as lower ones have no gates
        **{"generator.width": 1, "discriminator.width": 1, "data.image_size": 64, "data.channels": 3},
        **{"terms.self_supervision.weight": 0.7, "batch_size": 4},
    },
    "aae": {
        **{"generator.widths": (5,), "generator.encoder_widths": (6,), "discriminator.widths": (5, 4)},
        "terms.reconstruction.weight": 3.0,
    },
    "wgan": {
        **_DENSE,
        "d_steps": 2,
        "optimizer.discriminator.clip": 0.6,
        "schedules.critic_first.moves": 1.0,
        "schedules.critic_first.factor": 2.0,
    },
    "wgan_gp": {
        **_DENSE,
        **{"d_steps": 2, "terms.wgan_gp.weight": 4.0, "discriminator.norm": "layer", "steps": 3},
        **{"schedules.generator_rate.kind": "linear", "schedules.discriminator_rate.kind": "cosine"},
        "schedules.generator_rate.final": 4e-5,
    },
    "dragan": {
        **{"generator.widths": (4,), "discriminator.widths": (3,), "generator.spectral": True},
        **{"discriminator.spectral": True, "d_steps": 2, "terms.dragan.weight": 3.0},
    },
    "relativistic": {
        **_DENSE,
        **{"terms.r1.every": 2, "terms.r1.weight": 0.5, "terms.r2.every": 2, "terms.r2.weight": 0.3, "classes": 3},
        **{"generator.conditional": "concat", "discriminator.conditional": "projection"},
    },
    "r3gan": {  # 7x7 by networks of 8, every number on its way
        **{"generator.widths": (4, 6), "generator.blocks": (1, 2), "generator.groups": (2, 3), "classes": 3},
        **{"discriminator.widths": (6, 4), "discriminator.blocks": (2, 1), "discriminator.groups": (3, 2)},
        **{"generator.conditional": "concat", "discriminator.conditional": "projection", "generator.embedding": 3},
        **{"data.image_size": 7, "data.channels": 3, "g_batches": 1, "terms.r1.weight": 0.5, "terms.r2.weight": 0.3},
        **{f"schedules.{name}.length": 24.0 for name in ("half_life", "r1", "r2", "generator_b2", "discriminator_b2")},
        **{"schedules.generator_rate.length": 24.0, "schedules.discriminator_rate.length": 18.0},
        "schedules.half_life.final": 30.0,
    },
    "stylegan2": {
        **{"classes": 3, "generator.conditional": "concat", "discriminator.conditional": "projection"},
        **{"terms.path_length.every": 1, "terms.r1.every": 2, "terms.r1.weight": 0.5, "averages.ema.rule": "decay"},
        **{"data.channels": 3, "generator.mapping_layers": 2, "discriminator.mapping_layers": 2},
    },
    "improved": {
        **{"generator.widths": (4,), "discriminator.widths": (3,), "generator.conditional": "concat", "classes": 3},
        **{"data.image_size": 7, "labels.fake": 0.05, "optimizer.generator.historical_averaging": 0.3},
        **{"optimizer.discriminator.historical_averaging": 0.2},
    },
}


def case_config(name: str) -> ConfigDict:
    """The config of a case."""
    config = small(name)
    config.update({"compute_dtype": "float64", "latent_dim": 5, "batch_size": 6, "seed": 7})
    config.classes = 3 if config.classes else 0
    config.augment.name = "none"
    config.data.image_size, config.averages.ema.decay = 8, 0.15  # above the warm-up's 1/10, below its 2/11
    config.update_from_flattened_dict(CASES[name])
    return config


def randomized(variables: Tree, seed: int, equalized: bool = False) -> Tree:
    """New values everywhere, running statistics and biases too, so large that activations spread over order 1.

    With ``equalized``, kernels are of layers that scale what they store, in mapping networks by a hundredth.
    """
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.Array) -> np.ndarray:
        slow = "mapping_network" in jax.tree_util.keystr(path) and "EqualizedDense" in jax.tree_util.keystr(path)
        stored = 100.0 if slow else 1.0
        scale, offset = {
            "kernel": (1.2 * stored if equalized else 1.5 / np.sqrt(np.prod(leaf.shape[:-1])), 0.0),
            "table": (0.5, 0.0),
            "basis": (1.0, 0.0),
            "scale": (0.2, 1.0),
            "bias": (0.2 * stored, 0.0),
            "mean": (0.2, 0.0),
            "var": (0.2, 1.0),
            "u": (1.0, 0.0),
            "v": (1.0, 0.0),
            "const": (1.0, 0.0),
            "strength": (0.2, 0.4),
            "w_avg": (0.3, 0.0),
            "gate": (0.2, 0.7),
            "fade": (0.1, 0.5),
            "start_bias": (0.2, 0.0),
        }[path[-1].key]
        drawn: np.ndarray = (offset + scale * rng.normal(size=leaf.shape)).astype(leaf.dtype)
        return drawn / np.linalg.norm(drawn) if path[-1].key in ("u", "v") else drawn

    return jax.tree_util.tree_map_with_path(draw, variables)


@functools.cache
def built(name: str) -> tuple[GAN, Hyperparams, GANState]:
    """The GAN of a case, its hyperparameters, and the shapes of its state."""
    with jax.enable_x64(True):
        gan, hyper = build_gan(case_config(name))
        return gan, hyper, jax.eval_shape(lambda: init_state(gan, 0, hyper))


def first_values(name: str) -> dict[str, Tree]:
    """``generator`` and ``discriminator``, each ``params`` and all its other collections, and ``ema``, by NumPy."""
    shapes = built(name)[2]
    players = {name: getattr(shapes, name) for name in ("generator", "discriminator")}
    drawn = partial(randomized, equalized=name in ("stylegan2", "progan"))
    return {
        **{name: drawn({"params": p.params, **p.stats}, 1 + i) for i, (name, p) in enumerate(players.items())},
        "ema": drawn(shapes.ema, 3),
    }


def first_images(config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[STEPS, d_steps, b, H, W, C]`` in [-1, 1], and their labels, which vary."""
    rng = np.random.default_rng(4)
    shape = (STEPS, config.d_steps, config.batch_size)
    side = config.data.image_size
    images = rng.uniform(-1, 1, (*shape, side, side, config.data.channels))
    each = np.arange(config.batch_size) % max(config.classes, 1)  # every class, in another order each time
    return images, rng.permuted(np.broadcast_to(each, shape), axis=-1).astype(np.int32)


@functools.cache
def ours(name: str) -> Outcome:
    """The case's steps by `gan_jax`: ``metrics`` of each, then ``generator``, ``discriminator``, ``ema``, and for an
    autoencoder ``reconstructed``."""
    config = case_config(name)
    images, labels = first_images(config)
    values = first_values(name)
    with jax.enable_x64(True):
        gan, hyper, _ = built(name)

        def player(name: str, optimizer: Any) -> Player:
            params, stats = values[name]["params"], {k: v for k, v in values[name].items() if k != "params"}
            return Player(params, stats, optimizer(**hyper["optimizer"][name]).init(params))

        state = GANState(
            step=jnp.asarray(0, jnp.int32),
            seed=jnp.asarray(config.seed, jnp.uint32),
            generator=player("generator", gan.generator_optimizer),
            discriminator=player("discriminator", gan.discriminator_optimizer),
            averages={"ema": values["ema"]},
            hyperparams=hyper,
            memory=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), built(name)[2].memory),
        )
        index = jnp.arange(config.batch_size)
        batches = [{"image": i, "label": c, "index": index} for i, c in zip(images, labels, strict=True)]
        step = jax.jit(partial(update, gan)).lower(state, batches[0]).compile(compiler_options=QUICKLY)
        metrics = []
        for batch in batches:
            state, found = step(state, batch)
            metrics.append({name: value for name, value in found.items() if not name.startswith("schedule_")})
        more: Outcome = {}
        if gan.task.reconstruct is not None:
            shown = images[0, 0], labels[0, 0]
            more = {
                "reconstructed": gan.task.reconstruct(gan, state.ema, *shown),
                "viewed": gan.task.shown(gan, state.generator.variables, *shown),
            }
        players = {name: getattr(state, name) for name in ("generator", "discriminator")}
        left = {name: {"params": player.params, **player.stats} for name, player in players.items()}
        outcome: Outcome = jax.device_get({"metrics": metrics, **left, "ema": state.ema, **more})
    return outcome


def digest(outcome: Tree) -> dict[str, Any]:
    """Of each array, by its dotted name, its shape, its norm, and its product with a fixed vector: few numbers that
    hardly any change of it leaves alone."""
    leaves = jax.tree_util.tree_flatten_with_path(outcome)[0]

    def two(leaf: Any) -> list[float]:
        flat = np.asarray(leaf, np.float64).ravel()
        return [float(np.linalg.norm(flat)), float(flat @ np.cos(1 + 0.7 * np.arange(flat.size)))]

    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    return {name: [list(np.shape(leaf)), *two(leaf)] for name, leaf in named.items()}


def recorded(name: str) -> dict[str, Any]:
    """What `tests.oracle.record` wrote of a case."""
    found: dict[str, Any] = json.loads(RECORD.read_text())[name]
    return found


def assert_digests_agree(actual: dict[str, Any], desired: dict[str, Any], tolerance: float = 1e-9) -> None:
    """Same names and shapes; numbers within ``tolerance`` of each array's norm."""
    assert actual.keys() == desired.keys()
    for name, (shape, norm, product) in desired.items():
        assert actual[name][0] == shape, name
        worst = max(abs(actual[name][1] - norm), abs(actual[name][2] - product))
        assert worst <= tolerance * (norm or 1), f"{name}: off by {worst:.1e} of {norm:.1e}"


def assert_same(ours: Tree, theirs: Tree, tolerance: float) -> None:
    """Same structure, shapes and types; differences below ``tolerance`` relative to each array's largest entry."""

    def check(path: Any, a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), jax.tree_util.keystr(path)
        worst = np.abs(a - b).max() / (np.abs(b).max() or 1)
        assert worst < tolerance, f"{jax.tree_util.keystr(path)}: off by {worst:.1e}"

    jax.tree_util.tree_map_with_path(check, ours, theirs)
