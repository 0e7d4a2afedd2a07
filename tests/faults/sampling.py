"""Faults of sampling: grids, samples, interpolations, what is written."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        "slerp-is-linear",
        "gan_jax/sample.py",
        "return jnp.where(parallel, (1 - t) * a + t * b, spherical)",
        "return (1 - t) * a + t * b",
        ("tests/test_visualize.py::test_slerp_is_shoemakes_formula",),
        "Interpolations cut through the sphere, where no latents are.",
    ),
)
