"""Self-attention over the pixels of a map (Zhang et al. 2019, arXiv:1805.08318, section 3)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan_jax.layers.common import weight_types
from gan_jax.layers.modules import Conv

Array = jax.Array


class SelfAttention(nn.Module):
    """``x + s o``, ``o`` being at each pixel a mean over all others: ``[N, H, W, C] -> [N, H, W, C]``.

    As in the authors' code (brain-research/self-attention-gan), which BigGAN took over: queries of C/8 channels; keys
    of as many and values of C/2, both the largest of 2x2 pixels. Weights are the softmax of their products, not divided
    by a root of their length. A 1x1 convolution of the mean gives ``o``. The gate ``s`` is 0 at first. No bias.

    Attributes:
      spectral, initializer: of the four 1x1 convolutions, see `gan_jax.layers.Conv`.

    Raises:
      ValueError: a side is odd, or there are fewer than 8 channels.
    """

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    initializer: str = "normal"
    spectral: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        (n, height, width, channels), types = x.shape, weight_types(self)
        if height % 2 or width % 2 or channels < 8:
            raise ValueError(
                f"attention takes 2x2 pixels together and an eighth of the channels: not of {height}x{width}x{channels}"
            )

        def projected(features: int) -> Array:
            return Conv(features, kernel_size=1, **types)(x)

        def pooled(y: Array) -> Array:
            features = y.shape[-1]
            return y.reshape(n, height // 2, 2, width // 2, 2, features).max((2, 4)).reshape(n, -1, features)

        queries = projected(channels // 8).reshape(n, height * width, -1)
        keys, values = pooled(projected(channels // 8)), pooled(projected(channels // 2))
        weights = _softmax(jnp.einsum("nqc,nkc->nqk", queries, keys).astype(self.param_dtype))
        mean = jnp.einsum("nqk,nkc->nqc", weights.astype(self.dtype), values).reshape(n, height, width, -1)
        gate: Array = self.param("gate", nn.initializers.zeros, (), self.param_dtype)
        return x + gate.astype(self.dtype) * Conv(channels, kernel_size=1, **types)(mean)


def _softmax(x: Array) -> Array:
    """Over the last axis, as a product with 1 / sum: XLA makes one of a quotient on one device, and not on several."""
    raised = jnp.exp(x - lax.stop_gradient(x.max(-1, keepdims=True)))
    return raised * (1 / raised.sum(-1, keepdims=True))
