"""SwAV's ResNet by PyTorch's functions with the same weights, and what is refused."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from gan_jax.evaluate import pil, swav
from tests.evaluate.test_dinov2 import NO_TORCH, State, check_refused

WIDTH, DEPTHS = 8, (2, 1, 1, 1)


def state_dict(width: int = WIDTH, depths: tuple[int, ...] = DEPTHS) -> State:
    """Random weights as in the published file: each name after ``module.``, with the heads of training."""
    rng, found = np.random.default_rng(0), {}

    def layer(conv: str, norm: str, channels: tuple[int, int], size: int) -> None:
        scale = (2 / (channels[1] * size**2)) ** 0.5
        found[f"{conv}.weight"] = scale * rng.normal(size=(*channels, size, size))
        for kind in ("weight", "bias", "running_mean"):
            found[f"{norm}.{kind}"] = (kind == "weight") + 0.2 * rng.normal(size=channels[0])
        found[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, channels[0])
        found[f"{norm}.num_batches_tracked"] = np.ones(1)

    layer("conv1", "bn1", (width, 3), 7)
    before = width
    for stage, depth in enumerate(depths):
        narrow = width * 2**stage
        for block in (f"layer{stage + 1}.{i}." for i in range(depth)):
            if block.endswith(".0."):
                layer(f"{block}downsample.0", f"{block}downsample.1", (4 * narrow, before), 1)
            layer(f"{block}conv1", f"{block}bn1", (narrow, before), 1)
            layer(f"{block}conv2", f"{block}bn2", (narrow, narrow), 3)
            layer(f"{block}conv3", f"{block}bn3", (4 * narrow, narrow), 1)
            before = 4 * narrow
    found["projection_head.0.weight"] = found["prototypes.weight"] = np.ones((2, 3))
    return {f"module.{name}": value.astype(np.float32) for name, value in found.items()}


def by_torch(state: State, images: np.ndarray) -> Any:
    import torch
    from torch.nn import functional

    w = {name.removeprefix("module."): torch.from_numpy(value).double() for name, value in state.items()}

    def layer(x: Any, conv: str, norm: str, stride: int = 1) -> Any:
        kernel = w[f"{conv}.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, var, scale, bias = (w[f"{norm}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, scale, bias)

    pixels = np.stack([np.asarray(Image.fromarray(i).resize((224, 224), Image.Resampling.BILINEAR)) for i in images])
    x = torch.from_numpy((pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).permute(0, 3, 1, 2)
    x = functional.max_pool2d(layer(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage, depth in enumerate(DEPTHS):
        for i in range(depth):
            block, stride = f"layer{stage + 1}.{i}.", 2 if stage and i == 0 else 1
            h = layer(x, f"{block}conv1", f"{block}bn1").relu()
            h = layer(layer(h, f"{block}conv2", f"{block}bn2", stride).relu(), f"{block}conv3", f"{block}bn3")
            short = layer(x, f"{block}downsample.0", f"{block}downsample.1", stride) if i == 0 else x
            x = (short + h).relu()
    return x.mean((2, 3)).numpy()


@pytest.mark.parametrize("side", [32, 448])
def test_features_are_those_of_pytorchs_layers(side: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    state, path = state_dict(), tmp_path / "swav.pth.tar"
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8)
    module, variables, name = swav.load(path)
    features, logits = jax.jit(module.apply)(variables, jnp.asarray(images))
    assert (name, features.shape, logits.shape) == ("resnet17w0.125", (2, 32 * WIDTH), (2, 0))
    expected = by_torch(state, images)
    assert_allclose(features, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    """23.51 million, torchvision's 25.56 of a ResNet-50 without the 2.05 of its classes."""
    module, images = swav.ResNet(64, (3, 4, 6, 3)), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), images))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 25_557_032 - 2048 * 1000 - 1000


@pytest.mark.parametrize("shape", [(28, 28), (300, 300), (448, 448), (512, 512)])
def test_resizing_is_pillows(shape: tuple[int, int]) -> None:
    """The same where weights are binary fractions; else sums within rounding of a half may be told otherwise."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    theirs = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
    ours = np.asarray(pil.resize_uint8(jnp.asarray(image[None], jnp.float32), (224, 224), pil.BILINEAR)[0])
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < (1e-2 if shape[0] in (300, 512) else 1e-9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"module.conv1.weight": None}, "has no weight 'conv1.weight': it isn't SwAV's; take its ResNet-50"),
        ({"module.layer3.0.bn2.running_var": None}, "has no weight 'layer3.0.bn2.running_var'"),
        ({"module.layer1.0.conv9.weight": (8, 8, 1, 1)}, "has a weight 'layer1.0.conv9.weight' too many"),
        ({"module.layer1.1.bn3.bias": (64,)}, r"'layer1.1.bn3.bias' has shape \(64,\), not \(32,\)"),
    ],
)
def test_other_weights_are_refused_in_one_line(
    changed: dict[str, tuple[int, ...] | None], message: str, tmp_path: Path
) -> None:
    check_refused(swav.load, state_dict(), changed, message, tmp_path / "weights.safetensors")
