"""The networks against what their authors' code says: numbers of parameters, initial values."""

import importlib
import math
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict
from numpy.testing import assert_array_equal

from gan_jax import stages
from gan_jax.build import build_gan
from gan_jax.core.state import init_state, parameter_count
from gan_jax.models import biggan, biggan_deep, dcgan, mlp, resnet
from gan_jax.util.errors import UserError


def conv(side: int, inputs: int, outputs: int) -> int:
    return side * side * inputs * outputs + outputs


def down_block(inputs: int, inside: int, outputs: int, beside: bool = True) -> int:
    return conv(3, inputs, inside) + conv(3, inside, outputs) + (conv(1, inputs, outputs) if beside else 0)


AT_64 = [(3, 64, 64), (64, 64, 128), (128, 128, 256), (256, 256, 512), (512, 512, 1024)]
AT_32 = [(3, 128, 128), (128, 128, 128)]
PLAIN = down_block(128, 128, 128, beside=False)


@pytest.mark.parametrize(
    ("name", "expected", "about"),
    [
        # Miyato et al. 2018, table 3; the logs of two other projects say 1,055,105 with an embedding of 1,280 more.
        ("sngan:cifar10", sum(down_block(*b) for b in AT_32) + 2 * PLAIN + 129, 1_053_825),
        ("sngan:celeb_a", sum(down_block(*b) for b in AT_64) + 1025, 10_141_441),
        (
            "sngan:folder@128",
            sum(down_block(*b) for b in AT_64) + down_block(1024, 1024, 1024, beside=False) + 1025,
            29_017_857,
        ),
        ("wgan_gp:cifar10", sum(down_block(*b) for b in AT_32) + 2 * PLAIN + 129, 1_053_825),
    ],
)
def test_a_residual_discriminator_has_its_authors_parameters(name: str, expected: int, about: int) -> None:
    file, dataset = name.split(":")
    gan, hyper = build_gan(importlib.import_module(f"configs.{file}").get_config(dataset))
    state = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    assert expected == about
    assert parameter_count(state.discriminator.params) == expected


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        # PyTorch-StudioGAN's logs; that of 64x64 counted by its networks.
        ("sagan:cifar10", 4_386_308, 1_075_586),
        ("sagan:imagenet64", 12_811_396, 19_650_242),
        ("sagan:imagenet128", 42_017_412, 39_448_258),
        ("biggan:cifar10", 9_416_196, 2_415_170),
        ("biggan:cifar10_deep", 4_599_876, 415_010),
        # BigGAN-PyTorch's log; its script's networks, counted.
        ("biggan:imagenet128", 70_433_988, 87_982_370),
        ("biggan:imagenet128_deep", 50_244_484, 34_590_210),
    ],
)
def test_a_preset_with_attention_has_the_published_parameters(name: str, generator: int, discriminator: int) -> None:
    file, preset = name.split(":")
    config = importlib.import_module(f"configs.{file}").get_config(preset)
    if name == "sagan:imagenet64":
        config.classes = 100  # of StudioGAN's "Baby ImageNet"
    gan, hyper = build_gan(config)
    state = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    assert parameter_count(state.generator.params) == generator
    assert parameter_count(state.discriminator.params) == discriminator


@pytest.mark.parametrize(
    ("side", "generator", "discriminator"),
    [(32, 20_719_628, 20_726_785), (256, 23_044_309, 23_052_353), (1024, 23_079_115, 23_087_249)],
)
def test_the_progressive_gan_has_its_authors_parameters(side: int, generator: int, discriminator: int) -> None:
    config = importlib.import_module("configs.progan").get_config("celeba_hq1024")
    config.data.image_size = side
    gan, hyper = build_gan(config)
    state = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    assert parameter_count(state.generator.params) == generator
    assert parameter_count(state.discriminator.params) == discriminator


