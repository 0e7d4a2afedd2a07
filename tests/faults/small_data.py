"""Faults of ADA: its transforms, their order and chances, and the warp below them."""

from tests.faults.fault import Fault

_TEST = "tests/core/test_ada.py::test_"
_ADA, _WARP = "gan_jax/core/ada.py", "gan_jax/ops/warp.py"

FAULTS = (
    Fault(
        "all-examples-deceive-at-once",
        "gan_jax/core/tasks.py",
        'chance = uniform(context.keys("pseudo", examples.substep), ())',
        'chance = uniform(context.keys("pseudo", examples.substep)[:1], ())',
        ("tests/core/test_augment.py::test_a_share_of_the_reals_are_images_of_g",),
        "APA shows either a batch of reals or one of fakes.",
    ),
    Fault(
        "apa-the-wrong-way-round",
        "gan_jax/core/tasks.py",
        "return jnp.where(chosen.reshape(-1, *(1,) * (images.ndim - 1)), shown.astype(images.dtype), images)",
        "return jnp.where(chosen.reshape(-1, *(1,) * (images.ndim - 1)), images, shown.astype(images.dtype))",
        ("tests/core/test_augment.py::test_a_share_of_the_reals_are_images_of_g",),
        "The less D shall be deceived, the more it is.",
    ),
    Fault(
        "geometry-in-reverse-order",
        _ADA,
        'jnp.matmul(found, step, precision="highest")',
        'jnp.matmul(step, found, precision="highest")',
        (f"{_TEST}transforms_follow_each_other_in_the_papers_order",),
        "Images are moved before they are mirrored.",
    ),
    Fault(
        "both-turns-with-the-whole-chance",
        _ADA,
        "one = 1 - jnp.sqrt(1 - jnp.asarray(chances.get(name, 0.0), dtype))",
        "one = jnp.asarray(chances.get(name, 0.0), dtype)",
        (f"{_TEST}each_transform_happens_as_often_and_goes_as_far_as_published",),
        "More images are turned than p says.",
    ),
    Fault(
        "hue-the-other-way",
        _ADA,
        "jnp.roll(colour, 1, -1) - jnp.roll(colour, -1, -1)",
        "jnp.roll(colour, -1, -1) - jnp.roll(colour, 1, -1)",
        (f"{_TEST}colours_are_the_product_of_five_matrices",),
        "Hue isn't a turn by the angle that was drawn.",
    ),
    Fault(
        "gains-not-normalised",
        _ADA,
        "gains / jnp.sqrt((jnp.asarray(_POWER, dtype) * gains**2).sum())",
        "gains",
        (f"{_TEST}gains_of_bands_keep_the_power_of_a_natural_image",),
        "Filtered images are of another power than others.",
    ),
    Fault(
        "factors-of-ada-ignored",
        _ADA,
        'jnp.clip(numbers["p"] * numbers["ada"][group], 0, 1)',
        'jnp.clip(numbers["p"], 0, 1)',
        (f"{_TEST}a_config_says_which_transforms_there_are_and_what_is_off_is_not_computed",),
        "augment.ada.color=.5 does nothing.",
    ),
    Fault(
        "warp-of-images-that-stay",
        _ADA,
        "wide = _if(_moves(draws), warp(wide, inverse(draws, wide.dtype)), wide)",
        "wide = warp(wide, inverse(draws, wide.dtype))",
        (f"{_TEST}a_chance_of_0_leaves_images_as_they_are_to_the_bit",),
        "With p = 0 images are filtered.",
    ),
    Fault(
        "corner-and-way-of-two-roundings",
        _WARP,
        "at = jnp.matmul(of_result.reshape(-1, 3), fine.T.astype(inverse.dtype), precision=_EXACT)",
        "at = (of_result.reshape(-1, 1, 3) * fine.astype(inverse.dtype)).sum(-1)",
        (f"{_TEST}a_warp_and_its_adjoint_are_each_others_derivatives",),
        "Compiled, a place near a whole number has the corner of one rounding and the way of another.",
    ),
    Fault(
        "filter-not-reversed-on-the-way-down",
        _WARP,
        "[value / sum(_SYM6) for value in _SYM6]",
        "[value / sum(_SYM6) for value in _SYM6[::-1]]",
        (f"{_TEST}a_warp_is_what_filters_and_bilinear_sampling_make",),
        "Every augmented image is blurred and moved by half a pixel.",
    ),
    Fault(
        "edges-repeated",
        _WARP,
        "inside = places % max(2 * (side - 1), 1)",
        "inside = places.clip(0, side - 1)",
        (f"{_TEST}bands_are_built_of_sym2_and_amplify_their_frequencies",),
        "Filters see smeared borders.",
    ),
    Fault(
        "schedules-logged-as-configured",
        "gan_jax/core/update.py",
        'f"schedule_{name}": leaf(hyperparams, key)',
        'f"schedule_{name}": leaf(state.hyperparams, key)',
        ("tests/core/test_schedules.py::test_the_strength_of_augmentation_is_remembered_and_used",),
        "The curve of p is flat.",
    ),
    Fault(
        "a-picture-of-always",
        "gan_jax/evaluate/augmented.py",
        "dataclasses.replace(gan.augment, by_chance=True)",
        "dataclasses.replace(gan.augment)",
        ("tests/evaluate/test_augmented.py::test_what_happens_at_a_low_chance_happens_at_a_higher_one",),
        "--mode=augment shows DiffAugment in every row.",
    ),
)
