"""All networks in plain PyTorch, as functions of weights that have the names and the layout of ours.

Images are ``[B, H, W, C]`` outside and channels first inside. Written from the papers' formulas and PyTorch's own
layers; nothing here knows of `gan_jax` but for those names.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import torch_r3gan
from benchmarks.torch_reference import halved
from tests.oracle import draws, progan, stylegan2

Variables: TypeAlias = dict[str, Any]  # by collection, then as deep as the modules lie in each other

_EPSILON = 1e-5  # of all normalisations


class Said(NamedTuple):
    """What D says of a batch; ``class_logits`` are empty where it names no class."""

    logits: Tensor
    features: Tensor
    class_logits: Tensor


class Pass:
    """One pass through a network, layer by layer: each call of a kind of layer takes the next weights of that kind.

    ``renew``: whether a power iteration is made for each weight first. Batch norm is by its batch's moments, and
    ``written`` holds the other variables as they are afterwards.
    """

    def __init__(self, variables: Variables, renew: bool = False) -> None:
        self.params = variables["params"]
        self.written = {kind: cloned(of) for kind, of in variables.items() if kind != "params"}
        self.renew, self.counts = renew, Counter[str]()

    def next(self, kind: str) -> tuple[str, dict[str, Tensor]]:
        name = f"{kind}_{self.counts[kind]}"
        self.counts[kind] += 1
        return name, self.params[name]

    def within(self, kind: str) -> "Pass":
        """The pass through the next module of that kind, which has layers of its own."""
        name, own = self.next(kind)
        inner = Pass({"params": own}, self.renew)
        inner.written = {collection: of[name] for collection, of in self.written.items() if name in of}
        return inner

    def attention(self, x: Tensor) -> Tensor:
        """``x`` and, through a gate, at each pixel a mean over all others, by keys and values of 2x2 pixels."""
        run, (n, channels, height, width) = self.within("SelfAttention"), x.shape
        queries = run.conv(x).flatten(2)
        keys, values = (F.max_pool2d(run.conv(x), 2).flatten(2) for _ in range(2))
        weights = F.softmax(queries.transpose(1, 2) @ keys, dim=-1)
        mean = (values @ weights.transpose(1, 2)).reshape(n, channels // 2, height, width)
        gate: Tensor = run.params["gate"]
        return x + gate * run.conv(mean)

    def told(self, x: Tensor, code: Tensor) -> Tensor:
        """Batch norm of ``x``, with gains and offsets that are linear in ``code``."""
        run = self.within("ConditionedNorm")
        gain, offset = (run.dense(code)[..., None, None] for _ in range(2))
        running = run.written["batch_stats"]["BatchNorm_0"]
        out = F.batch_norm(x, running["mean"], running["var"], training=True, momentum=0.1, eps=_EPSILON)
        return out * (1 + gain) + offset

    def weight(self, name: str, weight: Tensor, output_axis: int = -1) -> Tensor:
        """``weight`` over its largest singular value, if there is an estimate of that (Miyato et al. 2018)."""
        if name not in self.written.get("spectral", {}):
            return weight
        vectors = self.written["spectral"][name]
        matrix = weight.movedim(output_axis, 0).flatten(1)  # [outputs, inputs]
        if self.renew:
            with torch.no_grad():
                vectors["v"] = F.normalize(matrix.T @ vectors["u"], dim=0)
                vectors["u"] = F.normalize(matrix @ vectors["v"], dim=0)
        sigma: Tensor = vectors["u"] @ matrix @ vectors["v"]
        return weight / sigma

    def dense(self, x: Tensor) -> Tensor:
        name, own = self.next("Dense")
        return F.linear(x, self.weight(name, own["kernel"]).T, own.get("bias"))

    def conv(self, x: Tensor) -> Tensor:
        """Keeps the side."""
        name, own = self.next("Conv")
        kernel = self.weight(name, own["kernel"]).permute(3, 2, 0, 1).contiguous()
        return F.conv2d(x, kernel, own.get("bias"), padding=kernel.shape[-1] // 2)

    def strided(self, x: Tensor) -> Tensor:
        name, own = self.next("StridedConv")
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        return F.conv2d(x, self.weight(name, own["kernel"]).permute(3, 2, 0, 1).contiguous(), stride=2, padding=1)

    def transposed(self, x: Tensor) -> Tensor:
        name, own = self.next("TransposedConv")
        kernel = self.weight(name, own["kernel"], output_axis=2)
        return F.conv_transpose2d(x, kernel.permute(3, 2, 0, 1).contiguous(), stride=2, padding=1)

    def norm(self, kind: str, x: Tensor, label: Tensor | None = None) -> Tensor:
        """``x`` ``[B, C, ...]`` by the layer of that name; gains and offsets of ``label`` if it has a table of them."""
        if kind == "none":
            return x
        name, own = self.next({"batch": "BatchNorm", "layer": "LayerNorm", "virtual": "VirtualBatchNorm"}[kind])
        gain, offset = own["scale"], own["bias"]
        if gain.ndim == 2:
            assert label is not None
            gain, offset = gain[label], offset[label]
        gain, offset = (a.reshape(-1, x.shape[1], *(1,) * (x.ndim - 2)) for a in (gain, offset))
        if kind == "batch":
            running = self.written["batch_stats"][name]
            out = F.batch_norm(x, running["mean"], running["var"], training=True, momentum=0.1, eps=_EPSILON)
        elif kind == "layer":
            out = F.layer_norm(x, x.shape[1:], eps=_EPSILON)
        else:
            out = _virtual(x)
        return out * gain + offset


def _virtual(x: Tensor) -> Tensor:
    """Each example by the moments of the 64 references before it and its own; those by theirs (Salimans et al.)."""
    axes = (0, *range(2, x.ndim))
    out = []
    for i in range(len(x)):
        among = x[:64] if i < 64 else torch.cat([x[:64], x[i : i + 1]])
        mean, var = among.mean(axes, keepdim=True), among.var(axes, unbiased=False, keepdim=True)
        out.append((x[i : i + 1] - mean) / torch.sqrt(var + _EPSILON))
    return torch.cat(out)


# --- generators -------------------------------------------------------------------------------------------------------


def generated(config: Any, run: Pass, z: Tensor, label: Tensor) -> Tensor:
    """Images ``[B, H, W, C]`` of latents ``[B, Z]``."""
    if config.model == "r3gan":
        return _r3gan_images(config, run, z, label)
    if config.model == "progan":
        run.written["moving"]["fade"] = torch.tensor(config.fade, dtype=z.dtype)
        return progan.images(run.params, z, config.data.image_size, config.fade).permute(0, 2, 3, 1)
    if config.model in ("biggan", "biggan_deep"):
        return _big_images(config, run, z, label)
    kind, classes = config.generator.norm, config.classes
    if kind == "virtual":
        z = torch.cat([torch.tensor(draws.references(z.shape[1])), z])
        label = torch.cat([torch.arange(64) % max(classes, 1), label])
    if config.generator.conditional == "concat":
        z = torch.cat([z, F.one_hot(label, classes)], 1)

    def norm(x: Tensor) -> Tensor:
        return run.norm(kind, x, label)

    family = {"mlp": _dense_images, "dcgan": _dcgan_images, "resnet": _residual_images, "aae": _dense_images}
    images = family[config.model](config, run, z, norm)
    return images[64:] if kind == "virtual" else images


def _dense_images(config: Any, run: Pass, z: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
    for _ in config.generator.widths:
        z = F.leaky_relu(norm(run.dense(z)), 0.2)
    side = config.data.image_size
    return torch.tanh(run.dense(z)).reshape(-1, side, side, config.data.channels)


def _dcgan_images(config: Any, run: Pass, z: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
    *larger, start = halved(config.data.image_size, len(config.generator.widths))
    x = run.dense(z).reshape(len(z), start, start, -1).permute(0, 3, 1, 2)
    for side in reversed(larger):
        x = run.transposed(F.relu(norm(x)))[..., :side, :side]
    return torch.tanh(x).permute(0, 2, 3, 1)


def _residual_images(config: Any, run: Pass, z: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
    start = config.data.image_size // 2 ** len(config.generator.widths)
    x = run.dense(z).reshape(len(z), start, start, -1).permute(0, 3, 1, 2)
    for _ in config.generator.widths:
        inside = run.conv(F.interpolate(F.relu(norm(x)), scale_factor=2, mode="nearest"))
        inside = run.conv(F.relu(norm(inside)))
        x = inside + F.interpolate(run.conv(x), scale_factor=2, mode="nearest")
        x = run.attention(x) if x.shape[2] == config.generator.get("attention") else x
    return torch.tanh(run.conv(F.relu(norm(x)))).permute(0, 2, 3, 1)


def _big_images(config: Any, run: Pass, z: Tensor, label: Tensor) -> Tensor:
    own, stages = config.generator, len(config.generator.widths)
    shared = run.next("Embedding")[1]["table"][label]
    if config.model == "biggan":
        first, *parts = z.chunk(stages + 1, dim=1)
        codes = [torch.cat([shared, part], 1) for part in parts]
    else:
        first = torch.cat([shared, z], 1)
        codes = [first] * stages
    start = config.data.image_size // 2**stages
    x = run.dense(first).reshape(len(z), start, start, -1).permute(0, 3, 1, 2)
    for width, code in zip(own.widths, codes, strict=True):
        if config.model == "biggan":
            inside = run.conv(_twice(F.relu(run.told(x, code))))
            inside = run.conv(F.relu(run.told(inside, code)))
            x = inside + run.conv(_twice(x))
        else:
            x = _deep_up(run, _deep_up(run, x, code, x.shape[1], up=False), code, width, up=True)
        x = run.attention(x) if x.shape[2] == own.attention else x
    return torch.tanh(run.conv(F.relu(run.norm("batch", x)))).permute(0, 2, 3, 1)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _deep_up(run: Pass, x: Tensor, code: Tensor, width: int, up: bool) -> Tensor:
    inside = run.conv(F.relu(run.told(x, code)))
    inside = F.relu(run.told(inside, code))
    inside = run.conv(_twice(inside) if up else inside)
    inside = run.conv(F.relu(run.told(inside, code)))
    inside = run.conv(F.relu(run.told(inside, code)))
    kept = x[:, :width]
    return inside + (_twice(kept) if up else kept)


def encoded(config: Any, run: Pass, images: Tensor) -> Tensor:
    """Codes ``[B, Z]`` of images, by the autoencoder's other half."""
    x = images.flatten(1)
    for _ in config.generator.encoder_widths:
        x = F.leaky_relu(run.dense(x), 0.2)
    return run.dense(x)


