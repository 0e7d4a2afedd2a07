"""The adversarial autoencoder (Makhzani et al. 2015, arXiv:1511.05644), of dense layers.

The generator is the decoder; the encoder, which plays against the discriminator, is part of the same player, so that
both share its optimizer. See `gan_jax.core.tasks` for the task.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from gan_jax import layers
from gan_jax.layers import Array, Dense, Dtype
from gan_jax.models import mlp

Discriminator = mlp.Discriminator


class Generator(layers.Generator):
    """Decoder: codes ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1], by `gan_jax.models.mlp.Generator`.

    Attributes:
      latent_dim: length of the code.
      widths: of the decoder's hidden layers.
      encoder_widths: of the encoder's.
    """

    latent_dim: int = 8
    widths: Sequence[int] = (512, 512)
    encoder_widths: Sequence[int] = (512, 512)

    def setup(self) -> None:
        """Both networks."""
        shared = {name: getattr(self, name) for name in ("norm", "conditional", "classes", "remat")}
        self.decoder = mlp.Generator(self.image_shape, widths=self.widths, **shared, **layers.weight_types(self))
        self.encoder = Encoder(self.latent_dim, self.encoder_widths, remat=self.remat, **layers.weight_types(self))

    def __call__(self, z: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None) -> Array:
        if self.is_initializing():
            self.encode(jnp.zeros((1, *self.image_shape), self.dtype))
        return self.decoder(z, train=train, label=label, axis_name=axis_name)

    def encode(self, images: Array) -> Array:
        """Images ``[B, H, W, C]`` -> codes ``[B, Z]``, without randomness (section 2, the first of its three kinds)."""
        return self.encoder(images)


class Encoder(nn.Module):
    """Images ``[B, H, W, C]`` -> dense layers of ``widths`` with LeakyReLU(.2) -> codes ``[B, latent_dim]``."""

    latent_dim: int
    widths: Sequence[int]
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    initializer: str = "xavier"
    spectral: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images.reshape(len(images), -1)
        for features in self.widths:
            x = layers.rematerialized(self, mlp.hidden, x, features, True, lambda x: x, layers.weight_types(self))
        return Dense(self.latent_dim, use_bias=True, **layers.weight_types(self))(x).astype(self.param_dtype)
