"""The progressive GAN's networks (Karras et al. 2018, arXiv:1710.10196), for images of one side of their growth.

A network for sides of 8 has all layers of that for 4, by the same names, and so on: `gan_jax.stages` lets a run grow.
Of images that aren't square, names and numbers go by the shorter side; 64x96 grows from 4x6.
While a side is new, ``fade`` goes from 0 to 1: from the doubled image of the side below to the new layers' image, and
in D from the halved image's features to theirs. Both keep it as a variable, so that what is drawn is as it was trained.

Layers have an equalised rate, leaky ReLU without a gain, and in G pixel norm: what a root of 2 is to `gan_jax.models.
stylegan2`'s activations, it is to the kernels here. Doubling repeats pixels, halving takes means.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan_jax import layers
from gan_jax.layers import Array, DiscriminatorOutput, Dtype
from gan_jax.layers.equalized import Equalized, EqualizedDense
from gan_jax.layers.minibatch import stddev_channel
from gan_jax.layers.modules import pointwise
from gan_jax.ops.conv import conv, doubled_conv, halved_conv
from gan_jax.ops.resample import doubled, halved

_GAIN = math.sqrt(2)  # of kernels before a leaky ReLU
_ACTIVE: dict[str, Any] = {"activation": "leaky_relu", "gain": 1 / _GAIN}  # leaky ReLU, and nothing else


def sides_of(image_shape: tuple[int, ...]) -> list[int]:
    """Return the sides of a network, of maps that aren't square the shorter ones, from 4 on.

    Raises:
      ValueError: the shorter side is no power of two from 4 up, or the longer one doesn't double with it.
    """
    height, width, *_ = image_shape
    side = min(height, width)
    if side < 4 or side & (side - 1) or max(height, width) % (side // 4):
        longer = "" if height == width else ", the longer one any multiple of a quarter of the other"
        raise ValueError(
            f"the progressive GAN makes images of sides 4, 8, 16 and so on{longer}, not of {height}x{width}"
        )
    return [2**i for i in range(2, side.bit_length())]


class EqualizedResampling(Equalized):
    """A convolution of 3x3 or 1x1, with an equalised rate.

    Attributes:
      kernel_size: 1 or 3.
      resample: ``up``: of the image with doubled pixels; ``down``: means of 2x2 pixels follow; ``none``.
    """

    kernel_size: int = 3
    resample: str = "none"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((self.kernel_size, self.kernel_size, x.shape[-1], self.features))
        x = x.astype(self.dtype)
        if self.resample != "none":
            return self.finished({"up": doubled_conv, "down": halved_conv}[self.resample](x, kernel))
        return self.finished((pointwise if self.kernel_size == 1 else conv)(x, kernel.astype(self.dtype)))


def pixel_norm(x: Array) -> Array:
    """``x`` ``[..., C]`` over the root of its mean square over C (section 4.2)."""
    return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-8)


def blended(old: Array, new: Array, fade: Array) -> Array:
    """``old`` at a fade of 0, ``new`` at 1."""
    return old + (new - old) * fade.astype(new.dtype)


def _width(module: Any, side: int) -> int:
    return max(1, min(2 * int(module.channel_base) // side, int(module.channel_max)))


def _types(module: Any) -> dict[str, Any]:
    return {"dtype": module.dtype, "param_dtype": module.param_dtype}


def _fade(module: nn.Module, fade: Array | float | None, train: bool, dtype: Dtype) -> Array:
    """Return the fade that the module is told of in training, or, in drawing, the one that it was told last."""
    kept = module.variable("moving", "fade", jnp.ones, (), dtype)
    if fade is None or not train:
        return kept.value
    told = jnp.asarray(fade, dtype)
    if module.is_mutable_collection("moving") and not module.is_initializing():
        kept.value = told
    return told


class Generator(nn.Module):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]``, linear, so that few values lie outside of [-1, 1].

    Attributes:
      image_shape: (height, width, channels).
      classes: number of classes, 0 if there are none.
      conditional: how it is told the label: none, or concat (one-hot code beside z).
      channel_base, channel_max: a side has ``2 channel_base / side`` channels, and at most ``channel_max``.
      remat: see `gan_jax.layers.rematerialized`.
      dtype, param_dtype: of the arithmetic, and of the parameters.

    Raises:
      ValueError: see `sides_of`.
    """

    image_shape: tuple[int, int, int]
    classes: int = 0
    conditional: str = "none"
    channel_base: int = 8192
    channel_max: int = 512
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        z: Array,
        *,
        train: bool,
        label: Array | None = None,
        axis_name: str | None = None,
        fade: Array | float | None = None,
    ) -> Array:
        del axis_name
        layers.check_conditional(self.conditional, self.classes, ("none", "concat"))
        if self.conditional == "concat":
            z = layers.with_label(z, label, self.classes)
        types, first, sides = _types(self), _width(self, 4), sides_of(self.image_shape)
        height, width = (side * 4 // sides[-1] for side in self.image_shape[:2])
        told: dict[str, Any] = {"use_bias": False, "kernel_gain": _GAIN / 4, "name": "start", **types}
        x = EqualizedDense(height * width * first, **told)(pixel_norm(z))
        x = x.reshape(-1, height, width, first)
        bias: Array = self.param("start_bias", nn.initializers.zeros, (first,), self.param_dtype)
        x = pixel_norm(layers.leaky_relu(x + bias.astype(self.dtype)))
        kept, images = _fade(self, fade, train, self.param_dtype), []
        for side in sides:
            x = layers.rematerialized(self, _grown, x, side, _width(self, side), types)
            images += [EqualizedResampling(self.image_shape[-1], kernel_size=1, name=f"image_{side}", **types)(x)]
        *below, own = images
        return blended(doubled(below[-1]), own, kept) if below else own


def _grown(x: Array, side: int, width: int, types: dict[str, Any]) -> Array:
    """One convolution at 4x4; else one that doubles the side, and one more; pixel norm behind each."""
    for number, resample in enumerate(("none",) if side == 4 else ("up", "none")):
        told = {"kernel_gain": _GAIN, "resample": resample, "name": f"conv{number}_{side}", **_ACTIVE, **types}
        x = pixel_norm(EqualizedResampling(width, **told)(x))
    return x


class Discriminator(nn.Module):
    """Images ``[B, H, W, C]`` -> `DiscriminatorOutput`.

    `Generator` mirrored: a 1x1 convolution of the image; at each side two of 3x3, of which the second halves it; at 4x4
    the standard deviation of a group of examples as one more channel, a 3x3 convolution and two dense layers.

    Attributes:
      classes: number of classes, 0 if there are none.
      conditional: none, or auxiliary: another dense layer names the class.
      stddev_group: examples in a group, see `gan_jax.layers.minibatch.stddev_channel`.
      channel_base, channel_max, remat, dtype, param_dtype: as of `Generator`.

    Raises:
      ValueError: see `sides_of`.
    """

    classes: int = 0
    conditional: str = "none"
    channel_base: int = 8192
    channel_max: int = 512
    stddev_group: int = 4
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        label: Array | None = None,
        axis_name: str | None = None,
        batches: int = 1,
        fade: Array | float | None = None,
    ) -> DiscriminatorOutput:
        del label
        layers.check_conditional(self.conditional, self.classes, ("none", "auxiliary"))
        sides, types = sides_of(x.shape[1:])[::-1], _types(self)
        kept = _fade(self, fade, train, self.param_dtype)
        features = self._of_image(x, sides[0])
        smaller = x
        for number, side in enumerate(sides[:-1]):
            features = layers.rematerialized(self, _shrunk, features, side, _width(self, side // 2), types)
            smaller = halved(smaller)
            beside = self._of_image(smaller, side // 2)  # of lower sides only the parameters are wanted
            if number == 0:
                features = blended(beside, features, kept)
        each = features.reshape(batches, -1, *features.shape[1:])
        spread = jax.vmap(lambda own: stddev_channel(own, axis_name, self.stddev_group))(each)
        features = jnp.concatenate([features, spread.reshape(*features.shape[:-1], 1)], -1)
        told: dict[str, Any] = {"kernel_gain": _GAIN, **_ACTIVE, **types}
        features = EqualizedResampling(_width(self, 4), name="conv_4", **told)(features)
        features = EqualizedDense(_width(self, 4), name="dense", **told)(layers.reshaped(features, (len(x), -1)))
        logits = EqualizedDense(1, name="logit", **types)(features)[:, 0].astype(self.param_dtype)
        named = None
        if self.conditional == "auxiliary":
            named = EqualizedDense(self.classes, name="class_logits", **types)(features).astype(self.param_dtype)
        return DiscriminatorOutput(logits, features.astype(self.param_dtype), named)

    def _of_image(self, x: Array, side: int) -> Array:
        told: dict[str, Any] = {"kernel_size": 1, "kernel_gain": _GAIN, **_ACTIVE, **_types(self)}
        return EqualizedResampling(_width(self, side), name=f"from_image_{side}", **told)(x)


def _shrunk(x: Array, side: int, below: int, types: dict[str, Any]) -> Array:
    """``[B, H, W, c] -> [B, H / 2, W / 2, below]``, ``side`` the shorter one."""
    told: dict[str, Any] = {"kernel_gain": _GAIN, **_ACTIVE, **types}
    x = EqualizedResampling(x.shape[-1], name=f"conv0_{side}", **told)(x)
    return EqualizedResampling(below, resample="down", name=f"conv1_{side}", **told)(x)
