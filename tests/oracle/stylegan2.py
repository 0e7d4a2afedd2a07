"""StyleGAN2 in plain PyTorch, as functions of weights that have the names and the layout of ours.

As its users write it: each example's own kernel in a grouped convolution, FIR filters by ``conv2d`` of pixels with
zeros between. Images are channels first. Written from the papers' formulas; nothing here knows of `gan_jax` but for
those names.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracle import draws

Params = dict[str, Any]


def filtered(x: Tensor, *, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0), gain: float = 1.0) -> Tensor:
    """Zeros behind pixels, a border of zeros, the filter, each ``down``-th pixel: ``[N, C, H, W]``."""
    n, c, h, w = x.shape
    between = F.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = torch.outer(taps, taps) / 64 * gain
    whole = F.pad(between, (*pad, *pad)).reshape(n * c, 1, h * up + sum(pad), w * up + sum(pad))
    out = F.conv2d(whole, kernel[None, None])
    return out.reshape(n, c, *out.shape[2:])[..., ::down, ::down]


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def dense(x: Tensor, own: Params, multiplier: float = 1.0) -> Tensor:
    kernel = own["kernel"] * multiplier / math.sqrt(len(own["kernel"]))
    return F.linear(x, kernel.T, own["bias"] * multiplier)


def kernel_of(own: Params) -> Tensor:
    """``[out, in, k, k]``."""
    weight: Tensor = own["kernel"].permute(3, 2, 0, 1)
    return weight


def conv(x: Tensor, own: Params, down: bool = False) -> Tensor:
    """With an equalised rate; before a kernel of 3x3 the filter takes 2 pixels of border, before one of 1x1, 1."""
    weight = kernel_of(own)
    weight = weight / math.sqrt(weight[0].numel())
    wide = weight.shape[-1] == 3
    if down and wide:
        x = F.conv2d(filtered(x, pad=(2, 2)), weight, stride=2)
    elif down:
        x = F.conv2d(filtered(x, down=2, pad=(1, 1)), weight)
    else:
        x = F.conv2d(x, weight, padding=1 if wide else 0)
    return x + own["bias"][:, None, None] if "bias" in own else x


def modulated(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False) -> Tensor:
    """Each example's own kernel ``weight style``, in one grouped convolution."""
    n, side = len(x), weight.shape[-1]
    own = weight[None] * style[:, None, :, None, None]
    if demodulate:
        own = own * (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    if up:
        x = filtered(x, up=2, pad=(3, 2), gain=4)
    out = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]), own.reshape(-1, *own.shape[2:]), padding=0 if up else side // 2, groups=n
    )
    return out.reshape(n, -1, *out.shape[2:])


def normalized(x: Tensor) -> Tensor:
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def mapped(params: Params, z: Tensor | None, label: Tensor) -> Tensor:
    """w ``[B, w]``."""
    parts = [] if z is None else [normalized(z)]
    if "embedding" in params:
        code = F.one_hot(label, len(params["embedding"]["kernel"])).to(torch.float64)
        parts.append(normalized(dense(code, params["embedding"])))
    w = torch.cat(parts, 1)
    for number in range(len([name for name in params if name.startswith("EqualizedDense")])):
        w = lrelu(dense(w, params[f"EqualizedDense_{number}"], 0.01))
    return w


def mixed(w: Tensor, other: Tensor, cut: Tensor, copies: int) -> Tensor:
    """``[B, copies, w]``: ``other`` from copy ``cut`` ``[B]`` on."""
    first = torch.arange(copies)[None, :, None] < cut[:, None, None]
    return torch.where(first, w[:, None], other[:, None])


def sides_of(side: int) -> list[int]:
    found = [4]
    while found[-1] < side:
        found.append(2 * found[-1])
    return found


def synthesized(params: Params, w: Tensor, noise: dict[str, Tensor], side: int) -> Tensor:
    """Images ``[B, C, side, side]`` of w ``[B, copies, w]``; ``noise`` ``[B, 1, H, W]`` by the layer's name."""
    copy = 0
    x, images = params["const"][0].permute(2, 0, 1)[None].repeat(len(w), 1, 1, 1), None
    for at in sides_of(side):
        for name in (f"conv0_{at}", f"conv1_{at}"):
            if name not in params:  # at 4x4
                continue
            own = params[name]
            x = modulated(x, kernel_of(own), dense(w[:, copy], own["style"]), up=name.startswith("conv0"))
            x = lrelu(x + own["noise"]["strength"] * noise[name] + own["bias"][:, None, None])
            copy += 1
        own = params[f"image_{at}"]
        style = dense(w[:, copy], own["style"]) / math.sqrt(x.shape[1])
        new = modulated(x, kernel_of(own), style, demodulate=False) + own["bias"][:, None, None]
        images = new if images is None else filtered(images, up=2, pad=(2, 1), gain=4) + new
    assert images is not None
    frame = (images.shape[-1] - side) // 2
    middle: Tensor = images[..., frame : frame + side, frame : frame + side]
    return middle


