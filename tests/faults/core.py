"""Faults of the training core: the step, its players, losses, penalties, terms, layers, optimizers, randomness."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        "d-keeps-its-old-statistics",
        "gan_jax/update.py",
        "return player.replace(stats=stats), {",
        "return player, {",
        ("tests/test_update.py::test_batch_statistics_follow_the_stated_policy",),
        "D's running statistics and spectral vectors stay those of the start.",
    ),
    Fault(
        "lazy-penalty-not-weighted-by-its-interval",
        "gan_jax/update.py",
        'weight = state.hyper["weights"]["penalty"] * gan.penalty_every',
        'weight = state.hyper["weights"]["penalty"]',
        ("tests/test_techniques.py::test_lazy_penalties_come_every_nth_step_with_n_times_the_weight",),
        "A penalty every 16th step has a sixteenth of its weight.",
    ),
    Fault(
        "margin-the-wrong-way-round",
        "gan_jax/update.py",
        '"d_margin": means["real"] - means["fake"]',
        '"d_margin": means["fake"] - means["real"]',
        ("tests/test_update.py::test_metrics_say_what_they_are_called_after",),
        "The log's d_margin has the wrong sign.",
    ),
)
