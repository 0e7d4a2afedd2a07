"""A data set that is larger than the device's budget, read batch by batch while the device computes."""

import dataclasses
import pickle
import signal
from collections.abc import Generator
from typing import Any

import numpy as np

from gan_jax.data.images import Images
from gan_jax.data.order import sample_index

Batch = dict[str, np.ndarray]

_AHEAD = 256 * 2**20  # bytes that may be read ahead


@dataclasses.dataclass(frozen=True)
class Reader:
    """One process's share of the batch of a step, as a pure function of (seed, step): ``reader(step)``.

    Attributes:
      images, labels: the train set: uint8 ``[N, H, W, C]``, int32 ``[N]``.
      index: this process's global example indices, ``[b]``. The processes' shares make up the batch between them.
      batch_size: the global batch size.
      d_steps: batches that a step takes.
      seed: of the order; see `gan_jax.data.order`.
    """

    images: Images
    labels: np.ndarray
    index: np.ndarray
    batch_size: int
    d_steps: int
    seed: int

    def __call__(self, step: int) -> Batch:
        """``image`` uint8 ``[d_steps, b, H, W, C]`` and ``label`` int32 ``[d_steps, b]`` of ``step``."""
        numbers = sample_index(
            step, self.index, len(self.images), self.batch_size, self.d_steps, np.uint32(self.seed), np
        ).astype(np.int64)
        images = self.images[numbers.ravel()]
        return {"image": images.reshape(*numbers.shape, *images.shape[1:]), "label": self.labels[numbers]}

    @property
    def nbytes(self) -> int:
        """Size of the images of one batch."""
        return self.d_steps * len(self.index) * int(np.prod(self.images.shape[1:]))


def read(reader: Reader, first: int, last: int, workers: int) -> Generator[Batch]:
    """The batches of the steps from ``first`` to before ``last``, in order, read ahead by threads or processes.

    Needs no state to go on where it stopped: that is ``first``.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain's processes ask for its flags, in programs that have none too
        flags.FLAGS.mark_as_parsed()
    ahead = int(np.clip(_AHEAD // max(reader.nbytes, 1), 1, 64))
    steps = grain.MapDataset.range(first, last).map(reader)
    if workers:
        # As bytes, because grain leaves behind some of the shared memory that it would send arrays by.
        packed: Any = steps.map(pickle.dumps).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=max(1, ahead // workers))
        iterator = iter(packed.mp_prefetch(options, worker_init_fn=_leave_interrupts_to_the_parent))
    else:
        # Decoding small images is mostly Python, where threads are in each other's way.
        threads = 1 if reader.images.shape[1] < 128 else min(ahead, 4)
        iterator = iter(steps.to_iter_dataset(grain.ReadOptions(threads, ahead)))
    try:
        for batch in iterator:
            yield pickle.loads(batch) if workers else batch
    finally:
        iterator.close()


def _leave_interrupts_to_the_parent(*_: int) -> None:
    """A worker's part in Ctrl-C, which reaches all processes of a terminal: the main one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
