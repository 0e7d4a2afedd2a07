"""Height and width in configs, presets, overrides and on command lines; runs from before there was a width."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from gan_jax import sides, stages
from gan_jax.cli import command
from gan_jax.config import changed, default, differences, stage, to_plain, validate
from gan_jax.runs.workdir import Workdir
from gan_jax.util.errors import UserError
from tests.helpers import begun, small


def test_height_times_width_is_read_and_nothing_else() -> None:
    assert sides.read("64x96") == (64, 96)
    assert sides.read("64") == sides.read("64x64") == (64, 64)
    assert sides.keys_of(64, 64) == {"data.image_size": 64, "data.image_width": 0}
    for text in ("", "x", "64x", "x64", "0x64", "64x0", "64x96x3", "-4x8", "6.4x8", "64X96", "²x8", "64 x 96"):
        with pytest.raises(UserError, match="give a side in pixels, 64, or height x width, 64x96"):
            sides.read(text)


def test_a_config_has_two_numbers_and_overrides_may_be_text() -> None:
    assert sides.of(default("folder@64x96").data) == (64, 96)
    assert sides.shorter(default("folder@96x64").data) == 64
    assert sides.named(default("folder@64").data) == "64x64"
    config = changed(default(), {"data.image_size": "32x48"})
    assert sides.of(config.data) == (32, 48)
    assert sides.of(changed(config, {"data.image_size": "32x32"}).data) == (32, 32)
    config.steps = 10
    config.stages.later = stage(5, {"data.image_size": "64x96"})
    assert [sides.of(one.config.data) for one in stages.plan(config)] == [(32, 48), (64, 96)]
    with pytest.raises(UserError, match="'32x' is no size of images"):
        changed(default(), {"data.image_size": "32x"})


def parsed(*argv: str) -> ConfigDict:
    sys.argv = ["launch.py", *argv]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, lock_config=False)
    flags.DEFINE_string("mode", "train", "", flag_values=values)
    command.parse(values, ["launch.py", *argv])
    config: ConfigDict = values["config"].value
    return config


@pytest.mark.filterwarnings("ignore:the load_module")
def test_a_command_line_gives_both_in_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])  # put back behind it
    config = "--config=configs/gan.py"
    assert sides.of(parsed(config, "--config.data.image_size=24x40").data) == (24, 40)
    assert sides.of(parsed(config, "--config.data.image_size", "24x40").data) == (24, 40)
    assert sides.of(parsed(config, "--config.data.image_size=24").data) == (24, 24)
    assert sides.of(parsed(config, "--config.data.image_size=24", "--config.data.image_width=8").data) == (24, 8)
    assert sides.of(parsed(f"{config}:folder@24x40").data) == (24, 40)
    with pytest.raises(UserError, match=r"--config\.data\.image_size=24x: '24x' is no size of images"):
        parsed(config, "--config.data.image_size=24x")


def without_width(plain: dict[str, Any]) -> dict[str, Any]:
    del plain["data"]["image_width"]
    return plain


def test_a_run_from_before_there_was_a_width_goes_on(tmp_path: Path) -> None:
    config = small("gan")
    begun(config, tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(without_width(json.loads(file.read_text()))))
    found = Workdir(tmp_path).config()
    validate(found)
    assert sides.of(found.data) == (28, 28)
    assert not differences(without_width(to_plain(config)), to_plain(config))
    config.data.image_width = 40
    assert "data.image_width: 0 -> 40" in differences(without_width(to_plain(small("gan"))), to_plain(config)).values()
