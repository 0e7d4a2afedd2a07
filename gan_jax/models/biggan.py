"""BigGAN (Brock et al. 2019, arXiv:1809.11096): SAGAN's networks, larger, whose every block has a part of the latent.

Channels and blocks are those of the author's code (ajbrock/BigGAN-PyTorch). The discriminator is that of
`gan_jax.models.resnet`, with ``wide`` blocks and ``attention``.
"""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn

from gan_jax import layers
from gan_jax.layers import Array, BatchNorm, Conv, Dense, Dtype, Embedding
from gan_jax.layers.attention import SelfAttention
from gan_jax.models.resnet import Discriminator, check_attention, up_block

__all__ = ["Discriminator", "Generator"]


class ConditionedNorm(nn.Module):
    """Batch norm of ``x`` ``[N, ..., C]``, gains and offsets being linear in a code ``[N, F]`` of each example.

    ``(1 + W_g c) (x - mean) / sqrt(var + eps) + W_b c``, without biases.

    Attributes:
      spectral, initializer: of both linear maps, see `gan_jax.layers.Dense`.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    initializer: str = "orthogonal"
    spectral: bool = True

    @nn.compact
    def __call__(self, x: Array, code: Array, *, train: bool, axis_name: str | None = None) -> Array:
        wide = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        maps = {"initializer": self.initializer, "spectral": self.spectral, **wide}
        code = code.astype(self.param_dtype)
        modulation = 1 + Dense(x.shape[-1], **maps)(code), Dense(x.shape[-1], **maps)(code)
        norm = BatchNorm(dtype=self.dtype, param_dtype=self.param_dtype)
        return norm(x, train=train, axis_name=axis_name, modulation=modulation)


class BigGenerator(nn.Module):
    """What `Generator` and that of `gan_jax.models.biggan_deep` share. A family writes `body`.

    Attributes:
      image_shape: (height, width, channels).
      classes: number of classes, 0 if there are none.
      conditional: ``none``, or ``shared``: one embedding of the label, which all blocks are told.
      widths: of the blocks, or stages, each of which doubles the side.
      first: channels before them.
      embedding: numbers that a label becomes; that embedding alone isn't spectrally normalised.
      attention: the shorter side of the maps that `gan_jax.layers.attention.SelfAttention` comes behind; 0: none.
      biased: whether convolutions have the biases that batch norm takes away again; as published, they do.
      norm: batch.
      initializer, spectral: see `gan_jax.layers.Dense`.
      remat: see `gan_jax.layers.rematerialized`.
      dtype, param_dtype: of the arithmetic, and of the parameters.

    Raises:
      ValueError: see `gan_jax.layers.sides`; no block makes maps of attention's side; the latent can't be shared out.
    """

    image_shape: tuple[int, int, int]
    classes: int = 0
    conditional: str = "none"
    widths: Sequence[int] = (384, 384, 384)
    first: int = 384
    embedding: int = 128
    attention: int = 16
    biased: bool = True
    norm: str = "batch"
    initializer: str = "orthogonal"
    spectral: bool = True
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None) -> Array:
        layers.check_conditional(self.conditional, self.classes, ("none", "shared"))
        if self.norm != "batch":
            raise ValueError(f"norm must be batch, not {self.norm!r}: its gains are how these networks are told")
        types = layers.weight_types(self)
        first, *larger = layers.sides(self.image_shape, len(self.widths))
        check_attention(self.attention, [min(side) for side in larger])
        shared = z[:, :0]
        if self.conditional == "shared":
            assert label is not None
            shared = Embedding(self.classes, self.embedding, **types | {"spectral": False})(label)

        def norm_by(code: Array) -> layers.Norm:
            return lambda x: ConditionedNorm(**types)(x, code, train=train, axis_name=axis_name)

        start, codes = self.codes(z.astype(self.dtype), shared)
        x = Dense(math.prod(first) * self.first, use_bias=True, **types)(start)
        x = layers.reshaped(x, (-1, *first, self.first))
        for features, side, code in zip(self.widths, larger, codes, strict=True):
            x = self.stage(x, features, side, norm_by(code))
            x = SelfAttention(**types)(x) if min(side) == self.attention else x
        last = BatchNorm(dtype=self.dtype, param_dtype=self.param_dtype)
        x = layers.relu(x, lambda x: last(x, train=train, axis_name=axis_name))
        return jnp.tanh(Conv(self.image_shape[-1], use_bias=True, **types)(x))

    def codes(self, z: Array, shared: Array) -> tuple[Array, list[Array]]:
        """Return what the first dense layer is given, and what each stage's norms are."""
        raise NotImplementedError

    def stage(self, x: Array, features: int, side: tuple[int, int], norm: Callable[[Array], Array]) -> Array:
        """Return maps ``[N, *side, features]``, of maps with half of both sides."""
        raise NotImplementedError


class Generator(BigGenerator):
    """Latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1].

    The latent is cut into one part for the first dense layer and one for each block, whose norms are told that part and
    the label's embedding.
    """

    def codes(self, z: Array, shared: Array) -> tuple[Array, list[Array]]:
        """Return a part of the latent, and those of the blocks beside the label's embedding."""
        parts = len(self.widths) + 1
        if z.shape[1] % parts:
            raise ValueError(
                f"a latent of {z.shape[1]} numbers has no {parts} equal parts: set latent_dim to a multiple"
            )
        start, *own = jnp.split(z, parts, 1)
        return start, [jnp.concatenate([shared, part], 1) for part in own]

    def stage(self, x: Array, features: int, side: tuple[int, int], norm: Callable[[Array], Array]) -> Array:
        """Return what one residual block makes."""
        types = {"use_bias": self.biased, **layers.weight_types(self)}
        return layers.rematerialized(self, up_block, x, features, side, norm, types)
