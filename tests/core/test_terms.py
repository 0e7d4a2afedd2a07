"""Terms of the losses, each against its paper's formula in NumPy."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose

from gan_jax import config
from gan_jax.core import terms
from gan_jax.core.gan import Context, Examples, Generated
from gan_jax.core.priors import Normal
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.schedules import SCHEDULES
from gan_jax.core.terms import TERMS
from gan_jax.core.view import View
from gan_jax.layers import DiscriminatorOutput

RNG = np.random.default_rng(3)
SEED, STEP, BATCH = 5, 2, 4
Array = Any


@pytest.fixture(autouse=True)
def _wide() -> Any:
    RNG.bit_generator.state = np.random.default_rng(3).bit_generator.state  # whatever tests ran before
    with jax.enable_x64(True):
        yield


class Linear(nn.Module):
    """Latents ``[B, 3]`` -> images ``[B, 2, 3, 1]``, by one matrix."""

    @nn.compact
    def __call__(self, z: Array, *, train: bool) -> Array:
        matrix = self.param("kernel", nn.initializers.normal(), (3, 6), jnp.float64)
        return (z @ matrix).reshape(-1, 2, 3, 1)


def view(
    discriminate: Callable[[Array], Array],
    numbers: dict[str, dict[str, float]] | None = None,
    *,
    params: Any = None,
    step: int = STEP,
    shape: tuple[int, ...] = (8, 16, 1),
) -> View:
    """A view of random images, judged by ``discriminate``, without augmentation."""
    real, fake = (jnp.asarray(RNG.normal(size=(BATCH, *shape))) for _ in range(2))
    gan: Any = SimpleNamespace(
        generator=Linear(), latent_dim=3, dtype=jnp.float64, prior=Normal(), image_shape=(2, 3, 1)
    )
    given = {name: {key: jnp.float64(value) for key, value in own.items()} for name, own in (numbers or {}).items()}
    context = Context(gan, jnp.uint32(SEED), jnp.int32(step), {"terms": given}, jnp.arange(BATCH))

    def judge(images: Array, like: str = "") -> DiscriminatorOutput:
        return DiscriminatorOutput(discriminate(images), images.reshape(len(images), -1))

    examples = Examples(real, jnp.zeros(BATCH, jnp.int32), 0)
    return View(context, examples, params, real, Generated(fake), judge(real), judge(fake), {"params": params}, judge)


def drawn(purpose: str, shape: tuple[int, ...]) -> np.ndarray:
    """What the term draws for ``purpose``."""
    key = random_key(SEED, purpose, STEP, 0)
    return np.stack([jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float64) for i in range(BATCH)])


def uniform(purpose: str, shape: tuple[int, ...]) -> np.ndarray:
    """What the term draws from U[0, 1) for ``purpose``: each example by its own key."""
    key = random_key(SEED, purpose, STEP, 0)
    return np.stack([jax.random.uniform(jax.random.fold_in(key, i), shape, jnp.float64) for i in range(BATCH)])


def test_gradient_penalties_are_taken_where_their_papers_say() -> None:
    """With ½|x|² for D its gradient is x, and the penalty says where it was taken."""
    seen = view(lambda x: 0.5 * jnp.square(x).sum((1, 2, 3)))
    real, fake = (np.asarray(images) for images in (seen.real, seen.fake))
    mix: Any = uniform("penalty", ()).reshape(-1, 1, 1, 1)
    norm = np.linalg.norm((mix * real + (1 - mix) * fake).reshape(BATCH, -1), axis=1)
    assert_allclose(terms.wgan_gp(seen), np.square(norm - 1).mean(), rtol=1e-12)
    assert len(np.unique(mix)) == BATCH
    assert ((mix > 0) & (mix < 1)).all()
    v, spread = uniform("penalty of each number", real.shape[1:]), real.std(axis=(1, 2, 3), keepdims=True)
    norm = np.linalg.norm((real + mix * 0.5 * spread * v).reshape(BATCH, -1), axis=1)
    assert_allclose(terms.dragan(seen), np.square(norm - 1).mean(), rtol=1e-12)


def test_a_penalty_where_the_gradient_is_zero_has_a_finite_one() -> None:
    def loss(weight: Array) -> Array:
        return terms.wgan_gp(view(lambda x: weight * (0 * x).sum((1, 2, 3))))

    value, gradient = jax.value_and_grad(loss)(jnp.float64(1))
    assert value == 1
    assert gradient == 0


def test_terms_of_what_d_says_are_their_formulas() -> None:
    label: Any = np.asarray([2, 0, 1, 1])
    features, class_logits = RNG.normal(size=(2, 4, 5)), RNG.normal(size=(2, 4, 3))
    real, fake = (
        DiscriminatorOutput(jnp.zeros(4), jnp.asarray(f), jnp.asarray(c))
        for f, c in zip(features, class_logits, strict=True)
    )
    plain = view(lambda x: x.sum((1, 2, 3)))
    examples = plain.examples.replace(label=label)
    seen = dataclasses.replace(plain, on_real=real, on_fake=fake, examples=examples)
    matching = np.square(features[0].mean(0) - features[1].mean(0)).sum()
    assert_allclose(terms.feature_matching(seen), matching, rtol=1e-12)
    p = np.exp(class_logits) / np.exp(class_logits).sum(-1, keepdims=True)
    losses = -np.log(p[:, np.arange(4), label]).mean(1)
    assert_allclose(terms.auxiliary_discriminator(seen), losses.sum(), rtol=1e-12)
    assert_allclose(terms.auxiliary_generator(seen), losses[1], rtol=1e-12)


@pytest.mark.parametrize("name", ["wgan_gp", "dragan", "r1", "r2"])
def test_penalties_of_bfloat16_are_float32(name: str) -> None:
    """Their values are sums of thousands of squares, which bfloat16 rounds to 3 digits."""
    weights = jnp.asarray(RNG.normal(size=(64, 1)), jnp.bfloat16)
    plain = view(lambda x: x.sum((1, 2, 3)), shape=(8, 8, 1))

    def judge(images: Array, like: str = "") -> DiscriminatorOutput:
        flat = images.astype(jnp.bfloat16).reshape(len(images), -1)
        return DiscriminatorOutput((flat @ weights)[:, 0].astype(jnp.float32), flat)

    images = plain.real.astype(jnp.bfloat16)
    seen = dataclasses.replace(plain, real=images, generated=Generated(images), judge=judge)
    term, _ = TERMS[name].terms(name, **({"finite_difference": False} if name in ("r1", "r2") else {}))
    assert term is not None
    found, _ = term.apply(seen, {})
    assert found.dtype == jnp.float32
    size = np.linalg.norm(np.asarray(weights, np.float64))
    assert_allclose(found, size**2 / 2 if name in ("r1", "r2") else (size - 1) ** 2, rtol=1e-5)


def test_feature_matching_compares_means_of_the_global_batch() -> None:
    features = RNG.normal(size=(2, 8, 5))
    plain = view(lambda x: x.sum((1, 2, 3)))

    def matching(features: Array) -> Array:
        real, fake = (DiscriminatorOutput(jnp.zeros(4), own) for own in features)
        context = dataclasses.replace(plain.context, axis_name="d")
        return terms.feature_matching(dataclasses.replace(plain, context=context, on_real=real, on_fake=fake))

    spread = features.reshape(2, 2, 4, 5).swapaxes(0, 1)
    found = jax.pmap(matching, "d", devices=jax.devices()[:2])(spread)
    assert_allclose(found, np.full(2, np.square(features[0].mean(0) - features[1].mean(0)).sum()), rtol=1e-12)


def test_every_term_of_the_config_is_one_of_the_core_and_the_other_way_round() -> None:
    assert config.TERMS.keys() == TERMS.keys()
    assert config.SCHEDULES.keys() == SCHEDULES.keys()


def test_drift_is_the_mean_square_of_scores_on_reals() -> None:
    seen = view(lambda x: x.sum((1, 2, 3)))
    assert_allclose(terms.drift(seen), np.square(np.asarray(seen.real).sum((1, 2, 3))).mean(), rtol=1e-12)


def test_lecam_holds_logits_near_the_moving_means_of_the_others() -> None:
    """Tseng et al. 2021: from step ``start`` on, which is 2 here."""
    numbers = {"lecam": {"decay": 0.9, "start": 2.0}}
    memory: Any = {"real": jnp.float64(0), "fake": jnp.float64(0)}
    mean_real = mean_fake = 0.0
    for step in range(5):
        seen = view(lambda x: 3 * x.mean((1, 2, 3)), numbers, step=step)
        value, memory = terms.lecam(seen, memory)
        on_real, on_fake = (3 * np.asarray(x).mean((1, 2, 3)) for x in (seen.real, seen.fake))
        decay = 0.9 if step > 2 else 0.0
        mean_real = decay * mean_real + (1 - decay) * on_real.mean()
        mean_fake = decay * mean_fake + (1 - decay) * on_fake.mean()
        desired = np.square(np.maximum(on_real - mean_fake, 0)).mean()
        desired += np.square(np.maximum(mean_real - on_fake, 0)).mean()
        assert_allclose(value, desired if step >= 2 else 0, rtol=1e-12)
        assert desired > 0
        assert_allclose([memory["real"], memory["fake"]], [mean_real, mean_fake], rtol=1e-12)


def test_moving_for_consistency_mirrors_half_and_moves_by_up_to_an_eighth() -> None:
    image = RNG.normal(size=(8, 16, 1))
    keys = jax.random.split(jax.random.key(0), 400)
    found = np.asarray(terms.moved(jnp.asarray(np.repeat(image[None], 400, 0)), keys))
    places = {}
    for flip in (False, True):
        padded = np.pad(image[:, ::-1] if flip else image, ((1, 1), (2, 2), (0, 0)), mode="reflect")
        for top in range(3):
            for left in range(5):
                places[padded[top : top + 8, left : left + 16].tobytes()] = (flip, top, left)
    seen = [places[one.tobytes()] for one in found]
    assert len(set(seen)) == 30
    assert 0.4 < np.mean([flip for flip, *_ in seen]) < 0.6


def test_consistency_of_the_discriminator_has_three_parts() -> None:
    """CR, bCR and zCR (Zhang et al. 2020; Zhao et al. 2021)."""
    numbers = {"real": 10.0, "fake": 7.0, "latent": 5.0, "noise": 0.3, "diversity": 0.5}
    kernel = RNG.normal(size=(3, 6))
    weights = RNG.normal(size=(2, 3, 1))
    seen = view(
        lambda x: jnp.tanh((x * weights).sum((1, 2, 3))),
        {"consistency": numbers},
        params={"kernel": jnp.asarray(kernel)},
        shape=(2, 3, 1),
    )

    def said(x: Array) -> Any:
        return np.tanh((np.asarray(x) * weights).sum((1, 2, 3)))

    images: Any
    parts = []
    for like, images in (("real", seen.real), ("fake", seen.fake)):
        keys = example_keys(random_key(SEED, f"consistency, {like}", STEP, 0), jnp.arange(BATCH))
        parts.append(np.square(said(images) - said(terms.moved(images, keys))).mean())
    near = drawn("latents", (3,)) + 0.3 * drawn("consistency, latents", (3,))
    images = (near @ kernel).reshape(-1, 2, 3, 1)
    parts.append(np.square(said(seen.fake) - said(images)).mean())
    assert min(parts) > 0
    value = terms.consistency_discriminator(seen)
    assert_allclose(value, 10 * parts[0] + 7 * parts[1] + 5 * parts[2], rtol=1e-12)
    desired = -0.5 * np.square(np.asarray(seen.fake) - images).mean()
    assert_allclose(terms.consistency_generator(seen), desired, rtol=1e-12)


def test_path_length_and_its_gradient_are_the_papers() -> None:
    """Karras et al. 2020, eq. 4, of a linear generator, whose Jacobian is its matrix."""
    kernel, begin, share = RNG.normal(size=(3, 6)), 0.7, 0.01
    y = drawn("path length, direction", (2, 3, 1)).reshape(BATCH, 6)

    def formula(kernel: np.ndarray) -> tuple[float, float]:
        lengths = np.sqrt(np.square(y @ kernel.T / np.sqrt(2 * 3)).sum(1))
        mean = begin + share * (lengths.mean() - begin)
        return float(np.square(lengths - mean).mean()), mean

    def ours(kernel: Array) -> Any:
        seen = view(lambda x: x.sum((1, 2, 3)), {"path_length": {"decay": share}}, params={"kernel": kernel})
        return terms.PathLength()(seen, {"mean": jnp.float64(begin)})

    value, memory = ours(jnp.asarray(kernel))
    assert_allclose([value, memory["mean"]], formula(kernel), rtol=1e-12)
    gradient = jax.grad(lambda kernel: ours(kernel)[0])(jnp.asarray(kernel))
    for i, j in ((0, 0), (1, 4), (2, 5)):
        step = np.zeros_like(kernel)
        step[i, j] = 1e-6
        assert_allclose(gradient[i, j], (formula(kernel + step)[0] - formula(kernel - step)[0]) / 2e-6, rtol=1e-6)


def test_half_a_batch_is_every_second_example() -> None:
    seen = view(lambda x: x.sum((1, 2, 3)), {"path_length": {"decay": 0.01}}, params={"kernel": jnp.ones((3, 6))})
    seen = dataclasses.replace(seen, examples=seen.examples.replace(label=jnp.arange(BATCH)))
    half = seen.every_second()
    assert half.label.tolist() == [0, 2]
    assert_allclose(half.latents("latents"), seen.latents("latents")[::2])
    lengths = terms.PathLength(half_batch=True)(seen, {"mean": jnp.float64(0)})
    assert lengths == terms.PathLength()(half, {"mean": jnp.float64(0)})
    assert lengths != terms.PathLength()(seen, {"mean": jnp.float64(0)})
    odd = dataclasses.replace(seen, context=dataclasses.replace(seen.context, index=jnp.arange(3)))
    with pytest.raises(ValueError, match="where a device has 3 examples: choose an even number"):
        odd.every_second()


def test_orthogonal_regularisation_has_the_authors_gradient() -> None:
    """``2 (W W^T ∘ (1 - I)) W``, rows being outputs; embeddings, gains and biases don't count."""
    params = {
        "Conv_0": {"kernel": RNG.normal(size=(3, 3, 2, 5)), "bias": RNG.normal(size=5)},
        "Dense_0": {"kernel": RNG.normal(size=(4, 3))},
        "Embedding_0": {"table": RNG.normal(size=(7, 4))},
    }

    def ours(params: Any) -> Array:
        return terms.orthogonal(view(lambda x: x.sum((1, 2, 3)), params=params))

    gradient = jax.grad(ours)(jax.tree.map(jnp.asarray, params))
    for name in ("Conv_0", "Dense_0"):
        kernel = params[name]["kernel"]
        rows = kernel.reshape(-1, kernel.shape[-1]).T
        desired = 2 * ((rows @ rows.T) * (1 - np.eye(len(rows)))) @ rows
        assert_allclose(gradient[name]["kernel"], desired.T.reshape(kernel.shape), rtol=1e-10)
    assert not np.any(gradient["Conv_0"]["bias"])
    assert not np.any(gradient["Embedding_0"]["table"])


