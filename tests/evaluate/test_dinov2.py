"""DINOv2 by PyTorch's own layers with the same weights; resizing by Pillow; files of weights, whole and damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from gan_jax.data import Dataset
from gan_jax.evaluate import dinov2, find, inception, pil
from gan_jax.evaluate.torch_weights import read_weights
from gan_jax.util.errors import UserError

State = dict[str, np.ndarray]
DIM, DEPTH, GRID = 128, 2, 37
NO_TORCH = "PyTorch is not installed: pip install -e '.[oracle]'"


def state_dict(dim: int = DIM, grid: int = GRID) -> State:
    """Random weights by DINOv2's names."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int, scale: float = 0.5) -> np.ndarray:
        return (scale * rng.normal(size=shape)).astype(np.float32)

    found = {"cls_token": drawn(1, 1, dim), "pos_embed": drawn(1, 1 + grid**2, dim), "mask_token": drawn(1, dim)}
    found |= {"patch_embed.proj.weight": drawn(dim, 3, 14, 14, scale=0.05), "patch_embed.proj.bias": drawn(dim)}
    for i in range(DEPTH):
        for name, shape in {
            "norm1.weight": (dim,),
            "norm1.bias": (dim,),
            "attn.qkv.weight": (3 * dim, dim),
            "attn.qkv.bias": (3 * dim,),
            "attn.proj.weight": (dim, dim),
            "attn.proj.bias": (dim,),
            "ls1.gamma": (dim,),
            "norm2.weight": (dim,),
            "norm2.bias": (dim,),
            "mlp.fc1.weight": (4 * dim, dim),
            "mlp.fc1.bias": (4 * dim,),
            "mlp.fc2.weight": (dim, 4 * dim),
            "mlp.fc2.bias": (dim,),
            "ls2.gamma": (dim,),
        }.items():
            found[f"blocks.{i}.{name}"] = drawn(*shape, scale=0.1 if len(shape) > 1 else 0.5)
    return found | {"norm.weight": drawn(dim), "norm.bias": drawn(dim)}


def check_refused(
    load: Callable[[Path], Any], state: State, changed: dict[str, tuple[int, ...] | None], message: str, path: Path
) -> None:
    """Assert that ``load`` refuses weights in one line, some ``changed`` to zeros of a shape, or, if None, left out."""
    left = {name: array for name, array in state.items() if changed.get(name, ()) is not None}
    write_safetensors(left | {name: np.zeros(shape, np.float32) for name, shape in changed.items() if shape}, path)
    with pytest.raises(UserError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)


def write_safetensors(state: State, path: Path) -> None:
    """By the format's description, not by its package."""
    header, body = {}, b""
    for name, value in state.items():
        header[name] = {
            "dtype": {"f4": "F32", "i8": "I64"}[value.dtype.str[1:]],
            "shape": list(value.shape),
            "data_offsets": [len(body), len(body) + value.nbytes],
        }
        body += value.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def by_torch(state: State, images: np.ndarray) -> Any:
    """The class token, by torch.nn's multi-head attention and its other layers."""
    import torch
    from torch import nn

    w = {name: torch.from_numpy(value).double() for name, value in state.items()}

    def norm(x: Any, name: str) -> Any:
        return nn.functional.layer_norm(x, (DIM,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    resized = [np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)) for image in images]
    x = torch.from_numpy(np.stack(resized)).double().permute(0, 3, 1, 2) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    x = (x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    x = nn.functional.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], 14).flatten(2).mT
    x = torch.cat([w["cls_token"].expand(len(x), 1, DIM), x], 1)
    maps = w["pos_embed"][:, 1:].reshape(1, GRID, GRID, DIM).permute(0, 3, 1, 2)
    maps = nn.functional.interpolate(maps, scale_factor=(16.1 / GRID, 16.1 / GRID), mode="bicubic")
    assert maps.shape[2:] == (16, 16)
    x = x + torch.cat([w["pos_embed"][:, :1], maps.flatten(2).mT], 1)
    for i in range(DEPTH):
        block = f"blocks.{i}"
        attention = nn.MultiheadAttention(DIM, DIM // 64, batch_first=True).double()
        with torch.no_grad():
            attention.in_proj_weight.copy_(w[f"{block}.attn.qkv.weight"])
            attention.in_proj_bias.copy_(w[f"{block}.attn.qkv.bias"])
            attention.out_proj.weight.copy_(w[f"{block}.attn.proj.weight"])
            attention.out_proj.bias.copy_(w[f"{block}.attn.proj.bias"])
            normed = norm(x, f"{block}.norm1")
            x = x + w[f"{block}.ls1.gamma"] * attention(normed, normed, normed, need_weights=False)[0]
        h = nn.functional.linear(norm(x, f"{block}.norm2"), w[f"{block}.mlp.fc1.weight"], w[f"{block}.mlp.fc1.bias"])
        h = nn.functional.linear(nn.functional.gelu(h), w[f"{block}.mlp.fc2.weight"], w[f"{block}.mlp.fc2.bias"])
        x = x + w[f"{block}.ls2.gamma"] * h
    return norm(x, "norm")[:, 0].numpy()


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("side", [32, 300])
def test_features_are_those_of_pytorchs_layers(kind: str, side: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    state, path = state_dict(), tmp_path / f"weights.{kind}"
    if kind == "pth":
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    else:
        write_safetensors(state, path)
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8)
    module, variables, name = dinov2.load(path)
    features, logits = jax.jit(module.apply)(variables, jnp.asarray(images))
    assert (name, features.shape, logits.shape) == ("vit128", (2, DIM), (2, 0))
    assert_allclose(features, by_torch(state, images), rtol=1e-4, atol=1e-4)


def test_the_published_sizes_have_the_published_numbers_of_parameters() -> None:
    """22.1, 86.6 and 304.4 million without the mask token: by the formula of a ViT's weights."""
    for dim, depth, millions in ((384, 12, 22.06), (768, 12, 86.58), (1024, 24, 304.37)):
        module, images = dinov2.ViT(dim, depth, 37), jnp.zeros((1, 28, 28, 3), jnp.uint8)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), images))  # noqa: B023
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6 == pytest.approx(millions, abs=0.005)


