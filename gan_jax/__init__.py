"""gan_jax: generative adversarial networks in JAX, each trained, sampled and monitored by one machinery."""

__version__ = "0.1.0"