@pytest.mark.parametrize(("name", "at"), [("r1", "real"), ("r2", "fake")])
def test_zero_centred_penalties_are_half_the_square_of_the_gradient(name: str, at: str) -> None:
    weights = RNG.normal(size=(8, 16, 1))
    seen = view(lambda x: jnp.sin((x * weights).sum((1, 2, 3))))
    term, nothing = TERMS[name].terms(name, finite_difference=False)
    assert term is not None
    assert nothing is None
    slope = np.cos((np.asarray(getattr(seen, at)) * weights).sum((1, 2, 3)))
    assert_allclose(term.apply(seen, {})[0], 0.5 * (slope**2 * np.square(weights).sum()).mean(), rtol=1e-12)


@pytest.mark.parametrize(("name", "at"), [("r1", "real"), ("r2", "fake")])
def test_finite_differences_stand_for_the_exact_penalty(name: str, at: str) -> None:
    weights, s = RNG.normal(size=(8, 16, 1)), 1e-4
    seen = view(lambda x: jnp.sin((x * weights).sum((1, 2, 3))), {name: {"sigma": s}})
    term, _ = TERMS[name].terms(name, finite_difference=True)
    assert term is not None
    x = np.asarray(getattr(seen, at))
    noise = drawn(f"finite difference, {at}", x.shape[1:])
    said = [np.sin((images * weights).sum((1, 2, 3))) for images in (x + s * noise, x)]
    value = term.apply(seen, {})[0]
    assert_allclose(value, 0.5 * np.square((said[0] - said[1]) / s).mean(), rtol=1e-6)
    # To first order in s it is the square of the gradient's part along the noise, whose mean is that of the gradient.
    along = np.cos((x * weights).sum((1, 2, 3))) * (noise * weights).sum((1, 2, 3))
    assert_allclose(value, 0.5 * np.square(along).mean(), rtol=1e-2)


