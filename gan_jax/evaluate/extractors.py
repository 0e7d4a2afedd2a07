"""What turns images into features: `Extractor`, and those that come with the project."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data import Dataset
from gan_jax.data.images import dtype_of
from gan_jax.evaluate import classifier, clip, dinov2, inception, swav, vgg
from gan_jax.evaluate.seen import Seen, suffix, through
from gan_jax.keys import FEWEST_SAMPLES
from gan_jax.util import named
from gan_jax.util.errors import UserError

Array = jax.Array
# Networks whose file of weights must be named; each gives the network, its variables, and which size it is.
_OF_FILES: dict[str, Callable[[Path], tuple[Any, dict[str, Any], str]]] = {
    "dinov2": dinov2.load,
    "clip": clip.load,
    "swav": swav.load,
}
_INCEPTIONS = {
    "inception": inception.Inception(),
    "inception-clean": inception.Inception(clean=True),
    "inception-spatial": inception.Inception(spatial=True),
}


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A feature extractor.

    Attributes:
      name: which, with a hash of its weights: figures of different names don't compare.
      apply: ``apply(variables, images)``: ``[n, H, W, C]``, whole numbers, -> features ``[n, d]`` and class logits
        ``[n, k]``, k 0 where there are none, each image by itself.
      variables: its weights.
      classes: whether the logits are of the data set's own classes.
      accuracy: of those classes on held-out images, where that was measured.
      pure: whether ``name`` decides the features, so that they can be kept on disk.
      quick: whether it takes little beside the drawing, so that the current weights are judged, too.
    """

    name: str
    apply: Callable[[Any, Array], tuple[Array, Array]]
    variables: Any
    classes: bool = False
    accuracy: float | None = None
    pure: bool = True
    quick: bool = False


def find(name: str, dataset: Dataset, cache: Path | None, seen: Seen | None = None) -> Callable[[], Extractor] | None:
    """Return what gives the extractor that ``config.eval.features`` names; the classifier is trained when it is called.

    Args:
      name: ``auto`` (`automatic`), ``none``, ``classifier``, ``random`` (`gan_jax.evaluate.vgg`), ``inception``,
        ``inception-clean`` or ``inception-spatial``, each with ``:FILE`` or without, ``dinov2:FILE``, ``clip:FILE``,
        ``swav:FILE`` or a function of the user's, ``FILE.py:function`` or ``package.module:function``, from images
        ``[n, H, W, C]``, of which JAX traces it, to features ``[n, d]``.
      dataset: what the classifier is trained on.
      cache: where trained classifiers are kept, and the weights of Inception are looked for if no file is named.
      seen: what networks of three channels see of the images; None: all. The classifier and the user's functions see
        all channels.

    Raises:
      UserError: there is no such extractor, its weights are missing, it fails on images of this shape, or the data set
        has no labels for it, or one class.
    """
    name = automatic(dataset) if name == "auto" else name
    kind, _, rest = name.partition(":")
    if name == "none":
        return None
    if name == "classifier":
        if lacking := unclassifiable(dataset):
            raise UserError(
                f"eval.features=classifier needs labels of two classes or more, and {lacking}: "
                "set it to random or inception"
            )
        return lambda: _classifier(dataset, cache)
    if name == "random":
        return lambda: _random(seen)
    if kind in _INCEPTIONS:
        file = named.path(rest, "eval.features") if rest else inception.fetched(cache or Path())
        return _network(kind, _INCEPTIONS[kind], inception.load(file), seen)
    if kind in _OF_FILES:
        if not rest:
            raise UserError(f"eval.features={kind} needs a file of weights: write eval.features={kind}:FILE")
        module, weights, size = _OF_FILES[kind](named.path(rest, "eval.features"))
        return _network(f"{kind}:{size}", module, weights, seen)
    if named.is_function(name):
        apply = _users(name, dataset)
        own = Extractor(_short(name), apply, {}, pure=False)
        return lambda: own
    raise UserError(
        f"unknown eval.features {name!r}; valid: auto, none, classifier, random, inception, inception:FILE, "
        "inception-clean, inception-spatial (with :FILE, too), dinov2:FILE, clip:FILE, swav:FILE, "
        "FILE.py:function, package.module:function"
    )


def _network(name: str, module: Any, variables: Any, seen: Seen | None) -> Callable[[], Extractor]:
    named_by_weights = f"{name}:{digest(variables)[:8]}{suffix(seen)}"
    return lambda: Extractor(named_by_weights, through(module.apply, seen), variables)


def automatic(dataset: Dataset) -> str:
    """Return what ``auto`` stands for: ``classifier`` where there are labels of two classes or more, else ``random``.

    ``none`` where neither can be had, because there are hardly any images (`too_few`).
    """
    if not unclassifiable(dataset):
        return "classifier"
    return "none" if too_few(dataset) else "random"


def too_few(dataset: Dataset) -> bool:
    """Whether the train or the test images are fewer than an evaluation's fewest samples."""
    return min(len(dataset.train_images), len(dataset.test_images)) < FEWEST_SAMPLES


def unclassifiable(dataset: Dataset) -> str:
    """Why no classifier can be trained on the train images, in words; or nothing."""
    if not dataset.classes:
        return f"{dataset.name} has none"
    return f"those of {dataset.name} are of one class" if len(np.unique(dataset.train_labels)) < 2 else ""


def _classifier(dataset: Dataset, cache: Path | None) -> Extractor:
    trained = classifier.trained(dataset, cache)
    name = f"classifier:{dataset.name}:{trained.digest[:8]}"
    return Extractor(name, classifier.apply, trained.variables, True, trained.accuracy, quick=True)


def _random(seen: Seen | None) -> Extractor:
    variables = vgg.weights()
    return Extractor(f"random:vgg16:{digest(variables)[:8]}{suffix(seen)}", through(vgg.apply, seen), variables)


def _short(name: str) -> str:
    """Of ``FOLDER/FILE.py:function`` what is the same wherever the file lies, and changes when its content does."""
    place, _, function = name.rpartition(":")
    if not place.endswith(".py") or not (file := named.path(place, "eval.features")).is_file():
        return name
    return f"{file.name}:{function}:{hashlib.blake2b(file.read_bytes(), digest_size=4).hexdigest()}"


def _users(name: str, dataset: Dataset) -> Callable[[Any, Array], tuple[Array, Array]]:
    shape = dataset.image_shape
    call, size = named.function(name, "eval.features", "images"), "x".join(map(str, shape))

    def apply(_: Any, images: Array) -> tuple[Array, Array]:
        try:
            features = jnp.asarray(call(images))
            return features.reshape(len(images), -1), jnp.zeros((len(images), 0))
        except Exception as error:  # the user's own code: anything may come
            raise named.failed(f"eval.features={name} fails on images of {size}", error) from error

    # Before any training, instead of at the first evaluation.
    found, _ = jax.eval_shape(apply, {}, jax.ShapeDtypeStruct((2, *shape), dtype_of(dataset.train_images)))
    if not found.shape[1]:
        raise UserError(f"eval.features={name} gives no features: it must give [n, d] of images [n, h, w, c]")
    return apply


def digest(variables: Any) -> str:
    """Return a hash of weights, by which figures are named."""
    hashed = hashlib.blake2b(digest_size=12)
    for leaf in jax.tree.leaves(variables):
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return hashed.hexdigest()
