"""DINOv2's vision transformers (Oquab et al. 2023, arXiv:2304.07193), whose features Stein et al. 2023
(arXiv:2306.04675) found to judge generators as people do: FD-DINOv2, the Fréchet distance of ViT-L/14's.

Images are seen as by that paper's code, dgm-eval, without its option ``--clean_resize``: resized to 224x224 by Pillow's
bicubic filter, whatever their proportions, rounded to whole pixels, and normalised by ImageNet's mean and deviation.
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
_SIDE, _PATCH = 224, 14
_NAMES = {384: "vits14", 768: "vitb14", 1024: "vitl14"}
_OFFSET = 0.1  # patches that DINOv2 adds to the side before it interpolates embeddings
_UNUSED = frozenset({"mask_token"})  # of training alone
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_OTHER = "it isn't DINOv2's; take a backbone of ViT-S/14, B/14 or L/14 without registers, as dinov2_vitl14_pretrain.pth"


class ViT(nn.Module):
    """uint8 images ``[B, H, W, 1 or 3]`` -> the class token after the last norm ``[B, dim]``, and no logits ``[B, 0]``.

    Attributes:
      dim: of a token.
      depth: how many blocks.
      grid: patches on a side that position embeddings were learnt for.
    """

    dim: int
    depth: int
    grid: int

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        x = pil.resize_uint8(jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3)), (_SIDE, _SIDE))
        x = (x / 255 - _MEAN.astype(np.float32)) / _DEVIATION.astype(np.float32)
        patches = (_PATCH, _PATCH)
        x = nn.Conv(self.dim, patches, patches, "VALID", name="patch_embed_proj")(x)
        x = x.reshape(len(x), -1, self.dim)
        zeros = nn.initializers.zeros
        first = self.param("cls_token", zeros, (1, 1, self.dim))
        positions = self.param("pos_embed", zeros, (1, 1 + self.grid**2, self.dim))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.dim)), x], 1)
        x = x + interpolated(positions, _SIDE // _PATCH)
        for number in range(self.depth):
            x = vit.Block(self.dim, _gelu, 1e-6, scaled=True, name=f"blocks_{number}")(x)
        return nn.LayerNorm(1e-6, name="norm")(x)[:, 0], jnp.zeros((len(images), 0))


def _gelu(x: Array) -> Array:
    return nn.gelu(x, approximate=False)


def interpolated(positions: Array, side: int) -> Array:
    """Embeddings ``[1, 1 + g^2, d]`` of ``side`` x ``side`` patches, the first as it is: ``[1, 1 + side^2, d]``.

    By PyTorch's bicubic filter (a = -3/4) for images of ``side + .1`` patches, as DINOv2 does.
    """
    grid = round((positions.shape[1] - 1) ** 0.5)
    if grid == side:
        return positions
    centre = (np.arange(side) + 0.5) * grid / (side + _OFFSET) - 0.5
    low = np.floor(centre).astype(int)
    matrix = np.zeros((side, grid), np.float32)
    for tap in range(-1, 3):
        share = pil.cubic(centre - (low + tap), -0.75)
        np.add.at(matrix, (np.arange(side), np.clip(low + tap, 0, grid - 1)), share)
    maps = positions[:, 1:].reshape(grid, grid, -1)
    maps = jnp.einsum("yi,xj,ijd->yxd", matrix, matrix, maps, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([positions[:, :1], maps.reshape(1, side**2, -1)], 1)


def load(path: Path) -> tuple[ViT, dict[str, Any], str]:
    """Return the network, its variables, and its name, from a file of DINOv2's weights, ``.pth`` or ``.safetensors``.

    Raises:
      UserError: the file is missing or isn't one; names the first weight that lacks, is too many or of another shape.
    """
    state = read_weights(path)
    module = _module(state, path)
    zeros = jnp.zeros((1, _PATCH, _PATCH, 3), jnp.uint8)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), zeros))
    variables = fitted(shapes, state, _theirs, path=path, other=_OTHER, unused=_UNUSED)
    return module, variables, _NAMES.get(module.dim, f"vit{module.dim}")


def _module(state: Mapping[str, np.ndarray], path: Path) -> ViT:
    """Return the network whose sizes ``state`` tells."""
    for name in ("cls_token", "pos_embed"):
        if name not in state or state[name].ndim != 3:
            raise UserError(f"{path} has no weight {name!r}: {_OTHER}")
    dim, count = state["cls_token"].shape[-1], state["pos_embed"].shape[1] - 1
    numbers = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    grid = round(max(count, 0) ** 0.5)
    if dim % vit.HEAD or not dim or grid**2 != count or not count or not all(map(str.isdigit, numbers)):
        raise UserError(f"{path} has {dim} features and {count} positions, as no DINOv2 has: {_OTHER}")
    return ViT(dim, len(numbers), grid)


def _theirs(keys: list[str]) -> str:
    """DINOv2's name of a leaf: ``blocks.3.attn.qkv.weight`` of ``blocks_3``, ``attn_qkv``, ``kernel``."""
    plain = {"cls_token", "pos_embed"}
    parts = [key if key in plain else key.replace("_embed_", "_embed.") for key in keys[1:]]
    parts = [part if part in plain or part.startswith("patch_embed") else part.replace("_", ".") for part in parts]
    return ".".join("weight" if part in ("kernel", "scale") else part for part in parts)
