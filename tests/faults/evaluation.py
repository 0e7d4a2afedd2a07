"""Faults of the evaluation: what is drawn, compared and reported."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        "fid-without-the-means",
        "gan_jax/evaluate/metrics.py",
        "return float(jnp.square(jnp.asarray(mean1) - mean2).sum() + trace)",
        "return float(trace)",
        ("tests/test_metrics.py::test_frechet_distance_is_scipys",),
        "The FID ignores a shift of all samples.",
    ),
)
