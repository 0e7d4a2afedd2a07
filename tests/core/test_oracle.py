"""Our networks and our training against PyTorch's, weights copied across."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import linen
from ml_collections import ConfigDict
from torch import nn

from benchmarks import torch_reference as reference
from benchmarks.torch_reference import copy_to_torch, network_input, to_ours, weighted_layers
from configs import wgan
from gan_jax.build import build_gan
from gan_jax.config import adam, optimizer
from gan_jax.core import draw
from gan_jax.core.gan import GAN
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import GANState, Player, init_state, parameter_count
from gan_jax.core.update import update
from gan_jax.layers import DiscriminatorOutput
from gan_jax.models import dcgan, mlp, resnet
from tests.helpers import small
from tests.oracle.cases import assert_same, randomized

Tree: TypeAlias = Any

# --- the networks -----------------------------------------------------------------------------------------------------


def radford(player: str, dtype: Any = np.float32) -> tuple[linen.Module, nn.Sequential, np.ndarray]:
    """The 64x64x3 network of ours, that of PyTorch, and a batch of inputs."""
    rng = np.random.default_rng(0)
    types = {"dtype": dtype, "param_dtype": dtype}
    if player == "generator":
        ours: linen.Module = dcgan.Generator((64, 64, 3), widths=(512, 256, 128, 64), **types)
        theirs, x = reference.dcgan_generator(100, (512, 256, 128, 64), 64, 3), rng.normal(size=(4, 100))
    else:
        ours = dcgan.Discriminator(widths=(64, 128, 256, 512), **types)
        theirs, x = reference.dcgan_discriminator((64, 128, 256, 512), 64, 3), rng.uniform(-1, 1, (4, 64, 64, 3))
    return ours, theirs.to(torch.from_numpy(np.zeros(0, dtype)).dtype), x.astype(dtype)


def shapes_of(module: linen.Module, x: np.ndarray) -> Tree:
    return jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=True))


def assert_networks_agree(
    ours: linen.Module, theirs: nn.Sequential, variables: Tree, x: np.ndarray, bound: float
) -> None:
    """Outputs in training and in evaluation, and the running statistics that training leaves."""
    for train in (False, True):
        apply = jax.jit(lambda v, x, train=train: ours.apply(v, x, train=train, mutable=["batch_stats"]))
        out, written = apply(variables, x)
        out = out.logits if isinstance(out, DiscriminatorOutput) else out
        expected = theirs.train(train)(network_input(theirs, x)).detach().numpy()
        channels_first = isinstance(theirs[-1], nn.Tanh)
        assert_same(out, np.moveaxis(expected, 1, -1) if channels_first else expected, bound)
        assert_same(written.get("batch_stats", {}), to_ours(theirs)["batch_stats"], bound)


@pytest.mark.parametrize(("player", "count"), [("generator", 3_576_704), ("discriminator", 2_765_568)])
def test_radford_network_has_the_reference_parameters(player: str, count: int) -> None:
    ours, theirs, x = radford(player)
    variables = shapes_of(ours, x)
    assert parameter_count(variables["params"]) == count
    assert sum(p.numel() for p in theirs.parameters()) == count
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, to_ours(theirs))


@pytest.mark.parametrize(
    ("direction", "dtype", "bound"),
    [
        ("from_torch", np.float32, 5e-5),
        pytest.param("to_torch", np.float32, 5e-5, marks=pytest.mark.slow),
        pytest.param("to_torch", np.float64, 1e-12, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_radford_network_agrees(player: str, direction: str, dtype: Any, bound: float) -> None:
    with jax.enable_x64(dtype is np.float64):
        ours, theirs, x = radford(player, dtype)
        if direction == "to_torch":
            variables = randomized(shapes_of(ours, x), 1)
            copy_to_torch(variables, theirs)
        else:
            train_a_little(theirs, x)
            variables = to_ours(theirs)
        assert_networks_agree(ours, theirs, variables, x, bound)


def train_a_little(net: nn.Sequential, x: np.ndarray) -> None:
    """PyTorch's own initial weights and two steps from there, so that no gain, bias or running statistic is trivial."""
    torch.manual_seed(0)
    for _, layer in weighted_layers(net):
        layer.reset_parameters()
    optimizer = torch.optim.Adam(net.parameters(), 0.002)
    for _ in range(2):
        optimizer.zero_grad()
        net(network_input(net, x)).pow(2).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("direction", ["from_torch", "to_torch"])
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_mlp_agrees(player: str, direction: str) -> None:
    rng = np.random.default_rng(0)
    shape = (6, 5, 3)
    if player == "generator":
        ours: linen.Module = mlp.Generator(shape, widths=(16, 24, 32))
        theirs, x = reference.mlp_generator(7, (16, 24, 32), shape), rng.normal(size=(5, 7)).astype(np.float32)
    else:
        ours = mlp.Discriminator(widths=(32, 24, 16))
        theirs = reference.mlp_discriminator((32, 24, 16), shape)
        x = rng.uniform(-1, 1, (5, *shape)).astype(np.float32)
    shapes = shapes_of(ours, x)
    assert jax.tree.map(np.shape, shapes["params"]) == jax.tree.map(np.shape, to_ours(theirs)["params"])
    if direction == "to_torch":
        variables = {"params": randomized(shapes["params"], 1), "batch_stats": {}}
        copy_to_torch(variables, theirs)
    else:
        train_a_little(theirs, x)
        variables = to_ours(theirs)
    assert_networks_agree(ours, theirs, variables, x, 5e-6)


