"""Network families, one file each, each with a ``Generator`` and a ``Discriminator``.

Every generator maps latents ``[B, latent_dim]`` to images ``[B, H, W, C]`` in [-1, 1]; every discriminator maps images
to logits ``[B]``. Both are called as ``module(x, train=..., axis_name=...)`` and take the fields ``dtype`` (of the
computation) and ``param_dtype`` (of parameters and logits).
"""

from gan_jax.models import dcgan, mlp

__all__ = ["dcgan", "mlp"]
