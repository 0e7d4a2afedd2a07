"""A run of a user's own code finds it again by its workdir alone, and says when it is gone or another."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax.cli import given
from gan_jax.config import changed
from gan_jax.config_files import load_config
from gan_jax.evaluate import sample
from gan_jax.runs.code import Code, File
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps.planning import grouped, plan
from gan_jax.training import train
from gan_jax.use import loading
from gan_jax.util.errors import UserError
from tests.helpers import ONE, assert_identical, run
from tests.test_outside import FILE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def own(file: Path, **values: Any) -> ConfigDict:
    """The file's config, which takes the least to be compiled."""
    found = changed(load_config(str(file)), values)
    found.augment.name = "none"
    for name in ("counting", "generator_rate", "discriminator_rate"):
        del found.schedules[name]
    return found


def drawn(path: Path) -> np.ndarray:
    _, gan, state, _ = loading.restore(path)
    images: np.ndarray = sample.sample(gan, state, 0, np.zeros(2, np.int32))
    return images


def test_a_run_resumes_and_is_sampled_by_its_workdir_alone(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(own(file, steps=4), path)
    known = json.loads((path / "code.json").read_text())
    lines = (
        FILE[: FILE.index("def get_config")] + FILE[FILE.index("    return config\n") + len("    return config\n") :]
    )
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert known == {"mine.py": {"file": str(file), "sha256": digest}}
    copy = path / f"code/mine.{digest[:12]}.py"
    assert copy.read_text() == FILE
    before = drawn(path)

    file.write_text(
        FILE.replace("config.steps_per_dispatch = 2", "config.steps_per_dispatch = 1  # what it sets is told by keys")
    )
    assert_identical(drawn(path), before)
    again = Workdir(path).config()
    again.steps = 6
    assert int(run(again, path).step) == 6
    assert not (path / "changes.json").exists()
    before = drawn(path)

    file.write_text(other := FILE.replace("-3 * fake", "-4 * fake"))
    for look in (lambda: drawn(path), lambda: train.train(changed(again, {"steps": 8}), path, ONE)):
        with pytest.raises(UserError, match=rf"{file} has changed \(as it was: {copy}\)") as error:
            look()
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"a run that has ended, which code.mine.py can't change any more"):
        train.train(again, path, ONE, change=True)
    train.train(changed(again, {"steps": 8}), path, ONE, change=True)
    now = json.loads((path / "code.json").read_text())["mine.py"]["sha256"]
    assert now == File(file, other.encode()).digest
    history = [(one["step"], one["key"], one["old"], one["new"]) for one in Workdir(path).changes()]
    assert history == [(6, "code.mine.py", digest, now)]
    assert f"after step 6: code.mine.py {digest[:12]} -> {now[:12]}" in (path / "report.html").read_text().replace(
        "&gt;", ">"
    )

    moved = file.rename(tmp_path / "else.py")
    for look in (lambda: drawn(path), lambda: given.of_run(Workdir(path), {})):
        with pytest.raises(
            UserError, match=rf"there is no file {file}, .* \(as it was: {path}/code/mine.*\): put it"
        ) as error:
            look()
        assert "\n" not in str(error.value)
    file.symlink_to(moved)
    assert drawn(path).shape == before.shape


def test_code_that_lies_elsewhere_now_is_the_same(file: Path, tmp_path: Path) -> None:
    place = Workdir(tmp_path / "run")
    place.claim(own(file))
    (tmp_path / "else").mkdir()
    there = own(file.rename(tmp_path / "else/mine.py"))
    place = Workdir(tmp_path / "run")
    assert place.differing(there) == {}
    (tmp_path / "else/mine.py").write_text(FILE.replace("fake", "fakes"))
    assert Workdir(tmp_path / "run").differing(there).keys() == {"code.mine.py"}
    (tmp_path / "run/code.json").write_text("{")
    with pytest.raises(UserError, match=r"code.json, which says what code .* is damaged: restore it, or remove it"):
        Workdir(tmp_path / "run").differing(there)


def test_no_code_is_run_out_of_a_workdir(file: Path, tmp_path: Path) -> None:
    place = Workdir(tmp_path / "run")
    place.claim(own(file))
    inside = tmp_path / "run/code/evil.py"
    inside.write_text("open('evil', 'w')")
    (tmp_path / "link.py").symlink_to(inside)
    honest = json.loads((tmp_path / "run/config.json").read_text())
    for plain in (
        honest | {"loss": f"{inside}:loss"},
        honest | {"model": str(tmp_path / "link.py")},
        honest | {"eval": honest["eval"] | {"features": f"{inside}:features"}},
    ):
        (tmp_path / "run/config.json").write_text(json.dumps(plain))
        for look in (lambda: loading.restore(place.path), lambda: given.of_run(Workdir(place.path), {})):
            with pytest.raises(
                UserError, match=r"lies in the workdir .*, and no code is run out of a workdir: move it"
            ):
                look()
    assert not Path("evil").exists()


def test_what_changed_is_counted_from_where_a_run_really_goes_on(file: Path, tmp_path: Path) -> None:
    """As for keys of the config: recorded before the checkpoint is read, which may be found damaged."""
    config, folder = own(file), tmp_path / "run"
    Code(folder).keep(config)
    one = Code(folder).digests(config)["code.mine.py"]
    file.write_text(FILE.replace("fake", "fakes"))
    code = Code(folder)
    two = code.digests(config)["code.mine.py"]
    first = code.changes(config, 8, [])
    assert first == [{"step": 8, "key": "code.mine.py", "old": one, "new": two}]
    code.keep(config)
    assert code.changes(config, 4, first) == [first[0] | {"step": 4}]
    assert code.changes(config, 8, first) == first
    assert code.changes(config, 10, first) == []
    file.write_text(FILE)
    assert Code(folder).changes(config, 8, first) == []
    assert len(list((folder / "code").iterdir())) == 2


def test_files_of_one_name_and_modules_are_told_apart(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/mine.py").write_text("def loss(real, fake): return real, fake")
    config = changed(own(file), {"loss": f"{tmp_path}/b/mine.py:loss", "prior": "gan_jax.core.priors:NORMAL"})
    files = Code(tmp_path / "run").files(config)
    assert {name: one.path.parent.name for name, one in files.items()} == {
        "mine.py": "b",
        "mine_2.py": tmp_path.name,
        "priors.py": "core",
    }


def test_trials_of_a_users_own_code_share_a_program(file: Path, tmp_path: Path) -> None:
    trials = [{"terms.shift.slope": slope} for slope in (1.0, 2.0)] + [{"terms.remembered.weight": 0.0}]
    members = plan(own(file), trials, tmp_path / "sweep")
    assert [len(group) for group in grouped(members)] == [2, 1]
