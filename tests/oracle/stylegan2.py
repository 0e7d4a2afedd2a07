"""StyleGAN2 in training, by the networks of `benchmarks.torch_stylegan2` and the seed's own draws; weights are in our
layout."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks import torch_stylegan2
from benchmarks.torch_stylegan2 import Params, layers_of, lengths, mixed, sides_of
from tests.oracle import draws


def mapped(params: Params, z: Tensor | None, label: Tensor) -> Tensor:
    """See `torch_stylegan2.mapped`."""
    return torch_stylegan2.mapped(torch_stylegan2.arranged(params), z, label)


def synthesized(params: Params, w: Tensor, noise: dict[str, Tensor], side: int) -> Tensor:
    """See `torch_stylegan2.synthesized`."""
    return torch_stylegan2.synthesized(torch_stylegan2.arranged(params), w, noise, side)


def judged(params: Params, images: Tensor, label: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """See `torch_stylegan2.judged`."""
    return torch_stylegan2.judged(torch_stylegan2.arranged(params), images, label, group)


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
    layers = layers_of(side)
    drawn = draws.noise_of_each(keys, list(layers.values()))
    noise = {name: torch.tensor(own)[:, None] for name, own in zip(layers, drawn, strict=True)}
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
