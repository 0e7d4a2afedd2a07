"""Standing statistics (`gan_jax.core.standing`) on devices: a batch on each, so that their number changes no bit."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from gan_jax.core import standing
from gan_jax.core.gan import GAN, Variables
from gan_jax.evaluate.sampling import Sampling
from gan_jax.runtime import program


def drawn_with(
    gan: GAN, how: Sampling, counts: np.ndarray, devices: Sequence[jax.Device]
) -> Callable[[Variables, Any], Variables]:
    """Return ``given(variables, seed)``: the variables that samples are drawn with.

    Those that are given, but for statistics by ``how.standing`` batches of fresh latents, drawn as ``how`` says with
    labels as frequent as ``counts`` ``[classes]``.
    """
    if not how.standing:
        return lambda variables, seed: variables

    def one(common: Any, numbers: Any) -> Any:
        variables, seed, counts = common
        found = standing.moments(gan, variables, numbers[0], seed=seed, counts=counts, **dict(how.options))
        return jax.tree.map(lambda own: own[None], found)

    mapped = program.map_examples(one, devices, "standing statistics", shard=1)

    def given(variables: Variables, seed: Any) -> Variables:
        found = mapped((variables, seed, counts), partial(np.asarray, dtype=np.int32), how.standing)
        return standing.with_moments(variables, found)

    return given
