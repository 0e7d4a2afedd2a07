"""The block of vision transformers, DINOv2's and CLIP's (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array
HEAD = 64  # features of a head of attention, in all published sizes


class Block(nn.Module):
    """``x + attention(norm x)``, then ``x + mlp(norm x)``, of tokens ``[B, T, dim]``.

    Attributes:
      dim: of a token.
      activation: of the hidden layer, which is four times as wide.
      epsilon: of the norms.
      scaled: whether what is added has a learnt scale for each feature (LayerScale, Touvron et al. 2021).
    """

    dim: int
    activation: Callable[[Array], Array]
    epsilon: float
    scaled: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x + self._scaled("ls1_gamma", self._attention(nn.LayerNorm(self.epsilon, name="norm1")(x)))
        h = nn.Dense(4 * self.dim, name="mlp_fc1")(nn.LayerNorm(self.epsilon, name="norm2")(x))
        return x + self._scaled("ls2_gamma", nn.Dense(self.dim, name="mlp_fc2")(self.activation(h)))

    def _scaled(self, name: str, x: Array) -> Array:
        return self.param(name, nn.initializers.ones, (self.dim,)) * x if self.scaled else x

    def _attention(self, x: Array) -> Array:
        n, tokens, _ = x.shape
        qkv = nn.Dense(3 * self.dim, name="attn_qkv")(x).reshape(n, tokens, 3, -1, HEAD)
        q, k, v = (qkv[:, :, i] for i in range(3))
        logits = jnp.einsum("nqhd,nkhd->nhqk", q / HEAD**0.5, k)
        x = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(logits, -1), v).reshape(n, tokens, self.dim)
        return nn.Dense(self.dim, name="attn_proj")(x)
