"""SAGAN's and BigGAN's networks of classes in plain PyTorch (Zhang et al. 2019; Brock et al. 2019), channels first.

They are called with labels ``[B]`` behind latents or images.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_reference import DownBlock, SameConv, halved, kernel_to_torch, normalized


class Attention(nn.Module):
    """Over all pixels, by keys and values of 2x2 pixels, through a gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries, self.keys = (SameConv(channels, channels // 8, 1, bias=False) for _ in range(2))
        self.values = SameConv(channels, channels // 2, 1, bias=False)
        self.out, self.gate = SameConv(channels // 2, channels, 1, bias=False), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        keys, values = (F.max_pool2d(layer(x), 2).flatten(2) for layer in (self.keys, self.values))
        weights = F.softmax(self.queries(x).flatten(2).transpose(1, 2) @ keys, dim=-1)
        mean = (values @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        found: Tensor = x + self.gate * self.out(mean)
        return found


class ClassNorm(nn.Module):
    """Batch norm with gains and offsets of each class."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.bias = (
            nn.Parameter(torch.ones(classes, channels)),
            nn.Parameter(torch.zeros(classes, channels)),
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        found: Tensor = self.norm(x) * self.scale[label][..., None, None] + self.bias[label][..., None, None]
        return found


class CodeNorm(nn.Module):
    """Batch norm with gains and offsets that are linear in a code."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.offset = (nn.Linear(code, channels, bias=False) for _ in range(2))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        found: Tensor = self.norm(x) * (1 + self.gain(code)[..., None, None]) + self.offset(code)[..., None, None]
        return found


class UpBlock(nn.Module):
    """Twice the side; both norms are told the code."""

    def __init__(self, before: int, after: int, norms: Sequence[nn.Module], bias: bool) -> None:
        super().__init__()
        self.first_norm, self.second_norm = norms
        self.first, self.second = SameConv(before, after, bias=bias), SameConv(after, after, bias=bias)
        self.beside = SameConv(before, after, 1, bias=bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        inside = self.first(F.interpolate(F.relu(self.first_norm(x, code)), scale_factor=2))
        inside = self.second(F.relu(self.second_norm(inside, code)))
        found: Tensor = inside + F.interpolate(self.beside(x), scale_factor=2)
        return found


class Generator(nn.Module):
    """``config`` is that of a run with labels; of BigGAN each block's code is a part of z beside the class's."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        own, side, self.big = config.generator, config.data.image_size, config.model == "biggan"
        parts = len(own.widths) + 1
        self.part = config.latent_dim // parts if self.big else config.latent_dim
        self.side, *larger = halved(side, len(own.widths))[::-1]
        self.embedding = nn.Parameter(torch.zeros(config.classes, own.embedding)) if self.big else None
        self.start, self.first = nn.Linear(self.part, self.side**2 * own.first), own.first
        code = own.embedding + self.part if self.big else config.classes
        blocks: list[nn.Module] = []
        for before, after, at in zip((own.first, *own.widths[:-1]), own.widths, larger, strict=True):
            norms = [(CodeNorm if self.big else ClassNorm)(width, code) for width in (before, after)]
            blocks.append(UpBlock(before, after, norms, own.biased))
            blocks += [Attention(after)] if at == own.attention else []
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.image = nn.BatchNorm2d(own.widths[-1]), SameConv(own.widths[-1], config.data.channels)
        normalized(self)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        start, *codes = z.split(self.part, 1)
        if self.embedding is not None:
            codes = [torch.cat([self.embedding[label], own], 1) for own in codes]
        x = self.start(start).unflatten(1, (self.side, self.side, self.first)).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x, codes.pop(0) if codes else label) if isinstance(block, UpBlock) else block(x)
        return torch.tanh(self.image(F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """With the projection of the class."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        own, side, before = config.discriminator, config.data.image_size, config.data.channels
        blocks: list[nn.Module] = []
        for number, after in enumerate(own.widths):
            blocks.append(DownBlock(before, after, number < own.downs, number == 0, wide=True))
            side //= 2 if number < own.downs else 1
            blocks += [Attention(after)] if number < own.downs and side == own.attention else []
            before = after
        self.blocks, self.logit = nn.Sequential(*blocks), nn.Linear(before, 1)
        self.embedding = nn.Linear(config.classes, before, bias=False)  # its weight is a table, transposed
        normalized(self)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        features = F.relu(self.blocks(x)).sum((2, 3))
        found: Tensor = self.logit(features)[:, 0] + (self.embedding.weight.T[label] * features).sum(1)
        return found


def _places(net: nn.Module) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each module with weights of its own, and where ours lie: as deep as our modules are in each other."""
    counts: dict[str, int] = {}

    def named(kind: str) -> str:
        counts[kind] = counts.get(kind, -1) + 1
        return f"{kind}_{counts[kind]}"

    def within(module: nn.Module) -> Iterator[tuple[tuple[str, ...], Any]]:
        match module:
            case Attention():
                own = named("SelfAttention")
                yield (own,), module
                convolutions = (module.queries, module.keys, module.values, module.out)
                yield from (((own, f"Conv_{number}"), layer) for number, layer in enumerate(convolutions))
            case ClassNorm():
                yield (named("BatchNorm"),), module
            case CodeNorm():
                own = named("ConditionedNorm")
                yield (own, "BatchNorm_0"), module.norm
                yield from (
                    ((own, f"Dense_{number}"), layer) for number, layer in enumerate((module.gain, module.offset))
                )
            case nn.BatchNorm2d():
                yield (named("BatchNorm"),), module
            case SameConv():
                yield (named("Conv"),), module
            case nn.Linear() if isinstance(net, Discriminator) and module is net.embedding:
                yield (named("Embedding"),), module
            case nn.Linear():
                yield (named("Dense"),), module
            case UpBlock():  # in the order of our layers
                for part in (module.first_norm, module.first, module.second_norm, module.second, module.beside):
                    yield from within(part)
            case _:
                for part in module.children():
                    yield from within(part)

    if isinstance(net, Generator) and net.embedding is not None:
        yield ("Embedding_0",), net
    yield from within(net)


@torch.no_grad()
def copy_to_torch(variables: Any, net: nn.Module) -> None:
    """Overwrite everything in ``net`` with the variables of our module; all of these must have their place."""
    taken = 0
    for place, layer in _places(net):
        ours: dict[str, np.ndarray] = {}
        for of in variables.values():
            found = of
            for name in place:
                found = found.get(name, {}) if hasattr(found, "get") else {}
            ours |= {key: np.array(value) for key, value in found.items() if not hasattr(value, "items")}
        taken += len(ours)
        for key, value in ours.items():
            target, value = _target(layer, key, value)
            assert target.shape == value.shape, f"{place}.{key}"
            target.copy_(torch.from_numpy(np.array(value, order="C")))
    assert taken == sum(1 for _ in _leaves(variables)), "a variable of ours has no place"


def _leaves(tree: Any) -> Iterator[Any]:
    for value in tree.values():
        if hasattr(value, "items"):
            yield from _leaves(value)
        else:
            yield value


def _target(layer: Any, key: str, value: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Where a variable of ours belongs, and how it lies there."""
    if key in ("mean", "var"):
        return getattr(layer.norm if isinstance(layer, ClassNorm) else layer, f"running_{key}"), value
    if isinstance(layer, Generator):
        return layer.embedding, value  # type: ignore[return-value]
    if key in ("kernel", "table"):
        kernel = value.T if key == "table" else kernel_to_torch(layer, value)
        return layer.parametrizations.weight.original, kernel
    if key in ("u", "v"):
        return getattr(layer.parametrizations.weight[0], key), value
    named: Tensor = layer.weight if isinstance(layer, nn.BatchNorm2d) and key == "scale" else getattr(layer, key)
    return named, value
