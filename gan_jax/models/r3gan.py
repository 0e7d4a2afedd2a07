"""R3GAN's residual networks (Huang et al. 2024, arXiv:2501.05441), for images of up to the side that they end at.

A modern ResNet and nothing else: no normalisation, no style, no noise, no tanh, and no bias but before activations.
Both are stages of one width each, from 4x4 on doubling the side, D the mirror image of G. Images of sides between
those are cut out of the middle of G's, and D puts a black frame about them: 28x28 by networks of 32. Of images that
aren't square, the shorter side grows from 4, the other from more: 64x96 from 4x6.

Every kernel is N(0, gain² / fan_in) at first. The blocks' last is 0, so that they begin as identities (as in Fixup,
Zhang et al. 2019, arXiv:1901.09321), and their others are scaled down with the number of blocks.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gan_jax import layers
from gan_jax.layers import Array, DiscriminatorOutput, Dtype
from gan_jax.ops import grouped, planes
from gan_jax.ops.products import by_rows

_SLOPE = 0.2


class _Kernel(nn.Module):
    """What layers with a kernel share: no bias, N(0, gain² / fan_in) at first."""

    features: int
    gain: float = 1.0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def kernel(self, *inputs: int) -> Array:
        """Return the kernel ``[*inputs, features]``."""
        init = nn.initializers.normal(self.gain / math.sqrt(math.prod(inputs)))
        kernel: Array = self.param("kernel", init, (*inputs, self.features), self.param_dtype)
        return kernel.astype(self.dtype)


class Linear(_Kernel):
    """``x W``: ``[..., in] -> [..., features]``; a 1x1 convolution of images.

    Attributes:
      multiply: the product: one of `planes`, where a map enters, leaves or stays.
      channels: which axis of ``x`` has the channels.
    """

    multiply: Callable[[Array, Array], Array] = by_rows
    channels: int = -1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self.multiply(x.astype(self.dtype), self.kernel(x.shape[self.channels]))


class GroupedConv(_Kernel):
    """3x3 in ``groups`` of channels, of a map of `planes`.

    Raises:
      ValueError: the groups don't divide both numbers of channels.
    """

    groups: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[planes.channels()]
        if width % self.groups or self.features % self.groups:
            raise ValueError(f"{self.groups} groups don't divide {width} channels: change groups or widths")
        return grouped.grouped_conv(x.astype(self.dtype), self.kernel(3, 3, width // self.groups))


class Activation(nn.Module):
    """LeakyReLU(.2) of ``x + bias``, a bias a channel, 0 at first; ``x`` a map of `planes`."""

    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        axis = planes.channels()
        bias: Array = self.param("bias", nn.initializers.zeros, x.shape[axis : axis + 1], self.param_dtype)
        others = [i for i in range(x.ndim) if i != axis]
        return layers.leaky_relu(x + jnp.expand_dims(bias.astype(x.dtype), others))


class Depthwise(_Kernel):
    """One product a channel over all pixels: ``[N, H, W, C] -> [N, C]``, a depthwise convolution without padding."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return (x.astype(self.dtype) * self.kernel(*x.shape[1:3])).sum((1, 2))


