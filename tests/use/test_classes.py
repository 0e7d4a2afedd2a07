"""Classes of samples: lists of them, mixes, and tables of classes, seeds and options."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import gan_jax
from gan_jax import build
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core import draw
from gan_jax.core.state import GANState, init_state
from gan_jax.layers.head import of_label
from gan_jax.runs import visualize
from gan_jax.util.errors import UserError
from tests.helpers import small

Trained = dict[str, tuple[Path, GANState]]


def test_shares_of_classes_take_the_mean_of_a_tables_rows() -> None:
    table, shares = jnp.asarray([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]), jnp.asarray([[0.0, 0.5, 0.5], [1, 0, 0]])
    assert_allclose(of_label(table, shares), [[3, 30], [1, 10]])
    assert_allclose(of_label(table, jnp.asarray([1, 0])), [[2, 20], [1, 10]])


@pytest.mark.parametrize(
    "name",
    [
        *("cgan", "stylegan2:cifar_cond"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("projection", "sagan", "biggan", "r3gan:cifar10_cond")
        ),
    ],
)
def test_a_share_of_one_is_the_class_and_halves_lie_between(name: str) -> None:
    """Concatenated codes, batch norm's tables, shared embeddings, mapping networks: all take shares of classes."""
    config = small(name)
    config.data.source, config.data.name, config.data.channels = "embedded", "mnist5k", 1
    gan, hyper = build.build_gan(config)
    state = jax.jit(init_state, static_argnums=0)(gan, 0, hyper)
    params = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape, x.dtype), state.ema["params"]
    )
    variables = {**state.ema, "params": params}
    keys = jax.random.split(jax.random.key(1), 2)
    z = draw.latents(gan, keys)

    def made(label: Any) -> Any:
        return draw.generate(gan, variables, (z, jnp.asarray(label), keys))

    three, five, ones = made([3, 3]), made([5, 5]), jax.nn.one_hot(jnp.array([3, 5]), gan.classes)
    assert_allclose(made(ones), jnp.stack([three[0], five[1]]), atol=1e-5)
    half = made((ones[:1] + ones[1:]) / 2 * jnp.ones((2, 1)))
    assert float(jnp.abs(half - three).max()) > 1e-4
    assert float(jnp.abs(half - five).max()) > 1e-4


def test_classes_and_mixes_are_rows(trained: Trained, tmp_path: Path) -> None:
    path = trained["cgan"][0]
    run = gan_jax.load(path)
    MODES["sample"].run(Request(path, labels="7,2", num_samples=30, out=tmp_path / "a.npz"))
    with np.load(tmp_path / "a.npz") as kept:
        assert_array_equal(kept["labels"], [7] * 10 + [2] * 10 + [7] * 10)
        assert_array_equal(kept["images"], run.sample(30, label=kept["labels"]))
    MODES["sample"].run(Request(path, labels="7+2,2", num_samples=20, out=tmp_path / "b.npz"))
    half = np.zeros((20, 10), np.float32)
    half[:10, [2, 7]], half[10:, 2] = 0.5, 1
    with np.load(tmp_path / "b.npz") as kept:
        assert list(kept["classes"]) == ["7+2", "2"]
        assert_array_equal(kept["labels"], [0] * 10 + [1] * 10)
        assert_array_equal(kept["images"], run.sample(20, label=half))
        assert_array_equal(kept["images"][:10], run.sample(10, label="7+2"))
    MODES["sample"].run(Request(path, label="7+2", seeds="1", out=tmp_path / "mixes"))
    assert [file.name for file in (tmp_path / "mixes").iterdir()] == ["seed000001_7_2.png"]
    with pytest.raises(UserError, match=r"--labels=x: the GAN in .* has no such class: it has 10 classes"):
        MODES["sample"].run(Request(path, labels="1,x", out=tmp_path / "c.png"))
    with pytest.raises(UserError, match=r"--labels=1 says which classes: leave out --label"):
        MODES["sample"].run(Request(path, labels="1", label="2", out=tmp_path / "c.png"))
    with pytest.raises(UserError, match="it was trained without labels"):
        MODES["sample"].run(Request(trained["dcgan"][0], labels="1,2", out=tmp_path / "c.png"))


def test_a_table_has_a_class_a_row_and_a_seed_a_column(trained: Trained, tmp_path: Path) -> None:
    path = trained["cgan"][0]
    run = gan_jax.load(path)
    MODES["sample"].run(Request(path, labels="7,2,3+4", seeds="5,9", out=tmp_path / "table.png"))
    images = [run.sample(1, seed=seed, label=label)[0] for label in ("7", "2", "3+4") for seed in (5, 9)]
    with Image.open(tmp_path / "table.png") as picture:
        assert_array_equal(np.asarray(picture), visualize.grid(np.stack(images), 2, ["7", "2", "3+4"])[..., 0])
    MODES["sample"].run(Request(path, labels="7,2", seeds="5,9", out=tmp_path / "table"))
    names = sorted(file.name for file in (tmp_path / "table").iterdir())
    assert names == [f"seed00000{seed}_{label}.png" for seed in (5, 9) for label in (2, 7)]


def test_a_table_has_a_row_for_each_value_of_an_option(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained["cgan"][0]
    run = gan_jax.load(path)
    MODES["sample"].run(
        Request(path, sampling="truncation=0.5,2 standing=2", num_samples=3, seed=4, label="1", out=tmp_path / "t.png")
    )
    assert "3 samples of step 0 in 2 ways, truncation=0.5, truncation=2" in capsys.readouterr().out
    rows = [run.sample(3, seed=4, label="1", truncation=value, standing=2) for value in (0.5, 2)]
    with Image.open(tmp_path / "t.png") as picture:
        shown = visualize.grid(np.concatenate(rows), 3, ["truncation=0.5", "truncation=2"])
        assert_array_equal(np.asarray(picture), shown[..., 0])
    with pytest.raises(UserError, match="makes a row for each value: leave out --grid"):
        MODES["sample"].run(Request(path, sampling="truncation=1,2", grid="3x2", out=tmp_path / "t.png"))
    with pytest.raises(UserError, match=r"makes one picture: --out must end in \.png"):
        MODES["sample"].run(Request(path, sampling="truncation=1,2", out=tmp_path / "t.npz"))
