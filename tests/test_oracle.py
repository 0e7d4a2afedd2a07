"""Our networks and our training against PyTorch's, weights copied across."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen
from torch import nn

from benchmarks import torch_reference as reference
from gan_jax.build import build_gan
from gan_jax.layers import Judgement
from gan_jax.models import dcgan, mlp, resnet
from gan_jax.state import GAN, GANState, Player, draw_latents, init_state, parameter_count, random_key
from gan_jax.update import update
from tests.conftest import small

Tree: TypeAlias = Any

# --- copying weights and running statistics ---------------------------------------------------------------------------


def weighted_layers(net: nn.Module) -> Iterator[tuple[str, Any]]:
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


def kernel_to_ours(layer: Any, weight: np.ndarray) -> np.ndarray:
    if isinstance(layer, nn.Linear):
        return weight.T
    if layer.stride == (2, 2):
        return weight.transpose(2, 3, 1, 0)
    flat = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)  # a dense layer to or from side x side x channels
    return flat if isinstance(layer, nn.ConvTranspose2d) else flat.T


def kernel_to_torch(layer: Any, kernel: np.ndarray) -> np.ndarray:
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
        drawn: np.ndarray = (offset + scale * rng.normal(size=leaf.shape)).astype(leaf.dtype)
        return drawn

    return jax.tree_util.tree_map_with_path(draw, variables)


def assert_same(ours: Tree, theirs: Tree, tolerance: float) -> None:
    """Same structure, shapes and types; differences below ``tolerance`` relative to each array's largest entry."""

    def check(path: Any, a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), jax.tree_util.keystr(path)
        worst = np.abs(a - b).max() / (np.abs(b).max() or 1)
        assert worst < tolerance, f"{jax.tree_util.keystr(path)}: off by {worst:.1e}"

    jax.tree_util.tree_map_with_path(check, ours, theirs)


def network_input(net: nn.Sequential, x: np.ndarray) -> torch.Tensor:
    """Latents, or images ``[..., H, W, C]``, as ``net`` wants them: channels first if it begins with a convolution."""
    return torch.tensor(np.moveaxis(x, -1, -3) if isinstance(net[0], nn.Conv2d) else x)


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
        out = out.logits if isinstance(out, Judgement) else out
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
    config.augment = "none"
    config.update({"compute_dtype": "float64", "latent_dim": 6, "batch_size": 8})
    config.ema.decay = EMA_DECAY
    for name, (rate, b1, b2) in ADAM.items():
        config.optimizer[name].update({"learning_rate": rate, "b1": b1, "b2": b2})
    config.update_from_flattened_dict({key: value for key, value in overrides.items() if key != "family"})
    gan, hyper = build_gan(config)
    shapes = jax.eval_shape(lambda: init_state(gan, 7, hyper))

    def player(name: str, optimizer: Any, seed: int) -> Player:
        drawn = randomized(variables_of(getattr(shapes, name)), seed)
        stats = {"batch_stats": drawn["batch_stats"]} if drawn["batch_stats"] else {}
        return Player(drawn["params"], stats, opt_state=optimizer(**hyper[name]).init(drawn["params"]))

    return gan, GANState(
        step=jnp.asarray(0, jnp.int32),
        seed=jnp.asarray(7, jnp.uint32),
        generator=player("generator", gan.generator_optimizer, 0),
        discriminator=player("discriminator", gan.discriminator_optimizer, 1),
        ema=randomized(shapes.ema, 2),
        hyper=hyper,
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
    labels = {"real_label": 1.0, "fake_label": 0.0, **jax.tree.map(float, state.hyper["loss"])}
    g_adam, d_adam = ({"lr": rate, "betas": betas} for rate, *betas in ADAM.values())
    pair = (labels["real_label"], labels["fake_label"])
    return reference.Trainer(generator, discriminator, gan.loss.__name__, pair, g_adam, d_adam)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="non_saturating"),
        pytest.param({"labels.real": 0.9, "labels.fake": 0.05}, id="non_saturating, smoothed labels"),
        pytest.param({"loss": "minimax", "labels.real": 0.9}, id="minimax, smoothed labels"),
        pytest.param({"loss": "least_squares", "labels.real": 0.8, "labels.fake": -0.3}, id="least_squares"),
        pytest.param({"loss": "hinge", "d_steps": 3}, id="hinge, three discriminator steps"),
        pytest.param({"loss": "wasserstein"}, id="wasserstein"),
        pytest.param(
            {"generator.widths": (12, 10, 8), "discriminator.widths": (6, 8, 10)}, id="28 by way of 7, an odd side"
        ),
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
    """Three steps: every metric, parameter and running statistic after each, and the moving average."""
    with jax.enable_x64(True):
        gan, state = build(overrides)
        trainer = reference_trainer(gan, state)
        seed, index = state.seed, jnp.arange(8)
        step = jax.jit(partial(update, gan))
        latents = jax.jit(lambda *counters: draw_latents(gan, random_key(seed, "latents", *counters), index))
        rng = np.random.default_rng(3)
        ema = state.ema
        for t in range(3):
            real = rng.uniform(-1, 1, (gan.d_steps, 8, *gan.image_shape))
            labels = jnp.zeros(real.shape[:2], jnp.int32)
            z = np.stack([latents(t, substep) for substep in range(gan.d_steps)])
            state, metrics = step(state, {"image": real, "index": index, "label": labels})
            expected = trainer.step(network_input(trainer.discriminator, real), torch.tensor(z))

            assert_same(metrics, {name: np.float64(value) for name, value in expected.items()}, 1e-11)
            assert_same(variables_of(state.generator), to_ours(trainer.generator), 1e-11)
            assert_same(variables_of(state.discriminator), to_ours(trainer.discriminator), 1e-11)
            decay = min(EMA_DECAY, (1 + t) / (10 + t))
            params = to_ours(trainer.generator)["params"]
            ema = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, ema, params)
            assert_same(state.ema, ema, 1e-11)
        assert int(state.step) == 3