# --- discriminators ---------------------------------------------------------------------------------------------------


def judged(config: Any, run: Pass, x: Tensor, label: Tensor) -> Said:
    """What D says of images ``[B, H, W, C]``, or of codes."""
    if config.model == "r3gan":
        return _r3gan_says(config, run, x, label)
    if config.model == "stylegan2":
        group = math.gcd(len(x), config.discriminator.stddev_group)
        logits, features = stylegan2.judged(run.params, x.permute(0, 3, 1, 2), label, group)
        return Said(logits, features, torch.zeros(0))
    if config.model == "progan":
        run.written["moving"]["fade"] = torch.tensor(config.fade, dtype=x.dtype)
        group = math.gcd(len(x), config.discriminator.stddev_group)
        logits, features = progan.said(run.params, x.permute(0, 3, 1, 2), group, config.fade)
        return Said(logits, features, torch.zeros(0))
    family = "mlp" if config.model == "aae" else config.model
    if config.discriminator.conditional == "concat":
        code = F.one_hot(label, config.classes).to(x.dtype)
        if family == "mlp":
            x = torch.cat([x.flatten(1), code], 1)
        else:
            x = torch.cat([x, code[:, None, None].expand(*x.shape[:-1], -1)], -1)
    family = "resnet" if family == "biggan" else family
    networks = {"mlp": _dense_features, "dcgan": _dcgan_features, "resnet": _residual_features}
    features = {**networks, "biggan_deep": _deep_features}[family](config, run, x)
    with_others = features
    if config.discriminator.minibatch == "discrimination":
        m = run.dense(features).reshape(len(x), 50, 5)
        near = torch.exp(-(m[:, None] - m[None]).abs().sum(-1))
        with_others = torch.cat([features, near.sum(1)], 1)
    logits = run.dense(with_others)[:, 0]
    if config.discriminator.conditional == "projection":
        name, own = run.next("Embedding")
        logits = logits + (run.weight(name, own["table"])[label] * features).sum(1)
    auxiliary = config.discriminator.conditional == "auxiliary"
    return Said(logits, features, run.dense(features) if auxiliary else torch.zeros(0))


