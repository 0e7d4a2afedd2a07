"""The training steps of R3GAN and StyleGAN2 in plain PyTorch: penalties of D's gradient and of G's path by autograd.

Images are channels first; the networks are those of `benchmarks.torch_r3gan` and `benchmarks.torch_stylegan2`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import torch_stylegan2
from benchmarks.torch_reference import Found, wide


class Network(nn.Module):
    """A function of weights, ``function(weights, *inputs)``, and these, as a module."""

    def __init__(self, weights: dict[str, Any], function: Callable[..., Any]) -> None:
        super().__init__()
        self.weights, self.function = _parameters(weights), function
        self.leaves = nn.ParameterList(_leaves(self.weights))

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.weights, *inputs)


def _parameters(weights: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _parameters(value) if isinstance(value, dict) else nn.Parameter(value.contiguous())
        for name, value in weights.items()
    }


def _leaves(weights: dict[str, Any]) -> Iterator[nn.Parameter]:
    for value in weights.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


class Slope(nn.Module):
    """What ``net`` says of its input, and the gradient of its sum, itself to be differentiated."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = wide(self.net(x))
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return logits, gradient


class Lengths(nn.Module):
    """Of the paths of ``net``'s w: ``(inputs, y)``, see `torch_stylegan2.lengths`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
        images, w, _ = self.net(*inputs)
        return torch_stylegan2.lengths(wide(images), w, y)


class Penalty(NamedTuple):
    """The weight of one, and every how many steps it is due."""

    weight: float = 0.0
    every: int = 1

    def now(self, step: int) -> float:
        """Its weight in a step; 0: it isn't due."""
        return self.weight * self.every if step % self.every == 0 else 0.0


_NONE = Penalty()


class Trainer:
    """D's step, then G's on the same fakes, and the average.

    Args:
      nets: G, from latents and whatever else it takes to images, the w that they have, and w's mean over the batch
        (None where there is no w); D, from images to logits.
      loss: relativistic or non_saturating.
      adam: of G, and of D.
      r1, r2, path_length: penalties.
      share: of the newest in the mean of path lengths.
      w_decay: of w's mean.
      half_life: of the average of G's weights, in steps, and by which share of the steps made it is bounded, 0: it
        isn't.
      compile, autocast: see `benchmarks.torch_reference.Trainer`.
    """

    def __init__(
        self,
        nets: tuple[Network, Network],
        loss: str,
        adam: tuple[dict[str, Any], dict[str, Any]],
        *,
        r1: Penalty = _NONE,
        r2: Penalty = _NONE,
        path_length: Penalty = _NONE,
        share: float = 0.01,
        w_decay: float = 0.995,
        half_life: tuple[float, float] = (1000.0, 0.0),
        compile: Callable[[nn.Module], Any] = lambda net: net,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        generator, discriminator = nets
        self.loss, self.r1, self.r2, self.path_length = loss, r1, r2, path_length
        self.draw, self.judge, self.slope = (compile(f) for f in (generator, discriminator, Slope(discriminator)))
        self.lengths, self.autocast = compile(Lengths(generator)), autocast
        self.share, self.w_decay, self.half_life, self.steps = share, w_decay, half_life, 0
        self.g_params, self.d_params = list(generator.parameters()), list(discriminator.parameters())
        self.ema = [p.detach().clone() for p in self.g_params]
        zero = torch.zeros((), dtype=self.g_params[0].dtype, device=self.g_params[0].device)
        self.mean_length, self.mean_w = zero, zero
        self.g_optimizer, self.d_optimizer = (
            torch.optim.Adam(params, **given)
            for params, given in zip((self.g_params, self.d_params), adam, strict=True)
        )

    def step(self, real: Tensor, inputs: tuple[Any, ...], path: tuple[tuple[Any, ...], Tensor] | None = None) -> Found:
        """Make a step of both.

        Args:
          real: images.
          inputs: of G.
          path: inputs of G, and directions, for the path length.
        """
        with self.autocast():
            fake, _, w = self.draw(*inputs)
        d_loss, real_logits, fake_logits = self.discriminator_step(real, fake.detach())
        g_loss = self.generator_step(real, fake, path)
        if w is not None:
            self.mean_w = torch.lerp(w.detach().to(self.mean_w.dtype), self.mean_w, self.w_decay)
        length, ramp = self.half_life
        length = min(length, ramp * (self.steps + 1)) if ramp else length
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.g_params], 1 - 0.5 ** (1 / length))
        self.steps += 1
        return Found(d_loss.detach(), g_loss.detach(), real_logits.detach(), fake_logits.detach())

    def discriminator_step(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make a step of D, whose penalties take the gradient of the very pass that the loss is of."""
        logits, penalties = [], torch.zeros((), device=real.device)
        for images, penalty in ((real, self.r1), (fake, self.r2)):
            weight = penalty.now(self.steps)
            with self.autocast():
                if weight:
                    said, gradient = self.slope(images.detach().clone().requires_grad_())
                    penalties = penalties + weight / 2 * gradient.square().sum((1, 2, 3)).mean()
                else:
                    said = wide(self.judge(images))
            logits.append(said)
        on_real, on_fake = logits
        if self.loss == "relativistic":
            loss = F.softplus(on_fake - on_real).mean()
        else:
            loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        loss = loss + penalties
        self.d_optimizer.zero_grad()
        loss.backward(inputs=self.d_params)
        self.d_optimizer.step()
        return loss, on_real, on_fake

    def generator_step(self, real: Tensor, fake: Tensor, path: tuple[tuple[Any, ...], Tensor] | None) -> Tensor:
        """D is frozen."""
        self.g_optimizer.zero_grad()
        for p in self.d_params:
            p.requires_grad_(False)
        with self.autocast():
            on_fake = wide(self.judge(fake))
            if self.loss == "relativistic":
                with torch.no_grad():
                    on_real = wide(self.judge(real))
                loss = F.softplus(on_real - on_fake).mean()
            else:
                loss = F.softplus(-on_fake).mean()
        loss.backward()
        for p in self.d_params:
            p.requires_grad_(True)
        weight = self.path_length.now(self.steps)
        if weight:
            assert path is not None
            with self.autocast():
                found = self.lengths(*path)
            mean = self.mean_length + self.share * (found.mean() - self.mean_length)
            penalty = weight * (found - mean).square().mean()
            penalty.backward(inputs=self.g_params)
            self.mean_length, loss = mean.detach(), loss + penalty
        self.g_optimizer.step()
        return loss
