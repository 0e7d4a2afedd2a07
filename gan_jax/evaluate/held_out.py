"""What D says of images it trains on and of images it never saw."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.gan import GAN, Array
from gan_jax.core.losses import discriminator_output
from gan_jax.core.networks import call
from gan_jax.core.pixels import to_float
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import GANState

Labelled = tuple[np.ndarray, np.ndarray]
BATCH = 250  # images that `held_out` looks at


def held_out(gan: GAN, state: GANState, seen: Labelled, unseen: Labelled) -> dict[str, float]:
    """Return what D says of images it trains on and of images it never saw.

    Each batch is normalised by itself as in training. The further ``d_seen`` lies above ``d_unseen``, the more D
    remembers the training set instead of judging (Brock et al. 2018, arXiv:1809.11096, section 4.2). Each is D's mean
    probability, or score, over the first 250 images (uint8 ``[N, H, W, C]`` and labels ``[N]``, in an order that mixes
    the classes); without test images there is no ``d_unseen``. Where D judges codes (`gan_jax.core.tasks`), they are
    those of the images.
    """
    looked_at = {"d_seen": seen, "d_unseen": unseen}
    return {
        name: float(_mean_output(gan, state, images[:BATCH], labels[:BATCH]))
        for name, (images, labels) in looked_at.items()
        if len(images)
    }


@partial(jax.jit, static_argnums=0)
def _mean_output(gan: GAN, state: GANState, images: Array, labels: Array) -> Array:
    shown = gan.task.shown(gan, state.generator.variables, to_float(images, gan.dtype), labels)
    keys = example_keys(random_key(state.seed, "held_out"), jnp.arange(len(labels)))
    told: dict[str, Any] = {"label": labels, "train": True, "keys": keys}
    judgement, _ = call(gan.discriminator, state.discriminator.variables, shown, mutable=["batch_stats"], **told)
    return discriminator_output(gan.loss, judgement.logits).mean()
