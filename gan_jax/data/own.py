"""Images from a function of the user's own."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.data.images import Decoded, Rows, fits
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source, check_images, check_labels
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed

_KEYS = ("images", "labels", "test_images", "test_labels", "classes")


def find(options: Options) -> Source:
    """Return what the function that ``options.source`` names makes of the options.

    It returns a `gan_jax.data.parts.Source`, or a dict of arrays: ``images``, uint8 or uint16 ``[N, H, W]`` or
    ``[N, H, W, C]`` of any one shape; and, where there are such, ``labels`` ``[N]``, one-hot or vectors ``[N, K]``,
    ``test_images``, ``test_labels``, and ``classes``, the names by label.

    Raises:
      UserError: there is no such function, it fails, or returns something else.
    """
    what = f"data.source={options.source}"
    call = named.function(options.source, "data.source", "options")
    try:
        found = call(options)
    except Exception as error:  # the user's own code: anything may come
        raise named.failed(f"{what} fails", error) from error
    if isinstance(found, Source):
        return found
    if not isinstance(found, Mapping) or "images" not in found:
        raise UserError(f"{what} must return a dict with 'images', or a Source, not {clipped(repr(type(found)))}")
    if others := [key for key in found if key not in _KEYS]:
        raise UserError(f"{what} returns {listed(map(repr, others))}: it may return {listed(map(repr, _KEYS))}")
    train, test = _part(found, "", what, options), None
    if found.get("test_images") is not None:
        test = _part(found, "test_", what, options)
        if (train.labels is None) != (test.labels is None):
            raise UserError(f"{what} returns labels of one part alone: add 'labels' and 'test_labels', or neither")
    place, name = named.parts(options.source)
    return Source(f"{place.rpartition('/')[2]}:{name}", train, test, tuple(map(str, found.get("classes", ()))))


def _part(found: Mapping[str, Any], prefix: str, what: str, options: Options) -> Part:
    images, labels = np.asarray(found[f"{prefix}images"]), found.get(f"{prefix}labels")
    where = f"{what}, {prefix}images"
    check_images(images.dtype, images.shape, where, options)
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    images = images[..., None] if images.ndim == 3 else images
    if labels is not None:
        labels = check_labels(np.asarray(labels), len(images), f"{what}, {prefix}labels", options.condition)
    if fits(images, options):
        return Part(images, labels)
    names = [f"{where}[{i}]" for i in range(len(images))]
    identity = hashlib.blake2b(np.ascontiguousarray(images).data, digest_size=12).hexdigest()
    return Part(Decoded(Rows(images), names, options), labels, f"{identity} {images.shape}")
