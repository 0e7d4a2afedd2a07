"""Further terms of the players' losses: functions of what D says of reals and fakes, each with a weight of its own.

``term(real, fake, label, axis_name)`` takes two `gan_jax.layers.Judgement` and labels ``[B]``, and gives a scalar:
a mean over this device's examples, or a figure of the whole global batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gan_jax.layers import Judgement, cross_device_mean

Array = jax.Array
Term = Callable[[Judgement, Judgement, Array, str | None], Array]

__all__ = ["auxiliary_discriminator", "auxiliary_generator", "feature_matching"]


def feature_matching(real: Judgement, fake: Judgement, label: Array, axis_name: str | None) -> Array:
    """``|E f(real) - E f(fake)|^2``, f being D's last hidden layer (Salimans et al. 2016, section 3.1). Of G's loss."""
    del label
    desired, actual = cross_device_mean((real.features.mean(0), fake.features.mean(0)), axis_name)
    return jnp.square(jax.lax.stop_gradient(desired) - actual).sum()


def auxiliary_discriminator(real: Judgement, fake: Judgement, label: Array, axis_name: str | None) -> Array:
    """``-E log P(label | real) - E log P(label | fake)`` (Odena et al. 2017, arXiv:1610.09585, eq. 3). Of D's loss."""
    del axis_name
    return _cross_entropy(real, label) + _cross_entropy(fake, label)


def auxiliary_generator(real: Judgement, fake: Judgement, label: Array, axis_name: str | None) -> Array:
    """``-E log P(label | fake)``, the part of eq. 3 that G can change. Of G's loss."""
    del real, axis_name
    return _cross_entropy(fake, label)


def _cross_entropy(judgement: Judgement, label: Array) -> Array:
    assert judgement.class_logits is not None
    mean: Array = optax.softmax_cross_entropy_with_integer_labels(judgement.class_logits, label).mean()
    return mean
