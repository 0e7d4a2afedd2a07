"""Configs: every key is read, everything wrong is said in one line."""

import importlib
import re
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax import config as configuration
from gan_jax.sweeps import hyper
from gan_jax.training.train import train
from gan_jax.util.errors import UserError
from tests.helpers import FOUNDING, NAMES, small


class Recorder(ConfigDict):  # type: ignore[misc]
    """A config that remembers which keys were asked for one by one."""

    def __init__(self, config: ConfigDict, seen: set[str], prefix: str = "") -> None:
        super().__init__()
        for key, value in config.items():
            super().__setitem__(
                key, Recorder(value, seen, f"{prefix}{key}.") if isinstance(value, ConfigDict) else value
            )
        object.__setattr__(self, "_seen", (seen, prefix))

    def __getitem__(self, key: str) -> Any:
        if "_seen" in self.__dict__:
            seen, prefix = self.__dict__["_seen"]
            seen.add(f"{prefix}{key}")
        return super().__getitem__(key)


@pytest.mark.parametrize(
    "name", [*FOUNDING, pytest.param("acgan", marks=pytest.mark.slow)]
)  # their keys are the same: those of `default`
def test_every_key_of_every_config_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    config = Recorder(small(name), seen)
    monkeypatch.setattr(configuration, "validate", lambda config: None)  # reads all, which proves nothing
    train(config, tmp_path, jax.devices()[:1])
    # These reach their readers as a whole, which refuse what they don't know (tested below).
    by_owner = ("generator.", "discriminator.", "optimizer.generator.", "optimizer.discriminator.")
    unread = {key for key in configuration.dotted_keys(small(name)) if not key.startswith(by_owner)} - seen
    assert not unread


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_and_says_its_command_and_paper(name: str) -> None:
    module = importlib.import_module(f"configs.{name}")
    build.build_gan(module.get_config())
    assert module.__doc__ is not None
    assert f"python launch.py --config=configs/{name}.py" in module.__doc__
    assert "arXiv:" in module.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_every_config_takes_other_data_in_one_word(name: str) -> None:
    get_config = importlib.import_module(f"configs.{name}").get_config
    for dataset, shape in {"cifar10": (32, 32, 3), "celeb_a": (64, 64, 3), "folder@128": (128, 128, 3)}.items():
        config = get_config(dataset)
        if config.discriminator.get("conditional", "none") != "none" and not config.classes:
            config.classes = 7  # as a user says, where nobody else can know
        *_, (_, gan, _) = build.build_stages(config)
        assert gan.image_shape == shape
        assert gan.classes in (0, 7, 10)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("cifar", "did you mean 'cifar10'?"),
        ("folder@big", "behind the @ stands the images' side in pixels, e.g. folder@128"),
        ("folder@100", "this config has networks for images of side 28, 32, 64, 128, none for 100"),
    ],
)
def test_data_that_a_config_cannot_take_is_one_clear_line(dataset: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        importlib.import_module("configs.dcgan").get_config(dataset)
    assert message in str(error.value)


def build_all(config: ConfigDict) -> None:
    build.build_gan(config)
    build.build_dataset(config, None)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("loss", "hing", "unknown loss 'hing'; did you mean 'hinge'?"),
        ("model", "dcgun", "unknown model 'dcgun'; did you mean 'dcgan'?"),
        ("steps", 0, "config.steps must be at least 1, not 0"),
        ("seed", 2**32, "config.seed must be from 0"),
        ("compute_dtype", "float16", "config.compute_dtype must be float32, bfloat16 or float64"),
        ("averages.ema.decay", 1.0, "config.averages.ema.decay must be from 0 to below 1"),
        ("labels.real", float("nan"), "config.labels.real must be finite"),
        ("data.source", "embeded", "did you mean 'embedded'?"),
        ("data.dir", "there", "data.dir"),
        ("data.channels", 17, "config.data.channels must be from 1 to 16"),
        ("data.range", "9,9", "config.data.range must be empty, or two greys from 0 to 65535"),
        ("data.name", "mnist", "unknown data.name of the embedded source 'mnist'; did you mean 'mnist5k'?"),
        ("data.fit", "stretch", "config.data.fit must be crop, resize or none, not 'stretch'"),
        ("data.test_fraction", 1.0, "config.data.test_fraction must be from 0 to below 1"),
        ("data.workers", -1, "config.data.workers must be at least 0"),
        ("data.background", "whitish", "config.data.background: unknown color specifier: 'whitish'"),
        ("batch_size", 5000, "embedded:mnist5k has 4,500 images to train on, fewer than batch_size=5000"),
        ("augment.name", "color,flip", "unknown augment.name 'flip'"),
        ("generator.widths", (8, 0), "config.generator.widths must be positive whole numbers"),
        ("generator.widths", (8,) * 6, "6 generator.widths are too many for images of side 28"),
        ("generator.widths", (), "generator.widths is empty"),
        ("optimizer.generator.learning_rate", -1.0, "config.optimizer.generator.learning_rate must be"),
        ("optimizer.discriminator.b1", 1.0, "config.optimizer.discriminator.b1 must be from 0 to below 1"),
        ("optimizer.generator.name", "adan", "did you mean 'adam'?"),
        ("steps", 2**30, "below 2^32 images"),
    ],
)
def test_a_wrong_value_is_one_clear_line(key: str, value: object, message: str) -> None:
    config = small("dcgan")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError) as error:
        build_all(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_and_missing_keys_and_wrong_types_in_a_config_file_are_named() -> None:
    config = small("dcgan")
    config.optimiser = ConfigDict({"rate": 1})
    with pytest.raises(UserError, match=r"unknown config key 'optimiser.rate'"):
        build.build_gan(config)
    config = small("dcgan")
    del config.data.name
    with pytest.raises(UserError, match=r"config.data.name is missing"):
        build.build_gan(config)
    config = small("dcgan")
    with config.ignore_type():
        config.steps = "many"
    with pytest.raises(UserError, match=r"config.steps must be of type int, not 'many'"):
        build.build_gan(config)
    config = small("dcgan")
    config.generator.depth = 3
    with pytest.raises(UserError, match=r"unknown key of config.generator for model 'dcgan': 'depth'"):
        build.build_gan(config)
    config = small("dcgan")
    config.optimizer.generator.lr = 0.1
    with pytest.raises(UserError, match=r"unknown key of config.optimizer.generator for adam: 'lr'"):
        build.build_gan(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps_in_sqrt": 1.0}, r"optimizer.generator.eps_in_sqrt must be True or False, not 1.0"),
        ({"decay": True}, r"optimizer.generator.decay must be a finite number from 0 up, not True"),
        ({"nesterov": True}, r"optimizer.generator.nesterov changes nothing without momentum"),
        ({"mu_dtype": 1.0}, r"unknown key of config.optimizer.generator for rmsprop: 'mu_dtype'"),
    ],
)
def test_an_optimizers_wrong_argument_is_one_clear_line(changes: dict[str, object], message: str) -> None:
    config = small("gan")
    config.optimizer.generator = ConfigDict(configuration.rmsprop(1e-3).to_dict() | changes)
    with pytest.raises(UserError, match=message) as error:
        build.build_gan(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flag", ["eps_in_sqrt", "centered", "nesterov", "bias_correction"])
def test_what_optax_branches_on_is_static_and_trains(flag: str) -> None:
    gans = []
    for value in (False, True):
        config = small("gan")
        config.generator.widths = config.discriminator.widths = (4,)
        config.optimizer.discriminator = configuration.optimizer("rmsprop", 1e-3, momentum=0.5, **{flag: value})
        gan, hyper = build.build_gan(config)
        assert hyper["optimizer"]["discriminator"].keys() == {"learning_rate", "momentum"}

        @jax.jit
        def moved(hyper: Any, gradient: Any, made: Any = gan.discriminator_optimizer) -> Any:
            optimizer = made(**hyper)
            return optimizer.update(gradient, optimizer.init(gradient))[0]

        assert np.isfinite(moved(hyper["optimizer"]["discriminator"], np.ones(3, np.float32))).all()
        gans.append(gan)
    assert gans[0] != gans[1]  # so a sweep over it makes two programs


def test_labels_are_for_losses_that_have_them() -> None:
    config = small("gan")
    config.labels.real = 0.9
    _, hyper = build.build_gan(config)
    assert float(hyper["labels"]["real"]) == pytest.approx(0.9)
    config.loss = "hinge"
    with pytest.raises(UserError, match=r"loss 'hinge' has no labels"):
        build.build_gan(config)


def test_the_generator_aims_at_the_label_of_reals_unless_another_is_set() -> None:
    config = small("lsgan")
    trials = [{}, {"labels.real": 0.8}, {"labels.real": 0.8, "labels.generator": 0.0}]
    found = [build.build_gan(configuration.changed(config, trial))[1]["labels"] for trial in trials]
    assert [float(hyper["generator"]) for hyper in found] == [1.0, pytest.approx(0.8), 0.0]
    config.loss = "non_saturating"
    config.labels.generator = 0.5
    with pytest.raises(UserError, match=r"loss 'non_saturating' has no label that G aims at"):
        build.build_gan(config)


def test_lsgans_sweep_is_the_papers_pairs_of_targets() -> None:
    trials = importlib.import_module("configs.lsgan").get_hyper(hyper)
    targets = {(trial["labels.fake"], trial["labels.real"], trial["labels.generator"]) for trial in trials}
    assert targets == {(0.0, 1.0, 1.0), (-1.0, 1.0, 0.0)}  # eq. 9 and eq. 8
    gans = [build.build_gan(configuration.changed(small("lsgan"), trial)) for trial in trials]
    assert all(gan == gans[0][0] for gan, _ in gans)  # so one program trains them all


def test_a_config_survives_json() -> None:
    config = small("dcgan")
    plain = configuration.to_plain(config)
    again = ml_collections.ConfigDict(plain)
    assert configuration.differences(configuration.to_plain(again), plain) == {}
    one, two = build.build_gan(config)[0], build.build_gan(again)[0]
    assert one == two


@pytest.mark.parametrize("key", ["terms.lecam.weight", "optimizer.generator.learning_rate", "schedules.augment.final"])
def test_a_number_that_float32_has_not_is_one_line(key: str) -> None:
    config = small("gan")
    config.schedules.augment.kind = "linear"
    config.update_from_flattened_dict({key: 3.5e38})
    with pytest.raises(UserError, match=rf"config\.{re.escape(key)}=3.5e\+38 is beyond what float32 holds"):
        build.build_gan(config)


def test_a_run_of_an_earlier_version_gets_the_keys_that_it_lacks() -> None:
    whole = configuration.default()
    earlier = configuration.default()
    for key in (*configuration.LATER, "log.track"):
        group, _, name = key.rpartition(".")
        del earlier[group][name]
    configuration.fill_in(earlier)
    assert earlier.to_dict() == whole.to_dict()
