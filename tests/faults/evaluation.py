"""Faults of the evaluation: what is drawn, compared and reported."""

from tests.faults.fault import Fault

_EVALUATOR, _METRICS = "gan_jax/evaluate/evaluator.py", "gan_jax/evaluate/metrics.py"
_TRAIN, _CLASSIFIER = "gan_jax/evaluate/gan_train.py", "gan_jax/evaluate/classifier.py"
_MONITORS, _HELD_OUT = "gan_jax/evaluate/monitors.py", "gan_jax/evaluate/held_out.py"
_DRAWN = (
    "tests/evaluate/test_drawn.py::test_what_is_judged_is_drawn_by_the_averaged_weights_with_labels_as_the_data_has_them",
)
_PRECISE = ("tests/evaluate/test_drawn.py::test_samples_of_one_kind_are_precise_and_recall_little",)
_KEPT = (
    "tests/evaluate/test_evaluate.py::test_features_of_the_data_are_kept_by_their_extractors_name",
    "tests/evaluate/test_drawn.py::test_features_that_are_kept_are_those_of_the_same_data",
)
_ACCURACIES = ("tests/evaluate/test_drawn.py::test_each_accuracy_of_gan_train_is_of_its_own_two_sets",)
_DROPS = ("tests/evaluate/test_drawn.py::test_a_classifier_that_learns_drops_half_of_its_features_others_in_each_step",)
_RECIPE = (
    "tests/evaluate/test_drawn.py::test_a_classifier_sees_each_image_once_an_epoch_for_300_steps_in_its_seeds_order",
)
_DUPLICATES = ("tests/evaluate/test_evaluate.py::test_duplicates_tell_collapse_from_health",)
_MANIFOLD = ("tests/evaluate/test_metrics.py::test_manifold_metrics_are_their_definitions",)
_HELD = ("tests/evaluate/test_evaluate.py::test_held_out_is_the_mean_probability_of_real_and_keeps_the_two_sets_apart",)