class Generator(nn.Module):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]``, about [-1, 1].

    A learnt 4x4 map whose channels are scaled by a linear map of the latent; in each stage but the first FIR doubling,
    after a 1x1 convolution where the width changes; the blocks; at the end a 1x1 convolution.

    Attributes:
      image_shape: (height, width, channels).
      classes: number of classes, 0 if there are none.
      conditional: ``none``, or ``concat``: a linear map of the label's one-hot code stands beside z.
      widths: of the stages, from 4x4 on.
      blocks, groups: of each stage, the residual blocks and the groups of their 3x3 convolution.
      expansion: how many times as wide a block is inside.
      embedding: numbers that a label becomes.
      low_precision: how many stages of the highest resolutions compute in bfloat16.
      remat: see `gan_jax.layers.rematerialized`.
      dtype, param_dtype: of all other arithmetic, and of the parameters.

    Raises:
      ValueError: sides, stages or groups don't fit.
    """

    image_shape: tuple[int, int, int]
    classes: int = 0
    conditional: str = "none"
    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: Sequence[int] = (2, 2, 2, 2)
    groups: Sequence[int] = (96, 96, 96, 96)
    expansion: int = 2
    embedding: int = 64
    low_precision: int = 0
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None) -> Array:
        del train, axis_name
        layers.check_conditional(self.conditional, self.classes, ("none", "concat"))
        start, *_ = _stages(self, self.image_shape)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        z = z.astype(self.dtype)
        if self.conditional == "concat":
            z = jnp.concatenate(
                [z, Linear(self.embedding, **types)(layers.label_code(label, self.classes, self.dtype))], -1
            )
        width = self.widths[0]
        basis = self.param("basis", nn.initializers.normal(1.0), (*start, width), self.param_dtype)
        x = planes.laid(basis.astype(self.dtype) * Linear(width, **types)(z)[:, None, None])
        for stage in range(len(self.widths)):
            low = stage >= len(self.widths) - self.low_precision
            x = layers.rematerialized(self, _doubled, x.astype(jnp.bfloat16 if low else self.dtype), self, stage)
            for _ in range(self.blocks[stage]):
                x = layers.rematerialized(self, _block, x, self, stage)
        x = Linear(self.image_shape[-1], multiply=planes.leave, channels=planes.channels(), **types)(x)
        return layers.cropped(x, *self.image_shape[:2])


class Discriminator(nn.Module):
    """Images ``[B, H, W, C]`` -> `DiscriminatorOutput`.

    `Generator` mirrored: a 1x1 convolution; in each stage the blocks, then, but for the last, FIR halving and a 1x1
    convolution where the width changes; a product a channel with a learnt 4x4 map; one linear unit.

    Attributes:
      conditional: ``none``, or ``projection``: the logit is the product of linear maps of the features and of the
        label's one-hot code, as wide as the stage at 4x4.
      widths, blocks, groups: of the stages, down to 4x4.
      classes, expansion, low_precision, remat, dtype, param_dtype: as of `Generator`.
    """

    classes: int = 0
    conditional: str = "none"
    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: Sequence[int] = (2, 2, 2, 2)
    groups: Sequence[int] = (96, 96, 96, 96)
    expansion: int = 2
    low_precision: int = 0
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None, batches: int = 1
    ) -> DiscriminatorOutput:
        del train, axis_name, batches
        layers.check_conditional(self.conditional, self.classes, ("none", "projection"))
        x = layers.framed(x, *_stages(self, x.shape[1:])[-1])
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for stage in range(len(self.widths)):
            own = jnp.bfloat16 if stage < self.low_precision else self.dtype
            x = x.astype(own)
            if stage == 0:
                x = Linear(self.widths[0], multiply=planes.enter, dtype=own, param_dtype=self.param_dtype)(x)
            for _ in range(self.blocks[stage]):
                x = layers.rematerialized(self, _block, x, self, stage)
            if stage < len(self.widths) - 1:
                x = layers.rematerialized(self, _halved, x, self, stage + 1)
        features = Depthwise(self.widths[-1], **types)(planes.plain(x))
        wide, width = self.param_dtype, self.widths[-1]
        if self.conditional == "projection":
            own = Linear(width, **types)(features)
            code = layers.label_code(label, self.classes, self.dtype)
            of_label = Linear(width, gain=1 / math.sqrt(width), **types)(code)
            logits = (own.astype(wide) * of_label.astype(wide)).sum(1)
        else:
            logits = Linear(1, **types)(features)[:, 0].astype(wide)
        return DiscriminatorOutput(logits, features.astype(wide))


def _stages(module: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of each stage's maps; refuses images that aren't made by so many stages."""
    stages = len(module.widths)
    if not stages == len(module.blocks) == len(module.groups):
        raise ValueError("widths, blocks and groups must be of one length, a number for each stage")
    full: int = 4 * 2 ** (stages - 1)
    if not full / 2 < min(shape[:2]) <= full:
        raise ValueError(
            f"{stages} widths are for images whose shorter side is from {full // 2 + 1} to {full}, "
            f"not {shape[0]}x{shape[1]}"
        )
    return layers.grown(shape, stages - 1)


def _types(module: Any, x: Array) -> dict[str, Any]:
    return {"dtype": x.dtype, "param_dtype": module.param_dtype}


def _inside(x: Array, width: int, module: Any, gain: float = 1.0) -> Array:
    """Convolve a map with a kernel of 1x1."""
    return Linear(width, gain=gain, multiply=planes.within, channels=planes.channels(), **_types(module, x))(x)


def _block(x: Array, module: Any, stage: int) -> Array:
    """1x1 to a wider map, 3x3 in groups, 1x1 back, added to ``x``."""
    width = x.shape[planes.channels()]
    inside, gain = module.expansion * width, math.sqrt(2 / (1 + _SLOPE**2)) * sum(module.blocks) ** -0.25
    y = Activation(module.param_dtype)(_inside(x, inside, module, gain))
    y = GroupedConv(inside, gain=gain, groups=module.groups[stage], **_types(module, x))(y)
    y = Activation(module.param_dtype)(y)
    return x + _inside(y, width, module, gain=0.0)


def _doubled(x: Array, module: Any, stage: int) -> Array:
    """To the width of the stage, then twice the side; the first stage has both already."""
    return planes.up(_widened(x, module, stage)) if stage else x


def _halved(x: Array, module: Any, stage: int) -> Array:
    return _widened(planes.down(x), module, stage)


def _widened(x: Array, module: Any, stage: int) -> Array:
    width = module.widths[stage]
    return x if x.shape[planes.channels()] == width else _inside(x, width, module)
