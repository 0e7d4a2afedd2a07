"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), with what its authors' ADA paper (arXiv:2006.06676) says of it.

G maps z to w, and w styles every layer of a network that begins with a learnt constant of 4x4 and adds up images of all
sides. Networks have sides of powers of two: images of another side are the middle of the next larger (28 of 32), and D
puts the frame back. Of images that aren't square, the shorter side is such, and all numbers go by it; the constant is
longer: 4x6 for 64x96.

Activations are clamped at 256 where the highest resolutions compute in bfloat16 (``low_precision``), as the authors do
with float16. What each layer has is in `gan_jax.layers.equalized` and `gan_jax.layers.modulated`.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan_jax import layers
from gan_jax.layers import Array, DiscriminatorOutput, Dtype
from gan_jax.layers.equalized import EqualizedConv, EqualizedDense
from gan_jax.layers.minibatch import stddev_channel
from gan_jax.layers.modulated import StyledConv, ToImage
from gan_jax.layers.noise import maps
from gan_jax.ops.resample import up

CLAMP = 256.0
ARCHITECTURES = ("resnet", "orig")


def sides_of(side: int) -> list[int]:
    """Return the sides of a network for images of ``side``, the shorter one, from 4 up to the next power of two.

    Raises:
      ValueError: it is below 8.
    """
    if side < 8:
        raise ValueError(f"StyleGAN2 has networks for images of side 8 and more, not {side}")
    return [2**i for i in range(2, math.ceil(math.log2(side)) + 1)]


