"""BigGAN-deep (Brock et al. 2019, arXiv:1809.11096, appendix B): BigGAN in blocks of four convolutions.

1x1 convolutions to a quarter of the channels and back enclose two of 3x3. Shortcuts drop channels in G, and add
some in D, so that they need no convolution of their own, or few. Each stage has two blocks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from gan_jax import layers
from gan_jax.layers import Array, Conv
from gan_jax.layers.attention import SelfAttention
from gan_jax.models.biggan import BigGenerator
from gan_jax.models.resnet import check_attention, halved, summed_up
from gan_jax.ops.resample import doubled


class Generator(BigGenerator):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1].

    All blocks and the first dense layer are told the whole latent and the label's embedding.

    Raises:
      ValueError: a width rises; see also `BigGenerator`.
    """

    def codes(self, z: Array, shared: Array) -> tuple[Array, list[Array]]:
        """Return embedding and latent, for all alike."""
        code = jnp.concatenate([shared, z], 1)
        return code, [code] * len(self.widths)

    def stage(self, x: Array, features: int, side: tuple[int, int], norm: Callable[[Array], Array]) -> Array:
        """Return what two blocks make, of which the second doubles the side."""
        if features > x.shape[-1]:
            raise ValueError(f"widths {(self.first, *self.widths)} rise, and shortcuts can only drop channels")
        types = {"use_bias": self.biased, **layers.weight_types(self)}
        x = layers.rematerialized(self, _up_block, x, x.shape[-1], x.shape[1:3], norm, types)
        return layers.rematerialized(self, _up_block, x, features, side, norm, types)


class Discriminator(layers.Discriminator):
    """Images ``[B, H, W, C]`` in [-1, 1] -> `gan_jax.layers.DiscriminatorOutput`.

    A 3x3 convolution; two blocks for each width, the first of which halves the side in the first ``downs`` of them;
    ReLU; the sum over all pixels; one dense unit.

    Attributes:
      first: channels of the first convolution.
      widths: of the stages.
      downs: how many of them halve the side.
      attention: the shorter side of the maps that `gan_jax.layers.attention.SelfAttention` comes behind; 0: none.
      pooling: over pixels, ``sum`` or ``mean``.

    Raises:
      ValueError: no stage makes maps of attention's side; a width falls; or there is no such pooling.
    """

    first: int = 192
    widths: Sequence[int] = (192, 192, 192, 192)
    downs: int = 2
    attention: int = 16
    pooling: str = "sum"
    initializer: str = "orthogonal"
    spectral: bool = True

    def body(self, x: Array, norm: layers.Norm) -> Array:
        """Return the last hidden layer."""
        types = {"use_bias": True, **layers.weight_types(self)}
        check_attention(self.attention, [-(-min(x.shape[1:3]) // 2 ** (stage + 1)) for stage in range(self.downs)])
        if any(after < before for before, after in zip((self.first, *self.widths), self.widths, strict=False)):
            raise ValueError(f"widths {(self.first, *self.widths)} fall, and shortcuts can only add channels")
        x = Conv(self.first, **types)(x)
        for stage, features in enumerate(self.widths):
            down = stage < self.downs
            x = layers.rematerialized(self, _down_block, x, features, down, norm, types)
            x = layers.rematerialized(self, _down_block, x, features, False, norm, types)
            if down and min(x.shape[1:3]) == self.attention:
                x = SelfAttention(**layers.weight_types(self))(x)
        return summed_up(layers.relu(x), self.pooling)


def _up_block(x: Array, features: int, side: tuple[int, int], norm: layers.Norm, types: dict[str, Any]) -> Array:
    """Norm and ReLU before each convolution; beside them, the first ``features`` channels, doubled."""
    inside = Conv(x.shape[-1] // 4, kernel_size=1, **types)(layers.relu(x, norm))
    y = _doubled(layers.relu(inside, norm), side)
    y = Conv(x.shape[-1] // 4, **types)(y)
    y = Conv(x.shape[-1] // 4, **types)(layers.relu(y, norm))
    y = Conv(features, kernel_size=1, **types)(layers.relu(y, norm))
    return y + _doubled(x[..., :features], side)


def _doubled(x: Array, side: tuple[int, int]) -> Array:
    height, width = side
    return x if x.shape[1:3] == side else doubled(x)[:, :height, :width]


def _down_block(x: Array, features: int, down: bool, norm: layers.Norm, types: dict[str, Any]) -> Array:
    """Norm, if there is one, and ReLU before each convolution; beside them, ``x``, with new channels behind its own."""
    inside = Conv(features // 4, kernel_size=1, **types)(layers.relu(x, norm))
    inside = Conv(features // 4, **types)(layers.relu(inside, norm))
    inside = Conv(features // 4, **types)(layers.relu(inside, norm))
    inside = layers.relu(inside, norm)
    beside = x
    if down:
        inside, beside = halved(inside), halved(x)
    inside = Conv(features, kernel_size=1, **types)(inside)
    if features > x.shape[-1]:
        more = Conv(features - x.shape[-1], kernel_size=1, **types)(beside)
        beside = jnp.concatenate([beside, more], -1)
    return inside + beside
