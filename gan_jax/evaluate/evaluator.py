"""Figures on a GAN: quality and diversity of its samples, and whether its training is healthy."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gan_jax.core import draw
from gan_jax.core.gan import GAN, Variables
from gan_jax.core.pixels import Pixels
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import GANState
from gan_jax.data import Dataset
from gan_jax.data.order import shuffled
from gan_jax.evaluate import confidence, metrics, monitors, ppl
from gan_jax.evaluate.conditions import nearest
from gan_jax.evaluate.extractors import Extractor, too_few, unclassifiable
from gan_jax.evaluate.floor import floor
from gan_jax.evaluate.held_out import BATCH, held_out
from gan_jax.evaluate.perceptual import Distance
from gan_jax.evaluate.reference import Reference
from gan_jax.evaluate.sampling import USUAL, Sampling
from gan_jax.evaluate.standing import drawn_with
from gan_jax.keys import FEWEST_SAMPLES
from gan_jax.runtime import distributed, program
from gan_jax.util import progress
from gan_jax.util.files import keep, read_arrays, write_arrays

NEIGHBOURS = 5  # of each sample that `neighbours` shows
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]  # see `Evaluator.draw`
_MIXED = 1  # the epoch whose order mixes the classes; that of 0 splits off test images
_REFERENCE = 50_000  # most train images that samples are compared with


class Features(NamedTuple):
    """Of the data.

    Attributes:
      train: ``[M, d]``, of the train images that samples are compared with.
      classes: ``[M]``, that are seen in them; ``[0]`` without a classifier of several.
      test: ``[T, d]``.
      test_logits: ``[T, k]``.
    """

    train: np.ndarray
    classes: np.ndarray
    test: np.ndarray
    test_logits: np.ndarray


class Evaluator:
    """Compares a generator's samples with a data set, as often as asked.

    What that takes beforehand (the extractor, maybe trained for it, and the features of the data) is made by `prepare`,
    or when it is first needed.

    Args:
      gan: the static half.
      dataset: the train images are the reference, the test images the floor.
      extractor: gives that of features; None: only what D says of images seen and unseen.
      samples: number of samples that are drawn each time.
      devices: those that draw and extract, each example by itself: any number gives the same figures.
      cache: the directory where the features of the data are kept; None: nowhere.
      how: the samples are drawn; figures of those drawn otherwise have other names.
      automatic: of which kind ``eval.features=auto`` found the extractor's features; empty: it wasn't asked.
    """

    def __init__(
        self,
        gan: GAN,
        dataset: Dataset,
        extractor: Callable[[], Extractor] | None,
        samples: int,
        devices: Sequence[jax.Device],
        cache: Path | None = None,
        *,
        how: Sampling = USUAL,
        automatic: str = "",
    ) -> None:
        self._how, self._automatic = how, automatic
        self._gan, self._dataset, self.samples, self._devices, self._cache = gan, dataset, samples, devices, cache
        self._extractor = extractor
        self.preparing = 0.0  # seconds that `prepare` took
        mixed = shuffled(len(dataset.train_images), _MIXED)
        self._train_labels = dataset.train_labels[mixed]
        self._seen = dataset.train_images[mixed[:BATCH]], self._train_labels[:BATCH]
        unseen = shuffled(len(dataset.test_images), _MIXED)[:BATCH]
        self.unseen = dataset.test_images[unseen], dataset.test_labels[unseen]
        self.train_numbers = mixed[:_REFERENCE]
        self._draw = program.map_examples(self._drawn, devices, "evaluating samples")
        labels = dataset.train_labels
        counts = labels if gan.condition else np.bincount(labels, minlength=max(gan.classes, 1))
        self._drawn_with = drawn_with(gan, how, counts, devices)

    def reals(self, labels: np.ndarray) -> np.ndarray:
        """Return train images ``[N, H, W, C]`` of these classes ``[N]``; of any, where the GAN has no classes.

        Of a GAN of conditions those with the nearest vectors ``[N, K]``.
        """
        if self._gan.condition:
            return np.asarray(self._dataset.train_images[nearest(self._dataset.train_labels, labels)])
        mixed = shuffled(len(self._dataset.train_images), _MIXED)
        own = self._dataset.train_labels[mixed] if self._gan.classes else np.zeros(len(mixed), np.int32)
        chosen = np.empty(len(labels), int)
        for label in np.unique(labels):
            cells = np.flatnonzero(labels == label)
            chosen[cells] = np.resize(mixed[own == label] if (own == label).any() else mixed, len(cells))
        return np.asarray(self._dataset.train_images[chosen])

    def prepare(self) -> None:
        """Make what evaluations need. Of several processes, all must call it, and one does what the disk can keep."""
        if not self.ready:
            begin = time.perf_counter()
            with distributed.first_goes_first():
                _ = self._data
            distributed.barrier()
            _ = self.floor
            self.preparing = time.perf_counter() - begin

    @property
    def ready(self) -> bool:
        """Whether it is prepared."""
        return self._extractor is None or "_data" in vars(self)

    @cached_property
    def extractor(self) -> Extractor | None:
        """Of features."""
        return None if self._extractor is None else self._extractor()

    @cached_property
    def _data(self) -> Features:
        """Of the train and of the test images."""
        assert self.extractor is not None
        numbers = dataclasses.astuple(self._gan.pixels) if self._gan.pixels != Pixels() else ()
        return _features(self._dataset, self.extractor, self.train_numbers, self._devices, self._cache, numbers)

    @property
    def real(self) -> np.ndarray:
        """Features ``[N, d]`` of the train images ``train_numbers``."""
        return self._data.train

    @cached_property
    def _rooted(self) -> confidence.Rooted:
        return confidence.rooted(metrics.moments(self.real))

    @cached_property
    def _nearness(self) -> float | None:
        return monitors.nearness(self.real, self._data.test)

    @cached_property
    def floor(self) -> dict[str, float]:
        """What as many fresh images as samples come to, by name (`gan_jax.evaluate.floor`), and ``images``: of how many
        test images that is said."""
        if self._extractor is None:
            return {}
        found = floor(self.real, self._data.test, self._data.test_logits, self.samples)
        found |= {} if self._nearness is None else {"memorised": monitors.NEAREST}
        return {
            name if name in ("images", "duplicates", "memorised") else self.named(name): value
            for name, value in found.items()
        }

    @cached_property
    def itself(self) -> dict[str, float]:
        """What as many draws from the train images as there are samples come to, by the figures of collapse.

        They have twins where the data has, and where there are so few images that some are drawn twice.
        """
        if self._extractor is None:
            return {}
        drawn = np.random.default_rng(0).integers(0, len(self.real), self.samples)
        found = {"duplicates": monitors.duplicates(self.real, self.real[drawn])}
        classes = self._data.classes
        return found | ({"class_distance": monitors.class_distance(classes, classes[drawn])} if len(classes) else {})

    @property
    def description(self) -> str:
        """What is measured on what, in one line."""
        if self._extractor is None:
            lacking, fewest = unclassifiable(self._dataset), f"; auto takes random from {FEWEST_SAMPLES} images on"
            why = (
                f"{_labelled(lacking)}{fewest}, to train and to test on"
                if too_few(self._dataset)
                else _labelled(lacking)
            )
            needs = f"random or inception ({why})"
            told = f"set config.eval.features to {needs if lacking else 'classifier, random or inception'}"
            return f"only what D says of images seen and unseen; for FID and the like {told}"
        how = f" with {self._how}" if str(self._how) else ""
        samples = f"{self.samples:,} samples{how}"
        if not self.ready:
            why = f" by random features ({_labelled(unclassifiable(self._dataset))})"
            return samples + (why if self._automatic == "random" else "")
        assert self.extractor is not None
        accuracy = self.extractor.accuracy
        known = f", its test accuracy {accuracy:.1%}" if accuracy is not None else ""
        seen = ", on which it was trained" if self.extractor.classes else ""
        said = f"{samples} by {self.extractor.name}{known}, against {len(self.real):,} train images{seen}"
        fid, count = self.floor.get(self.named("fid")), round(self.floor.get("images", 0))
        if fid is None:
            return said
        estimated = f" (estimated from {count:,} test images)" if count < self.samples else ""
        return f"{said}; {self.samples:,} fresh images have an FID of {fid:.3g}{estimated}"

    def named(self, figure: str) -> str:
        """Return the figure's name with that of its features and how samples are drawn, if not as usual.

        For instance ``fid[classifier:embedded:mnist5k:3f2a0c1d]`` or ``fid[inception, truncation=0.7]``.
        """
        if self.extractor is None:
            return figure
        how = f", {self._how}" if str(self._how) else ""
        return f"{figure}[{self.extractor.name}{how}]"

    def figures(self, state: GANState, drawn: Drawn | None = None) -> dict[str, float]:
        """All figures on ``state`` (of one device), by name. Nothing of the state or its random numbers is touched.

        ``drawn`` is what `draw` gives for it, if that is at hand.
        """
        found = held_out(self._gan, state, self._seen, self.unseen)
        if self.extractor is None:
            return found
        current = self._drawn_by(state.generator.variables, state)[0] if self.extractor.quick else None
        return found | self.of_samples(drawn or self.draw(state), current)

    def of_samples(self, drawn: Drawn, current: np.ndarray | None = None) -> dict[str, float]:
        """Return the figures of samples, wherever they are from, by name.

        Args:
          drawn: what `draw` or `looked_at` gave.
          current: features of samples by the newest weights, ``[N, d]``.
        """
        assert self.extractor is not None
        fake, logits, _ = drawn
        found = {"eval_samples": float(len(fake)), "eval_references": float(len(self.real))}
        size = min(len(self.real), len(fake))
        kid, kid_spread = metrics.kernel_distance(self.real, fake)
        with progress.elapsed("comparing samples with the data"):
            quality = {
                "fid": self._rooted.distance(fake),
                "kid": kid,
                "kid_std": kid_spread,
                "mind": metrics.monge_distance(self.real, fake),
                **metrics.manifold_metrics(self.real[:size], fake[:size]),
            }
        if logits.shape[1] > 1:
            quality["inception_score"], quality["inception_score_std"] = metrics.inception_score(logits)
        if current is not None:
            quality["fid_current"] = self._rooted.distance(current)
        found |= {self.named(name): value for name, value in quality.items()}
        found["duplicates"] = monitors.duplicates(self.real, fake)
        if self._nearness is not None:
            found["memorised"] = monitors.memorised(self.real, fake, self._nearness)
        if self.extractor.classes and logits.shape[1] > 1:
            found["class_entropy"] = monitors.class_entropy(logits)
            found["class_distance"] = monitors.class_distance(self._data.classes, logits.argmax(1))
        return found

    def confidence(self, figures: dict[str, float], drawn: Drawn) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return what takes longer than a run's evaluations may (`gan_jax.evaluate.confidence`), of what `draw` gave.

        Returns:
          FID as of infinitely many samples, if these suffice, and the 95 % intervals of ``figures`` and of it, by name.
        """
        real = self._rooted
        known = {name.partition("[")[0]: value for name, value in figures.items() if "[" in name}
        found = confidence.fid_infinity(real, drawn[0])
        further = {} if found is None else {"fid_infinity": found}
        intervals = confidence.intervals(known | further, real, self.real, drawn[:2])
        return (
            {self.named(name): value for name, value in further.items()},
            {self.named(name): list(interval) for name, interval in intervals.items()},
        )

    def reference(self, made: str) -> Reference:
        """Statistics of the data's features, to share; ``made`` says how (`gan_jax.evaluate.reference.made_of`)."""
        assert self.extractor is not None
        return Reference(*self._rooted[:2], len(self.real), self._dataset.name, self.extractor.name, made)

    def beside(self, reference: Reference, drawn: Drawn) -> tuple[dict[str, float], dict[str, list[float]]]:
        """FID to a ``reference`` of the same features, and as of infinitely many samples, and their 95 % intervals."""
        real = confidence.rooted((reference.mean, reference.covariance))
        found = {
            "fid_reference": real.distance(drawn[0]),
            "fid_reference_infinity": confidence.fid_infinity(real, drawn[0]),
        }
        known = {name: value for name, value in found.items() if value is not None}
        width = confidence.WIDTH * real.error(drawn[0])
        own = {name: f"{self.named(name).removesuffix(']')}, {reference.name}]" for name in known}
        intervals = {own[name]: [max(0.0, value - width), value + width] for name, value in known.items()}
        return {own[name]: value for name, value in known.items()}, intervals

    def draw(self, state: GANState) -> Drawn:
        """Features ``[N, d]``, logits ``[N, k]`` and images ``[N, H, W, C]`` of the samples that are judged."""
        return self._drawn_by(state.ema, state)

    def looked_at(self, images: np.ndarray) -> Drawn:
        """Return what `draw` does, of images ``[N, H, W, C]``, whole numbers, of any origin."""
        assert self.extractor is not None
        extract = program.map_examples(self.extractor.apply, self._devices, "features of the samples")
        features, logits = extract(self.extractor.variables, lambda numbers: images[numbers], len(images))
        return features, logits, images

    def _drawn_by(self, variables: Variables, state: GANState) -> Drawn:
        assert self.extractor is not None
        variables = self._drawn_with(variables, state.seed)
        common = (variables, self.extractor.variables, random_key(state.seed, "evaluation"))
        drawn: Drawn = self._draw(
            common, lambda numbers: (numbers.astype(np.int32), self.labels(numbers)), self.samples
        )
        return drawn

    def by_class(self, drawn: Drawn) -> dict[str, float]:
        """FID of the samples that each class was asked for, beside the train images of that class, by name.

        Also the mean of these, ``fid_within`` (intra-FID, Miyato & Koyama 2018, arXiv:1802.05637, section 4.1). A class
        without two train images and two samples is left out.

        Args:
          drawn: what `draw` gave.
        """
        asked = self.labels(np.arange(len(drawn[0])))
        known = self._train_labels[: len(self.train_numbers)]
        found: dict[str, float] = {}
        for number, name in enumerate(self._dataset.names or map(str, range(self._dataset.classes))):
            real, fake = self.real[known == number], drawn[0][asked == number]
            if min(len(real), len(fake)) > 1:
                moments = *metrics.moments(real), *metrics.moments(fake)
                found[self.named(f"fid_of_{name}")] = metrics.frechet_distance(*moments)
        return {self.named("fid_within"): float(np.mean(list(found.values()))), **found} if found else {}

    def path_lengths(self, state: GANState, distance: Distance) -> dict[str, float]:
        """Return the perceptual path length (`gan_jax.evaluate.ppl`) in each space, of as many pairs as samples.

        Drawn as usual, whatever options of sampling the other figures are of.
        """
        variables, labels = state.ema, self.labels(np.arange(self.samples))
        told: dict[str, Any] = {"distance": (distance.apply, distance.variables), "seed": state.seed}
        return {
            f"ppl_{space}[{distance.name}]": ppl.path_length(
                self._gan, variables, labels, space=space, devices=self._devices, **told
            )
            for space in ppl.spaces(self._gan)
        }

    def labels(self, numbers: np.ndarray) -> np.ndarray:
        """Return the labels of the samples ``numbers``, as frequent as in the train images."""
        found: np.ndarray = self._train_labels[numbers % len(self._train_labels)]
        return found

    def _drawn(self, common: Any, examples: Any) -> Any:
        assert self.extractor is not None
        (variables, weights, key), (index, label) = common, examples
        made = draw.draw(self._gan, variables, example_keys(key, index), label, **dict(self._how.options))
        images = self._gan.pixels.whole(made)
        return *self.extractor.apply(weights, images), images


