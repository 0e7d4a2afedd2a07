"""Which images of the data have the vectors that a grid of samples is told of."""

import numpy as np


def nearest(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return for each of the vectors ``asked`` ``[M, K]`` the number of an image of a near one, int64 ``[M]``.

    Distances are in standard deviations of each number of ``known`` ``[N, K]``. Vectors that are there several times
    get the nearest image, the next to it, and so on, over and over where there are fewer.
    """
    spread = known.std(0) + np.float32(1e-6)
    distinct, which = np.unique(asked, axis=0, return_inverse=True)
    found = np.empty(len(asked), np.int64)
    for number, vector in enumerate(distinct):
        cells = np.flatnonzero(which.ravel() == number)
        order = np.argsort((((known - vector) / spread) ** 2).sum(1), kind="stable")
        found[cells] = np.resize(order, len(cells))
    return found