def _dense_features(config: Any, run: Pass, x: Tensor) -> Tensor:
    x = x.flatten(1)
    for block in range(len(config.discriminator.widths)):
        x = F.leaky_relu(run.norm(config.discriminator.norm if block else "none", run.dense(x)), 0.2)
    return x


def _dcgan_features(config: Any, run: Pass, x: Tensor) -> Tensor:
    x = x.permute(0, 3, 1, 2)
    for block in range(len(config.discriminator.widths)):
        x = F.leaky_relu(run.norm(config.discriminator.norm if block else "none", run.strided(x)), 0.2)
    return x.permute(0, 2, 3, 1).flatten(1)


def _residual_features(config: Any, run: Pass, x: Tensor) -> Tensor:
    """Blocks without a norm, as D has them in SNGAN."""
    x = x.permute(0, 3, 1, 2)
    for block, width in enumerate(config.discriminator.widths):
        down = block < config.discriminator.downs
        halved = (lambda x: F.avg_pool2d(x, 2)) if down else (lambda x: x)
        inside = run.conv(x if block == 0 else F.relu(x))
        inside = halved(run.conv(F.relu(inside)))
        x = inside + (run.conv(halved(x)) if down or x.shape[1] != width else x)
        x = run.attention(x) if down and x.shape[2] == config.discriminator.get("attention") else x
    return {"sum": torch.sum, "mean": torch.mean}[config.discriminator.pooling](F.relu(x), dim=(2, 3))