def _labelled(lacking: str) -> str:
    return f"a classifier needs labels of two classes or more, and {lacking}"


def _features(
    dataset: Dataset,
    extractor: Extractor,
    numbers: np.ndarray,
    devices: Sequence[jax.Device],
    cache: Path | None,
    pixels: tuple[Any, ...],
) -> Features:
    """Those of the train images ``numbers`` and of all test images, from ``cache`` if they were kept there.

    ``pixels`` says what else than their numbers decides how images are seen.
    """
    key = json.dumps([4, extractor.name, dataset.digest, dataset.test_digest, len(numbers), *pixels])
    path = (
        None if cache is None else cache / f"features-{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.npz"
    )
    if path is not None and extractor.pure:
        kept = read_arrays(path)
        if kept is not None:
            return Features(**kept)
    extract = program.map_examples(extractor.apply, devices, f"features of {dataset.name}")

    def features(images: Any, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(numbers):
            return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
        found: tuple[np.ndarray, np.ndarray] = extract(extractor.variables, lambda i: images[numbers[i]], len(numbers))
        return found

    train, logits = features(dataset.train_images, numbers)
    test = features(dataset.test_images, np.arange(len(dataset.test_images)))
    named = extractor.classes and logits.shape[1] > 1
    found = Features(train, logits.argmax(1) if named else np.zeros(0, np.int64), *test)
    if path is not None and extractor.pure:
        keep(lambda: write_arrays(path, found._asdict()), f"the features of the data in {path}")
    return found


def neighbours(evaluator: Evaluator, drawn: Drawn, dataset: Dataset, rows: int = 10) -> np.ndarray:
    """Return samples (``evaluator.draw``) and the train images nearest to them by features.

    So one sees what was learnt by heart.

    Returns:
      ``[2 rows (1 + NEIGHBOURS), H, W, C]``, for rows of a sample and its neighbours: first the samples that lie
      nearest to a train image, then as many others.
    """
    features, _, images = drawn
    distances, numbers = metrics.nearest(features, evaluator.real, NEIGHBOURS)
    order = np.argsort(distances[:, 0], kind="stable")
    chosen = np.concatenate([order[:rows], np.sort(order[rows:])[:rows]])
    out = [
        np.concatenate([images[i : i + 1], dataset.train_images[evaluator.train_numbers[numbers[i]]]]) for i in chosen
    ]
    return np.concatenate(out)
