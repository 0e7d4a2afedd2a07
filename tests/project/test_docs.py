"""The documents: every link leads somewhere, every page is found from the front page, and that one stays short."""

import json
import re
from pathlib import Path

import pytest

from gan_jax.cli.modes import MODES
from gan_jax.config import default, dotted_keys
from tests.helpers import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), ROOT / "benchmarks/README.md"])
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links(page: Path) -> list[str]:
    """Targets of the links within the checkout."""
    return [link for link in _LINK.findall(page.read_text()) if not link.startswith("http")]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of ``page`` may have behind its #, as GitHub forms it."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} of {page.name}"
        assert target.is_relative_to(ROOT), f"{link} of {page.name} leads out of the checkout"
        assert not anchor or anchor in anchors(target), f"{link} of {page.name}: no such heading"


def test_every_page_is_found_from_the_front_page() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            todo += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if link[0] != "#"]
    assert set(PAGES) <= seen


def test_the_front_page_is_read_in_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_keys_and_modes_that_a_page_names_exist() -> None:
    """Of those that translate from elsewhere, which no other test runs."""
    known = {*dotted_keys(default()), "schedules.augment.kind", "schedules.augment.target"}
    for page in ("coming_from.md", "choose.md"):
        text = (ROOT / "docs" / page).read_text()
        for key in re.findall(r"--config\.([\w.]+)", text):
            assert key in known or any(name.startswith(f"{key}.") for name in known), f"{key} in {page}"
        assert {*re.findall(r"--mode=(\w+)", text)} <= set(MODES), page


def test_notebooks_show_what_they_made_and_nothing_of_the_machine() -> None:
    for path in (ROOT / "docs/notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        assert any("image/png" in output.get("data", {}) for output in outputs)
        assert all(output.get("name") != "stderr" for output in outputs), "python -m tests.notebooks records them"
        assert "/tmp/" not in path.read_text()
