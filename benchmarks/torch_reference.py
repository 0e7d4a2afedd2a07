"""DCGAN, residual networks, the multilayer-perceptron GAN and their training in plain PyTorch.

Nothing here knows of our code, but for the names that our parameters have (last part). Networks as in pytorch/examples
``dcgan/main.py``, without the sigmoid: latents ``[B, Z]`` -> images -> logits ``[B]``. Images are channels first, but
for the perceptrons.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

torch.set_num_threads(1)  # on few cores its spinning threads and XLA's starve each other

# --- networks ---------------------------------------------------------------------------------------------------------


def dcgan_generator(latent: int, widths: Sequence[int], side: int, channels: int) -> nn.Sequential:
    """1x1 -> ... -> side x side; main.py's is ``(100, (512, 256, 128, 64), 64, 3)``."""
    first, *larger = halved(side, len(widths))[::-1]
    layers: list[nn.Module] = [
        nn.Unflatten(1, (latent, 1, 1)),
        nn.ConvTranspose2d(latent, widths[0], first, 1, 0, bias=False),
    ]
    for before, after, grown in zip(widths, (*widths[1:], channels), larger, strict=True):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.ZeroPad2d((0, -1, 0, -1))] if grown % 2 else []
    return nn.Sequential(*layers, nn.Tanh())


def dcgan_discriminator(widths: Sequence[int], side: int, channels: int) -> nn.Sequential:
    """side x side -> ... -> 1x1; main.py's is ``((64, 128, 256, 512), 64, 3)``."""
    *sides, last = halved(side, len(widths))
    layers: list[nn.Module] = []
    for block, (before, after) in enumerate(pairwise((channels, *widths))):
        layers += [nn.ZeroPad2d((0, 1, 0, 1))] if sides[block] % 2 else []
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(after)] if block else []
        layers += [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, last, 1, 0, bias=False), nn.Flatten(0))


