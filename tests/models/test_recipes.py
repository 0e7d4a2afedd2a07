"""The recipes of docs/recipes.md: each diff applies to the file at the head of the page, and the result trains."""

import re
from pathlib import Path

import pytest

from tests.helpers import ROOT, launch

PAGE = (ROOT / "docs/recipes.md").read_text()
(BASE,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
DIFFS = re.findall(r"^```diff\n(.*?)^```", PAGE, re.S | re.M)
TITLES = re.findall(r"^## (.*)$", PAGE, re.M)
SMALL = "--config.steps=2 --config.batch_size=8 --config.sample.rows=2 --config.eval.samples=10"
NARROW = "--config.generator.widths=(8,8,8) --config.discriminator.widths=(8,8,8)"


def applied(base: str, diff: str) -> str:
    """``base`` with the lines of ``diff``, whose old ones must stand there, one behind the other."""
    old = "".join(f"{line[1:]}\n" for line in diff.splitlines() if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in diff.splitlines() if not line.startswith("-"))
    assert base.count(old) == 1, "the diff doesn't fit the file at the head of the page"
    return base.replace(old, new)


def test_each_recipe_is_a_diff() -> None:
    assert len(DIFFS) == len(TITLES) == 7
    assert all(applied(BASE, diff) != BASE for diff in DIFFS)


@pytest.mark.slow
@pytest.mark.parametrize(("title", "diff"), [*zip(TITLES, DIFFS, strict=True)], ids=TITLES)
def test_a_recipe_trains(title: str, diff: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(applied(BASE, diff))
    small = SMALL.split() + ([] if "layer" in title else NARROW.split())
    features = [] if "metric" in title else ["--config.eval.features=none"]
    said = launch(f"--config={file}", f"--workdir={tmp_path / 'run'}", *small, *features)
    assert "finished: 2 steps" in said