def test_penalties_of_images_of_two_sides_are_of_both_together() -> None:
    """D being ½|x|² + |y|², its gradient is x beside 2 y, and changes of both are its own."""
    plain = view(lambda x: x.sum((1, 2, 3)), {"r1": {"sigma": 1e-6}})
    pair = tuple(jnp.asarray(RNG.normal(size=(BATCH, side, side, 1))) for side in (4, 2))
    other = tuple(jnp.asarray(RNG.normal(size=(BATCH, side, side, 1))) for side in (4, 2))

    def judge(images: Any, like: str = "") -> DiscriminatorOutput:
        x, y = (image.reshape(BATCH, -1) for image in images)
        return DiscriminatorOutput(0.5 * (x**2).sum(1) + (y**2).sum(1), x)

    seen = dataclasses.replace(plain, real=pair, generated=Generated(other), judge=judge, on_real=judge(pair))

    def slope(x: Any, y: Any) -> Any:
        return np.linalg.norm(np.concatenate([x.reshape(BATCH, -1), 2 * y.reshape(BATCH, -1)], 1), axis=1)

    (x, y), (u, v) = ([np.asarray(image) for image in images] for images in (pair, other))
    assert_allclose(terms.ZeroCentred("real")(seen), np.square(slope(x, y)).mean() / 2, rtol=1e-12)
    assert_allclose(terms.ZeroCentred("fake")(seen), np.square(slope(u, v)).mean() / 2, rtol=1e-12)
    mix: Any = uniform("penalty", ()).reshape(-1, 1, 1, 1)
    between = slope(mix * x + (1 - mix) * u, mix * y + (1 - mix) * v)
    assert_allclose(terms.wgan_gp(seen), np.square(between - 1).mean(), rtol=1e-12)
    near = []
    for image, purpose in ((x, "penalty of each number"), (y, "penalty of each number, 1")):
        near += [image + mix * 0.5 * image.std(axis=(1, 2, 3), keepdims=True) * uniform(purpose, image.shape[1:])]
    assert_allclose(terms.dragan(seen), np.square(slope(*near) - 1).mean(), rtol=1e-12)
    n, m = drawn("finite difference, real", x.shape[1:]), drawn("finite difference, real, 1", y.shape[1:])
    along = (x * n).reshape(BATCH, -1).sum(1) + 2 * (y * m).reshape(BATCH, -1).sum(1)
    assert_allclose(terms.ZeroCentred("real", finite_difference=True)(seen), np.square(along).mean() / 2, rtol=1e-4)