# --- training ---------------------------------------------------------------------------------------------------------

ADAM = {"generator": (2e-3, 0.5, 0.999), "discriminator": (3e-3, 0.4, 0.99)}  # learning rate, betas
EMA_DECAY = 0.15  # above the warm-up's 1/10 at the first step, below its 2/11 at the second


def build(overrides: dict[str, Any]) -> tuple[GAN, GANState]:
    """A narrow float64 GAN and a state with nothing trivial in it."""
    config = small(overrides.get("family", "dcgan"))
    config.augment.name = "none"
    config.update({"compute_dtype": "float64", "latent_dim": 6, "batch_size": 8})
    config.averages.ema.decay = EMA_DECAY
    for name, (rate, b1, b2) in ADAM.items():
        config.optimizer[name].update({"learning_rate": rate, "b1": b1, "b2": b2})
    config.update_from_flattened_dict({key: value for key, value in overrides.items() if key != "family"})
    gan, hyper = build_gan(config)
    shapes = jax.eval_shape(lambda: init_state(gan, 7, hyper))

    def player(name: str, optimizer: Any, seed: int) -> Player:
        drawn = randomized(variables_of(getattr(shapes, name)), seed)
        stats = {"batch_stats": drawn["batch_stats"]} if drawn["batch_stats"] else {}
        return Player(drawn["params"], stats, opt_state=optimizer(**hyper["optimizer"][name]).init(drawn["params"]))

    return gan, GANState(
        step=jnp.asarray(0, jnp.int32),
        seed=jnp.asarray(7, jnp.uint32),
        generator=player("generator", gan.generator_optimizer, 0),
        discriminator=player("discriminator", gan.discriminator_optimizer, 1),
        averages={"ema": randomized(shapes.ema, 2)},
        hyperparams=hyper,
        memory={"terms": {}, "schedules": {}},
    )


def variables_of(player: Player) -> Tree:
    return {"params": player.params, "batch_stats": player.stats.get("batch_stats", {})}


