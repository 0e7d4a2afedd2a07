"""Faults of what a trained generator is used for: classes, directions, projection, patience."""

from tests.faults.fault import Fault

_PROJECT, _DIRECTIONS = "gan_jax/use/project.py", "gan_jax/use/directions.py"
_FOUND = tuple(
    f"tests/use/test_project.py::test_a_generated_image_is_found_again[{name}]" for name in ("cgan", "stylegan2")
)
_SHIFT = ("tests/use/test_directions.py::test_a_shift_is_added_to_codes[stylegan2]",)
_MIXES = ("tests/use/test_classes.py::test_classes_and_mixes_are_rows",)
_EARLY = ("tests/training/test_best.py::test_a_run_ends_where_nothing_gets_better",)

FAULTS = (
    Fault(
        "shift-before-the-mapping",
        "gan_jax/core/draw.py",
        "if shift is not None and has_mapping(gan):",
        "if shift is not None and False:",
        _SHIFT,
        "Directions of w are added to z.",
    ),
    Fault(
        "a-mix-is-its-first-class",
        "gan_jax/use/loading.py",
        "np.bincount(numbers, minlength=gan.classes) / len(numbers)",
        "np.bincount(numbers[:1], minlength=gan.classes)",
        _MIXES,
        "A mix of classes is the first of them.",
    ),
    Fault(
        "tables-of-labels-know-no-shares",
        "gan_jax/layers/head.py",
        "return label.astype(table.dtype) @ table if label.ndim == 2 else table[label]",
        "return table[label.argmax(1)] if label.ndim == 2 else table[label]",
        ("tests/use/test_classes.py::test_shares_of_classes_take_the_mean_of_a_tables_rows",),
        "Conditional norms take one class of a mix.",
    ),
    Fault(
        "sefa-of-the-outputs",
        _DIRECTIONS,
        "_, _, vectors = np.linalg.svd(first.astype(np.float64), full_matrices=False)",
        "_, _, vectors = np.linalg.svd(first[:, ::-1].astype(np.float64), full_matrices=False)",
        ("tests/use/test_directions.py::test_sefa_is_of_the_first_dense_layer",),
        "Directions are those of other numbers of the code.",
    ),
    Fault(
        "weakest-components-first",
        _DIRECTIONS,
        "vectors = vectors.T[::-1]",
        "vectors = vectors.T",
        ("tests/use/test_directions.py::test_pca_is_of_w",),
        "The first direction changes the least.",
    ),
    Fault(
        "styles-of-the-row",
        "gan_jax/use/mixing.py",
        "table[:, 1:, styles] = of_columns[None, :, styles]",
        "table[:, 1:, styles] = of_rows[:, None, styles]",
        ("tests/use/test_directions.py::test_styles_are_mixed_as_by_hand",),
        "Nothing is mixed.",
    ),
    Fault(
        "projection-climbs",
        _PROJECT,
        "_ADAM.update(gradient, moments)",
        "_ADAM.update(jax.tree.map(jnp.negative, gradient), moments)",
        _FOUND,
        "The code goes away from the picture.",
    ),
    Fault(
        "clipped-pixels-pull-no-more",
        _PROJECT,
        "seen = images + jax.lax.stop_gradient(jnp.clip(images, -1, 1) - images)",
        "seen = images",
        (_FOUND[1],),
        "Images beyond [-1, 1] are never as near as they look.",
    ),
    Fault(
        "rate-never-falls",
        _PROJECT,
        "(0.5 - 0.5 * jnp.cos(jnp.pi * falling))",
        "(0.5 - 0.5 * jnp.cos(jnp.pi * 1))",
        ("tests/use/test_project.py::test_rates_rise_and_fall_as_published",),
        "The code jumps about to the last.",
    ),
    Fault(
        "noise-compared-with-itself",
        _PROJECT,
        "jnp.roll(maps, 1, axis)",
        "jnp.roll(maps, 0, axis)",
        ("tests/use/test_project.py::test_noise_is_held_to_have_nothing_in_common",),
        "Maps of noise may draw the picture.",
    ),
    Fault(
        "lpips-without-unit-vectors",
        "gan_jax/evaluate/perceptual.py",
        "unit = maps / (jnp.sqrt(jnp.square(maps).sum(-1, keepdims=True) + 1e-20) + 1e-10)",
        "unit = maps",
        ("tests/use/test_project.py::test_lpips_is_pytorchs",),
        "Bright places count more than others.",
    ),
    Fault(
        "patience-from-the-first-step",
        "gan_jax/runs/best.py",
        "return 0 if best is None else (step - max(best, begin)) // every",
        "return 0 if best is None else (step - begin) // every",
        _EARLY,
        "Runs end that still get better.",
    ),
    Fault(
        "a-run-out-of-patience-saves-nothing",
        "gan_jax/training/run.py",
        "if saved or self.over:",
        "if saved:",
        _EARLY,
        "The last steps of a run that ended early are lost.",
    ),
)