# --- residual networks ------------------------------------------------------------------------------------------------


def conv(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """The convolution of Flax's parameters, on ``[N, C, H, W]``."""
    kernel = torch.tensor(np.asarray(layer["kernel"])).permute(3, 2, 0, 1)
    bias = torch.tensor(np.asarray(layer["bias"])) if "bias" in layer else None
    return nn.functional.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)


def dense(x: torch.Tensor, layer: Any) -> torch.Tensor:
    out: torch.Tensor = x @ torch.tensor(np.asarray(layer["kernel"])) + torch.tensor(np.asarray(layer["bias"]))
    return out


def normed(x: torch.Tensor, layer: Any) -> torch.Tensor:
    scale, bias = (torch.tensor(np.asarray(layer[name])) for name in ("scale", "bias"))
    return nn.functional.batch_norm(x, None, None, scale, bias, training=True)


def up(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


def test_residual_generator_is_the_papers() -> None:
    """Table 4(a) of Miyato et al. 2018, with the order of the blocks' parts of Gulrajani et al.'s code."""
    with jax.enable_x64(True):
        types: Any = {"dtype": np.float64, "param_dtype": np.float64}
        ours = resnet.Generator((16, 16, 3), widths=(6, 5), first=7, **types)
        z = np.random.default_rng(0).normal(size=(4, 7))
        params = randomized(shapes_of(ours, z)["params"], 1)
        stats = jax.tree.map(lambda s: np.zeros(s.shape), shapes_of(ours, z)["batch_stats"])
        variables = {"params": params, "batch_stats": stats}
        out, _ = ours.apply(variables, z, train=True, mutable=["batch_stats"])
        x = dense(torch.tensor(z), params["Dense_0"]).reshape(4, 4, 4, 7).permute(0, 3, 1, 2)
        for block in range(2):
            first, second, beside = (params[f"Conv_{3 * block + i}"] for i in range(3))
            inside = conv(up(torch.relu(normed(x, params[f"BatchNorm_{2 * block}"]))), first)
            inside = conv(torch.relu(normed(inside, params[f"BatchNorm_{2 * block + 1}"])), second)
            x = inside + conv(up(x), beside)
        x = torch.tanh(conv(torch.relu(normed(x, params["BatchNorm_4"])), params["Conv_6"]))
    assert_same(out, x.permute(0, 2, 3, 1).numpy(), 1e-12)


@pytest.mark.parametrize("side", [16, 14])
def test_residual_discriminator_is_the_papers(side: int) -> None:
    """Table 4(b): the first block begins at the image, the last doesn't halve; the sum over all pixels."""
    with jax.enable_x64(True):
        types: Any = {"dtype": np.float64, "param_dtype": np.float64}
        ours = resnet.Discriminator(widths=(6, 5, 5), downs=2, **types)
        images = np.random.default_rng(0).uniform(-1, 1, (4, side, side, 3))
        params = randomized(shapes_of(ours, images)["params"], 1)
        out: Any = ours.apply({"params": params}, images, train=True)
        x, number = torch.tensor(images).permute(0, 3, 1, 2), 0
        for block in range(3):

            def halved(x: torch.Tensor, down: bool = block < 2) -> torch.Tensor:
                x = nn.functional.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate") if down else x
                return nn.functional.avg_pool2d(x, 2) if down else x

            first, second = params[f"Conv_{number}"], params[f"Conv_{number + 1}"]
            inside = conv(x if block == 0 else torch.relu(x), first)
            inside = halved(conv(torch.relu(inside), second))
            number += 2
            beside = x
            if block < 2:  # the third has as many channels as it gets
                beside, number = conv(halved(x), params[f"Conv_{number}"]), number + 1
            x = inside + beside
        features = torch.relu(x).sum((2, 3))
        logits = dense(features, params["Dense_0"])[:, 0]
    assert_same(out.features, features.numpy(), 1e-12)
    assert_same(out.logits, logits.numpy(), 1e-12)
