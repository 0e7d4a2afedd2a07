"""The commands of docs/use.md that use a trained generator, as they stand there, on runs of small networks."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax.cli.modes import MODES
from gan_jax.core.state import GANState
from tests.helpers import ROOT, launch

Trained = dict[str, tuple[Path, GANState]]
USES = ("sample", "interpolate", "walk", "mix", "project", "directions", "export", "play")
_QUICK = ("mix", "export")


def commands() -> list[str]:
    """Each line of a block, those that end in a backslash joined, without what follows a hash."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/use.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return [line for line in lines if re.match(rf"python launch\.py --mode=({'|'.join(USES)})\b", line)]


def mode_of(line: str) -> str:
    found = re.search(r"--mode=(\w+)", line)
    assert found is not None
    return found[1]


def test_every_use_is_shown() -> None:
    assert {mode_of(line) for line in commands()} == set(USES)
    assert set(USES) <= set(MODES)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=[] if mode_of(line) in _QUICK else pytest.mark.slow)
        for line in commands()
        if mode_of(line) != "play"  # which doesn't end: tests/use/test_play.py
    ],
)
def test_a_command_of_the_docs_runs(line: str, trained: Trained, tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 99, np.uint8)).save(tmp_path / "mine.png")
    if "--codes" in line:
        launch(
            "--mode=project",
            f"--workdir={trained['dcgan'][0]}",
            f"--image={tmp_path / 'mine.png'}",
            "--num_steps=3",
            f"--out={tmp_path / 'found'}",
        )
    flags = shlex.split(line, comments=True)[2:]
    runs = {f"runs/{name}": str(path) for name, (path, _) in trained.items()}
    outs = {"--out": tmp_path, "--image": tmp_path}
    told = []
    for flag in flags:
        name, _, value = flag.partition("=")
        if name in outs:
            value = str(outs[name] / value)
        if name == "--features":  # files that can't be had here: tests/use/test_project.py makes some
            assert value == "lpips:vgg16.pth,vgg_lpips.pth"
            value = "pixels"
        if name == "--codes":
            value = re.sub(r"[^,]*code\.npz", str(tmp_path / "found/code.npz"), value)
        told.append(f"{name}={runs.get(value, value)}" if value else name)
    mode = mode_of(line)
    if mode == "project":
        told.append("--num_steps=3")
    if "--shift" in line:
        name = "dcgan" if "runs/dcgan" in line else "stylegan2"
        launch("--mode=directions", f"--workdir={trained[name][0]}", "--num_directions=4")
    if "--step=best" in line:
        assert "no best checkpoint in" in launch(*told, code=2)  # of a run of two steps, that nobody judged
        return
    said = launch(*told, *([] if "--out" in line else [f"--out={tmp_path / _own_place(mode)}"]))
    for path, _ in trained.values():
        shutil.rmtree(path / "directions", ignore_errors=True)
    given = [tmp_path / "mine.png", *(tmp_path / "found").glob("*")]
    made = [file for file in tmp_path.rglob("*") if file.is_file() and file not in given]
    assert made, said


def _own_place(mode: str) -> str:
    """Where it writes, the workdirs being read by other tests."""
    return {"walk": "walk.gif", "project": "projected", "directions": "directions"}.get(mode, "out.png")
