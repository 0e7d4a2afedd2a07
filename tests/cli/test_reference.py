"""The reference of config keys: it is what the program knows, and says something of each."""

import pytest

from gan_jax import keys
from gan_jax.cli import reference
from gan_jax.config import default, dotted_keys, is_leaf
from tests.helpers import ROOT


def test_the_page_is_what_the_table_says() -> None:
    written = (ROOT / "docs/config.md").read_text()
    assert written == reference.page(), "python -m gan_jax.cli.reference > docs/config.md"


@pytest.mark.parametrize("name", keys.KEYS)
def test_a_key_has_a_meaning_and_a_default_that_holds(name: str) -> None:
    key = keys.KEYS[name]
    assert key.meaning.endswith((".", "WORKDIR")), key.meaning
    assert len(key.meaning.split()) <= 40
    assert key.check is None or key.check.holds(key.default)


def test_the_table_has_every_key_but_those_that_others_check() -> None:
    by_others = ("generator.", "discriminator.", "optimizer.", "schedules.", "averages.")
    assert {key for key in dotted_keys(default()) if not key.startswith(by_others)} == set(keys.KEYS)


def test_leaves_are_by_role() -> None:
    """By hand: of the kinds that a run may or may not change."""
    for name in ("terms.r1.weight", "augment.p", "labels.fake", "optimizer.generator.b1", "averages.ema.decay"):
        assert is_leaf(name), name
    for name in ("seed", "batch_size", "augment.name", "data.flip", "generator.widths", "log.every", "termsx.a"):
        assert not is_leaf(name), name
