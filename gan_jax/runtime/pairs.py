"""Scalar products of all pairs of two sets of vectors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.ops.xla_cpu import on_cpu


def placed(x: np.ndarray) -> Any:
    """``x`` where its pairs are multiplied: with NumPy on a CPU, which takes two thirds of XLA's time; else there."""
    return x if on_cpu() else jnp.asarray(x)


def of_pairs(a: Any, b: Any) -> Any:
    """``[n, d]`` and ``[m, d]`` to ``[n, m]``, in full float32 on GPUs and TPUs too."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a @ b.T
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
