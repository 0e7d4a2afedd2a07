"""What a discriminator says of a batch, and the head that says it: the same for every family of networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from gan_jax.layers.minibatch import minibatch_discrimination, minibatch_stddev
from gan_jax.layers.modules import INITS, Dense, spectrally_normalized

Array = jax.Array

CONDITIONALS = ("none", "concat", "projection", "auxiliary")
MINIBATCHES = ("none", "discrimination", "stddev")
_KERNELS, _DIMENSIONS = 50, 5  # of minibatch discrimination: B and C in the paper


class DiscriminatorOutput(struct.PyTreeNode):
    """What D says of a batch.

    Attributes:
      logits: ``[B]``, the higher the more real; or ``[B, K]`` where D judges K parts of an image, which count alike.
      features: ``[B, F]``, D's last hidden layer.
      class_logits: ``[B, classes]`` of an auxiliary classifier, or None.
      extra: whatever else terms want to see, by name, each ``[B, ...]``.
    """

    logits: Array
    features: Array
    class_logits: Array | None = None
    extra: dict[str, Array] = struct.field(default_factory=dict)


def judged(
    features: Array,
    label: Array | None,
    *,
    conditional: str,
    classes: int,
    minibatch: str,
    axis_name: str | None,
    batches: int,
    use_bias: bool,
    types: dict[str, Any],
) -> DiscriminatorOutput:
    """Apply the head of a discriminator, for use at the end of its ``nn.compact`` method.

    Args:
      features: ``[B, F]``, the last hidden layer.
      label: ``[B]``.
      conditional: one of `CONDITIONALS`. ``projection``: the logit gains ``<embedding(label), features>`` (Miyato &
        Koyama 2018, arXiv:1802.05637, eq. 3); ``auxiliary``: a second dense layer names the class (Odena et al. 2017,
        arXiv:1610.09585); ``concat``: the input has the label already, see `with_label`.
      classes: their number.
      minibatch: one of `MINIBATCHES`: what the logit is told of the other examples, see `minibatch_discrimination` and
        `minibatch_stddev`.
      axis_name: the device axis; the other examples are those of the whole global batch.
      batches: how many of one size there are in ``features``, one after the other; each is told only of its own.
      use_bias: of the dense layer.
      types: ``dtype``, ``param_dtype``, ``initializer`` and ``spectral`` of the layers.
    """
    if minibatch not in MINIBATCHES:
        raise ValueError(f"minibatch must be one of {', '.join(MINIBATCHES)}, not {minibatch!r}")

    def told(of_others: Callable[[Array, str | None], Array], own: Array) -> Array:
        found = jax.vmap(lambda x: of_others(x, axis_name))(own.reshape(batches, -1, *own.shape[1:]))
        return jnp.concatenate([features, found.reshape(len(features), -1).astype(features.dtype)], 1)

    x = features
    if minibatch == "discrimination":
        projected = Dense(_KERNELS * _DIMENSIONS, **types)(x)
        x = told(minibatch_discrimination, projected.reshape(x.shape[0], _KERNELS, _DIMENSIONS))
    elif minibatch == "stddev":
        x = told(minibatch_stddev, x)
    wide = types["param_dtype"]
    logits = Dense(1, use_bias=use_bias, **types)(x)[:, 0].astype(wide)
    class_logits = None
    if conditional == "projection":
        assert label is not None
        table = Embedding(classes, features.shape[1], **types)(label)
        logits += (table.astype(wide) * features.astype(wide)).sum(1)
    elif conditional == "auxiliary":
        class_logits = Dense(classes, use_bias=use_bias, **types)(features).astype(wide)
    return DiscriminatorOutput(logits, features.astype(wide), class_logits)


class Embedding(nn.Module):
    """Labels (see `of_label`) -> ``[B, features]``, a learnt vector for each of ``classes``."""

    classes: int
    features: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    initializer: str = "normal"
    spectral: bool = False

    @nn.compact
    def __call__(self, label: Array) -> Array:
        table: Array = self.param("table", INITS[self.initializer], (self.classes, self.features), self.param_dtype)
        if self.spectral:
            table = spectrally_normalized(self, table)
        return of_label(table, label).astype(self.dtype)


def check_conditional(conditional: str, classes: int, valid: tuple[str, ...]) -> None:
    """Refuse what can't be.

    Raises:
      ValueError: ``conditional`` is none of those valid, or there are no classes to tell.
    """
    if conditional not in valid:
        raise ValueError(f"conditional must be one of {', '.join(valid)}, not {conditional!r}")
    if conditional != "none" and not classes:
        raise ValueError(
            f"conditional={conditional!r} needs labelled data: set config.classes to their number of classes"
        )


def label_code(label: Array | None, classes: int, dtype: Any) -> Array:
    """Return the one-hot code ``[B, classes]`` of labels ``[B]``; mixes ``[B, classes]`` are it already."""
    assert label is not None
    return label.astype(dtype) if label.ndim == 2 else jax.nn.one_hot(label, classes, dtype=dtype)


def of_label(table: Array, label: Array) -> Array:
    """Return the row of ``table`` ``[classes, F]`` of each label ``[B]``, or the mean by shares ``[B, classes]``."""
    return label.astype(table.dtype) @ table if label.ndim == 2 else table[label]


def with_label(x: Array, label: Array | None, classes: int) -> Array:
    """``x`` ``[B, ..., C]`` with the label's one-hot code as further channels (Mirza & Osindero 2014,
    arXiv:1411.1784)."""
    code = label_code(label, classes, x.dtype).reshape(x.shape[0], *(1,) * (x.ndim - 2), classes)
    return jnp.concatenate([x, jnp.broadcast_to(code, (*x.shape[:-1], classes))], -1)
