"""Options of drawing: who takes them, what they change, and what is drawn is a function of a sample's number.

The generator here shows its latent in the upper half of an image, and its noise in the lower.
"""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

from gan_jax import build
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState, init_state
from gan_jax.data import Dataset
from gan_jax.evaluate import Evaluator
from gan_jax.evaluate.extractors import Extractor
from gan_jax.evaluate.sample import grid, interpolate, sample
from gan_jax.evaluate.sampling import Sampling, of_evaluations, read, several
from gan_jax.layers.noise import Noise
from gan_jax.runs.workdir import Workdir
from gan_jax.util.errors import UserError
from tests.helpers import MEANS, charts_of, records, run, small


class Noisy(nn.Module):
    """Images of 8x8: the latent in the first row, noise from the second."""

    @nn.compact
    def __call__(
        self, z: jax.Array, *, train: bool, keys: jax.Array | None = None, noise_mode: str = "random"
    ) -> jax.Array:
        del train
        noise = Noise()(jnp.zeros((len(z), 7, 8, 1)), keys, noise_mode)
        return jnp.clip(jnp.concatenate([z[:, None, :, None], noise], 1) / 4, -1, 1)


@cache
def noisy() -> tuple[GAN, GANState]:
    config = small("gan")
    config.data.image_size = 8
    gan, hyper = build.build_gan(config)
    gan = dataclasses.replace(gan, generator=Noisy())
    state = jax.jit(init_state, static_argnums=0)(gan, 0, hyper)
    strong = {**state.ema, "params": jax.tree.map(jnp.ones_like, state.ema["params"])}
    return gan, state.replace(averages={"ema": strong})


