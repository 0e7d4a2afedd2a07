"""A few steps of any of the GANs in plain PyTorch and float64: losses, penalties, terms, optimizers, averages.

Written from the papers' formulas and from what `gan_jax.core.update` says that a step is. It reads a config, first
values and images, and calls nothing of `gan_jax`.
"""

import math
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracle import draws, fastgan, progan, stylegan2
from tests.oracle.networks import Pass, Said, Variables, arrays, cloned, encoded, generated, judged, tensors


def theirs(config: Any, values: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The steps of `tests.oracle.cases.ours` by PyTorch, with the same outcome."""
    run = Run(config, values)
    metrics = [run.step(tensors(i), tensors(c).long()) for i, c in zip(images, labels, strict=True)]
    more = {}
    if config.task == "autoencoder":
        shown, label, average = tensors(images[0, 0]), tensors(labels[0, 0]).long(), run.ema["params"]
        more["reconstructed"] = arrays(run.decoded(average, encoded(config, run.encoder(average), shown), label))
        more["viewed"] = arrays(encoded(config, run.encoder(run.generator.variables["params"]), shown))
    players = {"generator": arrays(run.generator.variables), "discriminator": arrays(run.discriminator.variables)}
    return {"metrics": metrics, **players, "ema": arrays(run.ema), **more}


class Player:
    """A network's variables and its optimizer, which goes down a gradient."""

    def __init__(self, config: Any, name: str, variables: Variables) -> None:
        self.variables = tensors(variables)
        self.leaves = list(_leaves(self.variables["params"]))
        self.config, self.name, self.own = config, name, config.optimizer[name]
        self.moves, self.past = 0, [torch.zeros_like(p) for p in self.leaves]
        for p in self.leaves:
            p.requires_grad_()
        rate = self.own.learning_rate
        if self.own.name == "adam":
            self.optimizer: Any = torch.optim.Adam(self.leaves, rate, (self.own.b1, self.own.b2))
        else:
            self.optimizer = {"rmsprop": torch.optim.RMSprop, "sgd": torch.optim.SGD}[self.own.name](self.leaves, rate)

    def descend(self, loss: Tensor, step: int) -> float:
        """One step down, in the run's ``step``; the norm of the loss's gradient."""
        gradient = torch.autograd.grad(loss, self.leaves)
        norm = _norm(gradient)
        key = f"optimizer.{self.name}"
        self.optimizer.param_groups[0]["lr"] = now(self.config, f"{key}.learning_rate", step)
        if self.own.name == "adam":
            self.optimizer.param_groups[0]["betas"] = self.own.b1, now(self.config, f"{key}.b2", step)
        self.moves += 1
        with torch.no_grad():
            for p, g, past in zip(self.leaves, gradient, self.past, strict=True):
                past += p
                p.grad = g + 2 * self.own.historical_averaging * (p - past / self.moves)
        self.optimizer.step()
        if self.own.clip:
            with torch.no_grad():
                for p in self.leaves:
                    p.clamp_(-self.own.clip, self.own.clip)
        return norm


def now(config: Any, key: str, step: int) -> float:
    """The value of a dotted key in a step, with its schedule where it has one."""
    start = float(reduce(getitem, key.split("."), config))
    for entry in config.schedules.values():
        if entry.key == key and entry.kind in ("linear", "cosine"):
            length = entry.length / (config.batch_size * config.d_steps if entry.unit == "images" else 1)
            progress = min(step / (length or config.steps), 1)
            gone = progress if entry.kind == "linear" else (1 - math.cos(math.pi * progress)) / 2
            return float(start + (entry.final - start) * gone)
    return start


class Run:
    """A run of ``config`` from ``values``."""

    def __init__(self, config: Any, values: dict[str, Any]) -> None:
        self.config, self.steps = config, 0
        self.generator = Player(config, "generator", values["generator"])
        self.discriminator = Player(config, "discriminator", values["discriminator"])
        self.ema = tensors(values["ema"])
        self.mean_length = torch.zeros((), dtype=torch.float64)

    def step(self, images: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
        """``d_steps`` steps of D, one of G, and the average; the metrics."""
        for substep in range(self.config.d_steps):
            label = labels[substep]
            real, fake, own_loss, g_stats = self.played(images[substep], label, substep)
            detached = tuple(x.detach() for x in fake) if isinstance(fake, tuple) else fake.detach()
            found = self.discriminator_step(real, detached, label, substep)
        if self.config.g_batches:  # fresh ones for G
            image, label = (x[-1].repeat_interleave(self.config.g_batches, 0) for x in (images, labels))
            real, fake, own_loss, g_stats = self.played(image, label, self.config.d_steps)
        found |= self.generator_step(real, fake, label, own_loss, g_stats)
        self.average(label)
        self.steps += 1
        return {name: np.asarray(value, np.float64) for name, value in found.items()}

    def played(self, image: Tensor, label: Tensor, substep: int) -> tuple[Any, Any, Tensor, Variables]:
        """What D gets as real and as fake, G's own loss, and G's new statistics."""
        params = self.generator.variables["params"]
        image = progan.faded(image, self.config.fade) if self.config.model == "progan" else image
        real = self.augmented(image, "augment_real", substep)
        prior = torch.tensor(draws.normal_of_each(self.key("latents", substep), len(image), self.config.latent_dim))
        if self.config.task == "autoencoder":
            codes = encoded(self.config, self.encoder(params), real)
            error = (self.decoded(params, codes, label) - real).square().mean()
            return prior, codes, self.config.terms.reconstruction.weight * error, {}
        run = Pass(self.generator.variables, renew=True)
        if self.config.model == "stylegan2":
            return real, self.styled(run, prior, label, substep), torch.zeros(()), run.written
        if self.config.model == "fastgan":
            keys = draws.keys_of_each(self.key("generator", substep), range(len(prior)))
            both = fastgan.images(self.config, run, prior, keys)
            smaller = F.avg_pool2d(image.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
            return (image, smaller), both, torch.zeros(()), run.written
        fake = self.augmented(generated(self.config, run, prior, label), "augment_fake", substep)
        return real, fake, torch.zeros(()), run.written

    def styled(self, run: Pass, z: Tensor, label: Tensor, substep: int) -> Tensor:
        """StyleGAN2's images of latents; the mean of w moves."""
        keys = draws.keys_of_each(self.key("generator", substep), range(len(z)))
        w, before = stylegan2.mapped_in_training(self.config, run.params, z, label, keys)
        moving, decay = run.written["moving"]["mapping_network"], self.config.generator.w_avg_decay
        moving["w_avg"] = decay * moving["w_avg"] + (1 - decay) * before.detach().mean(0)
        return stylegan2.synthesized_in_training(self.config, run.params, w, keys).permute(0, 2, 3, 1)

    def path_length(self, label: Tensor) -> Tensor:
        """Of every second example."""
        chosen = range(0, len(label), 2)
        purposes = ("path length", "path length, direction")
        keys = [draws.keys_of_each(self.key(purpose, self.config.d_steps - 1), chosen) for purpose in purposes]
        params = self.generator.variables["params"]
        penalty, self.mean_length = stylegan2.path_length(
            self.config, params, label[::2], (keys[0], keys[1]), self.mean_length
        )
        return penalty

    def average(self, label: Tensor) -> None:
        """Parameters and running statistics alike; then a power iteration by the averaged weights."""
        own = self.config.averages.ema
        decay = min(own.decay, (1 + self.steps) / (10 + self.steps))
        if own.rule == "half_life":  # in images; without a ramp
            length = now(self.config, "averages.ema.half_life", self.steps)
            decay = 0.5 ** (self.config.batch_size * self.config.d_steps / length) if length else 0.0
        with torch.no_grad():
            for kind in ("params", "batch_stats"):
                newest = _leaves(self.generator.variables.get(kind, {}))
                for a, p in zip(_leaves(self.ema.get(kind, {})), newest, strict=True):
                    a.mul_(decay).add_((1 - decay) * p)
            for kind in self.ema.keys() - {"params", "batch_stats", "spectral"}:
                self.ema[kind] = cloned(self.generator.variables[kind])
            if "spectral" in self.ema:
                run = Pass(self.ema, renew=True)
                z = torch.zeros(len(label), self.config.latent_dim).double()
                if self.config.model == "fastgan":
                    fastgan.images(self.config, run, z, draws.keys_of_each(self.key("generator", 0), range(len(z))))
                else:
                    generated(self.config, run, z, label)
                self.ema["spectral"] = run.written["spectral"]

    def judged(self, run: Pass, x: Any, label: Tensor, like: str, substep: int) -> tuple[Said, Tensor]:
        """What D says of images, and the error of its decoders where it has such."""
        if self.config.model != "fastgan":
            return judged(self.config, run, x, label), torch.zeros(())
        keys = draws.keys_of_each(self.key(f"discriminator_{like}", substep), range(len(label)))
        logits, features, error = fastgan.said(run, x, keys)
        return Said(logits, features, torch.zeros(0)), error

    def discriminator_step(self, real: Any, fake: Any, label: Tensor, substep: int) -> dict[str, float]:
        config, player = self.config, self.discriminator
        params = player.variables["params"]
        first = Pass(player.variables, renew=True)
        on_real, error = self.judged(first, real, label, "real", substep)
        second = Pass({"params": params, **first.written})
        on_fake, _ = self.judged(second, fake, label, "fake", substep)
        loss = self.adversarial(on_real, on_fake, substep)[0]
        penalties = {}
        for name in ("wgan_gp", "dragan", "r1", "r2"):
            term = config.terms[name]
            if term.weight:
                penalties[f"d_{name}"] = torch.zeros(())
            if term.weight and self.steps % term.every == 0:
                seen = {"params": params, **second.written}, real, fake, label, substep
                weight = now(config, f"terms.{name}.weight", self.steps)
                penalties[f"d_{name}"] = weight * term.every * self.penalty(name, *seen)
        if config.terms.drift.weight:
            penalties["d_drift"] = config.terms.drift.weight * on_real.logits.square().mean()
        if config.terms.self_supervision.weight:
            penalties["d_self_supervision"] = config.terms.self_supervision.weight * error
        named = {}
        if config.discriminator.get("conditional") == "auxiliary":
            both = F.cross_entropy(on_real.class_logits, label) + F.cross_entropy(on_fake.class_logits, label)
            both = config.terms.auxiliary_discriminator.weight * both
            loss, named = loss + both, {"d_auxiliary_discriminator": both.item()}
        loss = loss + sum(penalties.values())
        norm = player.descend(loss, self.steps)
        player.variables = {"params": params, **second.written}

        real_logits, fake_logits = on_real.logits.detach(), on_fake.logits.detach()
        means = real_logits.mean().item(), fake_logits.mean().item()
        relative = config.loss in ("wasserstein", "relativistic")
        boundary = sum(means) / 2 if relative else 0.0
        says = torch.sigmoid if config.loss in ("non_saturating", "minimax") else torch.clone
        return {
            "d_loss": loss.item(),
            "d_margin": means[0] - means[1],
            "d_real": says(real_logits).mean().item(),
            "d_fake": says(fake_logits).mean().item(),
            "d_accuracy_real": (real_logits > boundary).double().mean().item(),
            "d_accuracy_fake": (fake_logits < boundary).double().mean().item(),
            **{name: value.item() for name, value in penalties.items()},
            **named,
            "d_grad_norm": norm,
            "d_param_norm": _norm(player.leaves),
        }

    def generator_step(
        self, real: Any, fake: Any, label: Tensor, own_loss: Tensor, stats: Variables
    ) -> dict[str, float]:
        terms, player, last = self.config.terms, self.generator, self.config.d_steps - 1
        on_real, _ = self.judged(Pass(self.discriminator.variables), real, label, "real", last)
        on_fake, _ = self.judged(Pass(self.discriminator.variables), fake, label, "fake", last)
        found = {}
        if self.config.task == "autoencoder":
            found["g_reconstruction"] = own_loss
        if self.config.discriminator.get("conditional") == "auxiliary":
            found["g_auxiliary_generator"] = terms.auxiliary_generator.weight * F.cross_entropy(
                on_fake.class_logits, label
            )
        if terms.feature_matching.weight:
            apart = on_real.features.detach().mean(0) - on_fake.features.mean(0)
            found["g_feature_matching"] = terms.feature_matching.weight * apart.square().sum()
        if terms.path_length.weight:
            found["g_path_length"] = terms.path_length.weight * self.path_length(label)
        loss = terms.adversarial.weight * self.adversarial(on_real, on_fake, last)[1] + sum(found.values())
        warm = self.config.schedules.get("critic_first")
        if warm and self.steps < warm.moves * warm.factor and (self.steps + 1) % warm.factor:  # G stands still
            norm = _norm(torch.autograd.grad(loss, player.leaves))
        else:
            norm = player.descend(loss, self.steps)
        player.variables = {"params": player.variables["params"], **stats}
        values = {name: value.item() for name, value in found.items()}
        return {"g_loss": loss.item(), **values, "g_grad_norm": norm, "g_param_norm": _norm(player.leaves)}

    def adversarial(self, real: Said, fake: Said, substep: int) -> tuple[Tensor, Tensor]:
        """The losses of both players."""
        x, y, labels = real.logits, fake.logits, self.config.labels
        match self.config.loss:
            case "non_saturating":
                d = F.binary_cross_entropy_with_logits(x, torch.full_like(x, labels.real))
                d = d + F.binary_cross_entropy_with_logits(y, torch.full_like(y, labels.fake))
                return d, -F.logsigmoid(y).mean()
            case "hinge":
                return (1 - x).clamp(min=0).mean() + (1 + y).clamp(min=0).mean(), -y.mean()
            case "soft_hinge":
                keys = draws.keys_of_each(self.key("loss", substep), range(len(x)))
                drawn = torch.tensor(draws.uniform_by(keys, (2, x.shape[1])))
                u, v = (0.8 + 0.2 * drawn[:, i] for i in range(2))
                return (u - x).clamp(min=0).mean() + (v + y).clamp(min=0).mean(), -y.mean()
            case "wasserstein":
                return y.mean() - x.mean(), -y.mean()
            case "relativistic":
                return -F.logsigmoid(x - y).mean(), -F.logsigmoid(y - x).mean()
        raise NotImplementedError(self.config.loss)

    def penalty(
        self, name: str, variables: Variables, real: Tensor, fake: Tensor, label: Tensor, substep: int
    ) -> Tensor:
        """A penalty's mean over the batch."""
        key, count = self.key("penalty", substep), len(real)
        each = (-1, *(1,) * (real.ndim - 1))

        def slope(x: Tensor) -> Tensor:
            """The norm of D's gradient at each of ``x``."""
            x = x.clone().requires_grad_()
            said = judged(self.config, Pass(variables), x, label).logits
            (gradient,) = torch.autograd.grad(said.sum(), x, create_graph=True)
            size: Tensor = gradient.flatten(1).norm(dim=1)
            return size

        first = torch.tensor(draws.uniform_of_each(key, count, ())).reshape(each)
        if name == "wgan_gp":  # Gulrajani et al. 2017, eq. 3
            return (slope(first * real + (1 - first) * fake) - 1).square().mean()
        if name == "dragan":  # the authors' code: x + a (.5 std(x) v), v for each number
            other = self.key("penalty of each number", substep)
            noise = torch.tensor(draws.uniform_of_each(other, count, tuple(real.shape[1:])))
            spread = real.flatten(1).std(1, unbiased=False).reshape(each)
            return (slope(real + first * 0.5 * spread * noise) - 1).square().mean()
        return slope({"r1": real, "r2": fake}[name]).square().mean() / 2  # Mescheder et al. 2018, eq. 9 and 10

    def augmented(self, images: Tensor, purpose: str, substep: int) -> Tensor:
        """DiffAugment of each image by its own numbers (Zhao et al. 2020)."""
        key, count = self.key(purpose, substep), len(images)
        names = self.config.augment.name.split(",")
        for place, name in enumerate(names if len(names) > 1 else ()):
            if name == "color":
                b, s, c = torch.tensor(draws.colors(key, count, place)).T.reshape(3, -1, 1, 1, 1)
                images = images + b - 0.5
                grey = images.mean(3, keepdim=True)
                images = grey + 2 * s * (images - grey)
                mean = images.mean((1, 2, 3), keepdim=True)
                images = mean + (c + 0.5) * (images - mean)
            elif name == "translation":
                side = images.shape[1]
                most = (side + 4) // 8  # an eighth
                wide = F.pad(images, (0, 0, most, most, most, most), value=-1)
                at = draws.shifts(key, count, place, most)
                images = torch.stack(
                    [x[top : top + side, left : left + side] for x, (top, left) in zip(wide, at, strict=True)]
                )
        return images

    def key(self, purpose: str, substep: int) -> Any:
        return draws.key_of(self.config.seed, purpose, self.steps, substep)

    def encoder(self, params: Variables) -> Pass:
        return Pass({"params": params["encoder"]})

    def decoded(self, params: Variables, codes: Tensor, label: Tensor) -> Tensor:
        return generated(self.config, Pass({"params": params["decoder"]}), codes, label)


def _leaves(tree: Any) -> Iterator[Tensor]:
    for name in sorted(tree):
        if isinstance(tree[name], dict):
            yield from _leaves(tree[name])
        else:
            yield tree[name]


def _norm(tensors: Any) -> float:
    return math.sqrt(sum(t.detach().square().sum().item() for t in tensors))
