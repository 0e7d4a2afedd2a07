"""Path length of generators of which it is known by hand; LPIPS between pairs; what --ppl refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose

from gan_jax import build
from gan_jax.cli.evaluating import path_distance
from gan_jax.core.gan import GAN
from gan_jax.evaluate import Evaluator, perceptual, ppl
from gan_jax.util.errors import UserError
from tests.evaluate.test_floor import of_classes
from tests.helpers import small, trained_gan

SIDE, Z = 4, 8
MIXED = np.random.default_rng(0).normal(size=(Z, SIDE * SIDE)) / 40  # of latents to pixels
STRETCH = np.linspace(0.5, 2, Z)  # of z to w
PAIRS = 6000


class Linear(nn.Module):
    """Images that are linear in z, and no w."""

    @nn.compact
    def __call__(self, z: Any, *, label: Any, train: bool, keys: Any = None) -> Any:
        del label, train, keys
        scale = self.param("scale", nn.initializers.ones, ())
        return scale * (z @ jnp.asarray(MIXED, z.dtype)).reshape(-1, SIDE, SIDE, 1)


class Mapped(Linear):
    """Likewise of w, which is z stretched, each copied for two layers."""

    def mapping(self, z: Any, *, label: Any, train: bool, keys: Any = None) -> Any:
        del label, train, keys
        return jnp.stack([z * jnp.asarray(STRETCH, z.dtype)] * 2, 1)

    def synthesis(self, w: Any, *, label: Any, train: bool, keys: Any = None) -> Any:
        return Linear.__call__(self, w.mean(1), label=label, train=train)

    @nn.compact
    def __call__(self, z: Any, *, label: Any, train: bool, keys: Any = None) -> Any:
        w = self.mapping(z, label=label, train=train)
        return Linear.__call__(self, w.mean(1), label=label, train=train)


def gan_of(module: nn.Module) -> GAN:
    config = small("gan")
    config.data.image_size = SIDE
    gan, _ = build.build_gan(config)
    return dataclasses.replace(gan, generator=module, latent_dim=Z)


def squared(_: Any, x: Any, y: Any) -> Any:
    """Distance of pixels from -1 to 1."""
    return jnp.square((x - y) / 127.5).sum((1, 2, 3))


def length(module: nn.Module, space: str) -> float:
    variables = {"params": {"scale": jnp.ones(())}}
    labels = np.zeros(PAIRS, np.int32)
    return ppl.path_length(gan_of(module), variables, labels, distance=(squared, ()), space=space)


def trimmed(values: np.ndarray) -> float:
    """The mean without the lowest and highest 1 %, by sorting."""
    cut = len(values) // 100
    return float(np.sort(values)[cut:-cut].mean())


@pytest.mark.parametrize("space", ["w", "w_end"])
def test_on_a_line_it_is_the_square_of_the_way_from_end_to_end(space: str) -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 400_000, Z)) * STRETCH
    assert length(Mapped(), space) == pytest.approx(trimmed(np.square((b - a) @ MIXED).sum(1)), rel=0.04)


def test_on_a_sphere_it_is_the_square_of_the_speed_along_the_arc() -> None:
    """By a difference in float64 of directions at an even speed, lengths on a line."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 200_000, Z))
    t, small = rng.random((200_000, 1)), 1e-6
    of_a, of_b = (np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    angle = np.arccos(((a / of_a) * (b / of_b)).sum(1, keepdims=True))

    def at(t: np.ndarray) -> np.ndarray:
        way = (np.sin((1 - t) * angle) * a / of_a + np.sin(t * angle) * b / of_b) / np.sin(angle)
        found: np.ndarray = way * ((1 - t) * of_a + t * of_b) @ MIXED
        return found

    by_hand = trimmed(np.square((at(t + small) - at(t)) / small).sum(1))
    assert length(Linear(), "z") == pytest.approx(by_hand, rel=0.04)


def test_outliers_are_left_out_as_stylegan_does() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1000.0) ** 3)
    low, high = np.percentile(values, 1, method="lower"), np.percentile(values, 99, method="higher")
    assert ppl.trimmed(values) == values[(low <= values) & (values <= high)].mean()
    assert ppl.trimmed(np.array([1.0] * 200 + [1e9])) == 1


@pytest.mark.slow
def test_lpips_of_pairs_is_that_of_each_with_the_other() -> None:
    distance = perceptual.of_paths("random", Path, 32)
    assert distance.name.startswith("random:vgg16:")
    x, y = np.random.default_rng(0).uniform(0, 255, (2, 3, 32, 32, 1)).astype(np.float32)
    found = jax.jit(distance.apply)(distance.variables, x, y)
    whole, pixels = perceptual.random(), perceptual.pixels()
    for i in range(3):
        one = whole.apply(whole.variables, x[i : i + 1], y[i : i + 1]) - pixels.apply((), x[i : i + 1], y[i : i + 1])
        assert_allclose(found[i], one[0], rtol=1e-3)


def test_evaluations_name_it_by_spaces_and_by_what_measures() -> None:
    gan, state = trained_gan()
    judge = Evaluator(gan, of_classes([0] * 20, 0, side=28), None, 20, jax.devices()[:1])
    found = judge.path_lengths(state, perceptual.Distance("toy", squared, ()))
    assert set(found) == {"ppl_z[toy]"}
    labels = np.zeros(20, np.int32)
    again = ppl.path_length(gan, state.ema, labels, distance=(squared, ()), seed=state.seed, devices=jax.devices()[:3])
    assert found["ppl_z[toy]"] == pytest.approx(again, rel=1e-6)
    assert found["ppl_z[toy]"] > 0
    assert ppl.spaces(gan_of(Mapped())) == ("z", "w", "w_end")


@pytest.mark.parametrize(
    ("named_by", "changed", "message"),
    [
        ("lipps", {}, "--ppl=lipps: write lpips:VGG.pth,LPIPS.pth, lpips:VGG.pth or random"),
        ("lpips", {}, "--ppl=lpips: write lpips:VGG.pth"),
        ("lpips:a,b,c", {}, "--ppl=lpips:a,b,c: write lpips:VGG.pth"),
        ("lpips:no.pth", {}, "cannot read the weights in no.pth: No such file"),
        (
            "random",
            {"compute_dtype": "bfloat16"},
            "--ppl: steps of 1e-4 are lost in this run's compute_dtype, bf",
        ),
        ("random", {"data.image_size": 8}, "--ppl: VGG16 needs images of 16 pixels a side or more, and these have 8: "),
    ],
)
def test_mistakes_are_one_line(named_by: str, changed: dict[str, Any], message: str) -> None:
    config = small("gan")
    config.update_from_flattened_dict(changed)
    with pytest.raises(UserError) as error:
        path_distance(named_by, config)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
