"""What ``config.data`` says: `Options`, a field a key; `gan_jax.config.default` has their defaults."""

import dataclasses
from typing import Any

from gan_jax import sides
from gan_jax.core.pixels import WHITE, Pixels
from gan_jax.util import named


@dataclasses.dataclass(frozen=True)
class Options:
    """How images are found and brought to one shape; the fields are the keys of ``config.data``.

    Attributes:
      source: where they come from: embedded, tfds, folder, npz, packed, or a function of the user's own
        (`gan_jax.data.own`).
      name: which, where a source has several: of the embedded ones (empty: mnist5k), or of TFDS.
      dir: the folder or archive of pictures, shards as ``train-{000..009}.tar``, the ``.npz`` file, the folder of a
        packed set, or where TFDS keeps its data (empty: ``~/tensorflow_datasets``).
      image_size, image_width, channels: what every image becomes: its height, its width (0: a square), 1 (grey), 3
        (RGB) or 4 (RGBA) channels; of arrays any number from 1 to 16.
      alpha: of four channels, what the fourth is: ``premultiplied``, ``straight`` or ``none``. Pictures are brought to
        that form, arrays must have it; empty: none for arrays, else premultiplied.
      bits: of each channel: 8 or 16.
      range: the greys of 16-bit images that become black and white, as ``0,4095``; empty: all.
      fit: how an image of another shape gets there: ``crop`` (the largest centred part of these proportions, then
        resized), ``resize`` (its sides alone, so the proportions change) or ``none`` (any is an error).
      background: what shows through transparent images, as CSS names or writes a colour.
      labels: whether classes are needed. A folder's file of labels says them then, or its subfolders are the classes;
        other sources must have labels.
      condition: numbers in the vector that each image has for a label; 0: labels are classes.
      image_key, label_key: names of the TFDS features or npz arrays; of the latter also that of a folder's file of
        labels (empty: ``labels.csv`` or ``dataset.json``). Empty: found by themselves.
      test_fraction: share of the images that is held out to test on, where a source has no test images of its own, and
        none of the following says which.
      test_dir: a folder, or of the npz source a file, of images that are only tested on.
      test_list: a text file with the paths of a folder's images, below ``dir``, that are held out, one a line.
      fold: which part is held out, of how many: ``2/5``.
      follow_links: whether links in a folder may lead out of it; else such a one is an error.
      strict: whether an unreadable image is an error; else all are named in one warning, and left out.
      flip: whether each image is mirrored, left for right, every second time that it is seen, by chance.
      device_budget_mb: images up to this size (as whole numbers) are kept on each device; larger sets are streamed.
      cache_budget_mb: decoded images up to this size are kept on disk beside the workdir, each set by itself, until
        somebody deletes them; larger sets are decoded anew each time that they are read. 0: never kept.
      workers: processes that decode a stream; 0: threads of the main one.
    """

    source: str
    name: str
    dir: str
    image_size: int
    image_width: int
    channels: int
    alpha: str
    bits: int
    range: str
    fit: str
    background: str
    labels: bool
    condition: int
    image_key: str
    label_key: str
    test_fraction: float
    test_dir: str
    test_list: str
    fold: str
    follow_links: bool
    strict: bool
    flip: bool
    device_budget_mb: int
    cache_budget_mb: int
    workers: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        return *sides.of(self), self.channels

    @property
    def pixels(self) -> Pixels:
        """What the numbers of every image are."""
        low, high = map(int, self.range.split(",")) if self.range else (0, WHITE)
        usual = "none" if self.of_arrays else "premultiplied"
        return Pixels(self.bits, (self.alpha or usual) if self.channels == 4 else "none", low, high)

    @property
    def of_arrays(self) -> bool:
        """Whether images are arrays of the user's, that may have any number of channels."""
        return self.source == "npz" or named.is_function(self.source)

    @property
    def beyond(self) -> list[Any]:
        """What decides images beside their shape, where it isn't as usual; empty for 8 bits of grey or RGB."""
        return [] if self.pixels == Pixels() else [dataclasses.astuple(self.pixels)]
