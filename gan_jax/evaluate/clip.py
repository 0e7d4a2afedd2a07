"""CLIP's image towers that are vision transformers (Radford et al. 2021, arXiv:2103.00020), for FIDs of its embeddings.

Kynkaanniemi et al. 2023 (arXiv:2203.06026) compare by ViT-B/32's: they know more than ImageNet's classes. Images are
seen as by CLIP's own ``clip.load``: Pillow's bicubic filter brings the shorter side to 224 (336) pixels, the middle is
cut out, rounded to whole pixels, and normalised by CLIP's mean and deviation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan_jax.evaluate import pil, vit
from gan_jax.evaluate.torch_weights import fitted, read_weights
from gan_jax.util.errors import UserError

Array = jax.Array
_SIZES = {768: "b", 1024: "l"}
_USUAL = 224  # pixels that all but one of the published towers look at
_EPSILON = 1e-5
_OTHER = "it isn't CLIP's; take a ViT-B/32, B/16 or L/14, as model.safetensors of openai/clip-vit-base-patch32"
_MEAN, _DEVIATION = (
    np.array([0.48145466, 0.4578275, 0.40821073], np.float32),
    np.array([0.26862954, 0.26130258, 0.27577711], np.float32),
)
_BLOCKS = {
    "norm1": "ln_1.",
    "attn_qkv": "attn.in_proj_",
    "attn_proj": "attn.out_proj.",
    "norm2": "ln_2.",
    "mlp_fc1": "mlp.c_fc.",
    "mlp_fc2": "mlp.c_proj.",
}
# Of Hugging Face's names those of the authors.
_VISION = "vision_model."
_OUTSIDE = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    **{f"pre_layrnorm.{kind}": f"ln_pre.{kind}" for kind in ("weight", "bias")},  # their spelling
    **{f"post_layernorm.{kind}": f"ln_post.{kind}" for kind in ("weight", "bias")},
}
_WITHIN = {
    "layer_norm1": "ln_1.",
    "self_attn.out_proj": "attn.out_proj.",
    "layer_norm2": "ln_2.",
    "mlp.fc1": "mlp.c_fc.",
    "mlp.fc2": "mlp.c_proj.",
}


class Tower(nn.Module):
    """uint8 images ``[B, H, W, 1 or 3]`` -> embeddings ``[B, out]`` as they are compared with texts', before they are
    brought to length 1; and no logits ``[B, 0]``.

    Attributes:
      dim: of a token.
      depth: how many blocks.
      patch: pixels on a side.
      grid: patches on a side.
      out: of an embedding.
    """

    dim: int
    depth: int
    patch: int
    grid: int
    out: int

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        x = (seen(images, self.patch * self.grid) / 255 - _MEAN) / _DEVIATION
        patches = (self.patch, self.patch)
        x = nn.Conv(self.dim, patches, patches, "VALID", use_bias=False, name="conv1")(x)
        x = x.reshape(len(x), -1, self.dim)
        zeros = nn.initializers.zeros
        first = self.param("class_embedding", zeros, (self.dim,))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.dim)), x], 1)
        x = x + self.param("positional_embedding", zeros, (1 + self.grid**2, self.dim))
        x = nn.LayerNorm(_EPSILON, name="ln_pre")(x)
        for number in range(self.depth):
            x = vit.Block(self.dim, _quick_gelu, _EPSILON, scaled=False, name=f"blocks_{number}")(x)
        x = nn.LayerNorm(_EPSILON, name="ln_post")(x[:, 0])
        return x @ self.param("proj", zeros, (self.dim, self.out)), jnp.zeros((len(images), 0))


def _quick_gelu(x: Array) -> Array:
    return x * nn.sigmoid(1.702 * x)


def seen(images: Array, side: int) -> Array:
    """Return the middle of images ``[B, H, W, 1 or 3]`` whose shorter side becomes ``side``: ``[B, side, side, 3]``."""
    x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3))
    height, width = pil.shorter(images.shape[1], images.shape[2], side)
    top, left = round((height - side) / 2), round((width - side) / 2)  # as torchvision's CenterCrop
    return pil.resize_uint8(x, (height, width))[:, top : top + side, left : left + side]


def load(path: Path) -> tuple[Tower, dict[str, Any], str]:
    """Return the image tower, its variables and its name, from a file of CLIP's weights, ``.pth`` or ``.safetensors``.

    Names are those of its authors' code, ``visual.conv1.weight``, or Hugging Face's, ``vision_model.``. What is of
    texts is left aside.

    Raises:
      UserError: the file is missing or isn't one; names the first weight that lacks, is too many or of another shape.
    """
    state = _named(read_weights(path))
    module = _module(state, path)
    zeros = jnp.zeros((1, module.patch, module.patch, 3), jnp.uint8)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), zeros))
    variables = fitted(shapes, state, _theirs, path=path, other=_OTHER, unused=frozenset())
    side = module.patch * module.grid
    name = f"vit{_SIZES.get(module.dim, module.dim)}{module.patch}"
    return module, variables, name if side == _USUAL else f"{name}-{side}"


def _named(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights of images by their authors' names, whichever they have in the file."""
    found = {name: value for name, value in state.items() if name.startswith("visual.")}
    if "visual_projection.weight" in state:
        found["visual.proj"] = state["visual_projection.weight"].T
    blocks = f"{_VISION}encoder.layers."
    for name, value in state.items():
        inner = name.removeprefix(_VISION)
        if name.startswith(blocks):
            number, _, rest = name.removeprefix(blocks).partition(".")
            place, _, kind = rest.rpartition(".")
            block = f"visual.transformer.resblocks.{number}."
            if place == "self_attn.q_proj":
                parts = [state.get(f"{blocks}{number}.self_attn.{part}_proj.{kind}") for part in "qkv"]
                found |= {f"{block}attn.in_proj_{kind}": np.concatenate([p for p in parts if p is not None])}
            elif place not in ("self_attn.k_proj", "self_attn.v_proj"):
                found[block + _WITHIN.get(place, f"{place}.") + kind] = value
        elif name.startswith(_VISION) and inner != "embeddings.position_ids":
            found["visual." + _OUTSIDE.get(inner, inner)] = value
    return found


