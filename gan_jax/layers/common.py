"""What all generators share, and all discriminators: how they are told the label, and what else their fields decide."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan_jax.layers.head import CONDITIONALS, DiscriminatorOutput, check_conditional, judged, with_label
from gan_jax.layers.norms import NORMS, REFERENCES, normalized, with_references

Array = jax.Array
Dtype = Any
Norm = Callable[[Array], Array]  # normalises activations, by a new layer at each call


def weight_types(module: Any) -> dict[str, Any]:
    """Return what every layer with a kernel in ``module`` has from it."""
    return {name: getattr(module, name) for name in ("dtype", "param_dtype", "initializer", "spectral")}


def rematerialized(module: Any, block: Callable[..., Array], x: Array, *rest: Any) -> Array:
    """``block(x, *rest)``, in ``module``'s ``nn.compact`` method.

    If its field ``remat`` is true, the backward pass computes the block again from ``x``, instead of keeping what it
    computed (Chen et al. 2016, arXiv:1604.06174): less memory for more arithmetic, and the same values. ``block`` is a
    function, no method of the module: layers that it makes are the backward pass's, too.
    """
    return nn.remat(lambda _, x: block(x, *rest))(module, x) if module.remat else block(x, *rest)


def generator_input(
    module: Any, z: Array, label: Array | None, train: bool, axis_name: str | None, gain_spread: float = 0.0
) -> tuple[Array, Array | None, Callable[[Array], Array]]:
    """Return what a generator starts with, from its fields ``norm``, ``conditional`` and ``classes``.

    Args:
      module: the generator.
      z: latents ``[B, Z]``.
      label: ``[B]``, or None.
      train, axis_name, gain_spread: see `gan_jax.layers.BatchNorm`.

    Returns:
      Latents with whatever comes with them, labels, and the function that normalises activations, which makes a new
      layer at each call. With virtual batch norm the reference batch comes first in all of them, until
      `generator_output` takes it off.
    """
    check_conditional(module.conditional, module.classes, ("none", "concat", "norm"))
    if module.norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {module.norm!r}")
    if module.norm == "virtual":
        z, label = with_references(z, label, module.classes)
    if module.conditional == "concat":
        z = with_label(z, label, module.classes)
    classes = module.classes if module.conditional == "norm" else 0
    told = {"train": train, "axis_name": axis_name, "gain_spread": gain_spread, "label": label, "classes": classes}
    return z, label, _norm(module, **told)


def _norm(module: Any, **told: Any) -> Callable[[Array], Array]:
    """Return `normalized` by the layer and the types that ``module``'s fields name."""
    return partial(normalized, norm=module.norm, dtype=module.dtype, param_dtype=module.param_dtype, **told)


def of_all_classes(norm: Norm) -> Norm:
    """`generator_input`'s ``norm`` with one gain and one offset for all classes, where it has those of the label."""
    told: Any = norm
    return partial(told, classes=0)


def generator_output(module: Any, images: Array) -> Array:
    """Return the images of the latents that were given, without those of the reference batch."""
    return images[REFERENCES:] if module.norm == "virtual" else images


def discriminator_input(
    module: Any,
    x: Array,
    label: Array | None,
    train: bool,
    axis_name: str | None,
    batches: int,
    gain_spread: float = 0.0,
) -> tuple[Array, Callable[[Array], Array]]:
    """Return what a discriminator starts with, from its fields ``norm``, ``conditional`` and ``classes``.

    Args:
      module: the discriminator.
      x: ``[B, ..., C]``.
      label: ``[B]``, or None.
      train, axis_name, batches, gain_spread: see `gan_jax.layers.BatchNorm`.

    Returns:
      The input with whatever comes with it, and the function that normalises activations.
    """
    check_conditional(module.conditional, module.classes, CONDITIONALS)
    if module.norm == "virtual":
        raise ValueError("norm='virtual' is for generators, whose reference batch is of latents")
    if module.conditional == "concat":
        x = with_label(x, label, module.classes)
    return x, _norm(module, train=train, axis_name=axis_name, gain_spread=gain_spread, batches=batches)


def discriminator_output(
    module: Any, features: Array, label: Array | None, axis_name: str | None, batches: int, use_bias: bool
) -> DiscriminatorOutput:
    """Return what ``module`` says, from its last hidden layer ``[B, F]``; see `gan_jax.layers.judged`."""
    return judged(
        features,
        label,
        conditional=module.conditional,
        classes=module.classes,
        minibatch=module.minibatch,
        axis_name=axis_name,
        batches=batches,
        use_bias=use_bias,
        types=weight_types(module),
    )