def test_figures_are_named_by_the_network_and_its_weights(tmp_path: Path) -> None:
    state = state_dict(grid=16)
    write_safetensors(state, tmp_path / "one.safetensors")
    state["norm.bias"] = state["norm.bias"] + 1
    write_safetensors(state, tmp_path / "two.safetensors")
    none = np.zeros(0, np.int32)
    dataset = Dataset("x", np.zeros((20, 8, 8, 1), np.uint8), np.zeros(20, np.int32), np.zeros((0, 8, 8, 1)), none, 0)
    gives = [find(f"dinov2:{tmp_path}/{name}.safetensors", dataset, None) for name in ("one", "two")]
    names = [give().name for give in gives if give]
    assert all(name.startswith("dinov2:vit128:") for name in names)
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm.bias": None}, "has no weight 'norm.bias': it isn't DINOv2's; take a backbone of ViT-S/14"),
        ({"pos_embed": None}, "has no weight 'pos_embed'"),
        ({"register_tokens": (1, 4, 128)}, "has a weight 'register_tokens' too many: .* without"),
        ({"blocks.1.ls1.gamma": (64,)}, r"'blocks.1.ls1.gamma' has shape \(64,\), not \(128,\)"),
        ({"cls_token": (1, 1, 100)}, "has 100 features and 1369 positions, as no DINOv2 has"),
        ({"blocks.x.norm1.bias": (128,)}, "as no DINOv2 has"),
    ],
)
def test_other_weights_are_refused_in_one_line(
    changed: dict[str, tuple[int, ...] | None], message: str, tmp_path: Path
) -> None:
    check_refused(dinov2.load, state_dict(), changed, message, tmp_path / "weights.safetensors")


def test_a_file_is_needed() -> None:
    images = np.zeros((20, 8, 8, 1), np.uint8)
    dataset = Dataset("x", images, np.zeros(20, np.int32), images, np.zeros(20, np.int32), 0)
    with pytest.raises(UserError, match=r"eval.features=dinov2 needs a file of weights: write eval.features=dinov2:F"):
        find("dinov2", dataset, None)
    with pytest.raises(UserError, match=r"cannot read the weights in nowhere.safetensors: No such file"):
        find("dinov2:nowhere.safetensors", dataset, None)


@pytest.mark.parametrize("cut", [0, 4, 20, 200, -1])
def test_damaged_files_of_safetensors_are_one_line(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_safetensors({"a": np.arange(100, dtype=np.float32)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cannot read the weights in .*weights.safetensors: ") as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def test_weights_of_half_precision_are_read_as_the_package_wrote_them(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.numpy", reason="pip install safetensors").save_file
    import ml_dtypes

    state: dict[str, Any] = {"half": np.linspace(-3, 3, 12, dtype=np.float16).reshape(3, 4)}
    state["brain"] = np.linspace(-3, 3, 6).astype(ml_dtypes.bfloat16)
    save(state, tmp_path / "weights.safetensors")
    found = read_weights(tmp_path / "weights.safetensors")
    for name, value in state.items():
        np.testing.assert_array_equal(found[name].astype(np.float32), value.astype(np.float32))


# --- resizing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(28, 28), (32, 48), (300, 300), (512, 333), (1024, 64), (299, 299), (1, 1)])
def test_resizing_is_pillows(shape: tuple[int, int]) -> None:
    """Of mode 'F' within .001 of 255; of whole pixels the same but where a sum lies within rounding of a half."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for side in (299, 224):
        floats = [
            np.asarray(Image.fromarray(image[..., c].astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        x = jnp.asarray(image[None], jnp.float32)
        assert_allclose(pil.resize(x, side)[0], np.stack(floats, -1), atol=1e-3)
        whole = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)).astype(int)
        ours = np.asarray(pil.resize_uint8(x, (side, side))[0]).astype(int)
        if shape[0] == shape[1]:  # else Pillow 13 may take columns first
            assert np.abs(ours - whole).max() <= 1
            assert (ours != whole).mean() < 2e-4


def test_clean_inception_sees_pillows_pixels_and_the_other_tensorflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first layer, an identity here, shows what it sees."""
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), np.uint8)
    seen: list[Any] = []

    def stop(x: Any) -> None:
        seen.append(x)
        raise _StopError

    monkeypatch.setattr(inception, "_Conv", lambda *_, **__: stop)
    for clean in (True, False):
        with pytest.raises(_StopError):
            inception.Inception(clean=clean).apply({}, jnp.asarray(image))
    channels = [
        np.asarray(Image.fromarray(image[0, ..., c].astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    assert_allclose(seen[0][0], (np.stack(channels, -1).clip(0, 255) - 128) / 128, atol=2e-5)
    assert np.abs(seen[1] - seen[0]).max() > 0.1


class _StopError(Exception):
    pass
