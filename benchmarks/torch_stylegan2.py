"""StyleGAN2 in plain PyTorch, as functions of weights that have the names of ours, and PyTorch's layout.

As its users write it: each example's own kernel in a grouped convolution, or activations scaled, and FIR filters as
depthwise convolutions with a stride. Images are channels first. Written from the papers' formulas (Karras et al. 2020,
arXiv:1912.04958 and arXiv:2006.06676).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Params = dict[str, Any]


def arranged(params: Params) -> Params:
    """Our ``params`` in PyTorch's layout: kernels ``[out, in]`` or ``[out, in, k, k]``, constant ``[1, C, 4, 4]``."""
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}

    def one(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {inside: one(inside, of) for inside, of in value.items()}
        if name == "const":
            return value.permute(0, 3, 1, 2)
        return value.permute(axes[value.ndim]) if name == "kernel" else value

    return {name: one(name, value) for name, value in params.items()}


def filters(x: Tensor) -> Tensor:
    """[1, 3, 3, 1] / 8 along both axes, one a channel."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    return torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)


def filtered(x: Tensor, *, down: int = 1, pad: int = 0, gain: float = 1.0) -> Tensor:
    """Add a border of zeros, apply the filter, and take each ``down``-th pixel: ``[N, C, H, W]``."""
    return F.conv2d(x, gain * filters(x), stride=down, padding=pad, groups=x.shape[1])


def doubled(x: Tensor) -> Tensor:
    """Zeros behind pixels, then the filter, times 4."""
    return F.conv_transpose2d(x, 4 * filters(x), stride=2, padding=1, groups=x.shape[1])


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def dense(x: Tensor, own: Params, multiplier: float = 1.0) -> Tensor:
    kernel = own["kernel"] * multiplier / math.sqrt(own["kernel"].shape[1])
    return F.linear(x, kernel, own["bias"] * multiplier)


def conv(x: Tensor, own: Params, down: bool = False) -> Tensor:
    """With an equalised rate; before a kernel of 3x3 the filter takes 2 pixels of border, before one of 1x1, 1."""
    weight = own["kernel"] / math.sqrt(own["kernel"][0].numel())
    wide = weight.shape[-1] == 3
    if down and wide:
        x = F.conv2d(filtered(x, pad=2), weight, stride=2)
    elif down:
        x = F.conv2d(filtered(x, down=2, pad=1), weight)
    else:
        x = F.conv2d(x, weight, padding=1 if wide else 0)
    return x + own["bias"][:, None, None] if "bias" in own else x


def modulated(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False, grouped: bool = True
) -> Tensor:
    """Each example's own kernel ``weight style``, in one grouped convolution, or by scaling what goes in and comes out.

    With ``up``, as a transposed convolution before the filter: a quarter of the products of one behind it.
    """
    n, side = len(x), weight.shape[-1]
    if grouped:
        own = weight[None] * style[:, None, :, None, None]
        if demodulate:
            own = own * (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        own, x = own.flatten(0, 1), x.reshape(1, -1, *x.shape[2:])
    else:
        own, x = weight, x * style[:, :, None, None]
    groups = n if grouped else 1
    if up:
        turned = own.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
        out = filtered(F.conv_transpose2d(x, turned, stride=2, groups=groups), pad=1, gain=4)
    else:
        out = F.conv2d(x, own, padding=side // 2, groups=groups)
    out = out.reshape(n, -1, *out.shape[2:])
    if demodulate and not grouped:
        out = out * (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()[:, :, None, None]
    return out


def normalized(x: Tensor) -> Tensor:
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def mapped(params: Params, z: Tensor | None, label: Tensor) -> Tensor:
    """w ``[B, w]``."""
    parts = [] if z is None else [normalized(z)]
    if "embedding" in params:
        code = F.one_hot(label, params["embedding"]["kernel"].shape[1]).to(params["embedding"]["kernel"].dtype)
        parts.append(normalized(dense(code, params["embedding"])))
    w = torch.cat(parts, 1)
    for number in range(len([name for name in params if name.startswith("EqualizedDense")])):
        w = lrelu(dense(w, params[f"EqualizedDense_{number}"], 0.01))
    return w


def mixed(w: Tensor, other: Tensor, cut: Tensor, copies: int) -> Tensor:
    """``[B, copies, w]``: ``other`` from copy ``cut`` ``[B]`` on."""
    first = torch.arange(copies, device=cut.device)[None, :, None] < cut[:, None, None]
    return torch.where(first, w[:, None], other[:, None])


def layers_of(side: int) -> dict[str, int]:
    """G's layers with noise, and their sides."""
    return {f"conv{i}_{at}": at for at in sides_of(side) for i in (0, 1) if (at, i) != (4, 0)}


def sides_of(side: int) -> list[int]:
    found = [4]
    while found[-1] < side:
        found.append(2 * found[-1])
    return found


def synthesized(params: Params, w: Tensor, noise: dict[str, Tensor], side: int, grouped: bool = True) -> Tensor:
    """Images ``[B, C, side, side]`` of w ``[B, copies, w]``; ``noise`` ``[B, 1, H, W]`` by the layer's name."""
    copy = 0
    x, images = params["const"].repeat(len(w), 1, 1, 1), None
    for at in sides_of(side):
        for name in (f"conv0_{at}", f"conv1_{at}"):
            if name not in params:  # at 4x4
                continue
            own = params[name]
            how = {"up": name.startswith("conv0"), "grouped": grouped}
            x = modulated(x, own["kernel"], dense(w[:, copy], own["style"]), **how)
            x = lrelu(x + own["noise"]["strength"] * noise[name] + own["bias"][:, None, None])
            copy += 1
        own = params[f"image_{at}"]
        style = dense(w[:, copy], own["style"]) / math.sqrt(x.shape[1])
        new = modulated(x, own["kernel"], style, demodulate=False, grouped=grouped) + own["bias"][:, None, None]
        images = new if images is None else doubled(images) + new
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