def _module(state: Mapping[str, np.ndarray], path: Path) -> Tower:
    """Return the network whose sizes ``state`` tells."""
    told = {"visual.conv1.weight": 4, "visual.positional_embedding": 2, "visual.proj": 2}
    for name, rank in told.items():
        if name not in state or state[name].ndim != rank:
            raise UserError(f"{path} has no weight {name!r}: {_OTHER}")
    kernel, positions, projection = (state[name] for name in told)
    dim, count, patch = kernel.shape[0], len(positions) - 1, kernel.shape[-1]
    blocks = "visual.transformer.resblocks."
    numbers = {name.removeprefix(blocks).partition(".")[0] for name in state if name.startswith(blocks)}
    grid = round(max(count, 0) ** 0.5)
    if dim % vit.HEAD or not dim or not patch or grid**2 != count or not count or not all(map(str.isdigit, numbers)):
        raise UserError(f"{path} has {dim} features and {count} positions, as no CLIP has: {_OTHER}")
    return Tower(dim, len(numbers), patch, grid, projection.shape[1])


def _theirs(keys: list[str]) -> str:
    """Their name of a leaf: ``visual.transformer.resblocks.3.attn.in_proj_weight`` of ``blocks_3``, ``attn_qkv``,
    ``kernel``."""
    _, *modules, leaf = keys
    kind = "weight" if leaf in ("kernel", "scale") else leaf
    if modules and modules[0].startswith("blocks_"):
        number = modules[0].removeprefix("blocks_")
        return f"visual.transformer.resblocks.{number}.{_BLOCKS[modules[1]]}{kind}"
    return ".".join(["visual", *modules, kind])
