"""Network families, one file each, each with a ``Generator`` and a ``Discriminator``.

Every generator maps latents ``[B, latent_dim]`` to images ``[B, H, W, C]`` in [-1, 1] and is called as ``module(z,
train=..., label=..., axis_name=...)``. Every discriminator maps images to a `gan_jax.layers.DiscriminatorOutput` and is
called as ``module(x, train=..., label=..., axis_name=..., batches=...)``. Both take the fields ``dtype`` (of the
computation) and ``param_dtype`` (of parameters and logits); ``docs/extending.md`` has the whole contract, and an
example.

Those here but ``fastgan``'s, ``progan``'s, ``r3gan``'s, ``stylegan2``'s and BigGAN's generators further take those of
`gan_jax.layers.Generator` and `gan_jax.layers.Discriminator`: ``norm``, ``conditional``, ``minibatch``,
``initializer``, ``spectral``, ``remat``.
"""

from gan_jax.models import aae, biggan, biggan_deep, dcgan, fastgan, mlp, progan, r3gan, resnet, stylegan2

__all__ = ["aae", "biggan", "biggan_deep", "dcgan", "fastgan", "mlp", "progan", "r3gan", "resnet", "stylegan2"]
