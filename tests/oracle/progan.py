"""The progressive GAN's networks in plain PyTorch, channels first, of the weights of ours (Karras et al. 2018)."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _scaled(x: Tensor, own: dict[str, Tensor], gain: float = math.sqrt(2)) -> Tensor:
    """A convolution or a dense layer without its bias, the kernel times ``gain`` over the root of its inputs."""
    kernel = own["kernel"]
    kernel = kernel * gain / math.sqrt(kernel[..., 0].numel())
    if kernel.ndim == 2:
        return x @ kernel
    return F.conv2d(x, kernel.permute(3, 2, 0, 1).contiguous(), padding=kernel.shape[0] // 2)


def _active(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.reshape(-1, *(1,) * (x.ndim - 2)), 0.2)


def _pixel_norm(x: Tensor) -> Tensor:
    return x / torch.sqrt(x.square().mean(1, keepdim=True) + 1e-8)


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def images(params: dict[str, Any], z: Tensor, side: int, fade: float) -> Tensor:
    """Images ``[B, C, H, W]``."""
    # Features lie channels last where the dense layer's become a map.
    x = _scaled(_pixel_norm(z), params["start"], math.sqrt(2) / 4).reshape(len(z), 4, 4, -1).permute(0, 3, 1, 2)
    x = _pixel_norm(_active(x, params["start_bias"]))
    shown = {}
    for at in (2**i for i in range(2, side.bit_length())):
        for number in range(1 if at == 4 else 2):
            own = params[f"conv{number}_{at}"]
            x = _up(x) if at > 4 and number == 0 else x
            x = _pixel_norm(_active(_scaled(x, own), own["bias"]))
        own = params[f"image_{at}"]
        shown[at] = _scaled(x, own, 1.0) + own["bias"][:, None, None]
    return torch.lerp(_up(shown[side // 2]), shown[side], fade)


def said(params: dict[str, Any], x: Tensor, group: int, fade: float) -> tuple[Tensor, Tensor]:
    """Logits and features of images ``[B, C, H, W]``."""

    def of_image(x: Tensor) -> Tensor:
        own = params[f"from_image_{x.shape[2]}"]
        return _active(_scaled(x, own), own["bias"])

    y, side = of_image(x), x.shape[2]
    for at in (2**i for i in range(side.bit_length() - 1, 2, -1)):
        for number in range(2):
            own = params[f"conv{number}_{at}"]
            y = _scaled(y, own)
            y = _active(F.avg_pool2d(y, 2) if number else y, own["bias"])
        if at == side:
            y = torch.lerp(of_image(F.avg_pool2d(x, 2)), y, fade)
    groups = y.reshape(group, -1, *y.shape[1:])
    spread = torch.sqrt((groups - groups.mean(0)).square().mean(0) + 1e-8).mean((1, 2, 3))
    y = torch.cat([y, spread.repeat(group)[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    y = _active(_scaled(y, params["conv_4"]), params["conv_4"]["bias"])
    features = _active(_scaled(y.permute(0, 2, 3, 1).flatten(1), params["dense"]), params["dense"]["bias"])
    return (_scaled(features, params["logit"], 1.0) + params["logit"]["bias"])[:, 0], features


def faded(x: Tensor, fade: float) -> Tensor:
    """Real images ``[B, H, W, C]`` between those of half the side and themselves."""
    x = x.permute(0, 3, 1, 2)
    return torch.lerp(_up(F.avg_pool2d(x, 2)), x, fade).permute(0, 2, 3, 1)
