"""Every command of the documents: quickly, that each is one that the program takes; slowly, that it does what it says.

Not run, but read: those that install, download, need a cluster, or don't end. ``.ci/run`` installs as the README says,
``tests/use/test_docs.py`` runs those of docs/use.md, ``tests/use/test_play.py`` the page of ``--mode=play``, and
``tests/models/test_recipes.py`` the recipes.
"""

import re
import shlex
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from gan_jax.config import default, dotted_keys
from tests.helpers import ROOT, launch

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("pip ", "python3 -m venv", "tensorboard ", "srun ", "gcloud ")  # what a block has beside launch.py
NOT_RUN = {
    "cifar10": "downloads",
    "lsun/church_outdoor": "downloads",
    "--coordinator": "needs a second process: tests/runtime/test_distributed.py",
    "--executor=slurm": "needs a cluster: tests/sweeps/test_jobs.py",
    "--mode=play": "doesn't end: tests/use/test_play.py",
    "package.module": "stands for a module of yours: tests/util/test_named.py",
    "inception": "downloads: tests/evaluate/test_inception.py",
    "NAME": "stands for a name",
    "XLA_FLAGS": "is a piece of a command",
}
TINY = {  # what makes a training short
    "gan": "--config.generator.widths=(8,8) --config.discriminator.widths=(8,8)",
    "dcgan": "--config.generator.widths=(4,4,4) --config.discriminator.widths=(4,4,4)",
    "stylegan2": "--config.generator.channel_max=4 --config.discriminator.channel_max=4 --config.generator.w_dim=8",
    "wgan_gp": "--config.generator.widths=(4,4,4) --config.discriminator.widths=(4,4,4)",
    "lsgan": "--config.generator.widths=(4,4,4) --config.discriminator.widths=(4,4,4)",
}
RUNS = {  # what the documents call runs, and configs of theirs
    "dcgan": "dcgan",
    "lsgan": "gan",
    "stylegan2": "stylegan2",
    "biggan": "cgan",
    "stylegan2_earth32": "stylegan2:earth32",
    "dcgan_shapes64": "dcgan:shapes64",
    "dcgan_shapes32": "dcgan:shapes32",
}
SHORT = "--config.steps=2 --config.batch_size=8 --config.sample.rows=2 --config.eval.features=none"


class Command(NamedTuple):
    """A command, and the page that has it."""

    page: str
    line: str

    @property
    def told(self) -> list[str]:
        return shlex.split(self.line, comments=True)[2:]


def commands() -> list[Command]:
    """Those of ``launch.py`` in blocks, and in the text between backticks, each once."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.S)).replace("\\\n", "")
        lines = [
            *blocks.splitlines(),
            *re.findall(r"`(python launch\.py [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.S)),
        ]
        for line in lines:
            call = re.sub(r"^.*?(?=python launch\.py )", "", line.replace("\n", " ").strip())
            if call.startswith("python launch.py "):
                call = call.rstrip('"') if call.count('"') % 2 else call  # of another command's argument
                call = call.partition(" #")[0].strip()
                found[call.rstrip('"') if call.count('"') % 2 else call] = page.name  # another command's argument
            else:
                assert not line.strip() or line.startswith(("#", *ELSEWHERE)), f"{page.name}: {line}"
    return [Command(page, line) for line, page in found.items()]


def reason(one: Command) -> str:
    """Why a command isn't run, or nothing."""
    return next((why for word, why in NOT_RUN.items() if word in one.line), "")


ALL = [one for one in commands() if "..." not in one.line and not one.line.endswith("--config=")]
RUN = [one for one in ALL if not reason(one) and one.page != "use.md"]