@pytest.mark.parametrize(
    ("side", "generator", "discriminator"),
    [(256, 29_127_846, 11_526_160), (512, 29_174_392, 11_526_496), (1024, 29_176_512, 11_528_192)],
)
def test_fastgan_has_its_authors_parameters(side: int, generator: int, discriminator: int) -> None:
    gan, hyper = build_gan(importlib.import_module("configs.fastgan").get_config(f"folder@{side}"))
    state = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    assert parameter_count(state.generator.params) == generator
    assert parameter_count(state.discriminator.params) == discriminator


def test_each_block_of_biggan_is_told_a_part_of_the_latent_of_its_own() -> None:
    """As in the paper's appendix B: the latent is cut, and the label's embedding goes with every part."""
    z, shared = jnp.arange(8.0).reshape(1, 8), jnp.full((1, 3), 9.0)
    start, codes = biggan.Generator((32, 32, 3), widths=(4, 4, 4)).codes(z, shared)
    assert_array_equal(start, [[0, 1]])
    assert_array_equal(codes, [[[9, 9, 9, 2, 3]], [[9, 9, 9, 4, 5]], [[9, 9, 9, 6, 7]]])


def test_deep_shortcuts_keep_the_first_channels() -> None:
    """BigGAN-deep's blocks without their convolutions: what is left are the first channels, doubled."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            types = {"dtype": jnp.float32, "param_dtype": jnp.float32, "initializer": "normal", "spectral": False}
            return biggan_deep._up_block(x, 3, (4, 4), lambda x: x, types)

    x = jnp.arange(2 * 2 * 2 * 8, dtype=jnp.float32).reshape(2, 2, 2, 8)
    found, variables = Block().init_with_output(jax.random.key(0), x)
    nothing = jax.tree.map(jnp.zeros_like, variables)
    np.testing.assert_array_equal(Block().apply(nothing, x), x[..., :3].repeat(2, 1).repeat(2, 2))
    assert np.abs(found - Block().apply(nothing, x)).max() > 0


def test_the_progressive_gan_grows_as_published() -> None:
    config = importlib.import_module("configs.progan").get_config("celeba_hq1024")
    planned = stages.plan(config)
    assert [(one.config.data.image_size, one.config.batch_size) for one in planned[::2]] == [
        *((4, 128), (8, 128), (16, 128), (32, 64), (64, 32), (128, 16), (256, 8), (512, 4), (1024, 4))
    ]
    assert [one.config.fade for one in planned] == [1.0, *(0.0, 1.0) * 8]
    assert all(one.reset_optimizer for one in planned)
    lengths = [one.count.images_at(one.end) - one.count.before for one in planned]
    assert all(600_000 <= images < 600_128 for images in lengths[:-1])
    assert 12_000_000 <= planned[-1].count.total < 12_000_128
    for one in planned:
        assert one.config.optimizer.generator.learning_rate == (0.0015 if one.config.data.image_size == 1024 else 0.001)


def test_a_wide_discriminator_has_sagans_parameters() -> None:
    """StudioGAN has 19,650,242 in SAGAN at 64x64 with 100 classes: with attention, without biases, and an embedding."""
    widths, count = (64, 128, 256, 512, 1024), 19_650_242 - (2 * 64**2 // 8 + 2 * 64**2 // 2 + 1) - 100 * 1024
    module = resnet.Discriminator(widths=widths, downs=4, wide=True)
    found = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=True))
    assert parameter_count(found["params"]) == count


def adam(rate: float, b1: float, b2: float) -> dict[str, Any]:
    return {"name": "adam", "learning_rate": rate, "b1": b1, "b2": b2}


FALLING = {f"schedules.{player}_rate": {"kind": "linear", "final": 0.0} for player in ("generator", "discriminator")}


SNGAN = {
    **{"steps": 50_000, "d_steps": 5, "g_batches": 2, "batch_size": 64, "latent_dim": 128, "loss": "hinge"},
    **{
        "augment.name": "none",
        "generator.first": 256,
        "generator.widths": (256, 256, 256),
        "discriminator.spectral": True,
    },
    **{"discriminator.widths": (128, 128, 128, 128), "discriminator.pooling": "sum", "discriminator.norm": "none"},
    "optimizer.generator": adam(2e-4, 0.0, 0.9),
    "optimizer.discriminator": adam(2e-4, 0.0, 0.9),
    **FALLING,
}
RMSPROP = {"name": "rmsprop", "learning_rate": 5e-5, "decay": 0.99, "eps": 1e-8, "eps_in_sqrt": False}
# What the heads of the config files say is as in the authors' own files; these are named there.
CLAIMS: dict[str, dict[str, Any]] = {
    "dcgan:celeb_a": {
        **{"batch_size": 64, "latent_dim": 100, "loss": "non_saturating", "generator.widths": (512, 256, 128, 64)},
        **{"discriminator.widths": (64, 128, 256, 512), "generator.norm": "batch", "discriminator.norm": "batch"},
        **{"optimizer.generator": adam(2e-4, 0.5, 0.999), "optimizer.discriminator": adam(2e-4, 0.5, 0.999)},
    },
    "fastgan:folder@256": {
        **{"steps": 50_000, "batch_size": 8, "latent_dim": 256, "loss": "soft_hinge", "averages.ema.decay": 0.999},
        **{"augment.name": "color,translation", "data.flip": True},
        "optimizer.generator": adam(2e-4, 0.5, 0.999),
        "optimizer.discriminator": adam(2e-4, 0.5, 0.999),
    },
    "wgan:lsun_bedroom": {
        **{
            "d_steps": 5,
            "g_batches": 1,
            "batch_size": 64,
            "augment.name": "none",
            "schedules.critic_first": {"moves": 25.0, "factor": 20.0, "period": 500.0},
        },
        **{"discriminator.norm": "batch", "latent_dim": 100},
        **{"optimizer.generator": RMSPROP, "optimizer.discriminator": RMSPROP | {"clip": 0.01}},
    },
    "wgan_gp:celeb_a": {
        **{"d_steps": 5, "terms.wgan_gp.weight": 10.0, "discriminator.norm": "none", "terms.wgan_gp.every": 1},
        **{"optimizer.generator": adam(1e-4, 0.5, 0.9), "optimizer.discriminator": adam(1e-4, 0.5, 0.9)},
    },
    "wgan_gp:cifar10": {
        **{"steps": 100_000, "d_steps": 5, "g_batches": 2, "batch_size": 64, "latent_dim": 128, "augment.name": "none"},
        **{
            "terms.wgan_gp.weight": 10.0,
            "generator.widths": (128, 128, 128),
            "discriminator.widths": (128, 128, 128, 128),
        },
        **{"discriminator.pooling": "mean", "discriminator.norm": "none", "discriminator.downs": 2},
        "optimizer.generator": adam(2e-4, 0.0, 0.9),
        "optimizer.discriminator": adam(2e-4, 0.0, 0.9),
        **FALLING,
    },
    "sngan:cifar10": SNGAN,
    "projection:cifar10": SNGAN | {"generator.conditional": "norm", "discriminator.conditional": "projection"},
    "sngan:celeb_a": {"g_batches": 1, "d_steps": 5, "batch_size": 64, "generator.widths": (512, 256, 128, 64)},
    "dragan:mnist5k": {"terms.dragan.weight": 10.0, "discriminator.norm": "none"},
    "acgan:mnist5k": {"terms.auxiliary_generator.weight": 1.0, "terms.auxiliary_discriminator.weight": 1.0},
    "improved:mnist5k": {"labels.real": 0.9, "generator.norm": "virtual", "discriminator.minibatch": "discrimination"},
    "lsgan:mnist5k": {"labels.real": 1.0, "labels.fake": 0.0, "labels.generator": 1.0},
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_config_is_what_it_says_of_its_paper(name: str) -> None:
    file, dataset = name.split(":")
    config = importlib.import_module(f"configs.{file}").get_config(dataset)
    for key, expected in CLAIMS[name].items():
        found = reduce(getitem, key.split("."), config)
        if isinstance(expected, dict):
            found = {inner: found[inner] for inner in expected}
        assert found == expected, key


def spreads(module: Any, x: Any) -> dict[str, tuple[float, float]]:
    """Standard deviation and largest size of every initial kernel and gain, about their means."""
    drawn: Mapping[str, Any] = jax.jit(lambda: module.init(jax.random.key(0), x, train=True))()["params"]
    flat = {"/".join(path): np.asarray(leaf, np.float64) for path, leaf in flatten_dict(drawn).items()}
    return {name: (leaf.std(), np.abs(leaf - leaf.mean()).max()) for name, leaf in flat.items() if "bias" not in name}


def glorot(side: int, inputs: int, outputs: int, gain: float) -> float:
    return gain * math.sqrt(2 / (side * side * (inputs + outputs)))


ROOT = math.sqrt(2)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (
            resnet.Generator((8, 8, 3), widths=(64, 32), first=48),
            (1, 40),
            {
                "Dense_0": glorot(1, 40, 2 * 2 * 48, 1),
                "Conv_0": glorot(3, 48, 64, ROOT),
                "Conv_1": glorot(3, 64, 64, ROOT),
                "Conv_2": glorot(1, 48, 64, 1),
                "Conv_3": glorot(3, 64, 32, ROOT),
                "Conv_4": glorot(3, 32, 32, ROOT),
                "Conv_5": glorot(1, 64, 32, 1),
                "Conv_6": glorot(3, 32, 3, 1),
            },
        ),
        (
            resnet.Discriminator(widths=(48, 64), downs=2),
            (1, 8, 8, 3),
            {
                "Conv_0": glorot(3, 3, 48, ROOT),
                "Conv_1": glorot(3, 48, 48, ROOT),
                "Conv_2": glorot(1, 3, 48, 1),
                "Conv_3": glorot(3, 48, 48, ROOT),
                "Conv_4": glorot(3, 48, 64, ROOT),
                "Conv_5": glorot(1, 48, 64, 1),
                "Dense_0": glorot(1, 64, 1, 1),
            },
        ),
    ],
    ids=["generator", "discriminator"],
)
def test_initial_kernels_are_uniform_and_a_root_of_2_larger_in_blocks(
    module: Any, shape: tuple[int, ...], expected: dict[str, float]
) -> None:
    """Glorot's in both papers' code: chainer's GlorotUniform(sqrt(2)), and "he_init" of tflib, 4 / (fan in + fan out).

    Within four standard errors of the spread of a uniform sample of that size.
    """
    found = spreads(module, jnp.zeros(shape))
    kernels = {name.removesuffix("/kernel"): value for name, value in found.items() if name.endswith("kernel")}
    assert kernels.keys() == expected.keys()
    sizes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(shape), train=True))["params"]
    for name, (spread, largest) in kernels.items():
        error = 4 * math.sqrt(0.2 / sizes[name]["kernel"].size)  # of a uniform sample, relative
        assert spread == pytest.approx(expected[name], rel=error), name
        assert largest < math.sqrt(3) * expected[name] * (1 + error), name
    assert all(spread == 0 for name, (spread, _) in found.items() if name.endswith("scale"))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (dcgan.Generator((8, 8, 1), widths=(2048, 8)), 0.02),
        (mlp.Generator((8, 8, 1), widths=(2048,), norm="batch"), 0.0),
        (resnet.Generator((8, 8, 1), widths=(8, 8), first=2048), 0.0),
        (resnet.Generator((8, 8, 1), widths=(8, 8), first=2048, initializer="normal"), 0.0),
    ],
    ids=["dcgan", "mlp", "resnet", "resnet, normal"],
)
def test_gains_of_batch_norm_spread_in_dcgans_alone(module: Any, expected: float) -> None:
    spread, _ = spreads(module, jnp.zeros((1, 4)))["BatchNorm_0/scale"]
    assert spread == pytest.approx(expected, rel=0.06)


def test_a_pooling_that_is_none_is_one_clear_line() -> None:
    config = importlib.import_module("configs.sngan").get_config()
    config.discriminator.pooling = "max"
    with pytest.raises(UserError, match="pooling must be one of sum, mean, not 'max'"):
        build_gan(config)
