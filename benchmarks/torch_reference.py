"""DCGAN, the multilayer-perceptron GAN and their training in plain PyTorch: nothing here knows of our code.

Networks as in pytorch/examples ``dcgan/main.py``, without the sigmoid: latents ``[B, Z]`` -> images -> logits ``[B]``.
Images are channels first for DCGAN and channels last for the perceptrons.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


# --- losses: of D on real logits, of D on fake logits, of G on fake logits, given the labels --------------------------


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


Term = Callable[[Tensor, float, float], Tensor]
LOSSES: dict[str, tuple[Term, Term, Term]] = {
    "non_saturating": (
        lambda x, real, fake: _bce(x, real),
        lambda x, real, fake: _bce(x, fake),
        lambda x, real, fake: _bce(x, 1.0),
    ),
    "minimax": (
        lambda x, real, fake: _bce(x, real),
        lambda x, real, fake: _bce(x, fake),
        lambda x, real, fake: torch.log(1 - torch.sigmoid(x)).mean(),
    ),
    "least_squares": (
        lambda x, real, fake: F.mse_loss(x, torch.full_like(x, real)) / 2,
        lambda x, real, fake: F.mse_loss(x, torch.full_like(x, fake)) / 2,
        lambda x, real, fake: F.mse_loss(x, torch.full_like(x, real)) / 2,
    ),
    "hinge": (
        lambda x, real, fake: (1 - x).clamp(min=0).mean(),
        lambda x, real, fake: (1 + x).clamp(min=0).mean(),
        lambda x, real, fake: -x.mean(),
    ),
    "wasserstein": (
        lambda x, real, fake: -x.mean(),
        lambda x, real, fake: x.mean(),
        lambda x, real, fake: -x.mean(),
    ),
}


# --- training ---------------------------------------------------------------------------------------------------------


class Trainer:
    """The loop body of main.py, with any number of D steps."""

    def __init__(
        self,
        generator: nn.Sequential,
        discriminator: nn.Sequential,
        loss: str,
        labels: tuple[float, float],
        g_adam: dict[str, Any],
        d_adam: dict[str, Any],
    ) -> None:
        self.generator, self.discriminator, self.loss, self.labels = (
            generator.train(),
            discriminator.train(),
            loss,
            labels,
        )
        self.g_optimizer = torch.optim.Adam(generator.parameters(), **g_adam)
        self.d_optimizer = torch.optim.Adam(discriminator.parameters(), **d_adam)

    def step(self, real: Tensor, z: Tensor) -> dict[str, float]:
        """A D step for each ``real[i]`` and ``z[i]``, then a G step on the last fakes.

        Running statistics: G's are updated only by the pass that makes the last fakes; D's by the real and then the
        fake pass of each of D's steps, and not by G's step.
        """
        metrics: dict[str, float] = {}
        for images, noise in zip(real[:-1], z[:-1], strict=True):
            with kept_statistics(self.generator):
                fake = self.generator(noise)
            self.discriminator_step(images, fake.detach())
        fake = self.generator(z[-1])
        metrics |= self.discriminator_step(real[-1], fake.detach())

        self.g_optimizer.zero_grad()
        with kept_statistics(self.discriminator):
            g_loss = LOSSES[self.loss][2](self.discriminator(fake), *self.labels)
        g_loss.backward()
        metrics |= {"g_loss": g_loss.item(), "g_grad_norm": norm(p.grad for p in self.generator.parameters())}
        self.g_optimizer.step()
        return metrics | {
            "d_param_norm": norm(self.discriminator.parameters()),
            "g_param_norm": norm(self.generator.parameters()),
        }

    def discriminator_step(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        on_real, on_fake, _ = LOSSES[self.loss]
        self.d_optimizer.zero_grad()
        real_logits = self.discriminator(real)
        real_loss = on_real(real_logits, *self.labels)
        real_loss.backward()
        fake_logits = self.discriminator(fake)
        fake_loss = on_fake(fake_logits, *self.labels)
        fake_loss.backward()
        d_grad_norm = norm(p.grad for p in self.discriminator.parameters())
        self.d_optimizer.step()

        boundary = {
            "least_squares": sum(self.labels) / 2,
            "wasserstein": (real_logits.mean() + fake_logits.mean()).item() / 2,
        }.get(self.loss, 0.0)
        says = torch.sigmoid if self.loss in ("non_saturating", "minimax") else torch.clone
        return {
            "d_loss": (real_loss + fake_loss).item(),
            "d_margin": (real_logits.mean() - fake_logits.mean()).item(),
            "d_real": says(real_logits).mean().item(),
            "d_fake": says(fake_logits).mean().item(),
            "d_accuracy_real": (real_logits > boundary).double().mean().item(),
            "d_accuracy_fake": (fake_logits < boundary).double().mean().item(),
            "d_grad_norm": d_grad_norm,
        }


@contextmanager
def kept_statistics(net: nn.Module) -> Iterator[None]:
    """Training mode with running statistics that stay as they are."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    yield
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def norm(tensors: Any) -> float:
    return float(sum(t.detach().pow(2).sum().item() for t in tensors) ** 0.5)
