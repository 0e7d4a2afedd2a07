"""Runs on one page."""

import re
import shutil
from pathlib import Path

import pytest

from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.util.errors import UserError
from tests.helpers import ONE, charts_of, launch, run, small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare")
    config = small("gan")
    config.steps = 4
    run(config, path / "a", ONE)
    shutil.copytree(path / "a", path / "b")
    text = (path / "b/config.json").read_text()
    shutil.rmtree(path / "b/checkpoints")  # which would know better
    (path / "b/config.json").write_text(text.replace('"batch_size": 16', '"batch_size": 8'))
    return path


def test_they_stand_beside_each_other(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    said = launch("--mode=compare", str(made / "a"), str(made / "b"), f"--out={out}")
    assert f"2 runs beside each other: {out}" in said
    page, drawn = out.read_text(), charts_of(out)
    assert "<tr><td>batch_size</td><td>16</td><td>8</td></tr>" in page
    assert "<tr><th>figure</th><th>a</th><th>b</th></tr>" in page
    assert re.search(r"<tr><td>D's loss</td><td>[\d.]+</td><td>[\d.]+</td></tr>", page.replace("&#39;", "'"))
    assert page.count("<img") == 2
    losses = next(chart for chart in drawn if chart["title"] == "D's loss")
    assert [line["name"] for line in losses["lines"]] == ["a", "b"]
    assert len(losses["lines"][0]["points"]) == 4


def test_what_cannot_be_compared_is_one_line(made: Path, tmp_path: Path) -> None:
    for runs, message in (
        ((made / "a",), "give two runs or more to compare"),
        ((made / "a", made / "a"), "give two runs or more to compare, each once"),
        ((made / "a", tmp_path), "no run in .*: train first"),
    ):
        with pytest.raises(UserError, match=message):
            MODES["compare"].run(Request(tmp_path, runs=runs, out=tmp_path / "x.html"))
    with pytest.raises(UserError, match=r"--out must end in \.html in this mode"):
        MODES["compare"].run(Request(tmp_path, runs=(made / "a", made / "b"), out=tmp_path / "x.png"))