def with_stddev(x: Tensor, group: int) -> Tensor:
    """One more channel; a group is every ``N / G``-th example."""
    groups = x.reshape(group, -1, *x.shape[1:])
    spread = groups.var(0, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, spread.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)


def judged(params: Params, images: Tensor, label: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Logits ``[B]`` and features ``[B, F]`` of images ``[B, C, H, W]``; the network is a resnet if it has skips."""
    sides = sides_of(images.shape[-1])
    before = (sides[-1] - images.shape[-1]) // 2
    behind = sides[-1] - images.shape[-1] - before
    x = lrelu(conv(F.pad(images, (before, behind, before, behind), value=-1), params["from_image"]))
    for side in sides[:0:-1]:
        inside = lrelu(conv(x, params[f"conv0_{side}"]))
        inside = lrelu(conv(inside, params[f"conv1_{side}"], down=True))
        if f"skip_{side}" in params:
            inside = (inside + conv(x, params[f"skip_{side}"], down=True)) * math.sqrt(0.5)
        x = inside
    x = lrelu(conv(with_stddev(x, group), params["conv_4"]))
    features = lrelu(dense(x.permute(0, 2, 3, 1).flatten(1), params["dense"]))
    own = dense(features, params["logit"])
    if "mapping_network" not in params:
        return own[:, 0], features
    told = mapped(params["mapping_network"], None, label)
    return (own * told).sum(1) / math.sqrt(told.shape[1]), features


def lengths(images: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """Of w's path ``[B]`` (Karras et al. 2020, eq. 4), y being N(0, I) of the images' shape."""
    height, width = images.shape[-2:]
    (gradient,) = torch.autograd.grad((images * y).sum() / math.sqrt(height * width), w, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def mapped_in_training(config: Any, params: Params, z: Tensor, label: Tensor, keys: Sequence[Any]) -> Any:
    """w ``[B, copies, w]`` with mixed styles, and w ``[B, w]`` before."""
    sides, own = sides_of(config.data.image_size), params["mapping_network"]
    chance = config.generator.style_mixing
    other, cut = draws.mixing_of_each(keys, config.latent_dim, 2 * len(sides), chance)
    w = mapped(own, z, label)
    return mixed(w, mapped(own, torch.tensor(other), label), torch.tensor(cut), 2 * len(sides)), w


def synthesized_in_training(config: Any, params: Params, w: Tensor, keys: Sequence[Any]) -> Tensor:
    """Images ``[B, C, H, W]`` of w ``[B, copies, w]``, with the keys' noise."""
    side = config.data.image_size
    layers = [(f"conv{i}_{at}", at) for at in sides_of(side) for i in (0, 1) if (at, i) != (4, 0)]
    drawn = draws.noise_of_each(keys, [at for _, at in layers])
    noise = {name: torch.tensor(own)[:, None] for (name, _), own in zip(layers, drawn, strict=True)}
    return synthesized(params["synthesis_network"], w, noise, side)


def path_length(
    config: Any, params: Params, label: Tensor, keys: tuple[Sequence[Any], Sequence[Any]], mean: Tensor
) -> tuple[Tensor, Tensor]:
    """The penalty, and the new mean length; ``keys`` of latents, noise and mixing, and of directions."""
    z = torch.tensor(draws.normal_by(keys[0], (config.latent_dim,)))
    w, _ = mapped_in_training(config, params, z, label, keys[0])
    images = synthesized_in_training(config, params, w, keys[0])
    shape = (*images.shape[2:], images.shape[1])
    y = torch.tensor(draws.normal_by(keys[1], shape)).permute(0, 3, 1, 2)
    found = lengths(images, w, y)
    mean = mean + config.terms.path_length.decay * (found.mean() - mean)
    return (found - mean).square().mean(), mean.detach()
