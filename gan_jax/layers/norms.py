"""Normalisations of activations, and which of them a name stands for."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from gan_jax.layers.head import label_code, of_label
from gan_jax.ops.collectives import cross_device_mean
from gan_jax.ops.sums import batch_moments

Array = jax.Array
Arrays = tuple[Array, ...]
Dtype = Any

NORMS = ("none", "batch", "layer", "virtual")
MOMENTS = "moments"  # the collection where `BatchNorm` says what it found in a batch, to who asks for it
REFERENCES = 64  # examples in the reference batch of virtual batch norm


def bias_before(norm: str) -> bool:
    """Whether a bias for each channel means anything before ``norm``.

    Where the norm takes it away again, its gradient is 0 but for rounding, and Adam makes steps of that.
    """
    return norm not in ("batch", "virtual")


def normalized(
    x: Array,
    norm: str,
    *,
    train: bool,
    axis_name: str | None,
    dtype: Dtype,
    param_dtype: Dtype,
    label: Array | None = None,
    classes: int = 0,
    batches: int = 1,
    gain_spread: float = 0.0,
) -> Array:
    """``x`` ``[N, ..., C]`` by the layer that ``norm`` names, for use inside a module's ``nn.compact`` method.

    Args:
      x: activations; for ``virtual``, those of the reference batch come first (see `with_references`).
      norm: one of `NORMS`.
      train, axis_name, batches, gain_spread: see `BatchNorm`.
      dtype, param_dtype: of the result, of parameters and moments.
      label: ``[N]``; if ``classes`` isn't 0, gain and offset of batch norm are those of the label.
      classes: their number.

    Raises:
      ValueError: ``norm`` is none of them, or can't be conditional.
    """
    types = {"dtype": dtype, "param_dtype": param_dtype}
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm!r}")
    if classes and norm != "batch":
        raise ValueError(f"conditional='norm' goes with norm='batch', not {norm!r}")
    if norm == "batch":
        layer = BatchNorm(classes=classes, gain_spread=gain_spread, **types)
        return layer(x, train=train, axis_name=axis_name, label=label, batches=batches)
    if norm == "layer":
        return LayerNorm(**types)(x)
    if norm == "virtual":
        return VirtualBatchNorm(**types)(x)
    return x


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015), its moments taken over every device.

    ``y = gamma (x - mean) / sqrt(var + eps) + beta``. In training, mean and (biased) variance are those of the global
    batch, and the running ones in the ``batch_stats`` collection become ``0.9 running + 0.1 batch`` (the variance there
    unbiased, as in the paper and in PyTorch); otherwise the running ones are used. Moments and parameters are float32
    at least, whatever the compute dtype; the result has the compute dtype.

    ``x`` may be several ``batches`` of one size, one after the other: each is normalised by its own moments, and the
    running ones follow them in this order, so that it is as if there were as many calls.

    With ``classes``, it is conditional (de Vries et al. 2017, arXiv:1707.00683; Miyato & Koyama 2018): gamma
    ``[classes, C]`` starts at one, beta at zero, and each example has those of its ``label``. With ``modulation`` each
    example has a gamma and a beta of its own, ``[N, C]``, that somebody else made (Brock et al. 2019).

    Attributes:
      gain_spread: standard deviation of the initial gamma about 1, where there are no classes.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    momentum: float = 0.9
    epsilon: float = 1e-5
    classes: int = 0
    gain_spread: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        axis_name: str | None = None,
        label: Array | None = None,
        batches: int = 1,
        modulation: tuple[Array, Array] | None = None,
    ) -> Array:
        shape = x.shape[-1:]
        if modulation is None:
            modulation = self._own(shape, label)
        scale, bias = modulation
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, self.param_dtype)

        def as_they_are(vs: Arrays, _: Any) -> Arrays:
            return vs

        def transformed(mean: Array, var: Array, spread: Callable[[Arrays, Any], Arrays] = as_they_are) -> Array:
            inverse = lax.rsqrt(var + self.epsilon)
            if scale.ndim == 2:
                own = (x.shape[0], *(1,) * (x.ndim - 2), *shape)
                inverse, mean = spread((inverse, mean), own)
                factor = scale.reshape(own) * inverse
                return (x * factor + (bias.reshape(own) - mean * factor)).astype(self.dtype)
            factor = scale * inverse
            factor, offset = spread((factor, bias - mean * factor), x.shape)
            return (x * factor + offset).astype(self.dtype)

        if not train:
            return transformed(running_mean.value, running_var.value)
        wide = x.astype(jnp.promote_types(self.param_dtype, jnp.float32))
        rows = x.size // x.shape[-1] // batches
        moments, spread = batch_moments(wide, batches)
        mean, square = cross_device_mean(moments, axis_name)
        var = jnp.maximum(square - jnp.square(mean), 0)
        if not self.is_initializing():
            count = rows * (1 if axis_name is None else lax.axis_size(axis_name))
            for own_mean, own_var in zip(mean.reshape(batches, -1), var.reshape(batches, -1), strict=True):
                unbiased = own_var * (count / max(count - 1, 1))
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * own_mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
                self.sow(MOMENTS, "mean", own_mean)  # nothing, as a rule: nobody asks
                self.sow(MOMENTS, "var", unbiased)
        return transformed(mean, var, spread)

    def _own(self, shape: tuple[int, ...], label: Array | None) -> tuple[Array, Array]:
        """Gains and offsets ``[C]``, or of the examples' labels ``[N, C]``."""
        table = (self.classes, *shape) if self.classes else shape
        spread = self.gain_spread and not self.classes
        init = partial(_normal_about_one, self.gain_spread) if spread else nn.initializers.ones
        scale: Array = self.param("scale", init, table, self.param_dtype)
        bias: Array = self.param("bias", nn.initializers.zeros, table, self.param_dtype)
        if not self.classes:
            return scale, bias
        assert label is not None
        return of_label(scale, label), of_label(bias, label)