def reference_trainer(gan: GAN, state: GANState) -> reference.Trainer:
    """PyTorch's networks and optimizers, with the weights, running statistics and labels of ``state``."""
    shape, g_widths, d_widths = gan.image_shape, gan.generator.widths, gan.discriminator.widths
    if isinstance(gan.generator, mlp.Generator):
        generator = reference.mlp_generator(gan.latent_dim, g_widths, shape)
        discriminator = reference.mlp_discriminator(d_widths, shape)
    else:
        generator = reference.dcgan_generator(gan.latent_dim, g_widths, shape[0], shape[2])
        discriminator = reference.dcgan_discriminator(d_widths, shape[0], shape[2])
    copy_to_torch(variables_of(state.generator), generator.double())
    copy_to_torch(variables_of(state.discriminator), discriminator.double())
    labels = {"real": 1.0, "fake": 0.0, "generator": 1.0, **jax.tree.map(float, state.hyperparams["labels"])}
    g_adam, d_adam = ({"lr": rate, "betas": betas} for rate, *betas in ADAM.values())
    targets = (labels["real"], labels["fake"], labels["generator"])
    return reference.Trainer(generator, discriminator, gan.loss.__name__, targets, g_adam, d_adam)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="non_saturating"),
        pytest.param(
            {"labels.real": 0.9, "labels.fake": 0.05}, id="non_saturating, smoothed labels", marks=pytest.mark.slow
        ),
        pytest.param({"loss": "minimax", "labels.real": 0.9}, id="minimax, smoothed labels", marks=pytest.mark.slow),
        pytest.param({"loss": "least_squares", "labels.real": 0.8, "labels.fake": -0.3}, id="least_squares"),
        pytest.param(
            {"loss": "least_squares", "labels.real": 0.8, "labels.fake": -0.3, "labels.generator": 0.1},
            id="least_squares, G aims between",
            marks=pytest.mark.slow,
        ),
        pytest.param({"loss": "hinge", "d_steps": 3}, id="hinge, three discriminator steps", marks=pytest.mark.slow),
        pytest.param({"loss": "wasserstein"}, id="wasserstein", marks=pytest.mark.slow),
        pytest.param(
            {"loss": "hinge", "d_steps": 2, "g_batches": 3},
            id="three batches of latents of G's own",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"generator.widths": (12, 10, 8), "discriminator.widths": (6, 8, 10)},
            id="28 by way of 7, an odd side",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "data.image_size": 64,
                "data.channels": 3,
                "generator.widths": (12, 10, 8, 6),
                "discriminator.widths": (6, 8, 10, 12),
            },
            id="64x64x3",
            marks=pytest.mark.slow,
        ),
        pytest.param({"family": "gan"}, id="mlp", marks=pytest.mark.slow),
    ],
)
def test_training_agrees(overrides: dict[str, Any]) -> None:
    """Three steps: every metric, parameter and running statistic after each, and the moving averages."""
    with jax.enable_x64(True):
        gan, state = build(overrides)
        trainer = reference_trainer(gan, state)
        seed, index = state.seed, jnp.arange(8)
        step = jax.jit(partial(update, gan))

        @jax.jit
        def latents(index: Any, *counters: Any) -> Any:
            return draw.latents(gan, example_keys(random_key(seed, "latents", *counters), index))

        more = jnp.arange(8 * gan.g_batches)
        rng = np.random.default_rng(3)
        ema = state.ema
        for t in range(3):
            real = rng.uniform(-1, 1, (gan.d_steps, 8, *gan.image_shape))
            labels = jnp.zeros(real.shape[:2], jnp.int32)
            z = np.stack([latents(index, t, substep) for substep in range(gan.d_steps)])
            own = torch.tensor(np.asarray(latents(more, t, gan.d_steps))) if gan.g_batches else None
            state, metrics = step(state, {"image": real, "index": index, "label": labels})
            found = trainer.step(network_input(trainer.discriminator, real), torch.tensor(z), own=own)
            expected = trainer.figures(found)

            metrics = {name: value for name, value in metrics.items() if not name.startswith("schedule_")}
            assert_same(metrics, {name: np.float64(value) for name, value in expected.items()}, 1e-11)
            assert_same(variables_of(state.generator), to_ours(trainer.generator), 1e-11)
            assert_same(variables_of(state.discriminator), to_ours(trainer.discriminator), 1e-11)
            decay = min(EMA_DECAY, (1 + t) / (10 + t))
            newest = {name: value for name, value in to_ours(trainer.generator).items() if value}
            ema = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, ema, newest)
            assert_same(state.ema, ema, 1e-11)
        assert int(state.step) == 3


