"""Messages stay short, however long the lists and texts that they are made of."""

import ast
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax import build, data
from gan_jax.cli import command
from gan_jax.config import differences, to_plain
from gan_jax.runs.workdir import Workdir
from gan_jax.util.errors import UserError, clipped, listed, printable, unknown_name
from tests.helpers import ROOT, data_options, small

LONG = 3000  # characters that a message has at most


def test_lists_are_as_long_as_they_are_told() -> None:
    assert listed([]) == ""
    assert listed("abc", 3) == "a, b, c"
    assert listed("abcd", 3) == "a, b, c, and 1 more"
    assert listed(range(5000), 2, "; ") == "0; 1; and 4,998 more"
    assert listed(["x" * 500, "y"], long=10) == "xxxxxxx..., y"
    assert clipped("x" * 100) == "x" * 100
    assert len(clipped("x" * 101)) == 100


def test_what_can_not_be_shown_is_written_out() -> None:
    assert printable("a\x1b[31m\n\u202e\udce9 猫") == r"a\x1b[31m\n\u202e\udce9 猫"


def test_an_archive_of_many_files_is_one_short_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(3786):
            archive.writestr(f"{number}{'x' * 500}.png", b"")
    for changed in ({}, {"label_key": "y"}):
        with pytest.raises(UserError, match=r"has no array 'images', but '0x.*, and 3,776 more$") as error:
            data.load(data_options(source="npz", dir=str(tmp_path / "a.npz"), **changed), None)
        assert len(str(error.value)) < LONG


def test_other_lists_that_users_make_are_short(tmp_path: Path) -> None:
    ours, theirs = small("dcgan"), small("dcgan")
    theirs.generator.widths = tuple(range(1, 5000))
    place = Workdir(tmp_path / "run")
    place.claim(theirs)
    place.save_summary({"steps": 10})
    messages = []
    with pytest.raises(UserError, match="with other settings") as error:
        place.check(ours)
    messages.append(str(error.value))
    theirs.generator.widths = ("a",) * 5000
    with pytest.raises(UserError, match="positive whole numbers") as error:
        build.build_gan(theirs)
    messages.append(str(error.value))
    theirs = small("dcgan")
    theirs.data.channels = 10**4000
    with pytest.raises(UserError, match="must be from 1 to 16") as error:
        build.build_gan(theirs)
    messages.append(str(error.value))
    messages.append(str(unknown_name("key", "x", [f"{number}{'y' * 900}" for number in range(999)])))
    assert all(len(message) < LONG for message in messages)
    assert len(differences(to_plain(ours), to_plain(ours))) == 0


def test_whatever_fails_is_a_line_of_bounded_length(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), command.one_line_errors():
        raise UserError("x" * 10**6)
    assert 0 < len(capsys.readouterr().err) < 5000


def test_a_device_without_memory_is_one_line_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, command.one_line_errors():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore")
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert "9 bytes; lower batch_size" in said
    assert (ROOT / "docs" / "devices.md").is_file()  # which the line names


def test_names_are_joined_by_listed_alone() -> None:
    """A list that grows with what users have must not be written out: whoever joins one says here why it is short."""
    short = {
        "cli/doctor.py",  # is a page to be read
        "cli/reference.py",  # is a page, too
        "evaluate/sampling.py",  # options of drawing, a handful
        "keys.py",  # choices that are written there
        "util/errors.py",  # does it
        "evaluate/monitors.py",  # figures of the verdict
        "runs/report.py",  # is a page
        "runs/charts.py",  # is part of it
        "use/trained.py",  # options of drawing, a handful
        "training/run.py",  # figures; players
        "data/folder.py",  # endings of images
        "data/labels.py",  # numbers of a vector, which messages clip
        "data/dataset.py",  # what was left out, listed before
    }
    found = set()
    for file in (ROOT / "gan_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            between, inner = ast.unparse(node.func.value), ast.unparse(node.args[0])
            # Not names in the source, nor texts that lose their line breaks.
            if (
                node.func.attr == "join"
                and between in ("', '", "'; '", "' '")
                and not (inner.isupper() or inner.endswith(".split()"))
            ):
                found.add(file.relative_to(ROOT / "gan_jax").as_posix())
    assert found - {"layers/head.py"} <= short


def test_numpy_says_no_more_than_a_line_of_a_structured_type(tmp_path: Path) -> None:
    wide = np.zeros(3, [(f"field{number}", np.uint8) for number in range(350)])
    np.savez(tmp_path / "a.npz", images=wide)
    with pytest.raises(UserError, match="images must be uint8") as error:
        data.load(data_options(source="npz", dir=str(tmp_path / "a.npz")), None)
    assert len(str(error.value)) < LONG
