"""What a source of images hands over: parts of images that may still have to be decoded, one maybe to be split."""

import dataclasses

import numpy as np

from gan_jax.data.images import Decoded, Images, Stored
from gan_jax.data.options import Options
from gan_jax.data.order import shuffled
from gan_jax.util.errors import UserError, clipped

_KINDS = (np.dtype(np.uint8), np.dtype(np.uint16))
_MOST_CHANNELS = 16
_CHANNELS_OF_PICTURES = {1, 3, 4}  # each of which can be made of the others


@dataclasses.dataclass(frozen=True)
class Part:
    """Images and their labels.

    Attributes:
      images: of the shape asked for already, or to be decoded.
      labels: int64 ``[N]``, any numbers; or vectors, float32 ``[N, K]``; or None.
      identity: changes when the content of ``images`` does. Only what is to be decoded needs one.
      names: of the images, for people; their numbers in the whole, if None.
    """

    images: Images | Decoded
    labels: np.ndarray | None
    identity: str = ""
    names: np.ndarray | None = None

    def named(self) -> np.ndarray:
        """Return the images' names, or their numbers."""
        return np.arange(len(self.images)) if self.names is None else self.names

    def subset(self, numbers: np.ndarray) -> "Part":
        """Return the images ``numbers`` alone."""
        kept = self.images
        kept = kept.subset(numbers) if isinstance(kept, Decoded | Stored) else kept[numbers]
        labels = None if self.labels is None else self.labels[numbers]
        return Part(kept, labels, names=self.named()[numbers])


@dataclasses.dataclass(frozen=True)
class Source:
    """A source that was found.

    Attributes:
      name: what it is, for people.
      train, test: its parts; ``test`` is None if it has none of its own.
      classes: names by label; a label beyond them has its number for a name.
      left_out: what lay there and isn't read, in words.
    """

    name: str
    train: Part
    test: Part | None
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def hold_out(whole: Part, fraction: float) -> tuple[Part, Part]:
    """Split ``whole`` into a train part, and a test part: a share ``fraction`` of it, in which chance has no say.

    The share is rounded, but at least one image where there are two and the fraction isn't 0; which ones is
    `gan_jax.data.order.shuffled` with epoch 0. Both keep their images in order. Of labelled images each class gives its
    share, and keeps at least one to be trained on; vectors make no classes.
    """
    count = len(whole.images)
    held = round(count * fraction)
    held = max(held, 1) if fraction > 0 and count > 1 else held
    order = shuffled(count, 0)
    classes = None if whole.labels is None or whole.labels.ndim > 1 else whole.labels
    chosen = order[:held] if classes is None else _by_class(order, classes[order], held)
    return whole.subset(np.setdiff1d(order, chosen)), whole.subset(np.sort(chosen))


def _by_class(order: np.ndarray, labels: np.ndarray, held: int) -> np.ndarray:
    """``held`` images of those in ``order``, whose classes are ``labels``, or fewer, so that each class keeps one.

    Each class gives its share rounded down, and those with the largest remainders one more (of equal ones those that
    ``order`` has first): the first of its images.
    """
    _, first, kinds, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    given, rest = np.divmod(held * counts, max(len(order), 1))
    given = np.minimum(given, counts - 1)
    for kind in np.lexsort((first, -rest)):
        given[kind] += given.sum() < held and given[kind] < counts[kind] - 1
    together = np.argsort(kinds, kind="stable")
    rank = np.empty(len(order), np.int64)  # of each image among those of its class
    rank[together] = np.arange(len(order)) - (np.cumsum(counts) - counts)[kinds[together]]
    chosen: np.ndarray = order[rank < given[kinds]]
    return chosen