def _normal_about_one(spread: float, key: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
    return 1 + spread * jax.random.normal(key, shape, dtype)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450): each example over all its axes, gain and offset a
    channel.

    What WGAN-GP allows in a critic (Gulrajani et al. 2017, section 4), since examples stay independent.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        mean, square = _moments_of_each(x, self.param_dtype)
        return _scaled(self, x, mean, jnp.maximum(square - jnp.square(mean), 0))


class VirtualBatchNorm(nn.Module):
    """Virtual batch normalisation (Salimans et al. 2016, section 3.4) of a batch that begins with its references.

    Each example is normalised by the moments of the `REFERENCES` reference examples and itself; those, by their own. So
    what comes out for an example depends on no other one, in training as in evaluation, on any number of devices.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        own = _moments_of_each(x, self.param_dtype, keep_channels=True)
        references = [moment[:REFERENCES].mean(0, keepdims=True) for moment in own]
        mean, square = (
            jnp.concatenate([jnp.broadcast_to(r, (REFERENCES, *r.shape[1:])), (REFERENCES * r + m) / (REFERENCES + 1)])
            for r, m in zip(references, (moment[REFERENCES:] for moment in own), strict=True)
        )
        return _scaled(self, x, mean, jnp.maximum(square - jnp.square(mean), 0))


def with_references(z: Array, label: Array | None, classes: int) -> tuple[Array, Array | None]:
    """Return the fixed reference batch of `VirtualBatchNorm`, and behind it latents ``[B, Z]`` and labels ``[B]``."""
    fixed = jax.random.normal(jax.random.key(0), (REFERENCES, z.shape[1]), z.dtype)
    if label is not None:
        fixed_labels = jnp.arange(REFERENCES) % max(classes, 1)
        fixed_labels = label_code(fixed_labels, classes, label.dtype) if label.ndim == 2 else fixed_labels
        label = jnp.concatenate([fixed_labels.astype(label.dtype), label])
    return jnp.concatenate([fixed, z]), label


def _moments_of_each(x: Array, param_dtype: Dtype, keep_channels: bool = False) -> tuple[Array, Array]:
    """Mean and mean square of each example, over all its axes, or all but its channels, which stay as 1s."""
    wide = x.astype(jnp.promote_types(param_dtype, jnp.float32))
    axes = tuple(range(1, x.ndim - 1 if keep_channels else x.ndim))
    return wide.mean(axes, keepdims=True), jnp.square(wide).mean(axes, keepdims=True)


def _scaled(module: Any, x: Array, mean: Array, var: Array) -> Array:
    scale = module.param("scale", nn.initializers.ones, x.shape[-1:], module.param_dtype)
    bias = module.param("bias", nn.initializers.zeros, x.shape[-1:], module.param_dtype)
    out: Array = ((x - mean) * (scale * lax.rsqrt(var + module.epsilon)) + bias).astype(module.dtype)
    return out
