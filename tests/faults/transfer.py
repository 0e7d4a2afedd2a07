"""Faults of transfer: weights of another run, stages."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        "averages-begin-without-the-other-run",
        "gan_jax/core/carry.py",
        'averages, _ = carry_over(old, {"averages": fresh})',
        'averages = {"averages": state.averages}',
        ("tests/training/test_origin.py::test_what_fits_is_taken_and_the_rest_is_told",),
        "Samples of a run that begins with another's weights are drawn by random ones.",
    ),
    Fault(
        "the-run-begun-with-is-needed-again",
        "gan_jax/training/run.py",
        "if self.config.init_from:",
        "if not self.config.init_from:",
        ("tests/training/test_origin.py::test_a_run_resumes_without_the_one_that_it_began_with",),
        "A run killed before its first checkpoint begins with whatever the other run has become.",
    ),
)
