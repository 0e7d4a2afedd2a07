"""GANs that are told a vector an image: fed on any number of devices, in networks, resumed, drawn and refused."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from gan_jax import build, layers, load
from gan_jax.cli import evaluating, using
from gan_jax.cli.request import Request
from gan_jax.core import standing
from gan_jax.core.randomness import example_keys
from gan_jax.evaluate.conditions import nearest
from gan_jax.models import stylegan2
from gan_jax.runs.workdir import Workdir
from gan_jax.util.errors import UserError
from tests.data.test_feed import batches
from tests.helpers import ONE, assert_identical, differ, records, run, run_until, small


def halves(path: Path, count: int = 40, **changed: Any) -> str:
    """Images whose upper half is as bright as the first number of their vector says, the lower as the second."""
    vectors = np.random.default_rng(1).integers(0, 256, (count, 2)).astype(np.float64)
    images = np.repeat(vectors, 8, 1)[:, :, None, None] + np.zeros((1, 1, 16, 1))
    arrays: dict[str, Any] = {"images": images.astype(np.uint8), "labels": vectors / 255}
    np.savez(path, **(arrays | changed))
    return str(path)


def of_halves(path: str, name: str = "cgan") -> ConfigDict:
    config = small(name)
    config.data.update({"source": "npz", "dir": path, "image_size": 16, "channels": 1, "labels": True, "condition": 2})
    config.classes, config.batch_size = 0, 16
    return config


def test_each_image_has_its_vector_beside_it_on_1_and_8_devices(tmp_path: Path) -> None:
    config = of_halves(halves(tmp_path / "a.npz"))
    plan = [(step, 1) for step in range(5)]
    reference = batches(config, 1, plan)
    for batch in reference:
        assert batch["label"].shape == (1, 16, 2)
        assert batch["label"].dtype == np.float32
        bright = np.stack([batch["image"][:, :, 0, 0, 0], batch["image"][:, :, -1, 0, 0]], -1)
        np.testing.assert_allclose(batch["label"], (bright + 1) / 2, atol=1e-5)
    assert len(np.unique(np.concatenate([batch["label"][0] for batch in reference]), axis=0)) > 30
    for budget, devices in ((1024, 8), (0, 1), (0, 8)):  # none: a stream
        config.data.device_budget_mb = budget
        for ours, theirs in zip(batches(config, devices, plan), reference, strict=True):
            assert_identical(ours, theirs)


def test_a_vector_stands_beside_latents_and_images() -> None:
    vectors = np.array([[0.25, -3.0], [2.0, 0.0]], np.float32)
    x = np.arange(2 * 3 * 3 * 1, dtype=np.float32).reshape(2, 3, 3, 1)
    beside = layers.with_label(jnp.asarray(x), jnp.asarray(vectors), 2)
    np.testing.assert_array_equal(beside[..., :1], x)
    np.testing.assert_array_equal(beside[..., 1:], np.broadcast_to(vectors[:, None, None], (2, 3, 3, 2)))


class _Head(nn.Module):
    @nn.compact
    def __call__(self, features: Any, label: Any) -> Any:
        types = {"dtype": jnp.float32, "param_dtype": jnp.float32, "initializer": "normal", "spectral": False}
        told: dict[str, Any] = {"minibatch": "none", "axis_name": None, "batches": 1, "use_bias": True, "types": types}
        return layers.judged(features, label, conditional="projection", classes=2, **told).logits


def test_projections_are_of_a_linear_map_of_the_vector() -> None:
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    vectors = np.array([[0.5, -2.0], [0.0, 0.0], [1.0, 3.0]], np.float32)
    head = _Head()
    variables = head.init(jax.random.key(0), features, vectors)
    params = jax.tree.map(np.asarray, variables["params"])
    plain = features @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    wanted = plain[:, 0] + ((vectors @ params["Embedding_0"]["table"]) * features).sum(1)
    made: Any = head.apply(variables, features, vectors)
    np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_stylegan2_maps_the_embedded_vector_beside_the_latent() -> None:
    network = stylegan2.MappingNetwork(w_dim=4, depth=1, classes=2)
    z = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    vectors = np.array([[0.5, -2.0], [0.1, 0.7], [1.0, 3.0]], np.float32)
    variables = network.init(jax.random.key(0), z, vectors)
    params = jax.tree.map(np.asarray, variables["params"])
    embedding, dense = params["embedding"], params["EqualizedDense_0"]

    def unit(x: Any) -> Any:
        return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)

    embedded = vectors @ embedding["kernel"] / np.sqrt(2) + embedding["bias"]
    x = np.concatenate([unit(z), unit(embedded)], 1)
    x = x @ (dense["kernel"] * 0.01 / np.sqrt(len(dense["kernel"]))) + dense["bias"] * 0.01
    wanted = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
    made: Any = network.apply(variables, z, vectors)
    np.testing.assert_allclose(made[0], wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["projection", "biggan", "stylegan2:cifar_cond", "r3gan:cifar10"])
def test_families_with_a_dense_layer_of_the_label_take_a_vector(name: str) -> None:
    config = small(name)
    config.data.condition, config.classes, config.data.labels = 3, 0, True
    if config.generator.conditional in ("none", "norm"):
        config.generator.conditional, config.discriminator.conditional = "concat", "projection"
    gan, _ = build.build_gan(config)
    assert (gan.classes, gan.condition, gan.labels(2, 5).shape) == (0, 3, (2, 5, 3))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConfigDict, Any]:
    """A run of 4 steps, its config and its state."""
    place = tmp_path_factory.mktemp("conditions")
    config = of_halves(halves(place / "a.npz"))
    config.steps, config.steps_per_dispatch, config.checkpoint.every, config.sample.every = 4, 2, 2, 4
    return place / "whole", config, run(config, place / "whole")


def test_a_killed_and_resumed_run_ends_as_one_never_stopped(
    finished: tuple[Path, ConfigDict, Any], tmp_path: Path
) -> None:
    whole, config, state = finished
    run_until(config, tmp_path / "cut", ONE, "pause", at=4)
    assert_identical(run(config, tmp_path / "cut"), state)
    assert records(tmp_path / "cut") == records(whole)


def test_vectors_are_drawn_from_the_training_images(finished: tuple[Path, ConfigDict, Any], tmp_path: Path) -> None:
    path, config, _ = finished
    known = np.load(config.data.dir)["labels"].astype(np.float32)
    assert {*map(bytes, Workdir(path).conditions())} < {*map(bytes, known)}
    for seed in (0, 1):
        using.sample(Request(path, num_samples=20, seed=seed, out=tmp_path / f"{seed}.npz"))
    first, second = (dict(np.load(tmp_path / f"{seed}.npz")) for seed in (0, 1))
    assert first["labels"].shape == (20, 2)
    assert {*map(bytes, first["labels"])} < {*map(bytes, known)}
    assert len(np.unique(first["labels"], axis=0)) == 2  # one a row of ten
    assert differ(first["labels"], second["labels"])
    np.testing.assert_array_equal(load(path).sample(20, seed=1), second["images"])


def test_one_vector_or_several_can_be_asked_for(finished: tuple[Path, ConfigDict, Any], tmp_path: Path) -> None:
    path, _, _ = finished
    using.sample(Request(path, label=".2,1", num_samples=3, out=tmp_path / "one.npz"))
    one = dict(np.load(tmp_path / "one.npz"))
    np.testing.assert_array_equal(one["labels"], np.array([[0.2, 1]] * 3, np.float32))
    trained = load(path)
    vectors = np.array([[0, 0], [0.2, 1], [1, 0]], np.float32)
    np.testing.assert_array_equal(trained.sample(3, label=[0.2, 1]), one["images"])
    each = trained.sample(3, label=vectors)
    np.testing.assert_array_equal(each[1], one["images"][1])
    assert differ(each[0], one["images"][0])
    using.sample(Request(path, labels="0,0;.2,1", seeds="0-1", out=tmp_path / "rows.npz"))
    rows = dict(np.load(tmp_path / "rows.npz"))
    np.testing.assert_array_equal(rows["labels"], np.array([[0, 0]] * 2 + [[0.2, 1]] * 2, np.float32))


def test_standing_statistics_are_of_vectors_of_the_data() -> None:
    vectors = jnp.asarray(np.random.default_rng(0).normal(size=(7, 2)), jnp.float32)
    found = standing.labels(vectors, example_keys(jax.random.key(0), jnp.arange(2000)))
    known, counts = np.unique(np.asarray(found), axis=0, return_counts=True)
    np.testing.assert_array_equal(known, np.unique(np.asarray(vectors), axis=0))
    assert counts.min() > 2000 / 7 - 80  # 5 standard deviations


def test_the_nearest_images_stand_beside_a_grid() -> None:
    known = np.array([[0, 0], [1, 100], [1, 0], [0, 90]], np.float32)
    asked = np.array([[0.2, 95], [1, 0], [0.2, 95], [0.2, 95]], np.float32)
    assert nearest(known, asked).tolist() == [3, 2, 1, 0]


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "other numbers": (
        {"data.condition": 3},
        {},
        r"labels must be numbers \[40, 3\], as data.condition=3 says, not .*2\]",
    ),
    "nan": ({}, {"labels": np.full((40, 2), np.nan)}, r"row 0 of labels has a number that isn't finite.*39 more"),
    "beyond float32": ({}, {"labels": np.full((40, 2), 1e300)}, r"row 0 of labels has a number that isn't finite"),
    "words": ({}, {"labels": np.full((40, 2), "a")}, r"labels must be numbers \[40, 2\].*not <U1"),
    "no labels": ({}, {"labels": None}, "npz:a has no labels, and this run needs them"),
    "not said": ({"data.condition": 0}, {}, r"must be one-hot.*set data.condition=2"),
    "classes": ({"classes": 2}, {}, r"config.data.condition is 2.* and config.classes is 2: set one of them to 0"),
    "unlabelled": ({"data.labels": False}, {}, r"config.data.labels is False: set it to True"),
    "batch norm": ({"generator.conditional": "norm"}, {}, r"config.generator.conditional, 'norm' now, to 'concat'"),
    "classifier": ({"discriminator.conditional": "auxiliary"}, {}, r"an auxiliary classifier names classes"),
    "nobody": (
        {"discriminator.conditional": "none", "generator.conditional": "none"},
        {},
        r"config.data.condition is 2, but neither player is told",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_vectors_is_one_line(kind: str, tmp_path: Path) -> None:
    changed, arrays, message = WRONG[kind]
    path = halves(tmp_path / "a.npz", **{name: array for name, array in arrays.items() if array is not None})
    if kind == "no labels":
        np.savez(path, images=np.load(path)["images"])
    config = of_halves(path)
    with config.unlocked():
        config.update_from_flattened_dict(changed)
    with pytest.raises(UserError, match=message) as error:
        run(config, tmp_path / "run")
    assert "\n" not in str(error.value)


def test_what_knows_classes_alone_refuses_vectors(finished: tuple[Path, ConfigDict, Any]) -> None:
    path, config, _ = finished
    trained, dataset = load(path), build.build_dataset(config, None)
    with pytest.raises(UserError, match="--by_class: the FID of each class needs a GAN of classes"):
        evaluating._check_evaluation(Request(path, by_class=True), trained.gan.classes, dataset, features=True)
    with pytest.raises(UserError, match=r"projection is for GANs of classes, or of neither, .* vectors of 2 numbers"):
        trained.project(np.zeros((16, 16, 1), np.uint8))
    for label in ("1", ".2,nan", "a,b"):
        with pytest.raises(UserError, match=r"label=.* is told vectors of 2 finite numbers: write .* as 0.5,0.6"):
            trained.sample(1, label=label)
    with pytest.raises(UserError, match=r"labels must be vectors of 2 numbers, \[2\] or \[3, 2\], not int64"):
        trained.sample(3, label=[1, 2, 3])


def test_an_exported_generator_takes_vectors(finished: tuple[Path, ConfigDict, Any], tmp_path: Path) -> None:
    from jax import export as jax_export

    from gan_jax.use import export

    path, _, _ = finished
    trained = load(path)
    export.export(trained, tmp_path / "out")
    z, vectors = trained.latents(3), np.array([[0, 0], [0.2, 1], [1, 0]], np.float32)
    program = jax_export.deserialize(bytearray((tmp_path / "out" / export.PROGRAM).read_bytes()))
    np.testing.assert_allclose(program.call(z, vectors), trained.generate(z, vectors), atol=1e-5)
    assert "generator.call(z, jnp.zeros((16, 2)))" in (tmp_path / "out" / "README.md").read_text()
    np.testing.assert_array_equal(load(tmp_path / "out").sample(10), trained.sample(10))


def test_classes_are_numbers_as_before() -> None:
    config = small("cgan")
    gan, _ = build.build_gan(config)
    assert (gan.classes, gan.condition, gan.labels(4).dtype) == (10, 0, jnp.int32)
