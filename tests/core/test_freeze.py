"""Frozen parameters (FreezeD): they stand still, through clipping and averaging too; patterns are checked."""

import jax
import numpy as np
import pytest

from gan_jax import build
from gan_jax.core.state import named_leaves
from gan_jax.core.update import update
from gan_jax.training.train import describe_parameters
from gan_jax.util.errors import UserError
from tests.helpers import small, start

STILL = {"StridedConv_0.kernel", "BatchNorm_0.bias"}  # of D


def test_frozen_layers_keep_their_values_and_all_others_learn() -> None:
    config = small("dcgan")
    config.freeze.discriminator = "StridedConv_0.*, *.bias"
    config.optimizer.discriminator.update({"clip": 0.001, "historical_averaging": 0.1})  # which move any other
    gan, state, batch = start(config)
    after, _ = jax.jit(update, static_argnums=0)(gan, state, batch)
    for player, still in {"discriminator": STILL, "generator": set()}.items():
        old, new = (named_leaves(getattr(of, player).params) for of in (state, after))
        assert {name for name in old if np.array_equal(old[name], new[name])} == still
    size = sum(named_leaves(state.discriminator.params)[name].size for name in STILL)
    assert describe_parameters(config, state, "discriminator").endswith(f"({size:,} of them stand still)")
    assert "still" not in describe_parameters(config, state, "generator")


@pytest.mark.parametrize(
    ("player", "patterns", "said"),
    [
        (
            "discriminator",
            "StridedConv_0",
            r"config.freeze.discriminator: 'StridedConv_0'; did you mean 'StridedConv_0.\*'",
        ),
        ("generator", "Dense_0.*,TransposedConf_0.*", r"config.freeze.generator: 'TransposedConf_0.\*'; did you mean"),
        ("generator", "first.*", r"config.freeze.generator: 'first.\*'; valid: BatchNorm_0.bias, BatchNorm_0.scale,"),
        ("discriminator", "*", "is all of the discriminator's parameters: leave some out, or set config.optimizer"),
    ],
)
def test_patterns_that_match_nothing_or_everything_are_refused(player: str, patterns: str, said: str) -> None:
    config = small("dcgan")
    config.freeze[player] = patterns
    with pytest.raises(UserError, match=said) as caught:
        build.build_gan(config)
    assert "\n" not in str(caught.value)
