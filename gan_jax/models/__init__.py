"""Network families, one file each, each with a ``Generator`` and a ``Discriminator``.

Every generator maps latents ``[B, latent_dim]`` to images ``[B, H, W, C]`` in [-1, 1]; every discriminator maps images
to a `gan_jax.layers.Judgement`. Both are called as ``module(x, train=..., label=..., axis_name=...)`` and take the
fields ``dtype`` (of the computation), ``param_dtype`` (of parameters and logits), and those of `gan_jax.models.mlp`
that are switches: ``norm``, ``conditional``, ``minibatch``, ``initializer``, ``spectral``, ``remat``.
"""

from gan_jax.models import aae, dcgan, mlp, resnet

__all__ = ["aae", "dcgan", "mlp", "resnet"]
