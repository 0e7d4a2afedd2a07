"""FastGAN (Liu et al. 2021, arXiv:2101.04775), for a few hundred pictures: light networks, and decoders within D.

Both have all kernels spectrally normalised and no biases. G gates maps by maps of a sixteenth of their side (skip-layer
excitation), and makes images of two sides, which D judges in parts: 25 logits of each. D's three decoders make images
of its maps of reals; the term ``self_supervision`` holds these against the reals.

Channels and layers are those of the author's code at 256, 512 and 1024. Networks of sides from 32 to 128 are the inner
part of these, with a second image of half the side. Images of 28 pixels lie in a black frame. Of images that aren't
square, all of this is said of the shorter side.

Unlike there, smaller real images are means of pixels, where theirs are every second one.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan_jax import layers
from gan_jax.layers import Array, BatchNorm, Conv, DiscriminatorOutput, Dtype, StridedConv
from gan_jax.layers.modules import Weighted
from gan_jax.layers.noise import Noise, maps
from gan_jax.ops.resample import halved, pooled, squared

_TIMES = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}  # channels at a side, by width
_LARGEST = 256  # side of D's first map, and twice that of the second image
_LINEAR = (256, 512)  # sides of images that don't go through tanh
_GATED = (4, 8, 16, 32)  # sides of maps that gate those of 16 times the side
_SPREAD = 0.02  # of batch norm's initial gains


class Start(Weighted):
    """Latents ``[B, Z]`` -> maps ``[B, *shape, features]``, a transposed convolution."""

    shape: tuple[int, int] = (4, 4)

    @nn.compact
    def __call__(self, z: Array) -> Array:
        kernel = self.kernel((*self.shape, self.features, z.shape[-1]), output_axis=2)
        rows = kernel.reshape(-1, z.shape[-1]).astype(self.dtype)
        return (z.astype(self.dtype) @ rows.T).reshape(-1, *self.shape, self.features)


class Valid4(Weighted):
    """A 4x4 convolution without padding: ``[N, H, W, f] -> [N, H - 3, W - 3, features]``."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.kernel((4, 4, x.shape[-1], self.features)).astype(self.dtype)
        x, height, width = x.astype(self.dtype), x.shape[1] - 3, x.shape[2] - 3
        if height == width == 1:
            return (x.reshape(x.shape[0], -1) @ kernel.reshape(-1, self.features))[:, None, None]
        # Of each pixel its 16 products, which are then added from where they belong.
        products = x.reshape(-1, x.shape[-1]) @ kernel.transpose(2, 0, 1, 3).reshape(x.shape[-1], -1)
        products = products.reshape(*x.shape[:3], 4, 4, self.features)
        parts = [products[:, i : i + height, j : j + width, i, j] for i in range(4) for j in range(4)]
        return sum(parts[1:], parts[0])


