"""FastGAN's networks in plain PyTorch, channels first, of the weights of ours (Liu et al. 2021)."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracle import draws


def _valid(run: Any, x: Tensor) -> Tensor:
    name, own = run.next("Valid4")
    return F.conv2d(x, run.weight(name, own["kernel"]).permute(3, 2, 0, 1).contiguous())


def _glu(run: Any, x: Tensor) -> Tensor:
    return F.glu(run.norm("batch", x), dim=1)


def _up(run: Any, x: Tensor, noise: Sequence[np.ndarray] = ()) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    for number in range(max(1, len(noise))):
        x = run.conv(x)
        if noise:
            _, own = run.next("Noise")
            x = x + own["strength"] * torch.tensor(noise[number])[:, None]
        x = _glu(run, x)
    return x


def _gate(run: Any, low: Tensor) -> Tensor:
    return torch.sigmoid(run.conv(F.silu(_valid(run, F.adaptive_avg_pool2d(low, 4)))))


def images(config: Any, run: Any, z: Tensor, keys: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Images ``[B, H, W, C]`` of the side of the data, 32 to 256, and of half of it."""
    side = config.data.image_size
    name, own = run.next("Start")
    kernel = run.weight(name, own["kernel"], output_axis=2).permute(3, 2, 0, 1)  # [in, out, 4, 4]
    x = _glu(run, F.conv_transpose2d(z[..., None, None], kernel.contiguous()))
    sides = [2**i for i in range(3, side.bit_length())]
    noisy = [at for at in sides if at in (8, 32, 128)]
    noise = draws.noise_of_each(keys, [at for at in noisy for _ in range(2)])
    found = {4: x}
    for at in sides:
        x = _up(run, x, [noise.pop(0), noise.pop(0)] if at in noisy else [])
        x = x * _gate(run, found[at // 16]) if at >= 64 else x
        found[at] = x
    both = [run.conv(x), run.conv(found[side // 2])]
    both = [torch.tanh(y) for y in both] if side < 256 else both
    return both[0].permute(0, 2, 3, 1), both[1].permute(0, 2, 3, 1)


def said(run: Any, pair: tuple[Tensor, Tensor], keys: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[B, 50]``, features, and the mean squared error of the decoders; of images ``[B, H, W, C]``."""
    image, small = (x.permute(0, 3, 1, 2) for x in pair)

    def active(x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2)

    x = active(run.conv(image))
    found = {x.shape[2]: x}
    while x.shape[2] > 8:
        at, before = x.shape[2] // 2, x
        x = active(run.norm("batch", run.strided(before)))
        x = active(run.norm("batch", run.conv(x)))
        direct = active(run.norm("batch", run.conv(F.avg_pool2d(before, 2))))
        x = (x + direct) / 2
        x = x * _gate(run, found[8 * at]) if 8 * at in found else x
        found[at] = x
    big = _valid(run, active(run.norm("batch", run.conv(x))))
    y, first = small, True
    while y.shape[2] > 8:
        y = run.strided(y)
        y = active(y if first else run.norm("batch", y))
        first = False
    logits = torch.cat([big.flatten(1), _valid(run, y).flatten(1)], 1)
    corners = [jax.random.randint(key, (2,), 0, 2) for key in keys]
    part, quarter = _quarters(found[16], corners), _quarters(image, corners)
    error, size = torch.zeros(()), small.shape[2]
    for own, target in ((x, image), (y, image), (part, quarter)):
        while own.shape[2] < size:
            own = _up(run, own)
        error = error + (torch.tanh(run.conv(own)) - F.adaptive_avg_pool2d(target, size)).square().mean() / 3
    return logits, x.mean((2, 3)), error


def _quarters(x: Tensor, corners: Sequence[Any]) -> Tensor:
    half = x.shape[2] // 2
    rows = [(int(top) * half, int(left) * half) for top, left in corners]
    return torch.stack([own[:, t : t + half, w : w + half] for own, (t, w) in zip(x, rows, strict=True)])
