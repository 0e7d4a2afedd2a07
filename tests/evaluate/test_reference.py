"""Statistics in a file stand in for images: the same FID, named by both; files of something else are refused."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.evaluate import metrics
from gan_jax.evaluate.reference import Reference, made_of, read
from gan_jax.training.train import train
from gan_jax.util.errors import UserError
from gan_jax.util.files import read_arrays
from tests.evaluate.test_metrics import REAL, frechet_by_scipy
from tests.helpers import MEANS, small


def reference(features: str = MEANS) -> Reference:
    return Reference(*metrics.moments(REAL), len(REAL), "x", features, made_of((8, 8, 1), "abc", {"fit": "crop"}))


def test_what_is_written_is_read_and_named_by_its_numbers(tmp_path: Path) -> None:
    one = reference()
    one.write(tmp_path / "one.npz")
    found = read(tmp_path / "one.npz")
    np.testing.assert_array_equal(found.mean, one.mean)
    np.testing.assert_array_equal(found.covariance, one.covariance)
    assert (found.count, found.data, found.features, found.name) == (700, "x", MEANS, one.name)
    assert json.loads(found.made) == {"shape": [8, 8, 1], "digest": "abc", "fit": "crop"}
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:  # as others read it
        np.testing.assert_allclose(file["mean"], REAL.astype(np.float64).mean(0), rtol=1e-6)
        np.testing.assert_allclose(file["covariance"], np.cov(REAL.T.astype(np.float64)), rtol=1e-6, atol=1e-9)
    other = Reference(one.mean + 1e-9, one.covariance, 700, "x", MEANS, "")
    assert other.name != one.name
    assert other.name.startswith("x:")


@pytest.mark.parametrize("damage", ["nothing", "text", "array", "shape", "version", "infinite"])
def test_other_files_are_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    reference().write(path)
    with np.load(path) as file:
        arrays: dict[str, Any] = dict(file)
    if damage == "nothing":
        path.unlink()
    elif damage == "text":
        path.write_text("mean")
    else:
        changed: dict[str, dict[str, Any]] = {
            "array": {"mean": arrays["covariance"]},
            "shape": {"mean": arrays["mean"][:-1]},
            "version": {"version": np.array(2)},
            "infinite": {"mean": arrays["mean"] * np.inf},
        }
        np.savez(path, **{**arrays, **changed[damage]})
    wanted = (
        "there is no such file: --mode=reference" if damage == "nothing" else "holds no statistics of features: give"
    )
    with pytest.raises(UserError, match=wanted) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_other_features_are_refused_in_one_line(tmp_path: Path) -> None:
    reference("random:1").write(tmp_path / "one.npz")
    with pytest.raises(
        UserError, match=r"is of features random:1, and this evaluation's are random:2: set --config.ev"
    ):
        read(tmp_path / "one.npz").check(tmp_path / "one.npz", "random:2")


@pytest.mark.slow
def test_an_evaluation_by_the_file_of_its_own_images_has_the_same_fid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = small("gan"), tmp_path / "run"
    config.eval.features = MEANS
    train(config, path, jax.devices()[:1])
    file = tmp_path / "statistics.npz"
    MODES["reference"].run(Request(path, out=file))
    assert f"4,500 train images of embedded:mnist5k by {MEANS}, named embedded:mnist5k:" in capsys.readouterr().out
    opened: list[Path] = []

    def opening(path: Path) -> Any:
        opened.append(path)
        return read_arrays(path)

    monkeypatch.setattr("gan_jax.evaluate.reference.read_arrays", opening)
    MODES["evaluate"].run(Request(path, num_samples=120, reference=file))
    assert opened == [file]
    (found,) = (json.loads(one.read_text()) for one in path.glob("evaluation_*.json"))
    name = f"[{MEANS}, {read(file).name}]"
    assert found[f"fid_reference{name}"] == pytest.approx(found[f"fid[{MEANS}]"], rel=1e-9)
    assert found[f"fid_reference_infinity{name}"] == pytest.approx(found[f"fid_infinity[{MEANS}]"], rel=1e-9)
    for one, other in (
        (f"fid_reference{name}", f"fid[{MEANS}]"),
        (f"fid_reference_infinity{name}", f"fid_infinity[{MEANS}]"),
    ):
        assert found["intervals"][one] == pytest.approx(found["intervals"][other], rel=1e-6)
    low, high = found["intervals"][f"fid[{MEANS}]"]
    assert low < found[f"fid[{MEANS}]"] < high
    assert "FID to a reference" in (path / "report.html").read_text()
    assert "95 % interval" in (path / "report.html").read_text()
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert f"{low:.4g} to {high:.4g}" in printed
    config.eval.features = "none"
    with pytest.raises(UserError, match=r"a reference needs features: set --config.eval.features"):
        MODES["reference"].run(Request(tmp_path / "none", config))
    with pytest.raises(UserError, match=r"--reference: a FID needs features: set --config.eval.features to those"):
        MODES["evaluate"].run(Request(path, reference=file, overrides={"eval.features": "none"}))


def test_fid_by_a_file_is_scipys() -> None:
    found = metrics.frechet_distance(reference().mean, reference().covariance, *metrics.moments(REAL[:300] + 0.1))
    assert found == pytest.approx(frechet_by_scipy(REAL, REAL[:300] + 0.1), rel=1e-6)
