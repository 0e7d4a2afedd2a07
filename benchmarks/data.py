"""How fast images are read, against the training step that eats them and against PyTorch's DataLoader.

    python -m benchmarks.data --out=data.json [--folder=IMAGES] [--workers=0,2] [--repeats=5]

Needs PyTorch (the extra ``oracle``). Reads 64x64x3 images, batch 64, in the order of training:

- ``folder``: PNG files, decoded at each reading; ``array_record``: the same files as TFDS keeps them; ``cached``: what
  the second start of a run reads, decoded;
- by our stream and by a DataLoader with the same number of workers (0: our threads, PyTorch's main process) and the
  same decoding, by turns, medians of ``--repeats``;
- one training step of Radford's DCGAN on the same images, from memory;
- seconds to the first batch, with an empty cache and with a full one;
- peak resident memory of a process that streams a set ten times its budget, and of one that streams half a budget.

Without ``--folder`` the images are drawn (`gan_jax.data.shapes`).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from PIL import Image

from benchmarks import tfds_writer
from benchmarks.program import Program
from configs import dcgan
from gan_jax import data
from gan_jax.data import shapes
from gan_jax.data.decode import decode
from gan_jax.data.stream import Reader, read
from gan_jax.util import progress

_BATCH = 64
_BATCHES = 40  # timed each time, after the first
_STREAMED = 1248  # batches, for the peak memory


def main() -> None:
    """Measure, print a table, and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the figures, .json")
    parser.add_argument("--folder", type=Path, help="a folder of images; drawn ones if not given")
    parser.add_argument("--workers", default="0,2", help="numbers of worker processes, with commas")
    parser.add_argument("--repeats", type=int, default=5)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        report = measure(Path(place), flags.folder, [int(n) for n in flags.workers.split(",")], flags.repeats)
    flags.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nall figures: {flags.out}")


def measure(place: Path, folder: Path | None, workers: list[int], repeats: int) -> dict[str, Any]:
    """All figures; see the module."""
    files = sorted((folder or drawn(place / "drawn")).rglob("*.png"))
    tfds_writer.write(place / "tfds", "bench", {"train": [file.read_bytes() for file in files]}, None)
    sources = {
        "folder": options(source="folder", dir=str(files[0].parent), cache_budget_mb=0, device_budget_mb=0),
        "array_record": options(
            source="tfds", name="bench", dir=str(place / "tfds"), cache_budget_mb=0, device_budget_mb=0
        ),
        "cached": options(source="folder", dir=str(files[0].parent), device_budget_mb=0),
    }
    loaded = {name: data.load(chosen, place / "cache").train_images for name, chosen in sources.items()}
    rates: dict[str, list[float]] = {}
    runs: dict[str, Callable[[], Iterator[Any]]] = {}
    for count in workers:
        for name, images in loaded.items():
            runs[f"{name}, {count} workers"] = lambda images=images, count=count: ours(images, count)  # type: ignore[misc]
        runs[f"DataLoader of the folder, {count} workers"] = lambda count=count: theirs(files, count)  # type: ignore[misc]
    for _ in progress.bar(range(repeats), desc="reading"):
        for name, start in runs.items():
            rates.setdefault(name, []).append(rate(start()))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    step = step_rate(loaded["cached"])
    for count in workers:
        torch_rate = medians[f"DataLoader of the folder, {count} workers"]
        for name in (f"folder, {count} workers", f"array_record, {count} workers", f"cached, {count} workers"):
            ratios = f"{medians[name] / torch_rate:6.2f} of the DataLoader's {medians[name] / step:8.1f} of the step's"
            print(f"{name:28}{medians[name]:9,.0f} images/s {ratios}")
        print(f"{f'DataLoader, {count} workers':28}{torch_rate:9,.0f} images/s")
    print(f"{'training step, 64x64x3':28}{step:9,.0f} images/s")
    first = first_batch(sources["cached"], place / "first")
    print(f"first batch of {len(files):,} images: {first['empty cache']:.2f} s, cached {first['full cache']:.2f} s")
    memory = peak_memory(place)
    print("; ".join(f"peak memory streaming {name}: {value:,.0f} MB" for name, value in memory.items()))
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {jax.devices()[0].device_kind}",
        "versions": {name: version(name) for name in ("jax", "grain", "torch", "pillow", "numpy")},
        "images": len(files),
        "batch": _BATCH,
        "images_per_second": rates,
        "median_images_per_second": medians,
        "step_images_per_second": step,
        "seconds_to_first_batch": first,
        "peak_memory_mb": memory,
    }