def parts(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents ``[N, 8]`` and noise ``[N, 56]``, as bytes."""
    return images[:, 0, :, 0], images[:, 1:].reshape(len(images), -1)


def different(rows: np.ndarray) -> int:
    return len(np.unique(rows, axis=0))


# --- each sample is a function of its number --------------------------------------------------------------------------


def test_each_of_600_samples_has_noise_of_its_own_in_whatever_batch() -> None:
    gan, state = noisy()
    images = sample(gan, state, 3, np.zeros(600, np.int32))
    assert [different(part) for part in parts(images)] == [600, 600]
    assert_array_equal(images[:9], grid(gan, state, 3, np.zeros(9, np.int32)))
    assert different(np.concatenate([images, sample(gan, state, 4, np.zeros(600, np.int32))])) == 1200


def test_a_row_of_interpolations_has_one_noise_that_of_the_sample_it_begins_at() -> None:
    gan, state = noisy()
    images = interpolate(gan, state, 3, np.zeros(600, np.int32))
    _, noise = parts(images)
    assert different(noise) == 60
    assert_array_equal(noise, np.repeat(noise[::10], 10, axis=0))
    assert_array_equal(images[::10], sample(gan, state, 3, np.zeros(120, np.int32))[::2])


# --- options ----------------------------------------------------------------------------------------------------------


def asked(text: str) -> Sampling:
    return read(noisy()[0], text, "--sampling")


def test_options_reach_whoever_takes_them() -> None:
    gan, state = noisy()
    labels = np.zeros(300, np.int32)
    usual, const, truncated = (
        parts(sample(gan, state, 3, labels, how=asked(text)))
        for text in ("", "noise_mode=const", "truncation=0.7 noise_mode=none")
    )
    assert_array_equal(const[0], usual[0])
    assert [different(part) for part in const] == [300, 1]
    assert [different(part) for part in truncated] == [300, 1]
    assert_array_equal(truncated[1], np.full_like(truncated[1], 128))  # 0, no noise
    z = truncated[0] / 127.5 * 4 - 4
    assert 0.65 < np.abs(z).max() <= 0.7 + 4 / 127.5 / 2
    assert np.abs(usual[0] / 127.5 * 4 - 4).max() > 2
    between = interpolate(gan, state, 3, labels, how=asked("truncation=0.7 noise_mode=none"))
    ends = np.concatenate([between[::10], between[9::10]])  # of 30 rows
    assert_array_equal(ends[:, 0, :, 0], np.concatenate([truncated[0][:60:2], truncated[0][1:60:2]]))


def test_what_is_judged_is_drawn_so_on_any_number_of_devices_and_named_so() -> None:
    gan, state = noisy()
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    data = Dataset("noise", images, np.zeros(40, np.int32), images[:20], np.zeros(20, np.int32), 0)

    def features(_: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        return images[:, 0, :2, 0].astype(jnp.float32), jnp.zeros((len(images), 0))

    def judge(text: str, devices: int = 1) -> Evaluator:
        own = jax.devices()[:devices]
        return Evaluator(gan, data, lambda: Extractor("two", features, {}), 130, own, how=asked(text))

    drawn = judge("truncation=0.5 noise_mode=const").draw(state)[2]
    assert [different(part) for part in parts(drawn)] == [130, 1]
    assert np.abs(drawn[:, 0] / 127.5 * 4 - 4).max() < 0.52
    assert_array_equal(judge("noise_mode=const truncation=.5", 8).draw(state)[2], drawn)
    assert [different(part) for part in parts(judge("").draw(state)[2])] == [130, 130]
    chosen = judge("truncation=0.5 noise_mode=const")
    assert "fid[two, noise_mode=const truncation=0.5]" in chosen.figures(state)
    assert "fid[two]" in judge("noise_mode=random").figures(state)
    chosen.prepare()
    assert chosen.description.startswith("130 samples with noise_mode=const truncation=0.5 by two, against 40 train")
    plain = judge("").floor
    assert {name.replace(", noise_mode=const truncation=0.5", ""): v for name, v in chosen.floor.items()} == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "truncatoin=0.7",
            "unknown option in --sampling: 'truncatoin'; did you mean 'truncation'? valid: noise_mode, ",
        ),
        ("psi=0.7", "unknown option in --sampling: 'psi'; valid: noise_mode, truncation"),
        ("train=True", "unknown option in --sampling: 'train'"),
        ("truncation=0", "--sampling: truncation must be a finite number above 0, not 0"),
        ("truncation=-.5", "--sampling: truncation must be a finite number above 0, not -0.5"),
        ("truncation=1e999", "--sampling: truncation must be a finite number above 0, not inf"),
        ("truncation=True", "--sampling: truncation must be a finite number above 0, not True"),
        ("truncation=None", "--sampling: truncation must be a finite number above 0, not None"),
        ("noise_mode=some", "--sampling: noise_mode must be random, const or none, not 'some'"),
        ("truncation", "--sampling: 'truncation' is no name=value: write e.g. 'truncation=0.7 noise_mode=const'"),
        ("truncation=.7 truncation=.5", "--sampling: truncation is there twice: leave one out"),
    ],
)
def test_options_that_cannot_be_are_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        asked(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_option_of_ones_own_is_what_its_default_is() -> None:
    def prior(
        keys: jax.Array, length: int, dtype: Any, heat: float = 1.0, parts: int = 2, kind: str = "a"
    ) -> jax.Array:
        del heat, parts, kind
        return jnp.zeros((len(keys), length), dtype)

    gan = dataclasses.replace(noisy()[0], prior=prior)
    assert read(gan, "parts=3 heat=2 kind=b", "x").options == (("heat", 2.0), ("kind", "b"), ("parts", 3))
    assert read(gan, "parts=2 heat=1 kind=a", "x") == Sampling()
    for text, rule in (("heat=a", "a finite number"), ("parts=2.5", "a whole number"), ("kind=1", "a word")):
        with pytest.raises(UserError, match=f"x: {text.partition('=')[0]} must be {rule}, not"):
            read(gan, text, "x")
    none = dataclasses.replace(
        gan, prior=lambda keys, length, dtype: jnp.zeros((len(keys), length)), generator=nn.Dense(3)
    )
    with pytest.raises(UserError, match=r"x: truncation: this GAN has no options of sampling: leave it out"):
        read(none, "truncation=0.5", "x")


def test_the_flag_goes_before_the_runs_own() -> None:
    gan = noisy()[0]
    own = {"sampling": "truncation=0.5", "standing": 0}
    assert str(of_evaluations(gan, own)) == "truncation=0.5"
    assert str(of_evaluations(gan, own, "noise_mode=const")) == "noise_mode=const"
    assert str(of_evaluations(gan, own, "")) == ""
    with pytest.raises(UserError, match=r"^config.eval.sampling: truncation must be a finite number above 0, not 0"):
        of_evaluations(gan, {"sampling": "truncation=0", "standing": 0})


def test_several_values_of_one_option_are_several_ways() -> None:
    assert several("") == [""]
    assert several("truncation=0.5 noise_mode=const") == ["truncation=0.5 noise_mode=const"]
    assert several("noise_mode=const truncation=.5,1") == [
        "noise_mode=const truncation=.5",
        "noise_mode=const truncation=1",
    ]
    with pytest.raises(UserError, match="only one option may have several values"):
        several("truncation=.5,1 noise_mode=const,none")


def test_evaluations_of_other_options_are_kept_beside_each_other(tmp_path: Path) -> None:
    place, figures = Workdir(tmp_path), {"step": 3, "samples": 20, "features": "auto"}
    ways = ["", "truncation=0.5", "truncation=5.0", "noise_mode=const truncation=0.5", "x=-1.0", "x=1.0", "y=a/b"]
    for way in ways:
        place.save_evaluation(figures | ({"sampling": way} if way else {}))
    assert sorted(one.get("sampling", "") for one in place.evaluations()) == sorted(ways)
    assert (tmp_path / "evaluation_00000003_000020_auto.json").exists()
    assert (tmp_path / "evaluation_00000003_000020_auto_noise_mode=const,truncation=0.5.json").exists()


@pytest.mark.slow
def test_a_run_is_judged_and_sampled_with_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, place = small("gan"), tmp_path / "run"
    config.update({"steps": 4})
    config.eval.update({"features": MEANS, "sampling": "truncation=0.5"})
    run(config, place)
    assert f"fid[{MEANS}, truncation=0.5]" in records(place)[-1]
    fids = []
    for flag in (None, "", "truncation=.2"):
        MODES["evaluate"].run(Request(place, num_samples=40, sampling=flag))
        how = {None: "truncation=0.5", "": "", "truncation=.2": "truncation=0.2"}[flag]
        end = f"_{how}" if how else ""
        found = json.loads(
            (place / f"evaluation_00000004_000040_tests-evaluate-test_evaluate-means{end}.json").read_text()
        )
        assert found.get("sampling", "") == how
        fids.append(found[f"fid[{MEANS}{f', {how}' if how else ''}]"])
        assert f"samples{f' with {how}' if how else ''} by {MEANS}" in capsys.readouterr().out
    assert len(set(fids)) == 3
    assert_allclose(fids[0], records(place)[-1][f"fid[{MEANS}, truncation=0.5]"], rtol=1e-6)
    assert "<th>step 4, truncation=0.2</th>" in (place / "report.html").read_text()
    MODES["sample"].run(Request(place, num_samples=4, sampling="truncation=0.5"))
    assert "4 samples of step 4, seed 0, truncation=0.5: " in capsys.readouterr().out
    for mode in ("sample", "interpolate", "evaluate"):
        with pytest.raises(UserError, match="unknown option in --sampling: 'noise_mode'"):
            MODES[mode].run(Request(place, sampling="noise_mode=const"))
    config.eval.sampling = "noise_mode=const"
    with pytest.raises(UserError, match=r"unknown option in config.eval.sampling: 'noise_mode'; valid: truncation"):
        run(config, tmp_path / "other")


def test_the_report_has_the_curve_of_truncation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, place = small("gan"), tmp_path / "run"
    config.update({"steps": 2})
    config.eval.update({"features": MEANS, "samples": 20})
    run(config, place)
    MODES["evaluate"].run(Request(place, num_samples=20, sampling="truncation=.2,1"))
    assert capsys.readouterr().out.count("step 2, 20 samples with truncation=") == 2
    page = (place / "report.html").read_text()
    assert '<h2 id="Truncation">Truncation</h2>' in page
    assert "fid against precision" in page
    MODES["evaluate"].run(Request(place, num_samples=20, sampling=""))  # joins it
    curve = charts_of(place / "report.html")[-1]
    assert {mark["name"] for mark in curve["marks"]} == {"0.2", "1.0", "as usual"}
    assert [[mark["x"], mark["y"]] for mark in curve["marks"]] == curve["lines"][0]["points"]
