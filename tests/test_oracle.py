"""Our networks and our training against PyTorch's, weights copied across."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
from flax import linen
from torch import nn

from gan_jax.build import build_gan
from gan_jax.models import dcgan, mlp
from gan_jax.state import GAN, GANState, draw_latents, init_state, parameter_count, random_key
from gan_jax.update import update
from tests import torch_reference as reference
from tests.conftest import small

Tree = Any

# --- copying weights and running statistics ---------------------------------------------------------------------------


def weighted_layers(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Each PyTorch layer that has weights, with the name of ours."""
    count: Counter[str] = Counter()
    for layer in net.modules():
        match layer:
            case nn.BatchNorm2d():
                kind = "BatchNorm"
            case nn.Linear() | nn.Conv2d(stride=(1, 1)) | nn.ConvTranspose2d(stride=(1, 1)):
                kind = "Dense"
            case nn.ConvTranspose2d():
                kind = "TransposedConv"
            case nn.Conv2d():
                kind = "StridedConv"
            case _:
                continue
        yield f"{kind}_{count[kind]}", layer
        count[kind] += 1


def kernel_to_ours(layer: nn.Module, weight: np.ndarray) -> np.ndarray:
    if isinstance(layer, nn.Linear):
        return weight.T
    if layer.stride == (2, 2):
        return weight.transpose(2, 3, 1, 0)
    flat = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)  # a dense layer to or from side x side x channels
    return flat if isinstance(layer, nn.ConvTranspose2d) else flat.T


def kernel_to_torch(layer: nn.Module, kernel: np.ndarray) -> np.ndarray:
    if isinstance(layer, nn.Linear):
        return kernel.T
    if layer.stride == (2, 2):
        return kernel.transpose(3, 2, 0, 1)
    _, channels, side, _ = layer.weight.shape
    flat = kernel if isinstance(layer, nn.ConvTranspose2d) else kernel.T
    return flat.reshape(-1, side, side, channels).transpose(0, 3, 1, 2)


def to_ours(net: nn.Module) -> Tree:
    """The variables of our module, from a PyTorch network."""
    params: dict[str, dict[str, np.ndarray]] = {}
    stats: dict[str, dict[str, np.ndarray]] = {}
    for name, layer in weighted_layers(net):
        values = {key: value.detach().numpy().copy() for key, value in layer.state_dict().items()}
        if name.startswith("BatchNorm"):
            params[name] = {"scale": values["weight"], "bias": values["bias"]}
            stats[name] = {"mean": values["running_mean"], "var": values["running_var"]}
        else:
            bias = {"bias": values["bias"]} if "bias" in values else {}
            params[name] = {"kernel": kernel_to_ours(layer, values["weight"]), **bias}
    return {"params": params, "batch_stats": stats}


@torch.no_grad()
def copy_to_torch(variables: Tree, net: nn.Module) -> None:
    """Overwrites everything in ``net`` with the variables of our module."""
    for name, layer in weighted_layers(net):
        ours = jax.tree.map(np.array, {**variables["params"][name], **variables["batch_stats"].get(name, {})})
        if name.startswith("BatchNorm"):
            values = {"weight": ours["scale"], "running_mean": ours["mean"], "running_var": ours["var"]}
        else:
            values = {"weight": kernel_to_torch(layer, ours["kernel"])}
        if "bias" in ours:
            values["bias"] = ours["bias"]
        for key, value in values.items():
            target = getattr(layer, key)
            assert target.shape == value.shape
            target.copy_(torch.from_numpy(value))


def randomized(variables: Tree, seed: int) -> Tree:
    """New values everywhere, running statistics and biases too, so large that activations spread over order 1."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.Array) -> np.ndarray:
        scale, offset = {
            "kernel": (1.5 / np.sqrt(np.prod(leaf.shape[:-1])), 0.0),
            "scale": (0.2, 1.0),
            "bias": (0.2, 0.0),
            "mean": (0.2, 0.0),
            "var": (0.2, 1.0),
        }[path[-1].key]
        return (offset + scale * rng.normal(size=leaf.shape)).clip(-1 if offset == 0 else 0.3).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, variables)


def assert_same(ours: Tree, theirs: Tree, tolerance: float) -> None:
    """Same structure, shapes and types; differences below ``tolerance`` relative to each array's largest entry."""

    def check(path: Any, a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), jax.tree_util.keystr(path)
        worst = np.abs(a - b).max() / np.abs(b).max()
        print(jax.tree_util.keystr(path), worst)
        assert worst < tolerance, f"{jax.tree_util.keystr(path)}: off by {worst:.1e}"

    jax.tree_util.tree_map_with_path(check, ours, theirs)


