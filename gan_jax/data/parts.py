"""What a source of images hands over: parts of images that may still have to be decoded, one maybe to be split."""

import dataclasses

import numpy as np

from gan_jax.data.images import Decoded, Images, Stored
from gan_jax.data.order import shuffled
from gan_jax.errors import UserError

MOST_CLASSES = 100_000  # networks have a row of weights for each


@dataclasses.dataclass(frozen=True)
class Part:
    """Images and their labels.

    Attributes:
      images: of the shape asked for already, or to be decoded.
      labels: int32 ``[N]``, or None.
      identity: changes when the content of ``images`` does. Only what is to be decoded needs one.
    """

    images: Images | Decoded
    labels: np.ndarray | None
    identity: str = ""

    def subset(self, numbers: np.ndarray) -> "Part":
        """The images ``numbers`` alone."""
        kept = self.images
        kept = kept.subset(numbers) if isinstance(kept, Decoded | Stored) else kept[numbers]
        return Part(kept, None if self.labels is None else self.labels[numbers])


@dataclasses.dataclass(frozen=True)
class Source:
    """A source that was found: what it is, for people, and its parts; ``test`` is None if it has none of its own."""

    name: str
    train: Part
    test: Part | None


def hold_out(whole: Part, fraction: float) -> tuple[Part, Part]:
    """A train part of ``whole``, and a test part: a share ``fraction`` of it, in which chance has no say.

    The share is rounded, but at least one image where there are two and the fraction isn't 0; which ones is
    `gan_jax.data.order.shuffled` with epoch 0. Both keep their images in order.
    """
    count = len(whole.images)
    held = round(count * fraction)
    held = max(held, 1) if fraction > 0 and count > 1 else held
    order = shuffled(count, 0)
    return whole.subset(np.sort(order[held:])), whole.subset(np.sort(order[:held]))


def check_labels(labels: np.ndarray, count: int, where: str) -> np.ndarray:
    """``labels`` as int32 ``[count]``.

    Raises:
      UserError: they are not whole numbers from 0 up to `MOST_CLASSES`, one an image.
    """
    if count and labels.shape == (count,) and labels.dtype.kind in "iu" and int(labels.max()) >= MOST_CLASSES:
        raise UserError(
            f"{where}: a label is {int(labels.max()):,}, and there may be {MOST_CLASSES:,} classes: number them from 0"
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (count and int(labels.min()) < 0):
        raise UserError(
            f"{where}: labels must be whole numbers from 0 up, one for each of the {count:,} images, "
            f"not {labels.dtype} {list(labels.shape)}"
        )
    return labels.astype(np.int32)
