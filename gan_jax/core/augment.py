"""Differentiable augmentation (DiffAugment): ``augment(image, key) -> image``, applied to every image that D sees.

One function an augmentation; `gan_jax.core.ada` has one of many transforms. The same transformations of real and of
fake images, with gradients through those of the fakes, keep D from learning a small training set by heart without
teaching G to draw them (Zhao et al. 2020, arXiv:2006.10738). Each image has a key of its own, so that devices and
batches make no difference. Images are ``[H, W, C]`` in [-1, 1]; colour may leave that range, as in the paper's own
code.

Where an image was moved away or cut out, the paper has 0, mid-grey. So has `cutout`; `translation` has -1, black.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

Array = jax.Array
Augmentation = Callable[[Array, Array], Array]


@runtime_checkable
class Graded(Protocol):
    """An augmentation that takes its chances itself."""

    def apply(self, image: Array, key: Array, numbers: Mapping[str, Any], /) -> Array:
        """Return the image ``[H, W, C]``; ``numbers`` are ``hyperparams["augment"]``: ``p`` and others."""
        ...


__all__ = ["color", "cutout", "translation"]

_MOVE = 1 / 8  # of the side, as in the paper
_CUT = 1 / 2
_LEAST = 1e-3  # what of an image must show to have a mean, in pixels


def of_colours(image: Array, alpha: str, change: Callable[..., Array]) -> Array:
    """Return ``image`` with ``change`` of its colours, and the same alpha.

    Where colours are multiplied by alpha a, ``change`` gets them as a x, x in [-1, 1], and a itself as its second
    argument: an affine map of x, ``M x + t``, is ``M (a x) + a t`` of these.

    Args:
      image: ``[H, W, C]``.
      alpha: what the last of four channels is, as of `gan_jax.core.pixels.Pixels`; with ``none`` all are colours.
      change: see above.
    """
    if alpha == "none":
        return change(image)
    colours, last = image[..., :3], image[..., 3:]
    if alpha == "straight":
        return jnp.concatenate([change(colours), last], -1)
    share = (last + 1) / 2
    return jnp.concatenate([change(colours + 1 - share, share) + share - 1, last], -1)


def color(image: Array, key: Array) -> Array:
    """Brightness, saturation, contrast, in this order, each by a uniform draw.

    ``x + b``, b in [-.5, .5]; ``m + s (x - m)``, m the pixel's mean over its channels, s in [0, 2] (nothing, of grey
    images); ``m + c (x - m)``, m the image's mean, c in [.5, 1.5].
    """
    return _coloured(image, key)


@dataclasses.dataclass(frozen=True)
class Color:
    """`color` of images with ``alpha`` (`of_colours`), which stays as it is.

    The image's mean is that of what shows: pixels count by their alpha, where colours are multiplied by it.
    """

    alpha: str

    def __call__(self, image: Array, key: Array) -> Array:
        """Return the image ``[H, W, 4]``."""
        return of_colours(image, self.alpha, lambda colours, *share: _coloured(colours, key, *share))


def _coloured(image: Array, key: Array, share: Array | None = None) -> Array:
    """Of colours multiplied by their ``share``, if there is one."""
    brightness, saturation, contrast = jax.random.uniform(key, (3,), image.dtype)
    image = image + (brightness - 0.5) * (1 if share is None else share)
    mean = image.mean(-1, keepdims=True)
    image = mean + 2 * saturation * (image - mean)
    mean = image.mean() if share is None else share * _mean_of_shown(image, share)
    out: Array = mean + (contrast + 0.5) * (image - mean)
    return out


def _mean_of_shown(image: Array, share: Array) -> Array:
    return image.sum() / jnp.maximum(image.shape[-1] * share.sum(), _LEAST)


def translation(image: Array, key: Array) -> Array:
    """Move the image by up to an eighth of its height and of its width, uniformly; -1 stands where nothing was."""
    height, width, channels = image.shape
    rows, columns = _part(height, _MOVE), _part(width, _MOVE)
    padded = jnp.pad(image, ((rows, rows), (columns, columns), (0, 0)), constant_values=-1)
    limits = jnp.asarray([2 * rows, 2 * columns])
    top, left = jax.random.randint(key, (2,), 0, limits + 1)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), (height, width, channels))


def cutout(image: Array, key: Array) -> Array:
    """Set a rectangle of half the image's height and half its width to 0.

    Its centre is uniform over the image, so that part of it may lie outside.
    """
    height, width, _ = image.shape
    inside = []
    for side, axis_key in zip((height, width), jax.random.split(key), strict=True):
        cut = _part(side, _CUT)
        centre = jax.random.randint(axis_key, (), 0, side + 1 - cut % 2)
        at = jnp.arange(side)
        inside.append((at >= centre - cut // 2) & (at < centre - cut // 2 + cut))
    return jnp.where((inside[0][:, None] & inside[1])[..., None], 0, image)


@dataclasses.dataclass(frozen=True)
class Augment:
    """All of ``functions``, one after the other, each by a key of its own.

    Attributes:
      functions: of this module.
      by_chance: whether each is applied with probability ``p``, by a draw of its own, or always; those that are
        `Graded` decide it themselves.
    """

    functions: tuple[Augmentation | Graded, ...] = ()
    by_chance: bool = False

    def __call__(self, image: Array, key: Array, numbers: Mapping[str, Any] | None = None) -> Array:
        """Return the image ``[H, W, C]``, transformed; ``numbers`` has the chance ``p``, and what is `Graded` more."""
        for i, function in enumerate(self.functions):
            own = key if len(self.functions) == 1 else jax.random.fold_in(key, i)
            if isinstance(function, Graded):
                image = function.apply(image, own, numbers or {})
                continue
            changed = function(image, own)
            if self.by_chance and numbers is not None:
                chance = jax.random.uniform(jax.random.fold_in(own, 1), (), image.dtype)
                changed = jnp.where(chance < numbers["p"], changed, image)
            image = changed
        return image


NONE = Augment()


def _part(side: int, share: float) -> int:
    """``share`` of ``side``, rounded half up."""
    return int(side * share + 0.5)