def shapes_of(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of a network's maps, whose shorter sides are those of `sides_of`."""
    return layers.grown(image_shape, len(sides_of(min(image_shape[:2]))) - 1)


def _width(module: Any, side: int) -> int:
    """Channels at a side."""
    return max(1, min(int(module.channel_base) // side, int(module.channel_max)))


def _types(module: Any, side: int, sides: list[int]) -> dict[str, Any]:
    """Return the types of a side's layers: bfloat16 in the ``low_precision`` highest ones, but at 4 and in float64."""
    low = side in sides[1:][-module.low_precision :] if module.low_precision else False
    dtype = jnp.bfloat16 if low and module.dtype == jnp.float32 else module.dtype
    return {"dtype": dtype, "param_dtype": module.param_dtype, "clamp": CLAMP if module.low_precision else 0.0}


class MappingNetwork(nn.Module):
    """Latents ``[B, Z]``, labels ``[B]``, or both, -> w ``[B, w_dim]``, and w's moving mean ``[w_dim]``.

    Both are normalised to a mean square of 1; a label is embedded first. Then dense layers with a hundredth of the
    learning rate.

    Attributes:
      w_dim: length of w.
      depth: number of layers.
      classes: number of labels, 0 if there are none.
      decay: of w's moving mean, which is 0 at the start; None: there is no such mean.
      param_dtype: of parameters and of the arithmetic.
    """

    w_dim: int
    depth: int
    classes: int = 0
    decay: float | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, z: Array | None, label: Array | None, *, renew: bool = False, axis_name: str | None = None
    ) -> tuple[Array, Array | None]:
        types: Any = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        x = [] if z is None else [_normalized(z.astype(self.param_dtype))]
        if self.classes:
            assert label is not None
            code = layers.label_code(label, self.classes, self.param_dtype)
            x.append(_normalized(EqualizedDense(self.w_dim, name="embedding", **types)(code)))
        w = jnp.concatenate(x, 1)
        for _ in range(self.depth):
            w = EqualizedDense(self.w_dim, activation="leaky_relu", multiplier=0.01, **types)(w)
        if self.decay is None:
            return w, None
        mean = self.variable("moving", "w_avg", jnp.zeros, (self.w_dim,), self.param_dtype)
        if renew and not self.is_initializing() and self.is_mutable_collection("moving"):
            newest = layers.cross_device_mean(lax.stop_gradient(w).mean(0), axis_name)
            mean.value = self.decay * mean.value + (1 - self.decay) * newest
        return w, mean.value


def _normalized(x: Array) -> Array:
    return x * lax.rsqrt(jnp.square(x).mean(1, keepdims=True) + 1e-8)


class Generator(nn.Module):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]``, linear, so that few values lie outside of [-1, 1].

    Attributes:
      image_shape: (height, width, channels).
      latent_dim: Z.
      classes: number of classes, 0 if there are none.
      conditional: how it is told the label: none, or concat (its embedding beside z).
      w_dim: length of w.
      mapping_layers: depth of the mapping network.
      channel_base, channel_max: a side has ``channel_base / side`` channels, and at most ``channel_max``.
      style_mixing: the chance that a second latent has the style from a layer on, in training (Karras et al. 2019,
        arXiv:1812.04948, section 3.1). Each example has a cut of its own, where the authors' code has one for a batch.
      w_avg_decay: of w's moving mean, which all devices share and G's step alone moves; the authors' code moves it in
        D's step and in those of regularisation too.
      low_precision: how many of the highest resolutions compute in bfloat16, where the rest does in float32.
      remat: see `gan_jax.layers.rematerialized`.
      dtype, param_dtype: of the arithmetic, and of the parameters.
    """

    image_shape: tuple[int, int, int]
    latent_dim: int = 512
    classes: int = 0
    conditional: str = "none"
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    style_mixing: float = 0.9
    w_avg_decay: float = 0.995
    low_precision: int = 0
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Both networks."""
        layers.check_conditional(self.conditional, self.classes, ("none", "concat"))
        classes = self.classes if self.conditional == "concat" else 0
        self.mapping_network = MappingNetwork(
            self.w_dim, self.mapping_layers, classes, self.w_avg_decay, self.param_dtype
        )
        names = ("image_shape", "channel_base", "channel_max", "low_precision", "remat", "dtype", "param_dtype")
        self.synthesis_network = SynthesisNetwork(**{name: getattr(self, name) for name in names})

    @property
    def copies(self) -> int:
        """How many copies of w there are: one a layer, and one for the last image."""
        return 2 * len(shapes_of(self.image_shape))

    def __call__(
        self,
        z: Array,
        *,
        train: bool,
        label: Array | None = None,
        keys: Array | None = None,
        axis_name: str | None = None,
        noise_mode: str = "random",
        truncation: float = 1.0,
        truncation_cutoff: int = 0,
    ) -> Array:
        """Return images.

        Args:
          z: latents ``[B, Z]``.
          train: whether styles are mixed and w's mean moves.
          label: ``[B]``.
          keys: a PRNG key an example ``[B]``, for noise and mixing.
          axis_name: the device axis, or None.
          noise_mode: see `gan_jax.layers.noise.Noise`.
          truncation: psi, by which w is drawn to its mean: ``mean + psi (w - mean)``.
          truncation_cutoff: of how many copies of w, those of the lowest sides; 0: of all.
        """
        told: dict[str, Any] = {"truncation": truncation, "truncation_cutoff": truncation_cutoff}
        w = self.mapping(z, train=train, label=label, keys=keys, axis_name=axis_name, **told)
        return self.synthesis(w, keys=keys, noise_mode=noise_mode)

    def mapping(
        self,
        z: Array,
        *,
        train: bool = False,
        label: Array | None = None,
        keys: Array | None = None,
        axis_name: str | None = None,
        truncation: float = 1.0,
        truncation_cutoff: int = 0,
    ) -> Array:
        """Return w ``[B, copies, w_dim]`` of latents ``[B, Z]``; in training, with mixed styles. See `__call__`."""
        w, mean = self._mapped(z, train, label, keys, axis_name)
        if truncation == 1:
            return w
        cut = truncation_cutoff or self.copies
        drawn = mean + truncation * (w - mean)
        return jnp.where((jnp.arange(self.copies) < cut)[:, None], drawn, w)

    def synthesis(self, w: Array, *, keys: Array | None = None, noise_mode: str = "random") -> Array:
        """Return images of w ``[B, copies, w_dim]``."""
        images: Array = self.synthesis_network(w, keys, noise_mode)
        return images

    def _mapped(
        self, z: Array, train: bool, label: Array | None, keys: Array | None, axis_name: str | None
    ) -> tuple[Array, Array]:
        w, mean = self.mapping_network(z, label, renew=train, axis_name=axis_name)
        assert mean is not None
        w = jnp.broadcast_to(w[:, None], (w.shape[0], self.copies, self.w_dim))
        if train and self.style_mixing:
            w = self._mixed(w, label, keys)
        return w, mean

    def _mixed(self, w: Array, label: Array | None, keys: Array | None) -> Array:
        """``w`` ``[B, copies, w_dim]``, by chance that of another latent, of N(0, I), from a random copy on."""
        assert keys is not None, "this network mixes styles: call it with keys"

        def drawn(key: Array) -> tuple[Array, Array]:
            latent, place = jax.random.split(jax.random.fold_in(key, jnp.uint32(zlib.crc32(b"mixing"))))
            chance, part = jax.random.uniform(place, (2,), self.param_dtype)
            cut = 1 + jnp.floor(part * (self.copies - 1)).astype(jnp.int32)
            z = jax.random.normal(latent, (self.latent_dim,), self.param_dtype)
            return z, jnp.where(chance < self.style_mixing, cut, self.copies)

        z, cut = jax.vmap(drawn)(keys)
        other, _ = self.mapping_network(z, label)
        return jnp.where((jnp.arange(self.copies) < cut[:, None])[..., None], w, other[:, None])


class SynthesisNetwork(nn.Module):
    """w ``[B, copies, w_dim]`` -> images ``[B, H, W, C]``; fields as of `Generator`.

    At 4x4, or longer, the constant and one layer, at each other side a layer that doubles it and one that keeps it.
    Every side has an image, added to that of the side below, doubled.
    """

    image_shape: tuple[int, int, int]
    channel_base: int
    channel_max: int
    low_precision: int
    remat: bool
    dtype: Dtype
    param_dtype: Dtype

    @nn.compact
    def __call__(self, w: Array, keys: Array | None, noise_mode: str) -> Array:
        shapes = shapes_of(self.image_shape)
        sides = [min(each) for each in shapes]
        shape = (1, *shapes[0], _width(self, 4))
        const: Array = self.param("const", nn.initializers.normal(1.0), shape, self.param_dtype)
        images = jnp.zeros((w.shape[0], 2, 2, self.image_shape[-1]), self.param_dtype)
        state: Any = jnp.broadcast_to(const, (w.shape[0], *shape[1:])).astype(self.dtype), images
        layers_at = [each for each in shapes for _ in range(1 if min(each) == 4 else 2)]
        noise = maps(keys, layers_at, self.param_dtype) if noise_mode == "random" else [None] * len(layers_at)
        for number, side in enumerate(sides):
            own = slice(max(2 * number - 1, 0), 2 * number + 1)
            told = {"w": w[:, own.start : own.stop + 1], "noise": noise[own], "noise_mode": noise_mode}
            state = layers.rematerialized(self, _synthesized, state, self, side, _types(self, side, sides), told)
        return layers.cropped(state[1], *self.image_shape[:2])


def _synthesized(state: Any, module: Any, side: int, types: dict[str, Any], told: Mapping[str, Any]) -> Any:
    """Activations and image of a side, of those of the side below."""
    x, images = state
    width, w, noise, mode = _width(module, side), told["w"], told["noise"], told["noise_mode"]
    if side > 4:
        x = StyledConv(width, up=True, name=f"conv0_{side}", **types)(x, w[:, 0], noise[0], mode)
    x = StyledConv(width, name=f"conv1_{side}", **types)(x, w[:, -2], noise[-1], mode)
    new = ToImage(images.shape[-1], name=f"image_{side}", **types)(x, w[:, -1]).astype(module.param_dtype)
    return x, up(images) + new if side > 4 else new


class Discriminator(nn.Module):
    """Images ``[B, H, W, C]`` -> `DiscriminatorOutput`.

    A 1x1 convolution of the image; at each side two of 3x3, of which the second halves it; at 4x4 the standard
    deviation of a group of examples as one more channel, a 3x3 convolution and two dense layers.

    Attributes:
      classes: number of classes, 0 if there are none.
      conditional: none, or projection: the logit is ``<f, m(label)> / sqrt(n)``, f the last layer, of n units, and m a
        mapping network.
      architecture: resnet, with a 1x1 convolution beside each side's two, or orig, without.
      mapping_layers: depth of m.
      channel_base, channel_max, low_precision, remat, dtype, param_dtype: as of `Generator`.
      stddev_group: examples in a group, see `gan_jax.layers.minibatch.stddev_channel`; 0: no such channel.
    """

    classes: int = 0
    conditional: str = "none"
    architecture: str = "resnet"
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    stddev_group: int = 4
    low_precision: int = 0
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None, batches: int = 1
    ) -> DiscriminatorOutput:
        del train
        layers.check_conditional(self.conditional, self.classes, ("none", "projection"))
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {self.architecture!r}")
        shapes = shapes_of(x.shape[1:])
        sides = [min(each) for each in shapes]
        x = layers.framed(x, *shapes[-1])
        types = _types(self, sides[-1], sides)
        x = EqualizedConv(_width(self, sides[-1]), kernel_size=1, activation="leaky_relu", name="from_image", **types)(
            x
        )
        for side in sides[:0:-1]:
            x = layers.rematerialized(self, _halved, x, self, side, _types(self, side, sides))
        x = x.astype(self.dtype)
        types = _types(self, 4, sides)
        if self.stddev_group:
            x = jnp.concatenate([x, self._stddev(x, axis_name, batches)], -1)
        x = EqualizedConv(_width(self, 4), activation="leaky_relu", name="conv_4", **types)(x)
        dense: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype, "activation": "leaky_relu"}
        features = EqualizedDense(_width(self, 4), name="dense", **dense)(layers.reshaped(x, (len(x), -1)))
        return DiscriminatorOutput(self._logits(features, label), features.astype(self.param_dtype))

    def _stddev(self, x: Array, axis_name: str | None, batches: int) -> Array:
        each = x.reshape(batches, -1, *x.shape[1:])
        found = jax.vmap(lambda own: stddev_channel(own, axis_name, self.stddev_group))(each)
        return found.reshape(*x.shape[:-1], 1)

    def _logits(self, features: Array, label: Array | None) -> Array:
        types: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if self.conditional == "none":
            return EqualizedDense(1, name="logit", **types)(features)[:, 0].astype(self.param_dtype)
        width = features.shape[1]
        mapping = MappingNetwork(
            width, self.mapping_layers, self.classes, param_dtype=self.param_dtype, name="mapping_network"
        )
        own, told = EqualizedDense(width, name="logit", **types)(features), mapping(None, label)[0]
        return (own.astype(self.param_dtype) * told).sum(1) / math.sqrt(width)


def _halved(x: Array, module: Any, side: int, types: dict[str, Any]) -> Array:
    """``[B, H, W, c] -> [B, H / 2, W / 2, c']``, ``side`` the shorter one."""
    below, residual = _width(module, side // 2), module.architecture == "resnet"
    gain = math.sqrt(0.5) if residual else 1.0
    inside = EqualizedConv(x.shape[-1], activation="leaky_relu", name=f"conv0_{side}", **types)(x)
    more: Any = types | {"down": True, "gain": gain}
    inside = EqualizedConv(below, activation="leaky_relu", name=f"conv1_{side}", **more)(inside)
    if not residual:
        return inside
    return inside + EqualizedConv(below, kernel_size=1, use_bias=False, name=f"skip_{side}", **more)(x)
