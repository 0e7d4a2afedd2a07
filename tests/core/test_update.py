"""One training step: who changes what, and when."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax.core import losses
from gan_jax.core.gan import GAN, Context, Examples, Generated
from gan_jax.core.losses import Array
from gan_jax.core.randomness import example_keys, random_key
from gan_jax.core.update import Shared, discriminator_step, update
from tests.helpers import QUICKLY, differ, same, small, start


def latents(gan: GAN, seed: Any, step: Any, substep: int, index: Any) -> Array:
    """What a step draws for its batch ``substep``."""
    keys = example_keys(random_key(seed, "latents", step, substep), index)
    return jax.vmap(lambda key: jax.random.normal(key, (gan.latent_dim,), gan.dtype))(keys)


def test_each_players_every_parameter_moves_and_metrics_are_flat_finite_scalars(config: ConfigDict) -> None:
    gan, before, batch = start(config)
    after, metrics = jax.jit(partial(update, gan))(before, batch)
    assert differ(before.generator.params, after.generator.params)
    assert differ(before.discriminator.params, after.discriminator.params)
    assert int(after.step) == 1
    assert same(before.hyperparams, after.hyperparams)
    assert set(metrics) == {
        *("d_loss", "g_loss", "d_margin", "d_real", "d_fake", "d_accuracy_real", "d_accuracy_fake"),
        *("d_grad_norm", "g_grad_norm", "d_param_norm", "g_param_norm"),
    }
    assert all(value.shape == () and np.isfinite(value) for value in metrics.values())
    assert metrics["d_grad_norm"] > 0
    assert metrics["g_grad_norm"] > 0


@pytest.mark.parametrize("name", ["dcgan", *(pytest.param(n, marks=pytest.mark.slow) for n in ("wgan_gp", "sngan"))])
def test_a_step_is_the_same_as_gpus_make_it_with_d_called_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(name)
    config.compute_dtype = "float64"
    with jax.enable_x64(True):
        gan, before, batch = start(config)
        in_two = jax.jit(partial(update, gan)).lower(before, batch)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        in_one = jax.jit(lambda *inputs: update(gan, *inputs)).lower(before, batch)
        once, twice = (lowered.compile(compiler_options=QUICKLY)(before, batch) for lowered in (in_one, in_two))
    assert not same(before.generator.stats, once[0].generator.stats)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-10), once, twice)
    fewer, products = (
        sum(lowered.as_text().count(f"stablehlo.{kind}") for kind in ("convolution", "dot_general"))
        for lowered in (in_one, in_two)
    )
    assert fewer < products


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_a_player_with_learning_rate_zero_keeps_its_parameters_whatever_the_other_does(
    config: ConfigDict, frozen: str
) -> None:
    config.optimizer[frozen].learning_rate = 0.0
    gan, before, batch = start(config)
    after, metrics = jax.jit(partial(update, gan))(before, batch)
    other = {"generator": "discriminator", "discriminator": "generator"}[frozen]
    assert same(getattr(before, frozen).params, getattr(after, frozen).params)
    assert differ(getattr(before, other).params, getattr(after, other).params)
    assert metrics["d_grad_norm"] > 0
    assert metrics["g_grad_norm"] > 0


def test_batch_statistics_follow_the_stated_policy() -> None:
    config = small("dcgan")
    config.augment.name = "none"
    gan, before, batch = start(config)
    after, _ = jax.jit(partial(update, gan))(before, batch)

    def forward(player: str, stats: Any, x: Array) -> Any:
        variables = {"params": getattr(before, player).params, **stats}
        return getattr(gan, player).apply(variables, x, train=True, mutable=["batch_stats"])

    z = latents(gan, before.seed, before.step, 0, batch["index"])
    # G: once, by the latents of the step. D: by the real batch, then by the fakes; not by the generator's step.
    fake, g_stats = forward("generator", before.generator.stats, z)
    _, d_stats = forward("discriminator", before.discriminator.stats, batch["image"][0])
    _, d_stats = forward("discriminator", d_stats, fake)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.generator.stats, g_stats)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.discriminator.stats, d_stats
    )
    assert differ(before.generator.stats, after.generator.stats)


def test_d_steps_take_their_own_images_and_train_the_discriminator_more() -> None:
    config = small("gan")
    config.d_steps = 3
    gan, before, batch = start(config)
    after, _ = jax.jit(partial(update, gan))(before, batch)
    # The same three steps by hand.
    context = Context(gan, before.seed, before.step, before.hyperparams, batch["index"])
    player = before.discriminator
    for i in range(3):
        z = latents(gan, before.seed, before.step, i, batch["index"])
        fake: Any = gan.generator.apply({"params": before.generator.params}, z, train=True)
        examples = Examples(batch["image"][i], batch["label"][i], i)
        shared = Shared(
            examples, batch["image"][i], batch["image"][i], Generated(fake, fake), before.generator.variables
        )
        (player, _), _ = discriminator_step(context, (player, {}), shared)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), after.discriminator.params, player.params
    )


@pytest.mark.parametrize("loss", losses.__all__)
def test_metrics_say_what_they_are_called_after(loss: str) -> None:
    config = small("gan")
    config.loss = loss
    gan, before, batch = start(config)
    _, metrics = jax.jit(partial(update, gan))(before, batch)
    z = latents(gan, before.seed, before.step, 0, batch["index"])
    fake = gan.generator.apply({"params": before.generator.params}, z, train=True)
    judge: Any = partial(gan.discriminator.apply, {"params": before.discriminator.params}, train=True)
    real_logits, fake_logits = (np.asarray(judge(x).logits, np.float64) for x in (batch["image"][0], fake))
    middle = (real_logits.mean() + fake_logits.mean()) / 2
    boundary = {"least_squares": 0.5, "wasserstein": middle, "relativistic": middle}.get(loss, 0.0)
    squash = (lambda x: 1 / (1 + np.exp(-x))) if loss in ("non_saturating", "minimax") else (lambda x: x)
    expected = {
        "d_margin": real_logits.mean() - fake_logits.mean(),
        "d_real": squash(real_logits).mean(),
        "d_fake": squash(fake_logits).mean(),
        "d_accuracy_real": (real_logits > boundary).mean(),
        "d_accuracy_fake": (fake_logits < boundary).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_hyperparameters_are_leaves_so_changing_them_compiles_nothing() -> None:
    gan, state, batch = start(small("gan"))
    step = jax.jit(partial(update, gan))
    step(state, batch)
    hyper = jax.tree.map(lambda leaf: leaf * 0.5, state.hyperparams)
    step(state.replace(hyperparams=hyper, seed=jnp.uint32(7)), batch)
    assert step._cache_size() == 1  # type: ignore[attr-defined]


def test_latents_depend_on_seed_step_and_global_index_alone() -> None:
    gan, *_ = start(small("gan"))

    def drawn(seed: int, step: int, index: Any) -> np.ndarray:
        return np.asarray(gan.prior(example_keys(random_key(seed, "latents", step, 0), index), 8, gan.dtype))

    whole = drawn(1, 3, jnp.arange(16))
    parts = [drawn(1, 3, jnp.arange(16)[part]) for part in (slice(0, 4), slice(4, 16))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert len(np.unique(whole)) == whole.size
    for other in (drawn(2, 3, jnp.arange(16)), drawn(1, 4, jnp.arange(16))):
        assert not np.isin(other, whole).any()
