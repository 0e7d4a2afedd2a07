"""Are the samples as good as data to learn from? (Shmelkov et al. 2018, arXiv:1807.09499.)"""

from typing import Any

import numpy as np

from gan_jax.data import Dataset
from gan_jax.data.images import dtype_of
from gan_jax.evaluate import classifier
from gan_jax.util import progress


def gan_train(dataset: Dataset, images: np.ndarray, labels: np.ndarray, seeds: int) -> dict[str, float]:
    """Accuracies of classifiers (`gan_jax.evaluate.classifier`) that learn from samples, from data, or from both.

    Args:
      dataset: with labels, and with test images.
      images: samples, whole numbers ``[N, H, W, C]``.
      labels: the classes that they were asked for, ``[N]``.
      seeds: number of classifiers of each kind.

    Returns:
      Means over the seeds, and standard deviations (``..._std``): ``gan_train`` (learns from samples, tested on test
      images), ``gan_test`` (learns from train images, tested on samples), ``real_train`` (learns from train images,
      tested on test images: what there is to reach), ``augmented`` (learns from both, tested on test images: above
      ``real_train``, samples help as augmentation).
    """
    real = dataset.train_images, dataset.train_labels
    both = Joined(dataset.train_images, images), np.concatenate([dataset.train_labels, labels])
    test = dataset.test_images, dataset.test_labels
    found: dict[str, list[float]] = {"gan_train": [], "gan_test": [], "real_train": [], "augmented": []}
    with progress.bar(total=3 * seeds, desc="GAN-train", unit="classifier", leave=False) as bar:

        def learnt(images: Any, labels: np.ndarray, seed: int) -> Any:
            variables = classifier.fit(images, labels, dataset.classes, seed)
            bar.update(1)
            return variables

        for seed in range(seeds):
            from_real = learnt(*real, seed)
            found["real_train"].append(classifier.accuracy(from_real, *test) or 0.0)
            found["gan_test"].append(classifier.accuracy(from_real, images, labels) or 0.0)
            found["gan_train"].append(classifier.accuracy(learnt(images, labels, seed), *test) or 0.0)
            found["augmented"].append(classifier.accuracy(learnt(*both, seed), *test) or 0.0)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return means | {f"{name}_std": float(np.std(values)) for name, values in found.items()}


class Joined:
    """Two arrays of images ``[N, ...]`` and ``[M, ...]`` as one ``[N + M, ...]``, read by arrays of numbers."""

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        out = np.empty((len(numbers), *self.shape[1:]), dtype_of(self._first))
        early = numbers < len(self._first)
        out[early] = self._first[numbers[early]]
        out[~early] = self._second[numbers[~early] - len(self._first)]
        return out
