"""Data sets: images in memory as uint8, by name, and the order in which training sees them."""

import dataclasses
from collections.abc import Callable

import numpy as np

from gan_jax.data import embedded
from gan_jax.data.resize import fit
from gan_jax.errors import UserError, unknown_name

_EMBEDDED: dict[str, Callable[[], embedded.Split]] = {"mnist5k": embedded.mnist5k}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images of one size and their classes.

    Attributes:
      name: what it is, for people.
      train_images, test_images: uint8 ``[N, H, W, C]``. The test images are never trained on.
      train_labels, test_labels: int32 ``[N]``, from 0 to ``classes - 1``.
      classes: number of classes.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels


def load(source: str, name: str, directory: str, image_size: int, channels: int, budget_mb: int) -> Dataset:
    """The data set ``name`` of ``source``, its images brought to ``image_size`` squared and ``channels`` (1 or 3).

    Raises:
      UserError: the source or name is unknown, ``directory`` is given where nothing is read from one, or the train
        images would take more than ``budget_mb``.
    """
    if source != "embedded":
        raise unknown_name("data.source", source, ["embedded"])
    if name not in _EMBEDDED:
        raise unknown_name("data.name of the embedded source", name, _EMBEDDED)
    if directory:
        raise UserError(f"data.dir is {directory!r}, but the embedded source reads no directory: leave data.dir empty")
    train_images, train_labels, test_images, test_labels = _EMBEDDED[name]()
    megabytes = len(train_images) * image_size**2 * channels / 2**20
    if megabytes > budget_mb:
        raise UserError(
            f"the images of {name} take {megabytes:,.0f} MB a device, more than data.device_budget_mb={budget_mb}: "
            "raise that, or lower data.image_size"
        )
    return Dataset(
        name=f"{source}:{name}",
        train_images=fit(train_images, image_size, channels),
        train_labels=train_labels,
        test_images=fit(test_images, image_size, channels),
        test_labels=test_labels,
        classes=int(train_labels.max()) + 1,
    )
