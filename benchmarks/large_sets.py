"""A packed set, shards of WebDataset, a zip and a folder of N pictures: the time to the first batch, memory, the index.

python -m benchmarks.large_sets --count=20000 --side=64

What lies there is made first, and deleted at the end; it takes count x side x side x 3 bytes and more. Pictures are
noise made smooth, 64 different ones, so that a disk has what it would have and making them takes seconds.
"""

import argparse
import json
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_jax import data
from gan_jax.config import default
from gan_jax.data.images import Decoded
from gan_jax.data.order import sample_index
from gan_jax.data.pack import pack
from gan_jax.data.stream import Reader, read

_BATCH, _BATCHES, _SHARD = 64, 40, 10_000


class Repeated:
    """``count`` images that are few, over and over, without memory for all of them."""

    def __init__(self, few: np.ndarray, count: int) -> None:
        self._few, self._count = few, count

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, H, W, C)."""
        return self._count, *self._few.shape[1:]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        found: np.ndarray = self._few[numbers % len(self._few)]
        return found


def pictures(side: int) -> np.ndarray:
    """Return 64 pictures, uint8 ``[64, side, side, 3]``."""
    random, small = np.random.default_rng(0), max(side // 4, 1)
    noise = random.integers(0, 256, (64, small, small, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in noise])


def files(side: int) -> list[bytes]:
    """Return those as JPEG files."""
    out = []
    for image in pictures(side):
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=90)
        out.append(buffer.getvalue())
    return out


def make_packed(place: Path, count: int, side: int) -> None:
    """Make a packed set."""
    images, labels = Repeated(pictures(side), count), np.zeros(count, np.int32)
    pack(data.Dataset("noise", images, labels, images[np.arange(0)], labels[:0], 0), place, {})


def make_shards(place: Path, count: int, side: int) -> None:
    """Make shards of 10,000 examples."""
    place.mkdir()
    found = files(side)
    for start in range(0, count, _SHARD):
        with tarfile.open(place / f"train-{start // _SHARD:06d}.tar", "w") as file:
            for number in range(start, min(start + _SHARD, count)):
                for name, content in ((f"{number:08d}.jpg", found[number % 64]), (f"{number:08d}.cls", b"0")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    file.addfile(info, BytesIO(content))


def make_zip(place: Path, count: int, side: int) -> None:
    """Make a zip."""
    found = files(side)
    with zipfile.ZipFile(place, "w") as file:
        for number in range(count):
            file.writestr(f"{number % 100:02d}/{number:08d}.jpg", found[number % 64])


def make_folder(place: Path, count: int, side: int) -> None:
    """Make files in 100 folders."""
    found = files(side)
    for number in range(count):
        (place / f"{number % 100:02d}").mkdir(parents=True, exist_ok=True)
        (place / f"{number % 100:02d}" / f"{number:08d}.jpg").write_bytes(found[number % 64])


MAKE: dict[str, Callable[[Path, int, int], None]] = {
    "packed": make_packed,
    "shards": make_shards,
    "zip": make_zip,
    "folder": make_folder,
}


def options(kind: str, place: Path, side: int) -> data.Options:
    """Return those of a set that is streamed, and nothing of it kept on disk."""
    told: dict[str, Any] = {"source": "packed" if kind == "packed" else "folder", "dir": str(place)}
    told |= {"name": "", "image_size": side, "channels": 3, "test_fraction": 0.0, "device_budget_mb": 0}
    return data.Options(**(default().data.to_dict() | told | {"cache_budget_mb": 0}))


def memory(which: str) -> float:
    """Return the MB of this process, now (``VmRSS``) or at most (``VmHWM``), on Linux."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which)]
    return int(line.split()[1]) / 1024


def measure(kind: str, place: Path, side: int) -> dict[str, float]:
    """Measure a set, in a process of its own; not the pass that looks whether all of it can be read."""
    from gan_jax.data import packed, pictures

    chosen, before, begin = options(kind, place, side), memory("VmRSS"), time.perf_counter()
    source = packed.find(chosen) if kind == "packed" else pictures.find(chosen)
    found, peak = {"seconds to find": time.perf_counter() - begin}, memory("VmHWM")
    images: Any = source.train.images
    count = len(images)
    reader = Reader(images, np.zeros(count, np.int32), np.arange(_BATCH), _BATCH, 1, 0)
    batches: Iterator[Any] = read(reader, 0, 0)
    next(batches)
    found["seconds to the first batch"] = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in islice(batches, _BATCHES):
        pass
    found["images/s, in a run's order"] = _BATCH * _BATCHES / (time.perf_counter() - begin)
    begin = time.perf_counter()
    for step in range(100):
        sample_index(step, np.arange(_BATCH), count, _BATCH, 1, np.uint32(0), np)
    found["us to shuffle a batch"] = (time.perf_counter() - begin) * 1e4
    found["index, bytes an image"] = len(pickle.dumps(images)) / count
    found["peak while finding, MB more"] = peak - before
    found["memory while reading, MB more"] = memory("VmRSS") - before
    return found if isinstance(images, Decoded) or kind == "packed" else {}


def main() -> None:
    """Make each set, measure it, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--kinds", default=",".join(MAKE))
    parser.add_argument("--measure", nargs=2)
    told = parser.parse_args()
    if told.measure:
        print(json.dumps(measure(told.measure[0], Path(told.measure[1]), told.side)))
        return
    for kind in told.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            place, begin = Path(folder) / ("set.zip" if kind == "zip" else "set"), time.perf_counter()
            MAKE[kind](place, told.count, told.side)
            made = time.perf_counter() - begin
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 2**20
            print(f"\n{kind}: {told.count:,} images of {told.side}x{told.side}, {size:,.0f} MB, made in {made:.0f} s")
            command = [sys.executable, "-m", "benchmarks.large_sets", "--measure", kind, str(place)]
            done = subprocess.run([*command, f"--side={told.side}"], capture_output=True, text=True, check=True)
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                print(f"  {name:32}{value:12,.2f}")
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