FAULTS = (
    Fault(
        "fid-without-the-means",
        _METRICS,
        "return float(jnp.square(jnp.asarray(mean1) - mean2).sum() + trace)",
        "return float(trace)",
        ("tests/evaluate/test_metrics.py::test_frechet_distance_is_scipys",),
        "The FID ignores a shift of all samples.",
    ),
    Fault(
        "precision-and-recall-swapped-on-the-way-out",
        _EVALUATOR,
        "**metrics.manifold_metrics(self.real[:size], fake[:size]),",
        "**metrics.manifold_metrics(fake[:size], self.real[:size]),",
        _PRECISE,
        "Collapsed samples are said to have the recall of good ones.",
    ),
    Fault(
        "recall-by-the-radii-of-reals",
        _METRICS,
        "in_fake.append((distances <= fake_radii[None, :, 0]).any(1))",
        "in_fake.append((distances <= radii[:, :1]).any(1))",
        (*_MANIFOLD, *_PRECISE),
        "Recall is coverage by another name.",
    ),
    Fault(
        "the-current-weights-are-judged",
        _EVALUATOR,
        "return self._drawn_by(state.ema, state)",
        'return self._drawn_by(state.ema | {"params": state.generator.params}, state)',
        _DRAWN,
        "Figures are of other weights than those that samples are drawn with.",
    ),
    Fault(
        "judged-with-the-newest-statistics",
        _EVALUATOR,
        "return self._drawn_by(state.ema, state)",
        "return self._drawn_by(state.ema | state.generator.stats, state)",
        _DRAWN,
        "Averaged weights are judged with moments of other weights.",
    ),
    Fault(
        "the-floor-is-of-fewer-images-than-samples",
        "gan_jax/evaluate/floor.py",
        "return found if len(fresh) == samples else",
        "return found if len(fresh) <= samples else",
        ("tests/evaluate/test_floor.py::test_few_test_images_say_on_average_what_as_many_as_samples_would[400]",),
        "FID's bias of few test images is called a floor.",
    ),
    Fault(
        "current-weights-by-the-averaged-ones",
        _EVALUATOR,
        "self._drawn_by(state.generator.variables, state)",
        "self._drawn_by(state.ema, state)",
        ("tests/evaluate/test_evaluate.py::test_where_it_costs_little_the_current_weights_are_judged_too",),
        "Averaging seems to make no difference.",
    ),
    Fault(
        "judged-in-training-mode",
        "gan_jax/core/draw.py",
        '"train": False,',
        '"train": True,',
        _DRAWN,
        "Batch norm takes the moments of 50 samples that happen to be drawn together.",
    ),
    Fault(
        "all-samples-of-class-0",
        _EVALUATOR,
        "found: np.ndarray = self._train_labels[numbers % len(self._train_labels)]",
        "found: np.ndarray = 0 * self._train_labels[numbers % len(self._train_labels)]",
        _DRAWN,
        "A GAN of ten classes is judged by its zeros.",
    ),
    Fault(
        "labels-in-file-order",
        _EVALUATOR,
        "self._train_labels = dataset.train_labels[mixed]",
        "self._train_labels = dataset.train_labels",
        _DRAWN,
        "Of data that lies class by class the first thousands of samples are of the first classes.",
    ),
    Fault(
        "judged-samples-by-the-training-latents",
        _EVALUATOR,
        'random_key(state.seed, "evaluation"))',
        'random_key(state.seed, "latents"))',
        _DRAWN,
        "The seed's evaluation means another set of samples.",
    ),
    Fault(
        "kept-features-of-other-train-images",
        _EVALUATOR,
        "extractor.name, dataset.digest, dataset.test_digest",
        "extractor.name, dataset.test_digest",
        _KEPT,
        "Samples are compared with the images of another data set.",
    ),
    Fault(
        "kept-features-of-other-test-images",
        _EVALUATOR,
        "dataset.digest, dataset.test_digest, len(numbers)",
        "dataset.digest, len(numbers)",
        _KEPT,
        "The floor is that of other test images.",
    ),
    Fault(
        "features-of-the-first-images-only",
        _EVALUATOR,
        "lambda i: images[numbers[i]], len(numbers))",
        "lambda i: images[i], len(numbers))",
        _KEPT,
        "Of a set beyond the reference's size its first images are compared with.",
    ),
    Fault(
        "gan-test-is-of-test-images",
        _TRAIN,
        'found["gan_test"].append(classifier.accuracy(from_real, images, labels) or 0.0)',
        'found["gan_test"].append(classifier.accuracy(from_real, *test) or 0.0)',
        _ACCURACIES,
        "GAN-test says nothing of the samples.",
    ),
    Fault(
        "gan-train-and-gan-test-swapped",
        _TRAIN,
        "means = {name: float(np.mean(values)) for name, values in found.items()}",
        'found["gan_train"], found["gan_test"] = found["gan_test"], found["gan_train"]\n'
        "    means = {name: float(np.mean(values)) for name, values in found.items()}",
        _ACCURACIES,
        "Diversity is reported as quality.",
    ),
    Fault(
        "gan-train-tested-on-train-images",
        _TRAIN,
        "test = dataset.test_images, dataset.test_labels",
        "test = dataset.train_images, dataset.train_labels",
        _ACCURACIES,
        "What a classifier learnt by heart counts as known.",
    ),
    Fault(
        "augmented-learns-from-samples-alone",
        _TRAIN,
        "learnt(*both, seed)",
        "learnt(images, labels, seed)",
        _ACCURACIES,
        "Samples seem to be of no use beside the data.",
    ),
    Fault(
        "every-classifier-of-one-seed",
        _TRAIN,
        "classifier.fit(images, labels, dataset.classes, seed)",
        "classifier.fit(images, labels, dataset.classes)",
        _ACCURACIES,
        "The spread over seeds is 0.",
    ),
    Fault(
        "a-fake-is-its-own-twin",
        _MONITORS,
        "among_fakes = nearest(fake[:size], fake[:size], 2)[0][:, 1]",
        "among_fakes = nearest(fake[:size], fake[:size], 2)[0][:, 0]",
        _DUPLICATES,
        "All samples are duplicates.",
    ),
    Fault(
        "a-real-is-its-own-twin",
        _MONITORS,
        "among_reals = nearest(different, different, 2)[0][:, 1]",
        "among_reals = nearest(different, different, 2)[0][:, 0]",
        ("tests/evaluate/test_drawn.py::test_a_duplicate_has_another_nearer_than_reals_have_and_itself_is_none",),
        "Only exact copies are duplicates.",
    ),
    Fault(
        "classifier-learns-without-dropout",
        _CLASSIFIER,
        "to_float(images, jnp.float32), train=True, rngs=rngs)",
        "to_float(images, jnp.float32), train=False, rngs=rngs)",
        _DROPS,
        "The features' classifier is another than the one described.",
    ),
    Fault(
        "classifier-drops-the-same-in-each-step",
        _CLASSIFIER,
        'rngs = {"dropout": jax.random.fold_in(key, step)}',
        'rngs = {"dropout": key}',
        _DROPS,
        "Half of the features never learn.",
    ),
    Fault(
        "classifier-drops-a-tenth",
        _CLASSIFIER,
        "nn.Dropout(0.5, deterministic=not train)",
        "nn.Dropout(0.1, deterministic=not train)",
        _DROPS,
        "The features' classifier is another than the one described.",
    ),
    Fault(
        "d-seen-of-unseen-images",
        _HELD_OUT,
        'looked_at = {"d_seen": seen, "d_unseen": unseen}',
        'looked_at = {"d_seen": unseen, "d_unseen": seen}',
        _HELD,
        "A D that remembers its images seems to judge them worse than others.",
    ),
    Fault(
        "held-out-images-are-judged-as-fakes-are-told",
        _HELD_OUT,
        "to_float(images, gan.dtype), labels)",
        "to_float(images, gan.dtype) * 0, labels)",
        _HELD,
        "d_seen and d_unseen say what D thinks of grey.",
    ),
    Fault(
        "kid-is-biased",
        _METRICS,
        "return (k.sum(dtype=jnp.float64) - jnp.trace(k, dtype=jnp.float64)) / (n * (n - 1))",
        "return k.sum(dtype=jnp.float64) / (n * n)",
        ("tests/evaluate/test_metrics.py::test_kernel_distance_is_its_definition",),
        "KID depends on the number of samples.",
    ),
    Fault(
        "inception-score-of-the-mean-logits",
        _METRICS,
        "(p * (log_p - jnp.log(p.mean(0)))).sum(1).mean()",
        "(p * (log_p - log_p.mean(0))).sum(1).mean()",
        ("tests/evaluate/test_metrics.py::test_inception_score_is_its_definition_and_knows_its_ends",),
        "The Inception score compares with a geometric mean.",
    ),
    Fault(
        "fewer-steps-than-the-classifiers-recipe",
        _CLASSIFIER,
        '"steps": 300, "batch": 128',
        '"steps": 30, "batch": 128',
        _RECIPE,
        "Features come from a classifier that has hardly begun.",
    ),
    Fault(
        "classifier-in-one-order-for-all-seeds",
        _CLASSIFIER,
        "len(images), len(index), 1, np.uint32(seed), np)",
        "len(images), len(index), 1, np.uint32(0), np)",
        _RECIPE,
        "Classifiers of other seeds see the same batches.",
    ),
)
