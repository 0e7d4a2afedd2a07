"""R3GAN in plain PyTorch, as functions of weights that have the names of ours, and PyTorch's layout.

As its users write it: ``conv2d`` in groups, 1x1 ``conv2d`` for what is linear, FIR filters as depthwise convolutions
with a stride. Images are channels first. Written from Huang et al. 2024 (arXiv:2501.05441) and PyTorch's own layers.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Weights:
    """Of one pass through a network: each call takes those of the next layer of a kind."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params, self.counts = params, Counter[str]()

    def next(self, kind: str, name: str = "kernel") -> Tensor:
        found: Tensor = self.params[f"{kind}_{self.counts[kind]}"][name]
        self.counts[kind] += 1
        return found


def arranged(params: dict[str, Any]) -> dict[str, Any]:
    """Our ``params`` in PyTorch's layout: what is linear ``[out, in, 1, 1]``, kernels ``[out, in, k, k]``, maps
    ``[channels, 4, 4]``."""
    axes = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: one(inside) for name, inside in value.items()}
        turned = value.permute(axes[value.ndim])
        return turned[..., None, None] if value.ndim == 2 else turned

    found: dict[str, Any] = one(params)
    return found


def linear(weights: Weights, x: Tensor) -> Tensor:
    """Of the channels, the second axis."""
    kernel = weights.next("Linear")
    return F.conv2d(x, kernel) if x.ndim == 4 else F.linear(x, kernel.flatten(1))


def activated(weights: Weights, x: Tensor) -> Tensor:
    return F.leaky_relu(x + weights.next("Activation", "bias")[:, None, None], 0.2)


def block(weights: Weights, x: Tensor, groups: int) -> Tensor:
    y = activated(weights, linear(weights, x))
    y = F.conv2d(y, weights.next("GroupedConv"), padding=1, groups=groups)
    return x + linear(weights, activated(weights, y))


def filters(x: Tensor) -> Tensor:
    """[1, 3, 3, 1] / 8 along both axes, one a channel."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    return torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)


def doubled(x: Tensor) -> Tensor:
    """Zeros behind pixels, then the filter, times 4: the transpose of `halved`, times 4."""
    return F.conv_transpose2d(x, 4 * filters(x), stride=2, padding=1, groups=x.shape[1])


def halved(x: Tensor) -> Tensor:
    """Apply the filter, then take every second pixel."""
    return F.conv2d(x, filters(x), stride=2, padding=1, groups=x.shape[1])


def images(params: dict[str, Any], z: Tensor, code: Tensor | None, own: Any, side: int) -> Tensor:
    """Images ``[B, C, side, side]``.

    Args:
      params: `arranged`.
      z: latents ``[B, Z]``.
      code: the label's one-hot code, for G that is told it.
      own: ``widths``, ``blocks`` and ``groups`` of each stage.
      side: of the images.
    """
    weights = Weights(params)
    if code is not None:
        z = torch.cat([z, linear(weights, code)], 1)
    x = params["basis"] * linear(weights, z)[:, :, None, None]
    for stage, width in enumerate(own.widths):
        if stage:
            x = doubled(linear(weights, x) if x.shape[1] != width else x)
        x = _blocks(weights, x, own.blocks[stage], own.groups[stage])
    x = linear(weights, x)
    first = (x.shape[2] - side) // 2
    return x[:, :, first : first + side, first : first + side]


def said(params: dict[str, Any], x: Tensor, code: Tensor | None, own: Any) -> tuple[Tensor, Tensor]:
    """Logits ``[B]`` and features of images ``[B, C, H, W]``; arguments as of `images`."""
    weights = Weights(params)
    lacks = 4 * 2 ** (len(own.widths) - 1) - x.shape[2]
    x = F.pad(x, (lacks // 2, lacks - lacks // 2) * 2, value=-1) if lacks else x
    x = linear(weights, x)
    for stage, width in enumerate(own.widths):
        if stage:
            x = halved(x)
            x = linear(weights, x) if x.shape[1] != width else x
        x = _blocks(weights, x, own.blocks[stage], own.groups[stage])
    features = (x * weights.next("Depthwise")).sum((2, 3))
    logits = linear(weights, features)
    if code is not None:
        logits = logits * linear(weights, code)
    return logits.sum(1), features


def _blocks(weights: Weights, x: Tensor, count: int, groups: int) -> Tensor:
    for _ in range(count):
        x = block(weights, x, groups)
    return x