def network_input(net: nn.Module, x: np.ndarray) -> torch.Tensor:
    """Latents, or images ``[..., H, W, C]``, as ``net`` wants them: channels first if its first layer is a convolution."""
    return torch.tensor(np.moveaxis(x, -1, -3) if isinstance(net[0], nn.Conv2d) else x)


# --- the networks -----------------------------------------------------------------------------------------------------

Network = tuple[linen.Module, nn.Module, np.ndarray]


def radford(player: str, dtype: Any = np.float32) -> Network:
    """The 64x64x3 network of ours, that of PyTorch, and a batch of inputs."""
    rng = np.random.default_rng(0)
    types = {"dtype": dtype, "param_dtype": dtype}
    if player == "generator":
        ours: linen.Module = dcgan.Generator((64, 64, 3), (512, 256, 128, 64), **types)
        theirs, x = reference.dcgan_generator(100, (512, 256, 128, 64), 4, 3), rng.normal(size=(6, 100))
    else:
        ours = dcgan.Discriminator((64, 128, 256, 512), **types)
        theirs, x = reference.dcgan_discriminator((64, 128, 256, 512), 4, 3), rng.uniform(-1, 1, (6, 64, 64, 3))
    return ours, theirs.to(torch.from_numpy(np.zeros(0, dtype)).dtype), x.astype(dtype)


def shapes_of(module: linen.Module, x: np.ndarray) -> Tree:
    return jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=True))


def assert_networks_agree(ours: linen.Module, theirs: nn.Module, variables: Tree, x: np.ndarray, bound: float) -> None:
    """Outputs in training and in evaluation, and the running statistics that training leaves."""
    for train in (False, True):
        apply = jax.jit(lambda v, x, train=train: ours.apply(v, x, train=train, mutable=["batch_stats"]))
        out, written = apply(variables, x)
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
    [("from_torch", np.float32, 5e-5), ("to_torch", np.float32, 5e-5), ("to_torch", np.float64, 1e-12)],
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


def train_a_little(net: nn.Module, x: np.ndarray) -> None:
    """Two steps of PyTorch's own from its own initialisation, so that no gain, bias or running statistic is trivial."""
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
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
        ours: linen.Module = mlp.Generator(shape, (16, 24, 32))
        theirs, x = reference.mlp_generator(7, (16, 24, 32), shape), rng.normal(size=(5, 7)).astype(np.float32)
    else:
        ours = mlp.Discriminator((32, 24, 16))
        theirs = reference.mlp_discriminator((32, 24, 16), shape)
        x = rng.uniform(-1, 1, (5, *shape)).astype(np.float32)
    shapes = shapes_of(ours, x)
    assert jax.tree.map(np.shape, shapes["params"]) == jax.tree.map(np.shape, to_ours(theirs)["params"])
    if direction == "to_torch":
        copy_to_torch(randomized(shapes, 1), theirs)
    assert_networks_agree(ours, theirs, to_ours(theirs), x, 5e-6)


# --- training ---------------------------------------------------------------------------------------------------------

RATES = {"generator": (2e-3, 0.5, 0.999), "discriminator": (3e-3, 0.4, 0.99)}  # learning rate, betas
EMA_DECAY = 0.15  # above the warm-up's 1/10 of the first step, below its 2/11 of the second


def build(overrides: dict[str, Any]) -> tuple[GAN, GANState]:
    """A narrow float64 GAN and a state with nothing trivial in it."""
    config = small(overrides.get("family", "dcgan"))
    config.update({"compute_dtype": "float64", "latent_dim": 6, "batch_size": 8})
    config.ema.decay = EMA_DECAY
    for player, (rate, b1, b2) in RATES.items():
        config.optimizer[player].update({"learning_rate": rate, "b1": b1, "b2": b2})
    config.update_from_flattened_dict({key: value for key, value in overrides.items() if key != "family"})
    gan, hyper = build_gan(config)
    state = init_state(gan, 7, hyper)
    drawn = {
        name: randomized({"params": player.params, "batch_stats": player.batch_stats}, seed)
        for seed, (name, player) in enumerate(
            {"generator": state.generator, "discriminator": state.discriminator}.items()
        )
    }
    state = state.replace(
        generator=state.generator.replace(**drawn["generator"]),
        discriminator=state.discriminator.replace(**drawn["discriminator"]),
        ema=randomized(state.ema, 2),
    )
    return gan, state