def sides(image_shape: tuple[int, int, int], doublings: int) -> list[tuple[int, int]]:
    """Height and width at a generator's start and after each doubling, from the image's halved and rounded up.

    Raises:
      ValueError: there is no doubling, or one more than there is room for.
    """
    height, width, _ = image_shape
    if not doublings:
        raise ValueError("generator.widths is empty: give one width for each doubling of the side, e.g. (128, 64)")
    found = [(height, width)]
    for _ in range(doublings):
        height, width = -(-height // 2), -(-width // 2)
        found.append((height, width))
    if min(found[-2]) == 1:
        shorter = min(image_shape[:2])
        raise ValueError(f"{doublings} generator.widths are too many for images of side {shorter}: give fewer")
    return found[::-1]


def grown(image_shape: Sequence[int], doublings: int) -> list[tuple[int, int]]:
    """Height and width from a start of 4 pixels on the shorter side, after each doubling; the last holds the image.

    64x96 grows from 4x6 in four, 28x28 lies within 32x32, that grew from 4x4 in three.
    """
    height, width = (max(4, -(-side // 2**doublings)) for side in image_shape[:2])
    return [(height * 2**n, width * 2**n) for n in range(doublings + 1)]


def _frame(side: int, whole: int) -> tuple[int, int]:
    """Pixels before and behind."""
    return (whole - side) // 2, whole - side - (whole - side) // 2


def cropped(images: Array, height: int, width: int) -> Array:
    """Return the middle ``[B, height, width, C]`` of images."""
    top, left = (_frame(side, whole)[0] for side, whole in zip((height, width), images.shape[1:3], strict=True))
    return images[:, top : top + height, left : left + width]


def framed(images: Array, height: int, width: int) -> Array:
    """Images in a black frame, ``[B, height, width, C]``, of which `cropped` takes them out."""
    rows, columns = (_frame(*each) for each in zip(images.shape[1:3], (height, width), strict=True))
    return jnp.pad(images, ((0, 0), rows, columns, (0, 0)), constant_values=-1)


class Generator(nn.Module):
    """Base of generators: latents ``[B, Z]`` -> images ``[B, H, W, C]`` in [-1, 1]. A family writes `body`.

    Attributes:
      image_shape: (height, width, channels).
      classes: number of classes, 0 if there are none.
      norm: between a hidden layer and its activation, one of `gan_jax.layers.normalized`'s.
      conditional: how it is told the label: none, concat (one-hot code beside z), norm (batch norm's gains and
        offsets).
      initializer, spectral: see `gan_jax.layers.Dense`.
      remat: see `gan_jax.layers.rematerialized`.
      dtype, param_dtype: of the arithmetic, and of the parameters.
      gain_spread: standard deviation of batch norm's initial gains; of the class.
    """

    image_shape: tuple[int, int, int]
    classes: int = 0
    norm: str = "none"
    conditional: str = "none"
    initializer: str = "xavier"
    spectral: bool = False
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    gain_spread: ClassVar[float] = 0.0

    @nn.compact
    def __call__(self, z: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None) -> Array:
        z, _, norm = generator_input(self, z, label, train, axis_name, self.gain_spread)
        return generator_output(self, self.body(z, norm))

    def body(self, z: Array, norm: Norm) -> Array:
        """Return images ``[B, H, W, C]`` of latents ``[B, Z]``, labels already beside them if so told."""
        raise NotImplementedError


class Discriminator(nn.Module):
    """Base of discriminators: images ``[B, H, W, C]`` in [-1, 1] -> `gan_jax.layers.DiscriminatorOutput`.

    A family writes `body`.

    Attributes:
      classes: number of classes, 0 if there are none.
      norm: of hidden layers, one of `gan_jax.layers.normalized`'s.
      conditional, minibatch: see `gan_jax.layers.judged`.
      initializer, spectral, remat, dtype, param_dtype, gain_spread: as of `Generator`.
      head_bias: whether the last unit has a bias; of the class.
    """

    classes: int = 0
    norm: str = "none"
    conditional: str = "none"
    minibatch: str = "none"
    initializer: str = "xavier"
    spectral: bool = False
    remat: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    gain_spread: ClassVar[float] = 0.0
    head_bias: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, label: Array | None = None, axis_name: str | None = None, batches: int = 1
    ) -> DiscriminatorOutput:
        x = self.flat(x)
        x, norm = discriminator_input(self, x, label, train, axis_name, batches, self.gain_spread)
        return discriminator_output(self, self.body(x, norm), label, axis_name, batches, use_bias=self.head_bias)

    def flat(self, x: Array) -> Array:
        """Return what it looks at of ``x``: all of it, as it is."""
        return x

    def body(self, x: Array, norm: Norm) -> Array:
        """Return the last hidden layer ``[B, F]``."""
        raise NotImplementedError