# --- optimizers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "theirs", "settings"),
    [
        (wgan.get_config("celeb_a").optimizer.generator, torch.optim.RMSprop, {"lr": 5e-5}),
        (wgan.get_config("celeb_a").optimizer.discriminator, torch.optim.RMSprop, {"lr": 5e-5}),
        (
            optimizer("rmsprop", 1e-3, decay=0.8, eps=1e-3, eps_in_sqrt=False, centered=True, momentum=0.9),
            torch.optim.RMSprop,
            {"lr": 1e-3, "alpha": 0.8, "eps": 1e-3, "centered": True, "momentum": 0.9},
        ),
        (
            optimizer("sgd", 0.1, momentum=0.9, nesterov=True),
            torch.optim.SGD,
            {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        ),
        (adam(1e-3, 0.5, 0.9), torch.optim.Adam, {"lr": 1e-3, "betas": (0.5, 0.9)}),
    ],
    ids=["wgan, generator", "wgan, discriminator", "centered rmsprop with momentum", "nesterov", "adam"],
)
def test_an_optimizer_is_pytorchs(entry: ConfigDict, theirs: Any, settings: dict[str, Any]) -> None:
    """Seven steps in float64 on gradients of sizes from 1e-9 to 10, by far most of WGAN's being below 1e-4."""
    rng = np.random.default_rng(0)
    start, scales = rng.normal(size=200), 10.0 ** rng.uniform(-9, 1, 200)
    gradients = [scales * rng.normal(size=200) for _ in range(7)]
    parameter = torch.nn.Parameter(torch.tensor(start))
    reference_optimizer = theirs([parameter], **settings)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        reference_optimizer.step()
    with jax.enable_x64(True):
        config = small("gan")
        config.compute_dtype = "float64"
        config.optimizer.generator = entry.copy_and_resolve_references()
        config.optimizer.generator.clip = 0.0
        gan, hyper = build_gan(config)
        params: Tree = jnp.asarray(start)
        state = gan.generator_optimizer(**hyper["optimizer"]["generator"]).init(params)

        @jax.jit
        def step(hyper: Any, gradient: Any, state: Any, params: Any) -> Any:
            updates, state = gan.generator_optimizer(**hyper).update(gradient, state, params)
            return state, optax.apply_updates(params, updates)

        for gradient in gradients:
            state, params = step(hyper["optimizer"]["generator"], gradient, state, params)
    np.testing.assert_allclose(np.asarray(params) - start, parameter.detach().numpy() - start, rtol=1e-9)


# --- residual networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [16, 14])
def test_residual_generator_is_the_papers(side: int) -> None:
    """Table 4(a) of Miyato et al. 2018, with the order of the blocks' parts of Gulrajani et al.'s code."""
    with jax.enable_x64(True):
        types: Any = {"dtype": np.float64, "param_dtype": np.float64}
        ours = resnet.Generator((side, side, 3), widths=(6, 5), first=7, **types)
        theirs = reference.residual_generator(7, 7, (6, 5), side, 3).double()
        z = np.random.default_rng(0).normal(size=(4, 7))
        variables = randomized(shapes_of(ours, z), 1)
        copy_to_torch(variables, theirs)
        assert_networks_agree(ours, theirs, variables, z, 1e-12)


@pytest.mark.parametrize(("side", "pooling", "wide"), [(16, "sum", False), (14, "mean", False), (16, "sum", True)])
def test_residual_discriminator_is_the_papers(side: int, pooling: str, wide: bool) -> None:
    """Table 4(b): the first block begins at the image, the last doesn't halve; the sum or mean over all pixels."""
    with jax.enable_x64(True):
        types: Any = {"dtype": np.float64, "param_dtype": np.float64}
        ours = resnet.Discriminator(widths=(6, 5, 5), downs=2, pooling=pooling, wide=wide, **types)
        theirs = reference.residual_discriminator((6, 5, 5), 2, 3, mean=pooling == "mean", wide=wide).double()
        images = np.random.default_rng(0).uniform(-1, 1, (4, side, side, 3))
        variables = randomized(shapes_of(ours, images), 1)
        copy_to_torch(variables, theirs)
        assert_networks_agree(ours, theirs, variables, images, 1e-12)