def reference_networks(gan: GAN) -> tuple[nn.Module, nn.Module]:
    side, _, channels = gan.image_shape
    if isinstance(gan.generator, mlp.Generator):
        return (
            reference.mlp_generator(gan.latent_dim, gan.generator.widths, gan.image_shape).double(),
            reference.mlp_discriminator(gan.discriminator.widths, gan.image_shape).double(),
        )
    base = side // 2 ** len(gan.generator.widths)
    return (
        reference.dcgan_generator(gan.latent_dim, gan.generator.widths, base, channels).double(),
        reference.dcgan_discriminator(gan.discriminator.widths, base, channels).double(),
    )


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="non_saturating"),
        pytest.param({"labels.real": 0.9, "labels.fake": 0.05}, id="non_saturating, smoothed labels"),
        pytest.param({"loss": "minimax", "labels.real": 0.9}, id="minimax, smoothed labels"),
        pytest.param({"loss": "least_squares", "labels.real": 0.8, "labels.fake": -0.3}, id="least_squares"),
        pytest.param({"loss": "hinge", "d_steps": 2}, id="hinge, two discriminator steps"),
        pytest.param({"loss": "wasserstein", "d_steps": 3}, id="wasserstein, three discriminator steps"),
        pytest.param(
            {
                "data.image_size": 64,
                "data.channels": 3,
                "generator.widths": (12, 10, 8, 6),
                "discriminator.widths": (6, 8, 10, 12),
            },
            id="64x64x3",
        ),
        pytest.param({"family": "gan"}, id="mlp"),
    ],
)
def test_training_agrees(overrides: dict[str, Any]) -> None:
    """Three steps: everything in the state and every metric."""
    with jax.enable_x64(True):
        gan, state = build(overrides)
        trainer = reference_trainer(gan, state)
        step = jax.jit(partial(update, gan))
        rng = np.random.default_rng(3)
        index = np.arange(8, dtype=np.int32)
        ema = jax.tree.map(np.asarray, state.ema)
        for t in range(3):
            real = rng.uniform(-1, 1, (gan.d_steps, 8, *gan.image_shape))
            keys = [random_key(state.seed, "latents", t, substep) for substep in range(gan.d_steps)]
            z = np.stack([draw_latents(gan, key, index) for key in keys])
            state, metrics = step(state, {"image": real, "index": index})
            expected = trainer.step(network_input(trainer.discriminator, real), torch.tensor(z))

            assert int(state.step) == t + 1
            assert_same(metrics, {name: np.float64(value) for name, value in expected.items()}, 1e-9)
            for ours, theirs in ((state.generator, trainer.generator), (state.discriminator, trainer.discriminator)):
                assert_same({"params": ours.params, "batch_stats": ours.batch_stats}, to_ours(theirs), 1e-9)
            decay = min(EMA_DECAY, (1 + t) / (10 + t))
            params = to_ours(trainer.generator)["params"]
            ema = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, ema, params)
            assert_same(state.ema, ema, 1e-9)


def reference_trainer(gan: GAN, state: GANState) -> reference.Trainer:
    """PyTorch's, with the weights, running statistics and hyperparameters of ``state``."""
    networks = dict(zip(("generator", "discriminator"), reference_networks(gan), strict=True))
    for name, net in networks.items():
        player = getattr(state, name)
        copy_to_torch({"params": player.params, "batch_stats": player.batch_stats}, net)
    labels = (float(state.hyper["loss"].get("real_label", 1.0)), float(state.hyper["loss"].get("fake_label", 0.0)))
    g_adam, d_adam = ({"lr": rate, "betas": betas} for rate, *betas in RATES.values())
    return reference.Trainer(*networks.values(), gan.loss.__name__, labels, g_adam, d_adam)
