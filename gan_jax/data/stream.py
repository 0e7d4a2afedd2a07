"""A data set that is larger than the device's budget, read batch by batch while the device computes."""

import dataclasses
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Generator
from typing import Any

import numpy as np

from gan_jax.data.images import Images, dtype_of
from gan_jax.data.order import sample_index
from gan_jax.runtime.signals import HEARD, RESUME_ME, end
from gan_jax.util.errors import EndedError

Batch = dict[str, np.ndarray]

_AHEAD = 256 * 2**20  # bytes that may be read ahead
_ENDLESS = 2**31 - 1  # steps
_GRACE = 20.0  # seconds in which the death of a worker is noticed, or else it hangs the reader
_PATIENCE = 0.1  # seconds that a worker has to end when the stream is closed, before it is killed


@dataclasses.dataclass(frozen=True)
class Reader:
    """One process's share of the batch of a step, as a pure function of (seed, step): ``reader(step)``.

    Attributes:
      images, labels: the train set: whole numbers ``[N, H, W, C]``, int32 ``[N]`` or float32 ``[N, K]``.
      index: this process's global example indices, ``[b]``. The processes' shares make up the batch between them.
      batch_size: the global batch size.
      d_steps: batches that a step takes.
      seed: of the order; see `gan_jax.data.order`.
      ahead: likewise.
    """

    images: Images
    labels: np.ndarray
    index: np.ndarray
    batch_size: int
    d_steps: int
    seed: int
    ahead: int = 0

    def __call__(self, step: int) -> Batch:
        """``image`` ``[d_steps, b, H, W, C]``, whole numbers, and ``label`` ``[d_steps, b]`` or ``[d_steps, b, K]``."""
        numbers = sample_index(
            step, self.index, len(self.images), self.batch_size, self.d_steps, np.uint32(self.seed), np, self.ahead
        ).astype(np.int64)
        images = self.images[numbers.ravel()]
        return {"image": images.reshape(*numbers.shape, *images.shape[1:]), "label": self.labels[numbers]}

    @property
    def nbytes(self) -> int:
        """Size of the images of one batch."""
        size = int(np.prod(self.images.shape[1:])) * dtype_of(self.images).itemsize
        return self.d_steps * len(self.index) * size


def read(reader: Reader, first: int, workers: int) -> Generator[Batch]:
    """Yield the batches of the steps from ``first`` on, in order and without end, read ahead by threads or processes.

    It needs no state to go on where it stopped: that is ``first``.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain's processes ask for its flags, in programs that have none too
        flags.FLAGS.mark_as_parsed()
    ahead = int(np.clip(_AHEAD // max(reader.nbytes, 1), 1, 64))
    steps = grain.MapDataset.range(first, _ENDLESS).map(reader)
    if workers:
        # As bytes, because grain leaves behind some of the shared memory that it would send arrays by.
        packed: Any = steps.map(pickle.dumps).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=max(1, ahead // workers))
        iterator = iter(packed.mp_prefetch(options, worker_init_fn=_live_with_the_parent))
    else:
        # Decoding small images is mostly Python, where threads are in each other's way.
        threads = 1 if reader.images.shape[1] < 128 else min(ahead, 4)
        iterator = iter(steps.to_iter_dataset(grain.ReadOptions(threads, ahead)))
    over = threading.Event()
    if workers:
        _close_soon()
        threading.Thread(target=_watch, args=(over, multiprocessing.active_children()), daemon=True).start()
    try:
        for batch in iterator:
            yield pickle.loads(batch) if workers else batch
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise EndedError(f"a process that reads data died: {error}; the same command resumes") from error
    finally:
        over.set()  # first, as those that close() kills didn't die on their own
        iterator.close()


def _close_soon() -> None:
    """Have grain kill workers that don't end.

    Most wait for a reader of what they still sent, and it waits 25 s for each of them. There is nothing to lose in a
    process that only reads.
    """
    closing = sys.modules.get("grain._src.python.dataset.transformations.process_prefetch")
    if closing is not None:
        closing._PROCESS_KILL_TIMEOUT_S = _PATIENCE  # type: ignore[attr-defined]


def _watch(over: threading.Event, others: list[Any]) -> None:
    """End the process if one of its workers died and the reader waits for the rest of what that was sending.

    ``others`` are children that had been there before.
    """
    workers: set[Any] = set()
    while not over.wait(1.0):
        workers.update(set(multiprocessing.active_children()).difference(others))
        dead = [worker.exitcode for worker in workers if worker.exitcode]
        if dead and not over.wait(_GRACE):
            text = f"a process that reads data ended with exit code {dead[0]} (-9: out of memory?)"
            end(RESUME_ME, f"{text}; the same command resumes from the last checkpoint")


def _live_with_the_parent(*_: int) -> None:
    """Ignore signals in a worker, and end it once its parent died.

    Signals reach all processes of a terminal or a job: the main one ends the others. When it died, they end themselves.
    """
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
