"""What a progress bar says of what comes next."""

import pytest

from gan_jax.config import default
from gan_jax.training.dispatch import awaited


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (0, "checkpoint at 300"),
        (299, "checkpoint at 300"),
        (300, "evaluation at 500"),
        (1200, "evaluation and checkpoint at 1,500"),
        (2900, "evaluation and checkpoint at 2,950"),
    ],
)
def test_what_comes_next(step: int, said: str) -> None:
    config = default()
    config.eval.every, config.checkpoint.every = 500, 300
    assert awaited(config, step, 2950) == said