class _Network(nn.Module):
    """What both share.

    Attributes:
      width: channels that a side has a multiple of; published with 64.
      norm: batch.
      initializer, spectral: see `gan_jax.layers.Dense`.
      remat: see `gan_jax.layers.rematerialized`.
      dtype, param_dtype: of the arithmetic, and of the parameters.
    """

    width: int = 64
    norm: str = "batch"
    initializer: str = "normal"
    spectral: bool = True
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def up_channels(self, side: int) -> int:
        """Channels of G's maps of a side."""
        return max(1, int(self.width * _TIMES[side]))

    def down_channels(self, side: int) -> int:
        """Channels of D's maps of a side."""
        return max(2, 64 * self.width // side)

    def check(self) -> None:
        """Refuse what these networks haven't got."""
        if self.norm != "batch":
            raise ValueError(f"norm must be batch, not {self.norm!r}")


def shapes_of(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of maps, the shorter side from 4 to one from 32 to 1024, that images are cut out of.

    Raises:
      ValueError: the shorter side is another than 28 or such a power of two, or the longer one can't be halved.
    """
    height, width, *_ = image_shape
    side = 32 if min(height, width) == 28 else min(height, width)
    if side not in _TIMES or side < 32:
        raise ValueError(f"FastGAN makes images of sides 28, 32, 64 and so on to 1024, not of {height}x{width}")
    if max(height, width) % halved_by(side):
        raise ValueError(f"FastGAN makes images whose sides {halved_by(side)} divides, not of {height}x{width}")
    return layers.grown(image_shape, (side // 4).bit_length() - 1)


def halved_by(side: int) -> int:
    """How many times as large as the second image the first is, of networks of ``side``."""
    return max(2, 2 * side // _LARGEST)


class Generator(_Network):
    """Latents ``[B, Z]`` -> images of two sides ``([B, H, W, C], [B, h, w, C])``, about [-1, 1].

    At 4x4 a transposed convolution, batch norm and GLU; then at each side a doubling convolution, and at every second
    one more; noise behind these. Images of 256 and 512 are linear, as published, those of 1024 go through tanh. So do
    smaller ones: D tells what is black but for a little noise from what is black.

    Attributes:
      image_shape: (height, width, channels).

    Raises:
      ValueError: see `shapes_of`.
    """

    image_shape: tuple[int, int, int] = (256, 256, 3)

    @property
    def halvings(self) -> tuple[int, ...]:
        """How often the images that follow the first are halved; see `gan_jax.core.tasks.in_sides`."""
        return (max(1, min(self.image_shape[:2]).bit_length() - _LARGEST.bit_length() + 1),)

    @nn.compact
    def __call__(
        self,
        z: Array,
        *,
        train: bool,
        label: Array | None = None,
        axis_name: str | None = None,
        keys: Array | None = None,
        noise_mode: str = "random",
    ) -> Any:
        del label
        self.check()
        told = {"train": train, "axis_name": axis_name}
        start, *shapes = shapes_of(self.image_shape)
        drawn_at = [shape for shape in shapes if _twice(min(shape)) for _ in range(2)]
        random = noise_mode == "random"
        noise = maps(keys, drawn_at, self.param_dtype) if random else [None] * len(drawn_at)
        types, whole = layers.weight_types(self), min(shapes[-1])
        x = _glu(self, Start(2 * self.up_channels(4), shape=start, **types)(z), told)
        found = {4: x}
        for side in map(min, shapes):
            own = [noise.pop(0), noise.pop(0)] if _twice(side) else []
            x = layers.rematerialized(self, _up, x, self, self.up_channels(side), own, noise_mode, told)
            if side // 16 in _GATED:
                x = x * _gate(self, found[side // 16], self.up_channels(side))
            found[side] = x
        height, width, channels = self.image_shape
        part = halved_by(whole)
        both = Conv(channels, **types)(x), Conv(channels, kernel_size=1, **types)(found[whole // part])
        cut = (layers.cropped(y, height // n, width // n) for y, n in zip(both, (1, part), strict=True))
        return tuple(y if whole in _LINEAR else jnp.tanh(y) for y in cut)


def _twice(side: int) -> bool:
    """Whether a side has a second convolution, and noise: 8, 32, 128, 512."""
    return side.bit_length() % 2 == 0


def _norm(module: Any, x: Array, told: dict[str, Any]) -> Array:
    return BatchNorm(dtype=module.dtype, param_dtype=module.param_dtype, gain_spread=_SPREAD)(x, **told)


def _glu(module: Any, x: Array, told: dict[str, Any]) -> Array:
    """Half of the channels, normalised, times the sigmoid of the others (Dauphin et al. 2017, arXiv:1612.08083)."""
    values, gates = jnp.split(_norm(module, x, told), 2, -1)
    return values * jax.nn.sigmoid(gates)


def _up(
    x: Array, module: Any, features: int, noise: Sequence[Array | None], noise_mode: str, told: dict[str, Any]
) -> Array:
    """Twice the side; with noise, one more convolution."""
    for number, resample in enumerate(("up", "none") if noise else ("up",)):
        x = Conv(2 * features, resample=resample, **layers.weight_types(module))(x)
        if noise:
            own = Noise(dtype=module.dtype, param_dtype=module.param_dtype)
            x = own(x, None, noise_mode, drawn=noise[number])
        x = _glu(module, x, told)
    return x


def _gate(module: Any, low: Array, features: int) -> Array:
    """Skip-layer excitation (section 3.1): numbers in [0, 1] ``[B, 1, 1, features]`` from a map of a lower side."""
    types = layers.weight_types(module)
    x = jax.nn.swish(Valid4(features, **types)(squared(low, 4)))
    return jax.nn.sigmoid(Conv(features, kernel_size=1, **types)(x))


class Discriminator(_Network):
    """Images of two sides ``([B, H, W, C], [B, h, w, C])``, or one, -> `DiscriminatorOutput`.

    Its 50 logits are of 5x5 places of either image, or of more where it is longer. ``extra`` has ``decoded`` and
    ``target``, each ``[B, 3, h, w, C]``: what decoders make of the last map of the image, of the smaller one's, and of
    a random quarter of the map at 16x16; and what these should be. Features are the last map's mean.

    Raises:
      ValueError: see `shapes_of`.
    """

    @nn.compact
    def __call__(
        self,
        x: Any,
        *,
        train: bool,
        label: Array | None = None,
        axis_name: str | None = None,
        batches: int = 1,
        keys: Array | None = None,
    ) -> DiscriminatorOutput:
        del label
        self.check()
        told = {"train": train, "axis_name": axis_name, "batches": batches}
        image, small = _two_sides(x)
        judged, maps_of = self._of_image(image, told)
        beside, last_of_small = self._of_small(small, told)
        logits = jnp.concatenate([judged.reshape(image.shape[0], -1), beside.reshape(image.shape[0], -1)], 1)
        last, quartered = maps_of[8], maps_of[16]
        part, target = _quarter(quartered, image, keys)
        decoded = [self._decoded(own, small.shape[1:], told) for own in (last, last_of_small, part)]
        pictures = [pooled(image, small.shape[1]), small, pooled(target, small.shape[1])]
        wide = self.param_dtype
        return DiscriminatorOutput(
            logits.astype(wide),
            last.mean((1, 2)).astype(wide),
            extra={"decoded": jnp.stack(decoded, 1).astype(wide), "target": jnp.stack(pictures, 1).astype(wide)},
        )

    def _of_image(self, x: Array, told: dict[str, Any]) -> tuple[Array, dict[int, Array]]:
        """Logits ``[B, 5, 5, 1]`` and all maps, by their sides."""
        types, whole = layers.weight_types(self), min(x.shape[1:3])
        if whole <= _LARGEST:
            x = layers.leaky_relu(Conv(self.down_channels(whole), **types)(x))
        while (side := min(x.shape[1:3])) > _LARGEST:
            half, first = side // 2, side == whole
            x = StridedConv(self.down_channels(half), **types)(x)
            x = layers.leaky_relu(x if first else _norm(self, x, told))
        found = {side: x}
        while (side := min(x.shape[1:3])) > 8:
            features = self.down_channels(side // 2)
            x = layers.rematerialized(self, _down, x, self, features, told)
            if 4 * side in found:
                x = x * _gate(self, found[4 * side], features)
            found[side // 2] = x
        x = layers.leaky_relu(_norm(self, Conv(2 * x.shape[-1], kernel_size=1, **types)(x), told))
        return Valid4(1, **types)(x), found

    def _of_small(self, x: Array, told: dict[str, Any]) -> tuple[Array, Array]:
        """Logits ``[B, 5, 5, 1]`` and the last map."""
        types, first = layers.weight_types(self), True
        while (side := min(x.shape[1:3])) > 8:
            x = StridedConv(self.down_channels(side // 2) // 2, **types)(x)
            x = layers.leaky_relu(x if first else _norm(self, x, told))
            first = False
        return Valid4(1, **types)(x), x

    def _decoded(self, x: Array, shape: tuple[int, ...], told: dict[str, Any]) -> Array:
        """Return an image ``[B, *shape]`` of a map."""
        height, width, channels = shape
        at = min(x.shape[1:3])
        while (at := 2 * at) <= min(height, width):
            x = layers.rematerialized(self, _up, x, self, max(1, self.up_channels(at) // 2), [], "none", told)
        return jnp.tanh(Conv(channels, **layers.weight_types(self))(x))


def _two_sides(x: Any) -> tuple[Array, Array]:
    """Return the image and the smaller one, in black frames if they are of odd sides."""
    image, *smaller = x if isinstance(x, tuple) else (x,)
    height, width = shapes_of(image.shape[1:])[-1]
    part = halved_by(min(height, width))
    small = smaller[0] if smaller else pooled(image, image.shape[1] // part)
    return layers.framed(image, height, width), layers.framed(small, height // part, width // part)


def _down(x: Array, module: Any, features: int, told: dict[str, Any]) -> Array:
    """Half the side, the mean of two paths."""
    types = layers.weight_types(module)
    y = layers.leaky_relu(_norm(module, StridedConv(features, **types)(x), told))
    y = layers.leaky_relu(_norm(module, Conv(features, **types)(y), told))
    direct = Conv(features, kernel_size=1, **types)(halved(x))
    return (y + layers.leaky_relu(_norm(module, direct, told))) / 2


def _quarter(x: Array, image: Array, keys: Array | None) -> tuple[Array, Array]:
    """Draw a random quarter of each map, and the same of its image."""
    assert keys is not None, "this network draws a quarter of each image: call it with keys"
    corner = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2))(keys)

    def one(x: Array, corner: Array) -> Array:
        height, width, channels = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
        begin = (corner[0] * height, corner[1] * width, jnp.zeros_like(corner[0]))
        return jax.lax.dynamic_slice(x, begin, (height, width, channels))

    return jax.vmap(one)(x, corner), jax.vmap(one)(image, corner)
