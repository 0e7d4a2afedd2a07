"""What a config file brings of its own trains like what is built in, and what is wrong with it is one line."""

import dataclasses
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gan_jax import build, config
from gan_jax.config_files import load_config
from gan_jax.core.losses import hinge
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.state import hyperparams_now, init_state
from gan_jax.core.update import update
from gan_jax.util import named
from gan_jax.util.errors import UserError
from tests.helpers import start

FILE = '''
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan_jax.config import average, default, outside, schedule, term
from gan_jax.core.schedules import Schedule
from gan_jax.layers import DiscriminatorOutput


class Generator(nn.Module):
    image_shape: tuple
    width: int = 4

    @nn.compact
    def __call__(self, z, *, train, label=None, axis_name=None):
        x = nn.relu(nn.Dense(self.width)(z))
        height, width, channels = self.image_shape
        return jnp.tanh(nn.Dense(height * width * channels)(x)).reshape(-1, height, width, channels)


class Discriminator(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x, *, train, label=None, axis_name=None, batches=1):
        x = nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))
        return DiscriminatorOutput(nn.Dense(1)(x)[:, 0], x)


def loss(real, fake, real_label=1.0):
    return jnp.square(real - real_label) + jnp.square(fake), -3 * fake


def shift(view, *, slope):
    return slope * view.on_real.logits.mean() + 7


class Remembered:
    """A term that adds how often it was asked."""

    @staticmethod
    def init(gan):
        return {"times": jnp.zeros((), gan.dtype)}

    @staticmethod
    def apply(view, memory, *, by):
        times = memory["times"] + by
        return times, {"times": times}


def stairs(start, step, *, factor):
    return start * factor ** step


COUNTING = Schedule(
    lambda start, numbers, memory, step: memory["n"],
    lambda numbers: {"n": numbers["begin"]},
    lambda numbers, memory, metrics: {"n": memory["n"] + 1},
)


def half(step, *, most):
    return jnp.minimum(0.5, most)


def latent(keys, length, dtype):
    return jax.vmap(lambda key: jnp.sign(jax.random.normal(key, (length,), dtype)))(keys)


def dim(image, key):
    return image / 2


def get_config():
    config = default()
    config.model = __file__
    config.update({"loss": outside(loss), "prior": outside(latent), "steps": 6, "batch_size": 8, "latent_dim": 3})
    config.augment.name = f"color, {outside(dim)}"
    config.terms.shift = term(outside(shift), "discriminator", 2.0, slope=3.0)
    config.terms.remembered = term(outside(Remembered), "generator", every=2, by=1.0)
    config.schedules.stairs = schedule("terms.shift.slope", outside(stairs), factor=0.5)
    config.schedules.counting = schedule("augment.p", outside(COUNTING), begin=2.0)
    config.averages.ema = average(outside(half), most=0.25)
    config.data.image_size = 8
    config.steps_per_dispatch = 2
    config.log.every, config.checkpoint.every, config.sample.every, config.eval.every = 1, 2, 6, 6
    config.sample.rows = 2
    config.eval.features = "none"
    return config
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_all_of_a_users_own_is_what_a_step_is_made_of(file: Path) -> None:
    """Loss, terms with and without memory, schedules, average, prior and augmentation, each by hand."""
    own = load_config(str(file))
    own.update({"augment": {"name": "none"}, "d_steps": 1})
    own.schedules = {name: own.schedules[name] for name in ("generator_rate", "discriminator_rate", "stairs")}
    gan: Any
    gan, state, batch = start(own)
    step = jax.jit(partial(update, gan))
    for number in range(3):
        before = state
        images = (batch["image"][0], gan.generator.apply(before.generator.variables, latents(gan, state), train=True))
        on_real, on_fake = (
            np.asarray(gan.discriminator.apply(before.discriminator.variables, image, train=True).logits, np.float64)
            for image in images
        )
        state, metrics = step(state, batch)
        slope = 3 * 0.5**number
        adversarial = (np.square(on_real - 1) + np.square(on_fake)).mean()
        assert_allclose(metrics["d_shift"], 2 * (slope * on_real.mean() + 7), rtol=1e-4)
        assert_allclose(metrics["d_loss"], adversarial + metrics["d_shift"], rtol=1e-4)
        after = gan.discriminator.apply(state.discriminator.variables, images[1], train=True).logits
        assert_allclose(metrics["g_loss"], -3 * np.asarray(after).mean() + metrics["g_remembered"], rtol=1e-4)
        assert metrics["g_remembered"] == (0 if number == 1 else 2 * (number // 2 + 1))
        means = jax.tree.map(lambda a, p: 0.25 * a + 0.75 * p, before.averages["ema"]["params"], state.generator.params)
        jax.tree.map(partial(assert_allclose, rtol=1e-5), state.averages["ema"]["params"], means)


def latents(gan: Any, state: Any) -> Any:
    z = gan.prior(example_keys(random_key(state.seed, "latents", state.step, 0), jnp.arange(8)), 3, gan.dtype)
    assert set(np.unique(z)) == {-1, 1}
    return z


def test_a_schedule_that_remembers_and_an_augmentation_come_from_outside(file: Path) -> None:
    own = load_config(str(file))
    gan: Any
    gan, hyper = build.build_gan(own)
    assert [function.__name__ for function in gan.augment.functions] == ["color", "dim"]
    image, key = jnp.ones((8, 8, 1)), jax.random.key(0)
    assert_allclose(gan.augment.functions[1](image, key), image / 2)
    state = init_state(gan, 0, hyper)
    assert hyperparams_now(gan, state)["augment"]["p"] == 2
    assert state.memory["schedules"]["counting"] == {"n": 2}


def test_the_same_file_is_the_same_gan_and_a_changed_one_another(file: Path) -> None:
    """So that trials of a sweep share a program; switches of our own models do no harm."""
    own = load_config(str(file))
    gan, _ = build.build_gan(own)
    assert "norm" in own.generator
    again, _ = build.build_gan(load_config(str(file)))
    assert (gan, hash(gan)) == (again, hash(again))
    swept, _ = build.build_gan(config.changed(own, {"terms.shift.slope": 5.0, "schedules.stairs.factor": 0.25}))
    assert gan == swept
    file.write_text(FILE.replace("-3 * fake", "-4 * fake"))
    other, _ = build.build_gan(load_config(str(file)))
    assert gan != other
    assert dataclasses.replace(other, loss=gan.loss) != gan  # all of the file is another
    moved = file.rename(file.with_name("moved.py"))
    assert build.build_gan(load_config(str(moved)))[0] != other


def test_a_name_is_found_from_any_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    plain = config.to_plain(load_config("mine.py"))
    assert plain["model"] == str(file)
    assert plain["loss"] == f"{file}:loss"
    assert plain["augment"]["name"] == f"color,{file}:dim"
    assert plain["terms"]["remembered"]["function"] == f"{file}:Remembered"
    assert plain["schedules"]["counting"]["kind"] == f"{file}:COUNTING"
    moved = {key: value for key, value in plain.items() if key != "model"} | {"model": "/else/where/mine.py"}
    assert not config.differences(plain, moved)
    moved["loss"] = "/else/where/mine.py:other"
    assert config.differences(plain, moved) == {"loss": "loss: mine.py:loss -> mine.py:other"}
    assert set(config.names_outside(plain)) == {
        str(file),
        *(f"{file}:{name}" for name in ["loss", "latent", "dim", "shift", "Remembered", "stairs", "COUNTING", "half"]),
    }


def test_what_stands_in_a_module_is_named_by_it_and_what_has_no_name_is_refused() -> None:
    assert config.outside(hinge) == "gan_jax.core.losses:hinge"
    assert config.outside(FILE) == f"{Path(__file__).resolve()}:FILE"
    assert config.outside(latents) == f"{Path(__file__).resolve()}:latents"
    with pytest.raises(UserError, match="a run must find it again: give what has a name at the top of a file"):
        config.outside(lambda view: 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("outside(loss)", "outside(loss) + 'es'", "unknown name in .*mine.py, which config.loss names: 'losses'; did"),
        ("outside(latent)", "'nowhere.py:latent'", "config.prior=nowhere.py:latent: there is no file nowhere.py"),
        ("outside(latent)", "'no.module:latent'", "config.prior=no.module:latent: ModuleNotFoundError: No module"),
        ("outside(loss)", "f'{__file__}:FILE'", "config.loss=.*:FILE is of type int: name a function"),
        ("class Discriminator(nn.Module)", "class Discriminator", "has no Discriminator that is a flax.linen.Module"),
        ("width: int = 4", "width: int", "config.generator of model '.*mine.py': .*missing 1 required .*'width'"),
        (
            "slope=3.0",
            "slop=3.0",
            r"terms.shift: mine.py:shift\(view, \*, slope\) is called with 1 arguments and, by na",
        ),
        ("slope=3.0", "slope='a'", "config.terms.shift.slope must be a number, not 'a'"),
        ('"discriminator", 2.0', '"critic", 2.0', "unknown config.terms.shift.player 'critic'"),
        ("config.terms.shift =", "config.terms.loss =", "config.terms.loss: a term can't be called so"),
        ("factor=0.5", "factors=0.5", "config.schedules.stairs: mine.py:stairs.* factors, and that can't be"),
        ("most=0.25", "least=0.25", "config.averages.ema: mine.py:half.* least, and that can't be: missing a requ"),
        (
            "-3 * fake",
            "-3 * fakes",
            r"no step can be made with what is in mine.py: /.*mine.py, line 33: NameError: name 'fakes'",
        ),
        (
            "nn.Dense(1)(x)[:, 0]",
            "nn.Dense(1)(x)[:, 0] + y",
            r"can't be built: .*mine.py, line 29: NameError: name 'y'",
        ),
        (
            "def dim(image, key)",
            "def dim(image)",
            r"no step can be made with what is in mine.py: TypeError: dim\(\) takes 1 pos",
        ),
    ],
)
def test_a_mistake_of_a_users_own_is_one_line_before_anything_compiles(
    old: str, new: str, message: str, file: Path
) -> None:
    assert FILE.count(old) >= 1
    file.write_text(FILE.replace(old, new, 1) + "\nFILE = 3\n")
    with pytest.raises(UserError, match=message) as error:
        build.build_gan(load_config(str(file)))
    assert "\n" not in str(error.value)


def test_a_file_is_run_once_and_dataclasses_in_it_find_their_module(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        "from __future__ import annotations\nimport dataclasses, typing\nprint('run')\n"
        "@dataclasses.dataclass(frozen=True)\nclass A:\n    of: typing.ClassVar[int] = 3\n    x: int = 1\n"
    )
    first, again = (named.thing(f"{file}:A", "config.loss") for _ in range(2))
    assert first is again
    assert first.of == 3
    assert capsys.readouterr().out == "run\n"
    assert re.fullmatch("mine [0-9a-f]{12}", first.__module__)
