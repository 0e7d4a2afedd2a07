"""Faults of transfer: weights of another run, stages."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        "what-is-drawn-does-not-fade",
        "gan_jax/models/progan.py",
        "        kept.value = told\n",
        "        kept.value = jnp.ones_like(told)\n",
        ("tests/models/test_progan.py::test_what_is_drawn_is_faded_as_it_was_trained",),
        "While layers fade in, images are drawn by the new ones alone.",
    ),
    Fault(
        "reals-do-not-fade",
        "gan_jax/core/tasks.py",
        "return blurred + (images - blurred) * context.fade.astype(images.dtype)",
        "return images",
        ("tests/core/test_steps.py::test_steps_give_the_numbers_that_pytorch_gave[progan]",),
        "D tells reals by the fine detail that G's images haven't got yet.",
    ),
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
    Fault(
        "a-stage-draws-images-again",
        "gan_jax/stages.py",
        "return self.before - self.begin * self.per_step",
        "return 0",
        ("tests/training/test_stages.py::test_images_are_counted_over_stages",),
        "With another batch some images of an epoch are drawn twice, others never.",
    ),
    Fault(
        "a-schedule-in-images-knows-one-batch",
        "gan_jax/assemble/schedules.py",
        'found |= {"begin": count.step_at(found["begin"])}',
        'found |= {"begin": found["begin"] / count.per_step}',
        ("tests/training/test_stages.py::test_images_are_counted_over_stages",),
        "A fade-in begins at another image than it says.",
    ),
    Fault(
        "a-checkpoint-between-two-stages-is-of-the-next",
        "gan_jax/stages.py",
        "return at(planned, max(step - 1, 0))",
        "return at(planned, step)",
        ("tests/training/test_stages.py::test_a_run_killed_in_a_stage_or_between_two_ends_as_one_that_was_not",),
        "A run that ends where a stage does can't be resumed.",
    ),
)