def test_self_supervision_is_the_mean_error_of_what_was_decoded() -> None:
    decoded, target = RNG.normal(size=(2, BATCH, 3, 4, 4, 1))
    plain = view(lambda x: x.sum((1, 2, 3)))
    extra = {"decoded": jnp.asarray(decoded), "target": jnp.asarray(target)}
    seen = dataclasses.replace(plain, on_real=plain.on_real.replace(extra=extra))
    assert_allclose(terms.self_supervision(seen), np.square(decoded - target).mean(), rtol=1e-12)


def test_a_finite_difference_of_several_logits_is_of_their_sum() -> None:
    """As the gradient is that of all of an image's logits together."""

    def discriminate(x: Array) -> Array:
        flat = x.reshape(BATCH, -1)
        return jnp.stack([0.5 * (flat**2).sum(1), flat.sum(1), 3 * flat[:, 0]], 1)

    seen = view(discriminate, {"r1": {"sigma": 1e-6}}, shape=(4, 4, 1))
    x, n = (np.asarray(part).reshape(BATCH, -1) for part in (seen.real, drawn("finite difference, real", (4, 4, 1))))
    slope = x + 1
    slope[:, 0] += 3
    assert_allclose(terms.ZeroCentred("real")(seen), np.square(slope).sum(1).mean() / 2, rtol=1e-12)
    along = np.square((slope * n).sum(1)).mean() / 2
    assert_allclose(terms.ZeroCentred("real", finite_difference=True)(seen), along, rtol=1e-4)
