"""Streams batches of 64 images from a file of 64x64x3 images, and prints its own peak memory in MB (on Linux).

python -m benchmarks.stream_memory FILE STEPS
"""

import sys
from itertools import islice
from pathlib import Path

import numpy as np

from gan_jax.data.images import Stored
from gan_jax.data.stream import Reader, read


def main() -> None:
    """Stream, and print."""
    path, steps = Path(sys.argv[1]), int(sys.argv[2])
    count = path.stat().st_size // (64 * 64 * 3)
    images = Stored(path, (count, 64, 64, 3))
    reader = Reader(images, np.zeros(count, np.int32), np.arange(64, dtype=np.int32), 64, 1, 0)
    for _ in islice(read(reader, 0, 0), steps):
        pass
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(int(peak.split()[1]) / 1024)


if __name__ == "__main__":
    main()