def halved(side: int, times: int) -> list[int]:
    """``side`` and what is left of it each time it is halved, rounded up."""
    sides = [side]
    for _ in range(times):
        sides.append((sides[-1] + 1) // 2)
    return sides


def mlp_generator(latent: int, widths: Sequence[int], image_shape: tuple[int, int, int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((latent, *widths[:-1]), widths, strict=True):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    height, width, channels = image_shape
    return nn.Sequential(
        *layers, nn.Linear(widths[-1], height * width * channels), nn.Tanh(), nn.Unflatten(1, image_shape)
    )


def mlp_discriminator(widths: Sequence[int], image_shape: tuple[int, int, int]) -> nn.Sequential:
    height, width, channels = image_shape
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip((height * width * channels, *widths[:-1]), widths, strict=True):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))


class SameConv(nn.Conv2d):
    """Keeps the side."""

    def __init__(self, before: int, after: int, side: int = 3, bias: bool = True) -> None:
        super().__init__(before, after, side, padding=side // 2, bias=bias)


class UpBlock(nn.Module):
    """Miyato et al. 2018, figure 8, but with the 1x1 convolution before the doubling: the same, and cheaper."""

    def __init__(self, before: int, after: int, side: int) -> None:
        super().__init__()
        self.first_norm, self.first = nn.BatchNorm2d(before), SameConv(before, after, bias=False)
        self.second_norm, self.second = nn.BatchNorm2d(after), SameConv(after, after, bias=False)
        self.beside, self.side = SameConv(before, after, 1, bias=False), side

    def forward(self, x: Tensor) -> Tensor:
        inside = self.first(self.doubled(F.relu(self.first_norm(x))))
        inside = self.second(F.relu(self.second_norm(inside)))
        out: Tensor = inside + self.doubled(self.beside(x))
        return out

    def doubled(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")[..., : self.side, : self.side]


class DownBlock(nn.Module):
    """The authors' (dis_models/resblocks.py): inside, the width is the input's, but the output's at the image.

    ``wide``: the output's everywhere, as in SAGAN's block.py and BigGAN-PyTorch's layers.py.
    """

    def __init__(self, before: int, after: int, down: bool, at_image: bool, wide: bool = False) -> None:
        super().__init__()
        inside = after if at_image or wide else before
        self.first, self.second = SameConv(before, inside), SameConv(inside, after)
        self.beside = SameConv(before, after, 1) if down or before != after else None
        self.down, self.at_image = down, at_image

    def forward(self, x: Tensor) -> Tensor:
        inside = self.halved(self.second(F.relu(self.first(x if self.at_image else F.relu(x)))))
        out: Tensor = inside + (x if self.beside is None else self.beside(self.halved(x)))
        return out

    def halved(self, x: Tensor) -> Tensor:
        if not self.down:
            return x
        odd = (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)
        return F.avg_pool2d(F.pad(x, odd, mode="replicate") if any(odd) else x, 2)


class ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class SumOfPixels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


class MeanOfPixels(nn.Module):
    """As in gan_cifar_resnet.py of Gulrajani et al. 2017."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def residual_generator(latent: int, first: int, widths: Sequence[int], side: int, channels: int) -> nn.Sequential:
    """Table 3 of Miyato et al. 2018."""
    start, *larger = halved(side, len(widths))[::-1]
    layers: list[nn.Module] = [nn.Linear(latent, start * start * first), nn.Unflatten(1, (start, start, first))]
    layers.append(ChannelsFirst())
    for before, after, grown in zip((first, *widths[:-1]), widths, larger, strict=True):
        layers.append(UpBlock(before, after, grown))
    return nn.Sequential(*layers, nn.BatchNorm2d(widths[-1]), nn.ReLU(), SameConv(widths[-1], channels), nn.Tanh())


def residual_discriminator(
    widths: Sequence[int], downs: int, channels: int, spectral: bool = False, mean: bool = False, wide: bool = False
) -> nn.Sequential:
    """Table 3 of Miyato et al. 2018; ``spectral``: with spectral normalisation; ``mean``: of pixels, not their sum."""
    blocks = [DownBlock(a, b, i < downs, i == 0, wide) for i, (a, b) in enumerate(pairwise((channels, *widths)))]
    pooled = MeanOfPixels() if mean else SumOfPixels()
    net = nn.Sequential(*blocks, nn.ReLU(), pooled, nn.Linear(widths[-1], 1), nn.Flatten(0))
    if spectral:
        normalized(net)
    return net


def normalized(net: nn.Module) -> None:
    """Divide every weight by its largest singular value."""
    for layer in list(net.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrize.register_parametrization(layer, "weight", Spectral(layer.weight[0].numel(), len(layer.weight)))


class Spectral(nn.Module):
    """The weight over its largest singular value, as by torch.nn.utils.parametrizations.spectral_norm.

    The power iteration is made only while ``track_running_stats``: a step of D has one, PyTorch's one for each pass.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.u: Tensor
        self.v: Tensor
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("v", torch.zeros(inputs))
        self.track_running_stats = True

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.movedim(1, -1).flatten(1)  # no copy, channels last
        if self.track_running_stats:
            with torch.no_grad():
                self.v.copy_(F.normalize(torch.mv(matrix.t(), self.u), dim=0, eps=1e-30))
                self.u.copy_(F.normalize(torch.mv(matrix, self.v), dim=0, eps=1e-30))
        return weight / torch.dot(self.u, torch.mv(matrix, self.v))


# --- losses: of D on real logits, of D on fake logits, of G on fake logits, given the targets of these three ----------


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


Term = Callable[[Tensor, float, float, float], Tensor]
LOSSES: dict[str, tuple[Term, Term, Term]] = {
    "non_saturating": (
        lambda x, real, fake, aim: _bce(x, real),
        lambda x, real, fake, aim: _bce(x, fake),
        lambda x, real, fake, aim: _bce(x, 1.0),
    ),
    "minimax": (
        lambda x, real, fake, aim: _bce(x, real),
        lambda x, real, fake, aim: _bce(x, fake),
        lambda x, real, fake, aim: torch.log(1 - torch.sigmoid(x)).mean(),
    ),
    "least_squares": (
        lambda x, real, fake, aim: F.mse_loss(x, torch.full_like(x, real)) / 2,
        lambda x, real, fake, aim: F.mse_loss(x, torch.full_like(x, fake)) / 2,
        lambda x, real, fake, aim: F.mse_loss(x, torch.full_like(x, aim)) / 2,
    ),
    "hinge": (
        lambda x, real, fake, aim: (1 - x).clamp(min=0).mean(),
        lambda x, real, fake, aim: (1 + x).clamp(min=0).mean(),
        lambda x, real, fake, aim: -x.mean(),
    ),
    "wasserstein": (
        lambda x, real, fake, aim: -x.mean(),
        lambda x, real, fake, aim: x.mean(),
        lambda x, real, fake, aim: -x.mean(),
    ),
}


# --- training ---------------------------------------------------------------------------------------------------------


class Slope(nn.Module):
    """Gradient of the sum of what ``net`` says with respect to its input, itself to be differentiated."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(wide(self.net(x)).sum(), x, create_graph=True)
        return gradient


class Found(NamedTuple):
    """Of a step; D's of its last one."""

    d_loss: Tensor
    g_loss: Tensor
    real_logits: Tensor
    fake_logits: Tensor


class Trainer:
    """The loop body of main.py, with any number of D steps, D frozen in G's, and no waiting for any figure.

    ``penalty``: weight of WGAN-GP's; ``ema``: decay of the average of G's weights, if there shall be one; ``compile``:
    what is made of each network for its passes; ``autocast``: gives what they are made in.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: str,
        labels: tuple[float, float, float],
        g_adam: dict[str, Any],
        d_adam: dict[str, Any],
        *,
        penalty: float = 0.0,
        penalty_every: int = 1,
        ema: float | None = None,
        compile: Callable[[nn.Module], Any] = lambda net: net,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.generator, self.discriminator = generator.train(), discriminator.train()
        self.loss, self.labels = loss, labels
        self.draw, self.judge, self.slope = (compile(f) for f in (generator, discriminator, Slope(discriminator)))
        self.autocast = autocast
        self.penalty, self.penalty_every, self.decay, self.steps = penalty, penalty_every, ema, 0
        self.g_params, self.d_params = list(generator.parameters()), list(discriminator.parameters())
        self.ema = [p.detach().clone() for p in self.g_params]
        self.g_optimizer = torch.optim.Adam(self.g_params, **g_adam)
        self.d_optimizer = torch.optim.Adam(self.d_params, **d_adam)

    def step(
        self,
        real: Sequence[Tensor] | Tensor,
        z: Tensor,
        mix: Tensor | None = None,
        own: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Found:
        """Make a D step for each ``real[i]``, ``z[i]``, ``mix[i]`` and ``label[i]``, then a G step.

        ``mix`` is of WGAN-GP; networks of classes are told ``label``. The G step is on the last fakes, or on those of
        latents of its ``own``.

        Running statistics: G's are updated only by the pass that makes the fakes of its step; D's by the real and then
        the fake pass of each of D's steps, and not by G's step.
        """
        for i in range(len(z)):
            told = () if label is None else (label[i],)
            on = (real[i], None if mix is None else mix[i], told)
            if i < len(z) - 1 or own is not None:
                with torch.no_grad(), self.autocast(), kept(self.generator, nn.BatchNorm2d):
                    early = self.draw(z[i], *told)
                d_loss, real_logits, fake_logits = self.discriminator_step(early, *on)
        with self.autocast():
            fake = self.draw(z[-1] if own is None else own, *told)
        if own is None:
            d_loss, real_logits, fake_logits = self.discriminator_step(fake.detach(), *on)

        self.g_optimizer.zero_grad()
        for p in self.d_params:
            p.requires_grad_(False)
        with self.autocast(), kept(self.discriminator, nn.BatchNorm2d, Spectral):
            g_loss = LOSSES[self.loss][2](wide(self.judge(fake, *told)), *self.labels)
        g_loss.backward()
        for p in self.d_params:
            p.requires_grad_(True)
        self.g_optimizer.step()
        if self.decay is not None:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.ema, [p.detach() for p in self.g_params], 1 - decay)
        self.steps += 1
        return Found(d_loss.detach(), g_loss.detach(), real_logits.detach(), fake_logits.detach())

    def discriminator_step(
        self, fake: Tensor, real: Tensor, mix: Tensor | None, told: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        on_real, on_fake, _ = LOSSES[self.loss]
        self.d_optimizer.zero_grad()
        with self.autocast():
            real_logits = wide(self.judge(real, *told))
            with kept(self.discriminator, Spectral):
                fake_logits = wide(self.judge(fake, *told))
            loss = on_real(real_logits, *self.labels) + on_fake(fake_logits, *self.labels)
            if mix is not None and self.steps % self.penalty_every == 0:
                loss = loss + self.penalty * self.penalty_every * self.gradient_penalty(real, fake, mix)
        loss.backward()
        self.d_optimizer.step()
        return loss, real_logits, fake_logits

    def gradient_penalty(self, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """Gulrajani et al. 2017, eq. 3."""
        mix = mix.reshape(-1, 1, 1, 1)
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        with kept(self.discriminator, nn.BatchNorm2d, Spectral):
            gradient: Tensor = self.slope(between)
        return (gradient.square().sum((1, 2, 3)).sqrt() - 1).square().mean()

    def figures(self, found: Found) -> dict[str, float]:
        """Return our step's metrics of the step just made, which ``found`` this."""
        real_logits, fake_logits = found.real_logits, found.fake_logits
        boundary = {
            "least_squares": sum(self.labels[:2]) / 2,
            "wasserstein": (real_logits.mean() + fake_logits.mean()).item() / 2,
        }.get(self.loss, 0.0)
        says = torch.sigmoid if self.loss in ("non_saturating", "minimax") else torch.clone
        return {
            "d_loss": found.d_loss.item(),
            "g_loss": found.g_loss.item(),
            "d_margin": (real_logits.mean() - fake_logits.mean()).item(),
            "d_real": says(real_logits).mean().item(),
            "d_fake": says(fake_logits).mean().item(),
            "d_accuracy_real": (real_logits > boundary).double().mean().item(),
            "d_accuracy_fake": (fake_logits < boundary).double().mean().item(),
            "d_grad_norm": norm(p.grad for p in self.d_params),
            "g_grad_norm": norm(p.grad for p in self.g_params),
            "d_param_norm": norm(self.d_params),
            "g_param_norm": norm(self.g_params),
        }


def wide(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits.float() if logits.dtype == torch.bfloat16 else logits


@contextmanager
def kept(net: nn.Module, *kinds: type[nn.Module]) -> Iterator[None]:
    """Training mode with statistics, in layers of these kinds, that stay as they are."""
    layers: list[Any] = [layer for layer in net.modules() if isinstance(layer, kinds)]
    for layer in layers:
        layer.track_running_stats = False
    yield
    for layer in layers:
        layer.track_running_stats = True


def norm(tensors: Any) -> float:
    return float(sum(t.detach().pow(2).sum().item() for t in tensors) ** 0.5)


# --- weights and running statistics, to and from our variables --------------------------------------------------------


def weighted_layers(net: nn.Module) -> Iterator[tuple[str, Any]]:
    """Each PyTorch layer that has weights, with the name of ours."""
    count: Counter[str] = Counter()
    for layer in net.modules():
        match layer:
            case nn.BatchNorm2d():
                kind = "BatchNorm"
            case SameConv():
                kind = "Conv"
            case nn.Linear() | nn.Conv2d(stride=(1, 1)) | nn.ConvTranspose2d(stride=(1, 1)):
                kind = "Dense"
            case nn.ConvTranspose2d():
                kind = "TransposedConv"
            case nn.Conv2d():
                kind = "StridedConv"
            case _:
                continue
        yield f"{kind}_{count[kind]}", layer
        count[kind] += 1


def kernel_to_ours(layer: Any, weight: np.ndarray) -> np.ndarray:
    if isinstance(layer, nn.Linear):
        return weight.T
    if layer.stride == (2, 2) or isinstance(layer, SameConv):
        return weight.transpose(2, 3, 1, 0)
    flat = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)  # a dense layer to or from side x side x channels
    return flat if isinstance(layer, nn.ConvTranspose2d) else flat.T


def kernel_to_torch(layer: Any, kernel: np.ndarray) -> np.ndarray:
    if isinstance(layer, nn.Linear):
        return kernel.T
    if layer.stride == (2, 2) or isinstance(layer, SameConv):
        return kernel.transpose(3, 2, 0, 1)
    _, channels, side, _ = layer.weight.shape
    flat = kernel if isinstance(layer, nn.ConvTranspose2d) else kernel.T
    return flat.reshape(-1, side, side, channels).transpose(0, 3, 1, 2)


def to_ours(net: nn.Module) -> dict[str, Any]:
    """Return the variables of our module, from a PyTorch network without spectral normalisation."""
    params: dict[str, dict[str, np.ndarray]] = {}
    stats: dict[str, dict[str, np.ndarray]] = {}
    for name, layer in weighted_layers(net):
        values = {key: value.detach().numpy().copy() for key, value in layer.state_dict().items()}
        if name.startswith("BatchNorm"):
            params[name] = {"scale": values["weight"], "bias": values["bias"]}
            stats[name] = {"mean": values["running_mean"], "var": values["running_var"]}
        else:
            bias = {"bias": values["bias"]} if "bias" in values else {}
            params[name] = {"kernel": kernel_to_ours(layer, values["weight"]), **bias}
    return {"params": params, "batch_stats": stats}


@torch.no_grad()
def copy_to_torch(variables: Any, net: nn.Module) -> None:
    """Overwrite everything in ``net`` with the variables of our module."""
    for name, layer in weighted_layers(net):
        ours = {key: np.array(a) for of in variables.values() if name in of for key, a in of[name].items()}
        targets = {"bias": layer.bias}
        if name.startswith("BatchNorm"):
            targets |= {"scale": layer.weight, "mean": layer.running_mean, "var": layer.running_var}
        elif parametrize.is_parametrized(layer):
            weight = layer.parametrizations.weight
            targets |= {"kernel": weight.original, "u": weight[0].u, "v": weight[0].v}
        else:
            targets["kernel"] = layer.weight
        assert ours.keys() == {key for key, target in targets.items() if target is not None}, name
        for key, value in ours.items():
            value = kernel_to_torch(layer, value) if key == "kernel" else value
            assert targets[key].shape == value.shape, f"{name}.{key}"
            targets[key].copy_(torch.from_numpy(np.ascontiguousarray(value)))


def network_input(net: Any, x: np.ndarray) -> Tensor:
    """Latents, or images ``[..., H, W, C]``, as ``net`` wants them: channels first if it begins with convolutions."""
    as_it_is = isinstance(net[0], nn.Linear | nn.Flatten | nn.Unflatten)
    return torch.tensor(x if as_it_is else np.moveaxis(x, -1, -3))
