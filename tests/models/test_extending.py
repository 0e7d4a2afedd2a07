"""The documented contract of networks: the page's own example trains, and what doesn't keep it is one line."""

import inspect
import re
import types
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from gan_jax import models
from gan_jax.build import build_gan
from gan_jax.config import term
from gan_jax.config_files import load_config
from gan_jax.core.state import init_state
from gan_jax.core.update import update
from gan_jax.evaluate import sample
from gan_jax.layers import DiscriminatorOutput
from gan_jax.training import train
from gan_jax.util.errors import UserError
from tests.helpers import QUICKLY, ROOT

PAGE, TERM = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/extending.md").read_text(), re.S | re.M)
CALLS = {
    "Generator": "module(z, train=..., label=..., axis_name=...)",
    "Discriminator": "module(x, train=..., label=..., axis_name=..., batches=...)",
}


def saved(folder: Path, page: str = PAGE) -> ConfigDict:
    """The example's config, made small, its file being anywhere."""
    (folder / "mine.py").write_text(page)
    config = load_config(str(folder / "mine.py"))
    config.generator.width = config.discriminator.width = 4
    config.update({"steps": 2, "batch_size": 8, "steps_per_dispatch": 2})
    config.eval.features = "none"
    return config


def test_the_documented_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word: two steps move all of it, and it can be called as on GPUs, with both batches at once."""
    config = saved(tmp_path)
    gan, hyper = build_gan(config)
    begin = jax.jit(init_state, static_argnums=0)(gan, 0, hyper)
    images = jax.random.uniform(jax.random.key(0), (1, 8, 28, 28, 1), minval=-1)
    batch = {"image": images, "label": jnp.zeros((1, 8), jnp.int32), "index": jnp.arange(8)}
    step = jax.jit(partial(update, gan)).lower(begin, batch).compile(compiler_options=QUICKLY)
    end = step(step(begin, batch)[0], batch)[0]
    for player in ("generator", "discriminator"):
        before, after = (getattr(state, player).variables for state in (begin, end))
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), before, after)))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = jax.eval_shape(lambda *inputs: update(gan, *inputs), begin, batch)[0]
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, end)


def test_the_documented_term_that_remembers_is_one(tmp_path: Path) -> None:
    config = saved(tmp_path, PAGE + TERM)
    config.terms.mean = term(f"{tmp_path}/mine.py:MeanScore", "discriminator", decay=0.9)
    gan, hyper = build_gan(config)
    assert jax.eval_shape(lambda: init_state(gan, 0, hyper)).memory["terms"].keys() == {"mean"}


@pytest.mark.slow
def test_the_documented_example_is_a_run(tmp_path: Path) -> None:
    """Two steps on two devices, checkpoints, pictures and all; then it is sampled."""
    config = saved(tmp_path)
    gan, _ = build_gan(config)
    state = train.train(config, tmp_path / "run", jax.devices()[:2])
    assert state is not None
    assert int(state.step) == 2
    assert sample.sample(gan, state, 0, np.zeros(3, np.int32)).shape == (3, 28, 28, 1)


@pytest.mark.parametrize("player", CALLS)
def test_the_contract_is_one_in_the_page_the_models_and_the_code(player: str) -> None:
    page, told = (" ".join(text.split()) for text in ((ROOT / "docs/extending.md").read_text(), models.__doc__ or ""))
    assert f"`{CALLS[player]}`" in page
    assert f"``{CALLS[player]}``" in told
    names = re.findall(r"(\w+)(?=[,=)])", CALLS[player])
    for family in (models.aae, models.dcgan, models.mlp, models.resnet):
        assert list(inspect.signature(getattr(family, player).__call__).parameters)[2:] == names[1:], family


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((", batches=1):", "):"), "Discriminator of model '/.*/mine.py' is called with batches too"),
        ((", axis_name=None):", "):"), "Generator of model '/.*/mine.py' is called with axis_name too"),
        (
            ("return DiscriminatorOutput(Dense(1, use_bias=True)(features)[:, 0], features)", "return features"),
            "must return a .*DiscriminatorOutput",
        ),
        (
            ("(features)[:, 0], features", "(features)[:, None], features"),
            r"logits \[B\] or \[B, K\] and features \[B, F\], but made \[1, 1, 1\]",
        ),
        (("(self.width // 2, channels)", "(channels,)"), r"makes images \[14, 14, 1\] of data \[28, 28, 1\]"),
        (("TransposedConv(features)", "TransposedConv(features, name='one')"), "line 22: NameInUseError: .*one"),
    ],
)
def test_what_does_not_keep_the_contract_is_one_line(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in PAGE
    config = saved(tmp_path, PAGE.replace(*change, 1))
    with pytest.raises(UserError, match=message) as error:
        build_gan(config)
    assert "\n" not in str(error.value)


def test_a_network_may_take_whatever_it_is_called_with() -> None:
    class Anything(nn.Module):
        dtype: Any = jnp.float32
        param_dtype: Any = jnp.float32

        @nn.compact
        def __call__(self, x: Any, **_: Any) -> DiscriminatorOutput:
            x = x.reshape(len(x), -1)
            return DiscriminatorOutput(nn.Dense(1)(x)[:, 0], x)

    config = load_config(str(ROOT / "configs/gan.py"))
    config.discriminator = ConfigDict({})
    family = types.SimpleNamespace(Generator=models.mlp.Generator, Discriminator=Anything)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "mlp", family)
        build_gan(config)
