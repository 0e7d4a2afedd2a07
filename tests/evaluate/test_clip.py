"""CLIP's image tower by PyTorch's own layers with the same weights, from files by both names; and what is refused."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from gan_jax.data import Dataset
from gan_jax.evaluate import clip, find, pil
from gan_jax.util.errors import UserError
from tests.evaluate.test_dinov2 import NO_TORCH, State, check_refused, write_safetensors

DIM, DEPTH, PATCH, GRID, OUT = 128, 2, 32, 7, 96
BLOCK = {
    "ln_1.weight": (DIM,),
    "ln_1.bias": (DIM,),
    "attn.in_proj_weight": (3 * DIM, DIM),
    "attn.in_proj_bias": (3 * DIM,),
    "attn.out_proj.weight": (DIM, DIM),
    "attn.out_proj.bias": (DIM,),
    "ln_2.weight": (DIM,),
    "ln_2.bias": (DIM,),
    "mlp.c_fc.weight": (4 * DIM, DIM),
    "mlp.c_fc.bias": (4 * DIM,),
    "mlp.c_proj.weight": (DIM, 4 * DIM),
    "mlp.c_proj.bias": (DIM,),
}


def state_dict() -> State:
    """Random weights by the authors' names, some of the text's tower too."""
    rng = np.random.default_rng(0)
    shapes = {
        "class_embedding": (DIM,),
        "positional_embedding": (1 + GRID**2, DIM),
        "proj": (DIM, OUT),
        "conv1.weight": (DIM, 3, PATCH, PATCH),
        **{f"ln_{place}.{kind}": (DIM,) for place in ("pre", "post") for kind in ("weight", "bias")},
        **{f"transformer.resblocks.{i}.{name}": shape for i in range(DEPTH) for name, shape in BLOCK.items()},
    }
    found = {}
    for name, shape in shapes.items():
        scale = {1: 0.5, 2: 0.1, 4: 0.03}[len(shape)]
        found[f"visual.{name}"] = (scale * rng.normal(size=shape)).astype(np.float32)
    return found | {
        "logit_scale": np.ones(1, np.float32),
        "transformer.resblocks.0.ln_1.weight": np.ones(8, np.float32),
    }


def by_hugging_face(state: State) -> State:
    """The same weights as in ``transformers``' files, the text's tower among them."""
    found: State = {"text_model.final_layer_norm.weight": np.ones(8, np.float32), "logit_scale": np.ones(1, np.float32)}
    found["vision_model.embeddings.position_ids"] = np.arange(1 + GRID**2)[None]
    names = {
        "class_embedding": "embeddings.class_embedding",
        "conv1.weight": "embeddings.patch_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_pre.weight": "pre_layrnorm.weight",
        "ln_pre.bias": "pre_layrnorm.bias",
        "ln_post.weight": "post_layernorm.weight",
        "ln_post.bias": "post_layernorm.bias",
    }
    for ours, theirs in names.items():
        found[f"vision_model.{theirs}"] = state[f"visual.{ours}"]
    found["visual_projection.weight"] = np.ascontiguousarray(state["visual.proj"].T)
    for i in range(DEPTH):
        block, layer = f"visual.transformer.resblocks.{i}.", f"vision_model.encoder.layers.{i}."
        for kind in ("weight", "bias"):
            for part, value in zip("qkv", np.split(state[f"{block}attn.in_proj_{kind}"], 3), strict=True):
                found[f"{layer}self_attn.{part}_proj.{kind}"] = np.ascontiguousarray(value)
            found[f"{layer}self_attn.out_proj.{kind}"] = state[f"{block}attn.out_proj.{kind}"]
            for ours, theirs in {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}.items():
                found[f"{layer}{theirs}.{kind}"] = state[f"{block}{ours}.{kind}"]
            for ours, theirs in {"c_fc": "fc1", "c_proj": "fc2"}.items():
                found[f"{layer}mlp.{theirs}.{kind}"] = state[f"{block}mlp.{ours}.{kind}"]
    return found


def cut(image: np.ndarray, side: int, resample: Image.Resampling) -> np.ndarray:
    """By Pillow: the shorter side to ``side``, and the middle."""
    height, width = image.shape[:2]
    long = int(side * max(height, width) / min(height, width))
    sides = (side, long) if height <= width else (long, side)
    resized = np.asarray(Image.fromarray(image).resize(sides[::-1], resample))
    top, left = (round((have - side) / 2.0) for have in sides)
    return resized[top : top + side, left : left + side]


def by_torch(state: State, images: np.ndarray) -> Any:
    """The embedding, by torch.nn's multi-head attention and its other layers."""
    import torch
    from torch import nn

    w = {name.removeprefix("visual."): torch.from_numpy(v).double() for name, v in state.items() if "visual." in name}

    def norm(x: Any, name: str) -> Any:
        return nn.functional.layer_norm(x, (DIM,), w[f"{name}.weight"], w[f"{name}.bias"])

    x = np.stack([cut(image, PATCH * GRID, Image.Resampling.BICUBIC) for image in images]) / 255
    x = (x - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    maps = nn.functional.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), w["conv1.weight"], stride=PATCH)
    tokens = torch.cat([w["class_embedding"].expand(len(x), 1, DIM), maps.flatten(2).mT], 1)
    tokens = norm(tokens + w["positional_embedding"], "ln_pre")
    for i in range(DEPTH):
        block = f"transformer.resblocks.{i}"
        attention = nn.MultiheadAttention(DIM, DIM // 64, batch_first=True).double()
        with torch.no_grad():
            for name, parameter in attention.named_parameters():
                parameter.copy_(w[f"{block}.attn.{name}"])
            normed = norm(tokens, f"{block}.ln_1")
            tokens = tokens + attention(normed, normed, normed, need_weights=False)[0]
        h = norm(tokens, f"{block}.ln_2")
        h = nn.functional.linear(h, w[f"{block}.mlp.c_fc.weight"], w[f"{block}.mlp.c_fc.bias"])
        h = h * torch.sigmoid(1.702 * h)
        tokens = tokens + nn.functional.linear(h, w[f"{block}.mlp.c_proj.weight"], w[f"{block}.mlp.c_proj.bias"])
    return (norm(tokens[:, 0], "ln_post") @ w["proj"]).numpy()


@pytest.mark.parametrize(("kind", "side"), [("pth", 300), ("safetensors", 32)])
def test_embeddings_are_those_of_pytorchs_layers(kind: str, side: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    state, path = state_dict(), tmp_path / f"weights.{kind}"
    if kind == "pth":
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    else:
        write_safetensors(by_hugging_face(state), path)
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8)
    module, variables, name = clip.load(path)
    features, logits = jax.jit(module.apply)(variables, jnp.asarray(images))
    assert (name, features.shape, logits.shape) == ("vit12832", (2, OUT), (2, 0))
    assert_allclose(features, by_torch(state, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(300, 225), (40, 61), (64, 64)])
def test_it_sees_the_middle_as_pillow_resizes(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours = np.asarray(clip.seen(jnp.asarray(image[None]), 56)[0])
    theirs = cut(image, 56, Image.Resampling.BICUBIC).astype(int)
    assert ours.shape == (56, 56, 3)
    assert np.abs(ours - theirs).max() <= 1
    assert (ours == theirs).mean() > 0.98  # Pillow 13 may take columns first


def test_pixels_of_one_channel_are_seen_as_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    assert_allclose(clip.seen(jnp.asarray(image), 8), np.repeat(image, 3, -1))


def test_the_shorter_side_is_rounded_as_torchvision_does() -> None:
    """Down: 224 * 97 / 64 is 339.5."""
    assert pil.shorter(64, 97, 224) == (224, 339)
    assert pil.shorter(97, 64, 224) == (339, 224)
    assert pil.shorter(50, 50, 224) == (224, 224)


def test_the_published_sizes_have_the_published_numbers_of_parameters() -> None:
    """87.8, 86.2 and 304.0 million of images: by the formula of a ViT's weights, and the projection."""
    for sizes, millions in (
        ((768, 12, 32, 7, 512), 87.85),
        ((768, 12, 16, 14, 512), 86.19),
        ((1024, 24, 14, 16, 768), 303.97),
    ):
        module, images = clip.Tower(*sizes), jnp.zeros((1, 28, 28, 3), jnp.uint8)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), images))  # noqa: B023
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6 == pytest.approx(millions, abs=0.005)


