"""Whatever files are called: what is printed is plain text on any terminal, and a name that can't be stored is said."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax.runs.report import write_report, write_sweep_report
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps import sweep
from gan_jax.training import train
from gan_jax.training.run import Run
from gan_jax.util import progress
from gan_jax.util.errors import UserError
from tests.helpers import ONE, ROOT, SMALL, small

WILD = "\x1b[31m图é\x9b1m\u202e\udcff\r\tend\n"  # colours, a Chinese and a French letter, direction, no UTF-8


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "letters"), [("utf-8", "图é"), ("latin-1", "\\u56fe" + "é"), ("ascii", "\\u56fe\\xe9")]
)
def test_what_is_printed_is_plain_and_can_be_shown(
    encoding: str, letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    expected = ("\\x1b[31m" + letters + "\\x9b1m\\u202e\\udcff\\r\tend\n").encode(encoding)
    with progress.plain_output():
        print(WILD, end="")
        sys.stderr.write(WILD)
        progress.say(WILD.rstrip("\n"))
        list(progress.bar(range(2), desc=WILD))
    assert (sys.stdout, sys.stderr) == (out, err)
    for stream, times in ((out, 2), (err, 1)):
        stream.flush()
        stream.buffer.seek(0)
        found = stream.buffer.read()
        assert found.startswith(expected * times)
        assert b"\x1b" not in found
        assert b"\r" not in found


def test_bars_still_move_the_cursor_and_lines_stand_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.plain_output(), progress.bar(total=3, desc="two\x1b[2J", ncols=60) as bar:
        bar.update()
        before = len(terminal.getvalue())
        progress.say("a line\x1b[2J")
    shown = terminal.getvalue()
    assert "\x1b[2J" not in shown
    assert "\rtwo\\x1b[2J:   0%" in shown
    wiped, _, after = shown[before:].partition("a line\\x1b[2J\n")
    assert wiped.startswith("\r")  # over the bar, which comes again below
    assert wiped.strip() == ""
    assert "two" in after


def test_a_workdir_whose_name_is_no_utf8_is_refused_at_the_start(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    refused = r"the workdir .*caf\\udce9.*: its name isn't UTF-8, .*: rename it, or give another --workdir"
    for start in (
        lambda: train.train(small("gan"), path, ONE),
        lambda: train.train(small("gan"), path / "within", ONE),
        lambda: sweep.sweep(small("gan"), [{}], path, ONE),
        lambda: Workdir(path).config(),
    ):
        with pytest.raises(UserError, match=refused):
            start()
    assert not path.exists()
    path.mkdir()
    os.chdir(path)
    with pytest.raises(UserError, match=refused):
        Workdir(Path("runs/a"))
    os.chdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "start", lambda *_: pytest.fail("it began"))
        with pytest.raises(UserError, match=refused):
            train.train(small("gan"), tmp_path / "run", ONE, fallback=path)


@pytest.mark.slow
def test_pictures_in_a_folder_of_any_name_are_trained_on(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + "/数\x1b[31m".encode() + b"\xe9"))
    folder.mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (24, 28, 28), np.uint8)):
        Image.fromarray(image).save(folder / f"{i}.png")
    (folder / "bad\x1b[2J\n.png").write_text("no picture")
    command = [sys.executable, str(ROOT / "launch.py"), "--config=configs/gan.py", f"--workdir={tmp_path / 'run'}"]
    flags = ["--config.data.source=folder", f"--config.data.dir={folder}", "--config.steps=2"]
    narrow = ["--config.generator.widths=(8,)", "--config.discriminator.widths=(8,)"]
    done = subprocess.run(
        [*command, *SMALL, *narrow, *flags, "--config.eval.features=tests.evaluate.test_evaluate:means"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C"},
        capture_output=True,
        timeout=300,
    )
    said = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode == 0, said
    assert "\x1b" not in said
    assert "bad\\x1b[2J .png" in said
    assert "\\u6570\\x1b[31m" in said
    assert "finished: 2 steps" in said
    assert json.loads((tmp_path / "run" / "data.json").read_text())["name"] == "folder:数\\x1b[31m\\udce9"
    assert '<h2 id="Config">Config</h2>' in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_report_of_names_that_are_no_utf8_is_written(tmp_path: Path) -> None:
    name = "classifier:folder:\udce9"
    place = Workdir(tmp_path)
    place.data = {"name": "folder:\udce9", "digest": "a", "images": 3}
    place.claim(small("gan"))
    with place.logs(-1, small("gan")) as logs:
        logs.write({"step": 1, "seconds": 1.0, f"fid[{name}]": 1.0}, 4)
        logs.flush()
    logs.finish({})
    place.save_summary({"steps": 1, f"fid[{name}]": 1.0, "verdict": "healthy"})
    assert "Quality is measured by classifier:folder:\\udce9." in write_report(place).read_text(encoding="utf-8")
    row = {"trial": "000", f"fid[{name}]": 1.0}
    assert "000" in write_sweep_report(tmp_path, [row], []).read_text(encoding="utf-8")
