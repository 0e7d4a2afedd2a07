"""From disk to a device's batch: `load` gives a `Dataset` of any source, `feed` its batches."""

from gan_jax.data.dataset import SOURCES, Dataset, alone, check_place, load
from gan_jax.data.images import Images
from gan_jax.data.options import Options

__all__ = ["SOURCES", "Dataset", "Images", "Options", "alone", "check_place", "load"]
