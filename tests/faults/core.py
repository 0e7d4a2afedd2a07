"""Faults of the training core: the step, its players, losses, penalties, terms, layers, optimizers, randomness."""

from tests.faults.fault import Fault

_AVERAGE = (
    "tests/core/test_average.py::"
    "test_parameters_and_statistics_have_one_decay_and_singular_vectors_follow_their_average"
)

FAULTS = (
    Fault(
        "d-keeps-its-old-statistics",
        "gan_jax/core/update.py",
        "after = _moved(context, player.replace(stats=stats), gradient",
        "after = _moved(context, player, gradient",
        ("tests/core/test_update.py::test_batch_statistics_follow_the_stated_policy",),
        "D's running statistics and spectral vectors stay those of the start.",
    ),
    Fault(
        "lazy-penalty-not-weighted-by-its-interval",
        "gan_jax/core/update.py",
        'weight = view.numbers(term.name)["weight"] * term.every',
        'weight = view.numbers(term.name)["weight"]',
        ("tests/core/test_techniques.py::test_lazy_penalties_come_every_nth_step_with_n_times_the_weight",),
        "A penalty every 16th step has a sixteenth of its weight.",
    ),
    Fault(
        "margin-the-wrong-way-round",
        "gan_jax/core/update.py",
        '"d_margin": means["real"] - means["fake"]',
        '"d_margin": means["fake"] - means["real"]',
        ("tests/core/test_update.py::test_metrics_say_what_they_are_called_after",),
        "The log's d_margin has the wrong sign.",
    ),
    Fault(
        "statistics-not-averaged",
        "gan_jax/core/update.py",
        "(before, generator.variables))",
        "({**before, **generator.stats}, generator.variables))",
        (f"{_AVERAGE}[gan]",),
        "Averaged weights are drawn with the newest batch-norm statistics.",
    ),
    Fault(
        "singular-vectors-averaged",
        "gan_jax/core/update.py",
        'average = {**average, "spectral": passed["spectral"]}',
        "pass",
        (f"{_AVERAGE}[gan]",),
        "A mean of unit vectors is no unit vector, so averaged kernels are divided by too little.",
    ),
    Fault(
        "singular-vectors-of-the-newest-kernels",
        "gan_jax/core/update.py",
        'average = {**average, "spectral": passed["spectral"]}',
        'average = {**average, "spectral": generator.stats["spectral"]}',
        (f"{_AVERAGE}[gan]",),
        "Averaged kernels are divided by what isn't their largest singular value.",
    ),
    Fault(
        "frozen-parameters-are-learnt",
        "gan_jax/assemble/players.py",
        "dataclasses.replace(recipe, frozen=still)",
        "recipe",
        ("tests/core/test_freeze.py::test_frozen_layers_keep_their_values_and_all_others_learn",),
        "What freeze names is trained all the same.",
    ),
    Fault(
        "mistyped-freeze-is-passed-over",
        "gan_jax/assemble/players.py",
        "        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):",
        "        if not names:",
        ("tests/core/test_freeze.py::test_patterns_that_match_nothing_or_everything_are_refused",),
        "A pattern with a slip in it freezes nothing, and nobody is told.",
    ),
)
