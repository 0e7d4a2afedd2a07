"""PyTorch's side of `benchmarks.train_step` for R3GAN and StyleGAN2."""

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from benchmarks import torch_modern, torch_r3gan, torch_stylegan2
from benchmarks.sides import CHECKED, Ours, Torch
from gan_jax.core.draw import latents
from gan_jax.core.randomness import example_keys, normal, random_key
from gan_jax.layers.noise import maps

MODELS = ("r3gan", "stylegan2")
GROUPED = False  # whether a style modulates each example's kernel, in a grouped convolution, or the activations


class Modern(Torch):
    """PyTorch's step of such networks, channels first; whole steps channels last, and torch.compile, are untried."""

    def _trainer(self) -> torch_modern.Trainer:
        config, start = self.ours.config, self.ours.start
        functions = {"r3gan": _r3gan, "stylegan2": _stylegan2}[config.model](config)
        arranged = {"r3gan": torch_r3gan.arranged, "stylegan2": torch_stylegan2.arranged}[config.model]
        nets = [
            torch_modern.Network(arranged(self._tensors(player.params)), function)
            for player, function in zip((start.generator, start.discriminator), functions, strict=True)
        ]
        terms, average, per_step = config.terms, config.averages.ema, config.batch_size
        assert {term.name for term in (*self.ours.gan.d_terms, *self.ours.gan.g_terms)} <= {"r1", "r2", "path_length"}
        assert (average.rule, config.d_steps, config.g_batches) == ("half_life", 1, 0)
        assert all(entry.kind == "constant" for entry in config.schedules.values())
        return torch_modern.Trainer(
            (nets[0], nets[1]),
            config.loss,
            (self._adam("generator"), self._adam("discriminator")),
            **{name: torch_modern.Penalty(terms[name].weight, terms[name].every) for name in _PENALTIES},
            share=terms.path_length.decay,
            w_decay=config.generator.get("w_avg_decay", 0.0),
            half_life=(average.half_life / per_step, average.ramp_up),
            compile=self._compiled if self.mode else lambda net: net,
            autocast=self._half,
        )

    def _tensors(self, tree: Any) -> Any:
        if hasattr(tree, "items"):
            return {name: self._tensors(value) for name, value in tree.items()}
        return torch.tensor(np.asarray(tree)).to(self.device, self.dtype)

    def _inputs(self) -> list[Any]:
        return _drawn(self.ours)

    def _noise(self) -> Any:
        config = self.ours.config
        inputs = self._drawn(config.batch_size)
        if not self.trainer.path_length.now(self.trainer.steps):
            return inputs, None
        count, side = config.batch_size // 2, config.data.image_size
        y = torch.randn(count, config.data.channels, side, side, device=self.device)
        return inputs, (self._drawn(count), y)

    def _drawn(self, count: int) -> tuple[Any, ...]:
        """Draw what G takes.

        That is latents; of StyleGAN2 others to mix styles with, from which layer on, and layers' noise.
        """
        config = self.ours.config
        normal, uniform = (partial(draw, device=self.device) for draw in (torch.randn, torch.rand))
        z = normal(count, config.latent_dim)
        if config.model == "r3gan":
            return (z,)
        sides = torch_stylegan2.layers_of(config.data.image_size)
        copies = 2 * len(torch_stylegan2.sides_of(config.data.image_size))
        cut = 1 + (uniform(count) * (copies - 1)).floor()
        cut = torch.where(uniform(count) < config.generator.style_mixing, cut, copies)
        noise = {name: normal(count, 1, side, side) for name, side in sides.items()}
        return z, normal(count, config.latent_dim), cut, noise

    def _told(self, label: Tensor) -> tuple[Any, ...]:
        return ()

    def _trained(self, real: Sequence[Tensor], *noise: Any) -> Any:
        return self.trainer.step(real[0].contiguous(), *noise)


_PENALTIES = ("r1", "r2", "path_length")


def _r3gan(config: Any) -> tuple[Any, Any]:
    def images(weights: Any, z: Tensor) -> tuple[Tensor, None, None]:
        return torch_r3gan.images(weights, z, None, config.generator, config.data.image_size), None, None

    def logits(weights: Any, x: Tensor) -> Tensor:
        return torch_r3gan.said(weights, x, None, config.discriminator)[0]

    return images, logits


def _stylegan2(config: Any) -> tuple[Any, Any]:
    side, group = config.data.image_size, config.discriminator.stddev_group
    copies, label = 2 * len(torch_stylegan2.sides_of(side)), torch.zeros(0)

    def images(
        weights: Any, z: Tensor, other: Tensor, cut: Tensor, noise: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        first, second = (torch_stylegan2.mapped(weights["mapping_network"], x, label) for x in (z, other))
        w = torch_stylegan2.mixed(first, second, cut, copies)
        made = torch_stylegan2.synthesized(weights["synthesis_network"], w, noise, side, GROUPED)
        return made, w, first.mean(0)

    def logits(weights: Any, x: Tensor) -> Tensor:
        return torch_stylegan2.judged(weights, x, label, group)[0]

    return images, logits


def _drawn(ours: Ours) -> list[Any]:
    """Real images ``[1, B, H, W, C]``, and what `Modern._noise` says, of the first steps as ours has them."""
    gan, config = ours.gan, ours.config
    index = jnp.arange(config.batch_size, dtype=jnp.int32)
    styled = config.model == "stylegan2"

    def keys(purpose: str, step: Any, index: Any = index) -> Any:
        return example_keys(random_key(ours.start.seed, purpose, step, 0), index)

    def inputs(z: Any, own: Any) -> tuple[Any, ...]:
        if not styled:
            return (z,)
        sides = torch_stylegan2.layers_of(config.data.image_size)
        noise = maps(own, [(side, side) for side in sides.values()], gan.dtype)
        return z, *_mixing(ours, own), {name: x.transpose(0, 3, 1, 2) for name, x in zip(sides, noise, strict=True)}

    def of(step: Any, data: Any) -> Any:
        real = ours.program.feed.fetch(data, {"index": index}, ours.start.seed, step)["image"]
        drawn = inputs(latents(gan, keys("latents", step)), keys("generator", step))
        if not config.terms.path_length.weight:
            return real, drawn
        own = keys("path length", step, index[::2])
        y = normal(keys("path length, direction", step, index[::2]), gan.image_shape, gan.dtype)
        return real, drawn, (inputs(latents(gan, own), own), y.transpose(0, 3, 1, 2))

    draw = jax.jit(of)
    return [jax.tree.map(np.array, draw(step, ours.program.feed.data)) for step in range(CHECKED)]


def _mixing(ours: Ours, keys: Any) -> tuple[Any, Any]:
    """Second latents ``[B, Z]``, and from which copy of w on they have the style ``[B]``."""
    copies, chance = ours.gan.generator.copies, ours.config.generator.style_mixing

    def of(key: Any) -> tuple[Any, Any]:
        latent, place = jax.random.split(jax.random.fold_in(key, jnp.uint32(zlib.crc32(b"mixing"))))
        mixes, part = jax.random.uniform(place, (2,), ours.gan.dtype)
        cut = 1 + jnp.floor(part * (copies - 1))
        z = jax.random.normal(latent, (ours.config.latent_dim,), ours.gan.dtype)
        return z, jnp.where(mixes < chance, cut, copies)

    found: tuple[Any, Any] = jax.vmap(of)(keys)
    return found
