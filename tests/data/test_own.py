"""Images from a function of the user's own are the data that the same arrays in a file are."""

import re
from pathlib import Path

import numpy as np
import pytest

from gan_jax import config, data
from gan_jax.config_files import load_config
from gan_jax.util.errors import UserError
from tests.helpers import ROOT, data_options

SIZE = {"image_size": 8, "channels": 3}
FILE = """
import numpy as np
from gan_jax.data.parts import Part, Source

def arrays(options):
    rng = np.random.default_rng(3)
    images, tests = (rng.integers(0, 256, (count, 8, 8, 3), np.uint8) for count in (20, 5))
    return {"images": images, "labels": np.arange(20) % 3, "test_images": tests, "test_labels": [2, 1, 0, 1, 2]}

def unlabelled(options):
    return {"images": arrays(options)["images"][:options.image_size]}

def grey(options):
    return {"images": np.full((9, 4, 6), 7, np.uint8), "labels": [5] * 8 + [6], "classes": ["a"] * 5 + ["five", "six"]}

def whole(options):
    return Source("all of it", Part(arrays(options)["images"], None), None)

def broken(options):
    return arrays[options]

def of_floats(options):
    return {"images": np.zeros((9, 8, 8, 3))}

def misspelt(options):
    return {"images": arrays(options)["images"], "label": []}

def half(options):
    return arrays(options) | {"test_labels": None}

def nothing(options):
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def load(file: Path, name: str, cache: Path | None = None) -> data.Dataset:
    return data.load(data_options(**SIZE, source=f"{file}:{name}"), cache)


def test_arrays_of_a_function_are_those_of_a_file(file: Path, tmp_path: Path) -> None:
    found: dict[str, object] = {}
    exec(FILE, found)
    arrays = found["arrays"](None)  # type: ignore[operator]
    np.savez(tmp_path / "a.npz", **arrays)
    same = data.load(data_options(**SIZE, source="npz", dir=str(tmp_path / "a.npz")), None)
    own = load(file, "arrays")
    assert (own.digest, own.test_digest) == (same.digest, same.test_digest)
    np.testing.assert_array_equal(own.train_images[np.arange(20)], arrays["images"])
    np.testing.assert_array_equal(own.test_labels, [2, 1, 0, 1, 2])
    assert (own.name, own.classes) == ("mine.py:arrays", 3)
    assert len(load(file, "unlabelled").test_images) == 1  # held out of 8, as it is told of the image's size
    assert load(file, "whole").name == "all of it"


def test_arrays_of_another_shape_are_fitted_and_kept(file: Path, tmp_path: Path) -> None:
    found = load(file, "grey", tmp_path / "cache")
    assert found.train_images.shape == (8, 8, 8, 3)
    assert (found.train_images[np.arange(8)] == 7).all()
    assert found.names == ("five", "six")
    assert list((tmp_path / "cache").iterdir())


def test_the_documented_function_is_a_source(tmp_path: Path) -> None:
    (page,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/data.md").read_text(), re.S | re.M)
    (tmp_path / "mine.py").write_text(page)
    found = data.load(data.Options(**load_config(str(tmp_path / "mine.py")).data.to_dict()), None)
    assert found.train_images.shape == (950, 28, 28, 1)
    assert found.classes == 3


def test_a_source_is_found_from_any_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    found = config.default()
    found.data.source = "mine.py:arrays"
    assert config.to_plain(found)["data"]["source"] == f"{file}:arrays"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "broken",
            "data.source=.*:broken fails: .*mine.py, line 20: TypeError: 'function' object is not subscriptable",
        ),
        (
            "of_floats",
            r"images: images must be uint8 or uint16 \[N, H, W\] .*, not float64 \[9, 8, 8, 3\]: convert",
        ),
        ("misspelt", "returns 'label': it may return 'images', 'labels', 'test_images'"),
        ("half", "returns labels of one part alone: add 'labels' and 'test_labels', or neither"),
        ("nothing", "must return a dict with 'images', or a Source, not <class 'NoneType'>"),
        ("none", r"data.source: .*mine.py has no function none\(options\): write it"),
    ],
)
def test_what_is_no_data_is_one_line(name: str, message: str, file: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(file, name)
    assert "\n" not in str(error.value)
