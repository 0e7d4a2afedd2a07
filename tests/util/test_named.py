"""What users name: paths from their home, files and functions of their own, and what is said where those fail."""

import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config
from gan_jax.cli import arguments
from gan_jax.config_files import load_config
from gan_jax.data import Dataset
from gan_jax.evaluate import extractors, find
from gan_jax.util import named
from gan_jax.util.errors import UserError
from tests.helpers import ROOT, small


def test_home_is_read_as_shells_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = pwd.getpwuid(0)
    for text, expected in {
        "~": tmp_path,
        "~/a/~b": tmp_path / "a/~b",
        f"~{root.pw_name}/a": Path(root.pw_dir, "a"),
        "~$letter.png": Path("~$letter.png"),
        "./~/a": Path("./~/a"),
        "a~": Path("a~"),
    }.items():
        assert named.path(text, "--out") == expected
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])  # a user without an entry
    for text in ("~", "~/a"):
        with pytest.raises(UserError, match=f"--out: '{text}' starts at the home directory, and none is known here"):
            named.path(text, "--out")


def test_home_is_understood_in_all_flags_and_keys(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text((ROOT / "configs/gan.py").read_text())
    code = (
        "import json, sys; from absl import app, flags; from gan_jax.cli import main;"
        "from gan_jax.cli import command; from gan_jax.util import named;"
        "command.run = lambda mode, r: print(json.dumps([str(r.workdir), r.config_path, str(r.out), str(r.fallback)]));"
        "app.run(main.main, flags_parser=lambda argv: command.parse(flags.FLAGS, argv))"
    )

    def paths(*flags: str) -> Any:
        environment = {**os.environ, "HOME": str(tmp_path)}
        line = [sys.executable, "-c", code, *flags]
        done = subprocess.run(line, capture_output=True, text=True, env=environment)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    config = f"{tmp_path}/mine.py:folder@28"
    home = [str(tmp_path / name) for name in ("runs/x", "out.png", "b")]
    assert paths("--config=~/mine.py:folder@28", "--workdir=~/runs/x", "--fallback=~/b", "--config.data.dir=~") == [
        *(home[0], config),
        *("None", home[2]),
    ]
    sample = paths("--mode=sample", "--workdir=~/runs/x", "--out=~/out.png", "--config", "~/mine.py:folder@28")
    assert sample == [home[0], config, home[1], "None"]


def test_files_and_modules_of_functions_are_found_wherever_a_function_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own.py").write_text(
        "import jax.numpy as jnp\n\ndef few(_):\n    return [{'seed': 3}]\n\ndef rates(_):\n    return {'seed': 3}\n\n"
        "def means(images):\n    return jnp.asarray(images, float).mean((1, 2))\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    none = np.zeros(0, np.int32)
    dataset = Dataset("x", images, np.zeros(5, np.int32), images[:0], none, 0)
    names = set()
    for place in ("my_own", f"{tmp_path}/my_own.py", "~/my_own.py"):
        assert arguments.read_sweep(f"{place}:few") == [{"seed": 3}]
        assert arguments.read_search(f"{place}:rates")(None) == {"seed": 3}
        extractor = find(f"{place}:means", dataset, None)
        assert extractor is not None
        found, logits = extractor().apply({}, jnp.asarray(images))
        np.testing.assert_allclose(found, images.mean((1, 2), dtype=np.float64), rtol=1e-6)
        assert logits.shape == (5, 0)
        names.add(extractor().name)
    (of_module, of_file) = sorted(names, key=len)  # the same wherever the file lies
    assert of_module == "my_own:means"
    assert re.fullmatch(r"my_own.py:means:[0-9a-f]{8}", of_file)
    with pytest.raises(UserError, match=f"weights in {tmp_path}/none.pth"):
        find("inception:~/none.pth", dataset, None)
    with pytest.raises(UserError, match="--sweep: my_own has no function many"):
        arguments.read_sweep("my_own:many")
    with pytest.raises(UserError, match=r"--search=no.such:few: ModuleNotFoundError"):
        arguments.read_search("no.such:few")


def test_a_runs_own_config_names_files_of_functions_for_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = small("gan")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for text, expected in {
        "a/mine.py:f": f"{tmp_path}/a/mine.py:f",
        "~/mine.py:f": "/home/me/mine.py:f",
        "package.module:f": "package.module:f",
        **{f"{kind}:w.pth": f"{kind}:{tmp_path}/w.pth" for kind in (*extractors._INCEPTIONS, *extractors._OF_FILES)},
    }.items():
        kept.eval.features = text
        assert config.to_plain(kept)["eval"]["features"] == expected


def test_where_code_of_the_users_own_fails_its_file_and_line_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    helper, mine = tmp_path / "my_helper.py", tmp_path / "mine.py"
    helper.write_text("def rates():\n    return [1, 2][3]\n")
    mine.write_text(
        "import json\n\ndef get_config(data='x'):\n    import my_helper\n    return my_helper.rates()\n\n"
        "def few(_):\n    return nothing\n\ndef load(_):\n    return json.loads('{')\n\ndef good(_): return []\n"
    )
    broken = tmp_path / "broken.py"
    broken.write_text("a = 1\nb = (\n")
    importer = tmp_path / "importer.py"
    importer.write_text("\nimport broken\n")
    for call, said in [
        (
            lambda: load_config(str(mine)),
            f"config file {mine}: {helper}, line 2: IndexError: list index out",
        ),
        (lambda: arguments.read_sweep(f"{mine}:few"), f"--sweep={mine}:few: {mine}, line 8: NameError: name 'nothing'"),
        (lambda: arguments.read_sweep("mine:load"), f"--sweep=mine:load: {mine}, line 11: JSONDecodeError: Expecting"),
        (lambda: load_config(str(broken)), f"config file {broken}, line 2: SyntaxError: '(' was never"),
        (
            lambda: load_config(str(importer)),
            f"config file {importer}: {broken}, line 2: SyntaxError: '('",
        ),
        (lambda: arguments.read_search("broken:few"), f"--search=broken:few: {broken}, line 2: SyntaxError: '(' was"),
    ]:
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).startswith(said)
        assert "\n" not in str(error.value)


def test_a_config_file_is_told_from_one_with_an_argument(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def get_config(): pass\n")
    with pytest.raises(UserError, match=r"its get_config\(\) takes nothing after a colon, and 'mnist' stands there"):
        load_config(f"{file}:mnist")
    file.write_text("def get_config(which): pass\n")
    with pytest.raises(UserError, match=r"its get_config\(which\) wants its argument after a colon, --config=.*py:ARG"):
        load_config(str(file))


def test_features_that_fail_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import numpy as np\n\ndef means(images):\n    return np.asarray(images).mean((1, 2))\n")
    zeros = np.zeros((4, 8, 8, 1), np.uint8)
    dataset = Dataset("x", zeros, np.zeros(4, np.int32), zeros[:0], np.zeros(0, np.int32), 0)
    with pytest.raises(UserError) as error:
        find(f"{file}:means", dataset, None)  # JAX traces it, and NumPy wants numbers
    what = f"eval.features={file}:means fails on images of 8x8x1"
    assert str(error.value).startswith(f"{what}: {file}, line 4: TracerArrayConversionError: ")
    assert "\n" not in str(error.value)
