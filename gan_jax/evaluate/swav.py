"""SwAV's ResNet-50 (Caron et al. 2020, arXiv:2006.09882), learnt without labels, whose features Morozov et al. 2021
("On Self-Supervised Image Representations for GAN Evaluation", ICLR) compare generators by.

Images are seen as by that paper's code: Pillow's bilinear filter brings the shorter side to 224 pixels, nothing is cut
off; they are rounded to whole pixels, and normalised by ImageNet's mean and deviation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan_jax.evaluate import pil
from gan_jax.evaluate.torch_weights import fitted, read_weights
from gan_jax.util.errors import UserError

Array = jax.Array
_SIDE = 224
_OTHER = "it isn't SwAV's; take its ResNet-50, as swav_800ep_pretrain.pth.tar"
_UNUSED = ("projection_head.", "prototypes.", "fc.")  # heads, which features come before
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class ResNet(nn.Module):
    """uint8 images ``[B, H, W, 1 or 3]`` -> means over the last maps ``[B, 32 width]``, and no logits ``[B, 0]``.

    Attributes:
      width: channels of the first convolution: 64, or a multiple.
      depths: blocks of each of the four stages: 3, 4, 6 and 3 of a ResNet-50.
    """

    width: int
    depths: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3))
        x = pil.resize_uint8(x, pil.shorter(images.shape[1], images.shape[2], _SIDE), pil.BILINEAR)
        x = (x / 255 - _MEAN) / _DEVIATION
        x = nn.relu(_norm("bn1")(_conv(self.width, 7, 2, "conv1")(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, depth in enumerate(self.depths):
            for number in range(depth):
                stride = 2 if stage and not number else 1
                x = _Bottleneck(self.width * 2**stage, stride, name=f"layer{stage + 1}_{number}")(x)
        return x.mean((1, 2)), jnp.zeros((len(images), 0))


class _Bottleneck(nn.Module):
    """``x + conv(conv(conv x))`` with a norm after each; ``x`` goes through a convolution where its shape changes."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = nn.relu(_norm("bn1")(_conv(self.width, 1, 1, "conv1")(x)))
        h = nn.relu(_norm("bn2")(_conv(self.width, 3, self.stride, "conv2")(h)))
        h = _norm("bn3")(_conv(4 * self.width, 1, 1, "conv3")(h))
        if h.shape != x.shape:
            x = _norm("downsample_1")(_conv(4 * self.width, 1, self.stride, "downsample_0")(x))
        return nn.relu(x + h)


def _conv(channels: int, size: int, stride: int, name: str) -> nn.Conv:
    around = size // 2
    return nn.Conv(channels, (size, size), (stride, stride), [(around, around)] * 2, use_bias=False, name=name)


def _norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)


def load(path: Path) -> tuple[ResNet, dict[str, Any], str]:
    """Return the network, its variables and its name, from a file of SwAV's weights.

    Raises:
      UserError: the file is missing or isn't one; names the first weight that lacks, is too many or of another shape.
    """
    state = {name.removeprefix("module."): value for name, value in read_weights(path).items()}
    left = [name for name in state if name.startswith(_UNUSED) or name.endswith("num_batches_tracked")]
    module = _module(state, path)
    zeros = jnp.zeros((1, 8, 8, 3), jnp.uint8)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), zeros))
    variables = fitted(shapes, state, _theirs, path=path, other=_OTHER, unused=frozenset(left))
    name = f"resnet{3 * sum(module.depths) + 2}"
    return module, variables, name if module.width == 64 else f"{name}w{module.width / 64:g}"


def _module(state: Mapping[str, np.ndarray], path: Path) -> ResNet:
    """Return the network whose sizes ``state`` tells."""
    blocks = [{name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")} for stage in range(1, 5)]
    for name in ("conv1.weight", *(f"layer{stage}.0.conv1.weight" for stage in range(1, 5))):
        if name not in state:
            raise UserError(f"{path} has no weight {name!r}: {_OTHER}")
    return ResNet(len(state["conv1.weight"]), tuple(map(len, blocks)))


def _theirs(keys: list[str]) -> str:
    """Return their name of a leaf: ``layer1.0.bn1.running_mean`` of its keys to ``mean``."""
    collection, *modules, leaf = keys
    own = {"mean": "running_mean", "var": "running_var"} if collection == "batch_stats" else {"bias": "bias"}
    return ".".join([*(module.replace("_", ".") for module in modules), own.get(leaf, "weight")])