def test_figures_are_named_by_the_network_and_its_weights(tmp_path: Path) -> None:
    """And both names of the same weights give the same figures' name."""
    state, none = state_dict(), np.zeros(0, np.int32)
    write_safetensors(state, tmp_path / "one.safetensors")
    write_safetensors(by_hugging_face(state), tmp_path / "same.safetensors")
    write_safetensors(state | {"visual.proj": state["visual.proj"] + 1}, tmp_path / "two.safetensors")
    dataset = Dataset("x", np.zeros((20, 8, 8, 1), np.uint8), np.zeros(20, np.int32), np.zeros((0, 8, 8, 1)), none, 0)
    gives = [find(f"clip:{tmp_path}/{name}.safetensors", dataset, None) for name in ("one", "same", "two")]
    one, same, two = (give().name for give in gives if give)
    assert one.startswith("clip:vit12832:")
    assert one == same != two


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"visual.ln_post.bias": None}, "has no weight 'visual.ln_post.bias': it isn't CLIP's; take a ViT-B/32"),
        ({"visual.proj": None}, "has no weight 'visual.proj'"),
        ({"visual.attnpool.x": (4, 128)}, "has a weight 'visual.attnpool.x' too many: it isn't CLIP's"),
        ({"visual.positional_embedding": (49, 128)}, "has 128 features and 48 positions, as no CLIP has"),
        ({"visual.transformer.resblocks.1.ln_1.bias": (64,)}, r"ln_1.bias' has shape \(64,\), not \(128,\)"),
        ({"visual.transformer.resblocks.x.ln_1.bias": (128,)}, "as no CLIP has"),
    ],
)
def test_other_weights_are_refused_in_one_line(
    changed: dict[str, tuple[int, ...] | None], message: str, tmp_path: Path
) -> None:
    check_refused(clip.load, state_dict(), changed, message, tmp_path / "weights.safetensors")


def test_keys_without_queries_are_refused(tmp_path: Path) -> None:
    state = by_hugging_face(state_dict())
    del state["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    write_safetensors(state, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"1.attn.in_proj_weight' has shape \(128, 256\), not \(128, 384\)"):
        clip.load(tmp_path / "weights.safetensors")


def test_a_file_is_needed() -> None:
    images = np.zeros((20, 8, 8, 1), np.uint8)
    dataset = Dataset("x", images, np.zeros(20, np.int32), images, np.zeros(20, np.int32), 0)
    with pytest.raises(UserError, match=r"eval.features=clip needs a file of weights: write eval.features=clip:FILE"):
        find("clip", dataset, None)
