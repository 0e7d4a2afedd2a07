"""gan_jax: generative adversarial networks in JAX, each trained, sampled and monitored by one machinery.

In Python, ``gan_jax.get_config("dcgan")`` gives a config, ``gan_jax.train(config, workdir)`` trains it, and
``gan_jax.load(workdir)`` gives a trained GAN to draw from. They are imported when first used, and JAX with them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained, get_config, load, train

__version__ = "0.1.0"
__all__ = ["Trained", "__version__", "get_config", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gan_jax' has no attribute {name!r}")
    from gan_jax.use import trained

    return getattr(trained, name)


def __dir__() -> list[str]:
    return __all__