def check_images(dtype: np.dtype, shape: tuple[int, ...], where: str, options: Options) -> None:
    """Raise `UserError` if an array of that type and shape can't be images, or not those that are asked for."""
    channels = shape[3] if len(shape) == 4 else 1
    if dtype.newbyteorder("=") not in _KINDS or len(shape) not in (3, 4) or not 1 <= channels <= _MOST_CHANNELS:
        raise UserError(
            f"{where}: images must be uint8 or uint16 [N, H, W] or [N, H, W, C], C up to {_MOST_CHANNELS}, "
            f"not {clipped(str(dtype))} {list(shape)}: convert them, values from 0 to 255 or 65535, channels last"
        )
    wanted = options.channels
    if channels != wanted and not {channels, wanted} <= _CHANNELS_OF_PICTURES:
        raise UserError(
            f"{where}: images {list(shape)} have {channels} channels, and data.channels is {wanted}: "
            f"set it to {channels}"
        )


def check_channels(options: Options) -> None:
    """Raise `UserError` if the source can't have images with ``options.channels``."""
    if options.channels not in _CHANNELS_OF_PICTURES and not (options.of_arrays or options.source == "packed"):
        raise UserError(
            f"data.channels is {options.channels}, and pictures of the {options.source} source have 1, 3 or 4: other "
            "numbers are of arrays, data.source=npz"
        )


def check_labels(labels: np.ndarray, count: int, where: str, condition: int = 0) -> np.ndarray:
    """``labels``, ``[count]``, ``[count, 1]`` or one-hot ``[count, K]``, as int64 ``[count]``.

    With a ``condition`` they are vectors of so many numbers: any numbers ``[count, condition]``, as float32.

    Raises:
      UserError: they are not whole numbers from 0 up, or one-hot, one an image; or no such vectors.
    """
    if condition:
        return _vectors(labels, count, where, condition)
    if labels.ndim == 2 and len(labels) == count and labels.shape[1] > 1:
        return _of_one_hot(labels, where)
    flat = labels[:, 0] if labels.shape == (count, 1) else labels
    whole = flat.shape == (count,) and (flat.dtype.kind in "iu" or not count)
    if not whole or (count and not 0 <= int(flat.min()) <= int(flat.max()) < 2**63):
        raise UserError(
            f"{where}: labels must be whole numbers from 0 up, one for each of the {count:,} images, "
            f"or one-hot [{count}, K], not {labels.dtype} {list(labels.shape)}"
        )
    return flat.astype(np.int64)


def _vectors(labels: np.ndarray, count: int, where: str, condition: int) -> np.ndarray:
    """Return vectors float32 ``[count, condition]``."""
    labels = labels[:, None] if labels.ndim == 1 else labels
    if labels.shape != (count, condition) or labels.dtype.kind not in "biuf":
        raise UserError(
            f"{where}: labels must be numbers [{count}, {condition}], as data.condition={condition} says, not "
            f"{clipped(str(labels.dtype))} {list(labels.shape)}"
        )
    with np.errstate(over="ignore"):
        found = labels.astype(np.float32)
    wrong = ~np.isfinite(found).all(1)
    if wrong.any():
        raise UserError(
            f"{where}: row {int(np.argmax(wrong)):,} of labels has a number that isn't finite, and so have "
            f"{int(wrong.sum()) - 1:,} more: mend them, or leave these images out"
        )
    return found


def one_hot_rows(labels: np.ndarray) -> np.ndarray:
    """Return which rows of ``[N, K]`` are a single 1 and else 0: bool ``[N]``."""
    if labels.dtype.kind not in "biuf":
        return np.zeros(len(labels), bool)
    found: np.ndarray = ((labels == 0) | (labels == 1)).all(1) & (labels.sum(1) == 1)
    return found


def _of_one_hot(labels: np.ndarray, where: str) -> np.ndarray:
    """Return the column of the one in each row ``[N, K]``."""
    wrong = ~one_hot_rows(labels)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UserError(
            f"{where}: labels {list(labels.shape)} must be one-hot, a single 1 in each row and else 0: row {first:,} "
            f"is not, nor are {int(wrong.sum()) - 1:,} more; for several classes of an image, or numbers to be learnt "
            f"as such, set data.condition={labels.shape[1]}"
        )
    found: np.ndarray = labels.argmax(1).astype(np.int64)
    return found