def options(**changed: Any) -> data.Options:
    """64x64x3, nothing held out."""
    return data.Options(**(dcgan.get_config("folder").data.to_dict() | {"test_fraction": 0.0} | changed))


def drawn(place: Path, count: int = 4000) -> Path:
    """Draw a folder of images."""
    place.mkdir()
    images, _ = shapes.draw(64, 0, count)
    for i, image in enumerate(images):
        Image.fromarray(image).save(place / f"{i:05d}.png")
    return place


def reader(images: data.Images) -> Reader:
    """Of whole batches on one host."""
    return Reader(images, np.zeros(len(images), np.int32), np.arange(_BATCH, dtype=np.int32), _BATCH, 1, 0)


def ours(images: data.Images, workers: int) -> Iterator[Any]:
    """Our stream of batches."""
    return islice(read(reader(images), 0, workers), _BATCHES + 1)


class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The same files by the same decoder, as PyTorch wants them."""

    def __init__(self, files: list[Path]) -> None:
        self.files, self.options = files, options()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        return decode(self.files[i].read_bytes(), self.options)


def theirs(files: list[Path], workers: int) -> Iterator[Any]:
    """PyTorch's stream of batches."""
    spawn = "spawn" if workers else None  # as ours, and because JAX's threads don't survive a fork
    return iter(
        torch.utils.data.DataLoader(
            Files(files), _BATCH, shuffle=True, drop_last=True, num_workers=workers, multiprocessing_context=spawn
        )
    )


def rate(batches: Iterator[Any]) -> float:
    """Images/s after the first batch."""
    next(batches)
    begin = time.perf_counter()
    for _ in range(_BATCHES):
        next(batches)
    seconds = time.perf_counter() - begin
    del batches
    return _BATCH * _BATCHES / seconds


def step_rate(images: data.Images, steps: int = 4) -> float:
    """Images/s of training Radford's DCGAN on the same images, from memory; median of three dispatches."""
    config = dcgan.get_config("folder")
    config.batch_size, config.steps_per_dispatch = _BATCH, steps
    labels, few = np.zeros(len(images), np.int32), images[np.arange(min(len(images), 4 * _BATCH))]
    dataset = data.Dataset("bench", few, labels[: len(few)], few[:0], labels[:0], 0)
    program = Program(config, jax.local_devices()[:1], dataset)
    program.run(1)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        program.run(steps)
        times.append(time.perf_counter() - begin)
    return _BATCH * steps / statistics.median(times)


def first_batch(chosen: data.Options, cache: Path) -> dict[str, float]:
    """Seconds from the options to the first batch."""
    seconds = {}
    for name in ("empty cache", "full cache"):
        begin = time.perf_counter()
        next(ours(data.load(chosen, cache).train_images, 0))
        seconds[name] = time.perf_counter() - begin
    return seconds


def peak_memory(place: Path) -> dict[str, float]:
    """MB of a process that streams from a file of noise: half of a budget of 100 MB, and ten times it."""
    peaks = {}
    for name, megabytes in (("50 MB", 50), ("1,000 MB", 1000)):
        count = megabytes * 2**20 // (64 * 64 * 3)
        path = place / "noise.u8"
        with path.open("wb") as file:
            for _ in range(count // 100 + 1):
                file.write(os.urandom(100 * 64 * 64 * 3))
        command = [sys.executable, "-m", "benchmarks.stream_memory", str(path), str(_STREAMED)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = float(run.stdout)
    return peaks


if __name__ == "__main__":
    main()