def _deep_features(config: Any, run: Pass, x: Tensor) -> Tensor:
    x = run.conv(x.permute(0, 3, 1, 2))
    for stage, width in enumerate(config.discriminator.widths):
        for block in range(2):
            down = block == 0 and stage < config.discriminator.downs
            inside = run.conv(F.relu(x))
            inside = run.conv(F.relu(inside))
            inside = F.relu(run.conv(F.relu(inside)))
            inside, beside = (F.avg_pool2d(y, 2) if down else y for y in (inside, x))
            inside = run.conv(inside)
            if width > x.shape[1]:
                beside = torch.cat([beside, run.conv(beside)], 1)
            x = inside + beside
        down = stage < config.discriminator.downs
        x = run.attention(x) if down and x.shape[2] == config.discriminator.attention else x
    return F.relu(x).sum((2, 3))


# --- R3GAN ------------------------------------------------------------------------------------------------------------


def _r3gan_images(config: Any, run: Pass, z: Tensor, label: Tensor) -> Tensor:
    own, side = config.generator, config.data.image_size
    code = F.one_hot(label, config.classes).to(z.dtype) if own.conditional == "concat" else None
    return torch_r3gan.images(torch_r3gan.arranged(run.params), z, code, own, side).permute(0, 2, 3, 1)


def _r3gan_says(config: Any, run: Pass, x: Tensor, label: Tensor) -> Said:
    own = config.discriminator
    code = F.one_hot(label, config.classes).to(x.dtype) if own.conditional == "projection" else None
    logits, features = torch_r3gan.said(torch_r3gan.arranged(run.params), x.permute(0, 3, 1, 2), code, own)
    return Said(logits, features, torch.zeros(0))


def cloned(tree: Any) -> Any:
    """Nested dicts of copies."""
    return {name: cloned(value) for name, value in tree.items()} if isinstance(tree, dict) else tree.clone()


def tensors(tree: Any) -> Any:
    """All arrays of nested dicts as tensors."""
    if isinstance(tree, dict):
        return {name: tensors(value) for name, value in tree.items()}
    return torch.tensor(np.asarray(tree))


def arrays(tree: Any) -> Any:
    """All tensors of nested dicts as arrays."""
    if isinstance(tree, dict):
        return {name: arrays(value) for name, value in tree.items()}
    return tree.detach().numpy().copy()
