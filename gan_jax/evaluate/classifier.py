"""A small convolutional classifier, trained on a data set's own labels, whose last hidden layer gives features."""

import dataclasses
import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

from gan_jax.core.pixels import to_float
from gan_jax.data import Dataset
from gan_jax.data.order import sample_index
from gan_jax.util import progress
from gan_jax.util.files import keep, read_arrays, refusal, write_arrays

Array = jax.Array
Variables = Any
_RECIPE = {"version": 1, "steps": 300, "batch": 128, "rate": 1e-3, "seed": 0}
_LARGEST = 32  # shorter side of the images that it looks at, half the longer; larger ones are averaged down first


class Classifier(nn.Module):
    """Images ``[B, H, W, C]`` in [-1, 1] -> features ``[B, 128]`` and logits ``[B, classes]``.

    Two 3x3 convolutions (32 and 64 channels), each with ReLU and 2x2 maximum pooling; dense 128 with ReLU, which are
    the features; dropout .5; dense.
    """

    classes: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        while min(x.shape[1:3]) > _LARGEST or max(x.shape[1:3]) > 2 * _LARGEST:
            x = nn.avg_pool(x, (2, 2), (2, 2))
        for width in (32, 64):
            x = _max_pool(nn.relu(nn.Conv(width, (3, 3))(x)))
        features = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
        return features, nn.Dense(self.classes)(nn.Dropout(0.5, deterministic=not train)(features))


def _max_pool(x: Array) -> Array:
    """2x2 maximum pooling, an odd last row or column left out; its gradient is many times nn.max_pool's on CPUs.

    A side of 1 stays.
    """
    n, height, width, channels = x.shape
    if min(height, width) < 2:
        return x
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained classifier: its variables, a hash of the data and recipe, its accuracy on the test images."""

    variables: Variables
    digest: str
    accuracy: float | None


def apply(variables: Variables, images: Array) -> tuple[Array, Array]:
    """Whole numbers ``[n, H, W, C]`` -> features ``[n, 128]``, logits ``[n, classes]``."""
    classes = variables["params"]["Dense_1"]["bias"].shape[0]
    out: tuple[Array, Array] = Classifier(classes).apply(variables, to_float(images, jnp.float32), train=False)  # type: ignore[assignment]
    return out


def trained(dataset: Dataset, cache: Path | None) -> Trained:
    """Return the classifier of a data set with labels: from the directory ``cache``, or trained now and kept there."""
    digest = hashlib.blake2b(json.dumps([_RECIPE, dataset.digest]).encode(), digest_size=12).hexdigest()
    path = None if cache is None else cache / f"classifier-{digest}.npz"
    kept = None if path is None else read_arrays(path)
    if kept is not None:
        variables = traverse_util.unflatten_dict(kept, sep="/")
    else:
        if cache is not None and (reason := refusal(cache)):
            path = None
            lost = "the classifier of the evaluation is trained now and not kept: it takes as long the next time"
            print(f"warning: cannot write to {cache} ({reason}): {lost}", file=sys.stderr)
        variables = fit(dataset.train_images, dataset.train_labels, dataset.classes)
        if path is not None:
            weights = traverse_util.flatten_dict(variables, sep="/")
            keep(lambda: write_arrays(path, weights), f"the classifier in {path}")
    return Trained(variables, digest, accuracy(variables, dataset.test_images, dataset.test_labels))


def fit(images: Any, labels: np.ndarray, classes: int, seed: int = 0) -> Variables:
    """Train a classifier by the recipe: 300 Adam steps of 128 images, in an order that ``seed`` decides.

    Args:
      images: uint8 or uint16, indexed by arrays of numbers, ``[N, H, W, C]``.
      labels: int32 ``[N]``.
      classes: number of classes.
      seed: of the start, the order and the dropout.
    """
    module = Classifier(classes)
    key = jax.random.key(seed)
    sample = jnp.zeros((1, *images.shape[1:]))
    params = jax.jit(lambda key: module.init(key, sample, train=False))(key)["params"]
    opt_state = optax.adam(_RECIPE["rate"]).init(params)
    index = np.arange(_RECIPE["batch"])
    for step in progress.bar(
        range(int(_RECIPE["steps"])), desc="training the classifier", unit="step", delay=1, leave=False
    ):
        chosen = sample_index(step, index, len(images), len(index), 1, np.uint32(seed), np)[0].astype(np.int64)
        params, opt_state = _step(module, params, opt_state, images[chosen], labels[chosen], key, step)
    return jax.device_get({"params": params})


def accuracy(variables: Variables, images: Any, labels: np.ndarray) -> float | None:
    """Share of the images classified rightly; None without images."""
    if not len(images):
        return None
    right = 0
    for start in range(0, len(images), 500):
        numbers = np.arange(start, min(start + 500, len(images)))
        right += int((np.asarray(_predict(variables, images[numbers])) == labels[numbers]).sum())
    return right / len(images)


@jax.jit
def _predict(variables: Variables, images: Array) -> Array:
    return apply(variables, images)[1].argmax(-1)


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _step(
    module: Classifier, params: Any, opt_state: Any, images: Array, labels: Array, key: Array, step: int
) -> tuple[Any, Any]:
    def loss(params: Any) -> Array:
        rngs = {"dropout": jax.random.fold_in(key, step)}
        _, logits = module.apply({"params": params}, to_float(images, jnp.float32), train=True, rngs=rngs)
        mean: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return mean

    updates, opt_state = optax.adam(_RECIPE["rate"]).update(jax.grad(loss)(params), opt_state)
    return optax.apply_updates(params, updates), opt_state