def test_there_are_commands_and_each_reason_is_needed() -> None:
    assert len(ALL) > 60
    assert all(any(word in one.line for one in ALL) for word in NOT_RUN if word != "XLA_FLAGS")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name: configs, and a file of one's own."""
    for name in ("configs", "gan_jax", "launch.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    rates = '{"optimizer.generator.learning_rate": trial.suggest_float("rate", 1e-5, 1e-3, log=True)}'
    mine = f"def few(hyper):\n    return hyper.sweep('seed', [0, 1])\n\n\ndef space(trial):\n    return {rates}\n"
    (tmp_path / "mine.py").write_text(f"{mine}\n\nfrom configs.gan import get_config\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pictures(place: Path) -> None:
    """The data that they name, too."""
    for folder in ("PICTURES", "IMAGES", "TWEMOJI", "EMOJI"):
        (place / folder).mkdir()
        (place / "shards").mkdir(exist_ok=True)
        for number in range(80):  # more than a batch, held-out ones left out
            random = np.random.default_rng(number)
            Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(place / folder / f"{number}.png")
    shutil.make_archive(str(place / "PICTURES"), "zip", place / "PICTURES")
    for number in range(10):
        with tarfile.open(place / "shards" / f"train-{number:06d}.tar", "w") as file:
            for image in sorted((place / "PICTURES").iterdir())[8 * number : 8 * number + 8]:
                file.add(image, image.name)
    np.save(place / "BANDS.npy", np.random.default_rng(0).integers(0, 256, (80, 32, 32, 7), np.uint8))
    np.savez(
        place / "ARRAYS.npz",
        images=np.zeros((64, 32, 32, 3), np.uint8) + np.arange(64, dtype=np.uint8)[:, None, None, None],
    )


@pytest.mark.parametrize("one", [one for one in ALL if "NAME" not in one.line], ids=lambda one: one.line[17:97])
def test_a_command_is_one_that_the_program_takes(one: Command, place: Path) -> None:
    """Its flags and keys exist, and its mode reads them."""
    keys = [flag for flag in one.told if flag.startswith("--config.")]
    told = [flag for flag in one.told if flag not in keys or "--config=" in one.line]
    assert launch(*told, only="taken").splitlines()[-1] == "taken"
    if told != one.told:  # of the run's own config
        assert {key.partition("=")[0].removeprefix("--config.") for key in keys} <= set(dotted_keys(default()))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a step or two, by the names that the documents give them."""
    folder = tmp_path_factory.mktemp("documented")
    for name, config in RUNS.items():
        file, colon, preset = config.partition(":")
        small = [*TINY.get(file, "").split(), *SHORT.split()]
        launch(f"--config=configs/{file}.py{colon}{preset}", f"--workdir={folder / name}", *small)
    sweep = f"--workdir={folder / 'wgan_gp_sweep'}", "--mode=sweep", "--sweep=seed=0,1"
    launch("--config=configs/gan.py", *sweep, *TINY["gan"].split(), *SHORT.split())
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("one", RUN, ids=lambda one: one.line[17:97])
def test_a_command_does_what_it_says(one: Command, place: Path, runs: Path) -> None:
    named_as = re.search(r"--config=configs/(\w+)\.py(?::(\w+))?", one.line)
    begun = "_".join(filter(None, [*named_as.groups(), "sweep" * ("--mode=sweep" in one.told)])) if named_as else ""
    fresh = "--workdir" not in one.line and ("--init_from" in one.line or "--mode=sweep" in one.told)
    shutil.copytree(runs, place / "runs", ignore=lambda *_: [begun] if fresh else [])
    told = [re.sub(r"^--config.steps=.*", "--config.steps=4", flag).replace("@800", "@2") for flag in one.told]
    named = next((flag.partition("=")[2] for flag in told if flag.startswith("--config=")), "")
    small = [*TINY.get(Path(named.partition(":")[0]).stem, "").split(), *SHORT.split()]
    if named.endswith(":packed"):
        source = ["--mode=prepare", f"--config={named.replace(':packed', ':folder')}", "--config.data.dir=PICTURES"]
        launch(*source, "--out=PACKED")
    if "--reference=digits.npz" in told:
        launch("--mode=reference", "--config=configs/dcgan.py", "--config.eval.features=random", "--out=digits.npz")
    given = {flag.partition("=")[0] for flag in told}
    if named and not {"--mode=augment", "--mode=evaluate"} & set(told):
        told += [flag for flag in small if flag.partition("=")[0] not in given]
    if "--mode=search" in told:  # which needs figures
        told = [flag for flag in told if not flag.startswith(("--trials", "--population", "--config.eval.features"))]
        told += ["--trials=2", "--population=2", "--config.eval.features=random", "--config.eval.samples=10"]
    if "--samples" in one.line:  # figures, too
        told += ["--config.eval.features=random"]
    launch(*told)
