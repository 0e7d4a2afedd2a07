"""Adversarial losses: ``loss(real_logits, fake_logits, ...) -> (discriminator loss, generator loss)``, each ``[B]``.

Where D judges K parts of an image, all of these are ``[B, K]``. A loss that takes ``keys`` is given a PRNG key ``[B]``
for each example.

One function a loss, on logits, one value per example, nothing averaged: callers take the mean. Both players' losses
come from one call; the one that a step doesn't differentiate is never computed, because XLA drops what nobody reads.
``real_label`` and ``fake_label`` are the discriminator's targets where a loss has such, ``generator_label`` the
generator's; ``real_label=0.9`` is one-sided label smoothing (Salimans et al. 2016, arXiv:1606.03498).
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array
Loss = Callable[..., tuple[Array, Array]]

__all__ = ["hinge", "least_squares", "minimax", "non_saturating", "relativistic", "soft_hinge", "wasserstein"]


def non_saturating(
    real_logits: Array, fake_logits: Array, real_label: Array | float = 1.0, fake_label: Array | float = 0.0
) -> tuple[Array, Array]:
    """Binary cross-entropy; the generator maximises log D(G(z)) (Goodfellow et al. 2014, section 3).

    ``D: BCE(real, real_label) + BCE(fake, fake_label);  G: BCE(fake, 1) = softplus(-fake)``. Label values smooth the
    discriminator's targets alone.
    """
    discriminator = _cross_entropy(real_logits, real_label) + _cross_entropy(fake_logits, fake_label)
    return discriminator, jax.nn.softplus(-fake_logits)


def minimax(
    real_logits: Array, fake_logits: Array, real_label: Array | float = 1.0, fake_label: Array | float = 0.0
) -> tuple[Array, Array]:
    """Return the losses of the original saturating game (Goodfellow et al. 2014, eq. 1): G minimises log(1 - D(G(z))).

    ``D`` as `non_saturating`; ``G: -softplus(fake)``.
    """
    discriminator = _cross_entropy(real_logits, real_label) + _cross_entropy(fake_logits, fake_label)
    return discriminator, -jax.nn.softplus(fake_logits)


def least_squares(
    real_logits: Array,
    fake_logits: Array,
    real_label: Array | float = 1.0,
    fake_label: Array | float = 0.0,
    generator_label: Array | float = 1.0,
) -> tuple[Array, Array]:
    """LSGAN (Mao et al. 2017, arXiv:1611.04076, eq. 2) of b = ``real_label``, a = ``fake_label``, c =
    ``generator_label``.

    ``D: ½ (real - b)² + ½ (fake - a)²;  G: ½ (fake - c)²``. With -1, 1, 0 for a, b, c it is their eq. 8, a Pearson
    chi-square divergence; with 0, 1, 1, the defaults, their eq. 9.
    """
    discriminator = 0.5 * (jnp.square(real_logits - real_label) + jnp.square(fake_logits - fake_label))
    return discriminator, 0.5 * jnp.square(fake_logits - generator_label)


def wasserstein(real_logits: Array, fake_logits: Array) -> tuple[Array, Array]:
    """WGAN (Arjovsky et al. 2017, arXiv:1701.07875, eq. 2): ``D: fake - real;  G: -fake``. Wants a Lipschitz critic."""
    return fake_logits - real_logits, -fake_logits


def hinge(real_logits: Array, fake_logits: Array) -> tuple[Array, Array]:
    """Hinge loss (Lim & Ye 2017, arXiv:1705.02894): ``D: max(0, 1 - real) + max(0, 1 + fake);  G: -fake``."""
    return nn.relu(1 - real_logits) + nn.relu(1 + fake_logits), -fake_logits


def soft_hinge(real_logits: Array, fake_logits: Array, keys: Array) -> tuple[Array, Array]:
    """Hinge loss with margins u, v ~ U(.8, 1), drawn for each logit (FastGAN, Liu et al. 2021, arXiv:2101.04775).

    ``D: max(0, u - real) + max(0, v + fake);  G: -fake``.
    """
    both = jax.vmap(lambda key: jax.random.uniform(key, (2, *real_logits.shape[1:]), real_logits.dtype, 0.8, 1.0))(keys)
    return nn.relu(both[:, 0] - real_logits) + nn.relu(both[:, 1] + fake_logits), -fake_logits


def relativistic(real_logits: Array, fake_logits: Array) -> tuple[Array, Array]:
    """RpGAN (Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4): each real is paired with a fake of the batch.

    ``D: softplus(fake - real);  G: softplus(real - fake)``.
    """
    margin = real_logits - fake_logits
    return jax.nn.softplus(-margin), jax.nn.softplus(margin)


def takes_keys(loss: Loss) -> bool:
    """Whether ``loss`` draws random numbers."""
    return "keys" in inspect.signature(loss).parameters


def discriminator_output(loss: Loss, logits: Array) -> Array:
    """Return what D says of an image: the probability of "real" where the logits are log-odds, else the score itself.

    A loss of one's own has such logits if its attribute ``log_odds`` is true.
    """
    log_odds = loss in (non_saturating, minimax) or getattr(loss, "log_odds", False)
    return jax.nn.sigmoid(logits) if log_odds else logits


def decision_boundary(loss: Loss, real_mean: Array, fake_mean: Array, labels: dict[str, Any]) -> Array | float:
    """Return the logit above which D is counted as saying "real".

    Half-way between the labels for `least_squares`, half-way between the mean scores ``real_mean`` and ``fake_mean``
    for `wasserstein` and `relativistic` (whose critics' offset is arbitrary) and a loss of one's own whose attribute
    ``relative`` is true, else 0.
    """
    if loss is least_squares:
        half: Array = 0.5 * (labels.get("real_label", 1.0) + labels.get("fake_label", 0.0))
        return half
    relative = loss in (wasserstein, relativistic) or getattr(loss, "relative", False)
    return 0.5 * (real_mean + fake_mean) if relative else 0.0


def _cross_entropy(logits: Array, label: Array | float) -> Array:
    """``-label log σ(logits) - (1 - label) log(1 - σ(logits))``, finite for any finite logit."""
    return label * jax.nn.softplus(-logits) + (1 - label) * jax.nn.softplus(logits)
