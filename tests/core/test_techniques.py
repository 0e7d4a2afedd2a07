"""Normalisations, heads, penalties, terms, optimizers: each against its paper's formula, NumPy or PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose

from gan_jax import layers
from gan_jax.build import build_gan
from gan_jax.core import optimizers
from gan_jax.core.gan import Context, Examples, Generated
from gan_jax.core.state import hyperparams_now, init_state
from gan_jax.core.update import Shared, discriminator_step, update
from gan_jax.layers.minibatch import minibatch_discrimination, minibatch_stddev
from gan_jax.util.errors import UserError
from tests.helpers import differ, same, small, start

RNG = np.random.default_rng(0)
Array = Any


# --- spectral normalisation -------------------------------------------------------------------------------------------


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, kernel: Array) -> Array:
        return layers.spectrally_normalized(self, kernel)


def test_power_iteration_finds_the_largest_singular_value() -> None:
    with jax.enable_x64(True):
        kernel = jnp.asarray(RNG.normal(size=(3, 3, 4, 6)))
        variables = Normalized().init(jax.random.key(0), kernel)
        step = jax.jit(partial(Normalized().apply, mutable=["spectral"]))
        for _ in range(300):
            out, variables = step(variables, kernel)
        exact = np.linalg.svd(np.reshape(kernel, (-1, 6)), compute_uv=False)[0]
        assert_allclose(out, np.asarray(kernel) / exact, rtol=1e-9)


def test_one_iteration_where_it_is_mutable_and_none_elsewhere() -> None:
    kernel = jnp.asarray(RNG.normal(size=(5, 7)), jnp.float32)
    variables = Normalized().init(jax.random.key(0), kernel)
    u = np.asarray(variables["spectral"]["u"], np.float64)
    assert_allclose(np.linalg.norm(u), 1, rtol=1e-6)
    w = np.asarray(kernel, np.float64)
    v = w @ u / np.linalg.norm(w @ u)
    assert_allclose(variables["spectral"]["v"], v, rtol=1e-5, atol=1e-6)
    out: Any = Normalized().apply(variables, kernel)
    assert_allclose(out, w / (v @ w @ u), rtol=1e-5)
    out, written = Normalized().apply(variables, 2 * kernel + 1, mutable=["spectral"])
    w = 2 * w + 1
    v = w @ u / np.linalg.norm(w @ u)
    u = v @ w / np.linalg.norm(v @ w)
    assert_allclose(written["spectral"]["v"], v, rtol=1e-5, atol=1e-6)
    assert_allclose(written["spectral"]["u"], u, rtol=1e-5, atol=1e-6)
    assert_allclose(out, w / (v @ w @ u), rtol=1e-5)
    again: Any = Normalized().apply(written, 2 * kernel + 1)
    np.testing.assert_array_equal(again, out)  # another pass of the same step


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_spectral_normalisation_is_pytorchs_with_its_gradient() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")
    w, x, target = (RNG.normal(size=size).astype(np.float32) for size in ((4, 6), (3, 6), (3, 4)))
    linear = torch.nn.utils.spectral_norm(torch.nn.Linear(6, 4, bias=False))
    before = {name: getattr(linear, f"weight_{name}").numpy().copy() for name in ("u", "v")}
    with torch.no_grad():
        linear.weight_orig.copy_(torch.tensor(w))
    loss = (linear.train()(torch.tensor(x)) * torch.tensor(target)).sum()
    loss.backward()

    def ours(kernel: Array) -> tuple[Array, Any]:
        out, written = Normalized().apply({"spectral": before}, kernel, mutable=["spectral"])
        return ((x @ out) * target).sum(), written

    gradient, written = jax.grad(ours, has_aux=True)(jnp.asarray(w.T))
    for name in ("u", "v"):
        desired = getattr(linear, f"weight_{name}").numpy()
        assert_allclose(written["spectral"][name], desired, rtol=1e-4, atol=1e-5)
    assert_allclose(gradient, linear.weight_orig.grad.numpy().T, rtol=1e-3, atol=1e-4)
    held: Any = Normalized().apply(written, jnp.asarray(w.T))
    assert_allclose(x @ held, linear.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_discriminator_step_makes_one_iteration_and_the_generators_none() -> None:
    config = small("sngan")
    gan, before, batch = start(config)
    after, _ = jax.jit(partial(update, gan))(before, batch)
    _, once = gan.discriminator.apply(
        {"params": before.discriminator.params, **before.discriminator.stats},
        batch["image"][0],
        train=True,
        mutable=["spectral"],
    )
    jax.tree.map(
        partial(assert_allclose, rtol=1e-5, atol=1e-6), after.discriminator.stats["spectral"], once["spectral"]
    )
    u_before, u_after = (state.discriminator.stats["spectral"]["Conv_0"]["u"] for state in (before, after))
    assert (u_before != u_after).all()


# --- normalisations ---------------------------------------------------------------------------------------------------


def test_conditional_gains_start_at_one_and_are_those_of_the_label() -> None:
    module = layers.BatchNorm(classes=3)
    x, label = RNG.normal(size=(6, 4, 4, 5)).astype(np.float32), np.asarray([0, 1, 2, 2, 1, 0])
    variables = module.init(jax.random.key(0), x, train=True, label=label)
    params = variables["params"]
    np.testing.assert_array_equal(params["scale"], np.ones((3, 5)))
    np.testing.assert_array_equal(params["bias"], np.zeros((3, 5)))
    params = {name: RNG.normal(size=(3, 5)).astype(np.float32) for name in ("scale", "bias")}
    out, _ = module.apply({**variables, "params": params}, x, train=True, label=label, mutable=["batch_stats"])
    normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    desired = normal * params["scale"][label][:, None, None] + params["bias"][label][:, None, None]
    assert_allclose(out, desired, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4, 3, 6), (5, 7)])
def test_layer_normalisation_is_its_formula(shape: tuple[int, ...]) -> None:
    x = RNG.normal(size=shape).astype(np.float32) * 3 + 1
    params = {name: RNG.normal(size=shape[-1]).astype(np.float32) for name in ("scale", "bias")}
    axes = tuple(range(1, len(shape)))
    normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    out: Any = layers.LayerNorm().apply({"params": params}, x)
    assert_allclose(out, normal * params["scale"] + params["bias"], rtol=1e-4, atol=1e-5)


def test_virtual_batch_norm_uses_the_reference_batch_and_the_example_itself() -> None:
    n = layers.REFERENCES
    x = RNG.normal(size=(n + 3, 2, 3, 4)).astype(np.float32) * 2 + 1
    params = {"scale": np.full(4, 1.5, np.float32), "bias": np.full(4, 0.5, np.float32)}
    out: Any = layers.VirtualBatchNorm().apply({"params": params}, x)
    for i in range(n + 3):
        among = x[:n] if i < n else np.concatenate([x[:n], x[i : i + 1]])
        mean, var = among.mean((0, 1, 2)), among.var((0, 1, 2))
        assert_allclose(out[i], (x[i] - mean) / np.sqrt(var + 1e-5) * 1.5 + 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dcgan", "resnet"))]
)
def test_a_generator_with_virtual_batch_norm_treats_each_latent_by_itself(model: str) -> None:
    config = small({"dcgan": "cgan", "mlp": "gan", "resnet": "projection"}[model])
    config.generator.update({"norm": "virtual", "conditional": "concat"})
    config.classes = 10
    gan, hyper = build_gan(config)
    state = init_state(gan, 0, hyper)
    z, label = RNG.normal(size=(5, 8)).astype(np.float32), np.arange(5, dtype=np.int32)
    whole: Any = gan.generator.apply(state.ema, z, label=label, train=True)
    part: Any = gan.generator.apply(state.ema, z[2:3], label=label[2:3], train=False)
    assert whole.shape == (5, *gan.image_shape)
    assert_allclose(part[0], whole[2], atol=1e-5)


# --- the head ---------------------------------------------------------------------------------------------------------


def test_minibatch_discrimination_is_its_formula() -> None:
    m = RNG.normal(size=(6, 3, 2))
    with jax.enable_x64(True):
        out = minibatch_discrimination(jnp.asarray(m), None)
    for i in range(6):
        for b in range(3):
            assert_allclose(out[i, b], sum(np.exp(-np.abs(m[i, b] - m[j, b]).sum()) for j in range(6)), rtol=1e-12)


@pytest.mark.parametrize(("count", "size"), [(8, 4), (6, 2), (5, 1)])
def test_minibatch_deviation_is_that_of_neighbours(count: int, size: int) -> None:
    x = RNG.normal(size=(count, 7))
    with jax.enable_x64(True):
        out = minibatch_stddev(jnp.asarray(x), None)
    for i in range(count):
        group = x[i // size * size : (i // size + 1) * size]
        assert_allclose(out[i, 0], np.sqrt(group.var(0) + 1e-8).mean(), rtol=1e-12)


@pytest.mark.parametrize("function", [minibatch_discrimination, minibatch_stddev])
@pytest.mark.parametrize("devices", [2, 8])
def test_minibatch_statistics_are_of_the_global_batch(function: Callable[..., Array], devices: int) -> None:
    x = RNG.normal(size=(16, 3, 2) if function is minibatch_discrimination else (16, 5)).astype(np.float32)

    def gradient(x: Array, axis_name: str | None) -> tuple[Array, Array]:
        out, pull_back = jax.vjp(lambda x: function(x, axis_name), x)
        return out, pull_back(jnp.sin(3 * out))[0]

    spread = x.reshape(devices, -1, *x.shape[1:])
    actual = jax.pmap(partial(gradient, axis_name="d"), "d", devices=jax.devices()[:devices])(spread)
    for a, b in zip(actual, gradient(jnp.asarray(x), None), strict=True):
        assert_allclose(np.reshape(a, np.shape(b)), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["gan", "dcgan", pytest.param("sngan", marks=pytest.mark.slow)])
def test_a_head_is_told_the_class_and_says_it(model: str) -> None:
    config = small(model)
    x, label = RNG.uniform(-1, 1, (4, 28, 28, 1)).astype(np.float32), np.asarray([0, 3, 3, 9], np.int32)

    def said(conditional: str, label: Array) -> tuple[Any, Any]:
        config.discriminator.conditional = conditional
        config.classes = 0 if conditional == "none" else 10
        gan, _ = build_gan(config)
        variables: Any = gan.discriminator.init(jax.random.key(0), x, label=label, train=True)
        return gan.discriminator.apply(variables, x, label=label, train=True, mutable=["batch_stats"])[0], variables

    plain, _ = said("none", label)
    assert plain.class_logits is None
    assert plain.logits.shape == (4,)
    auxiliary, variables = said("auxiliary", label)
    assert auxiliary.class_logits.shape == (4, 10)
    projected, variables = said("projection", label)
    table = variables["params"]["Embedding_0"]["table"]
    if model != "sngan":  # whose table is divided by its largest singular value
        gain = (np.asarray(table)[label] * np.asarray(projected.features)).sum(1)
        assert_allclose(projected.logits - plain.logits, gain, rtol=1e-3, atol=1e-5)
    for conditional in ("concat", "projection"):
        assert (said(conditional, label)[0].logits != said(conditional, (label + 1) % 10)[0].logits).all()


@pytest.mark.parametrize("minibatch", ["discrimination", "stddev"])
@pytest.mark.parametrize("model", ["gan", "dcgan"])
def test_two_batches_in_one_call_are_told_nothing_of_each_other(model: str, minibatch: str) -> None:
    config = small(model)
    config.discriminator.update({"norm": "batch", "minibatch": minibatch})
    gan, _ = build_gan(config)
    both = RNG.uniform(-1, 1, (2, 8, 28, 28, 1)).astype(np.float32) * [[[[[1.0]]]], [[[[0.2]]]]]
    variables: Any = gan.discriminator.init(jax.random.key(0), both[0], train=True)

    def said(stats: Any, x: Any, batches: int = 1) -> Any:
        return gan.discriminator.apply({**variables, **stats}, x, train=True, batches=batches, mutable=["batch_stats"])

    first, stats = said({}, both[0])
    second, stats = said(stats, both[1])
    at_once, stats_at_once = said({}, both.reshape(16, 28, 28, 1), batches=2)
    assert_allclose(at_once.logits, np.concatenate([first.logits, second.logits]), rtol=1e-4, atol=1e-5)
    jax.tree.map(partial(assert_allclose, rtol=1e-5, atol=1e-6), stats_at_once, stats)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"discriminator.conditional": "projection"},
            "conditional is 'projection', and config.classes is 0: set it to the number",
        ),
        ({"generator.conditional": "projection", "classes": 10}, "conditional must be one of none, concat, norm"),
        ({"generator.norm": "batchnorm"}, "norm must be one of none, batch, layer, virtual, not 'batchnorm'"),
        ({"generator.norm": "none", "generator.conditional": "norm", "classes": 10}, "goes with norm='batch'"),
        ({"discriminator.norm": "virtual"}, "norm='virtual' is for generators"),
        ({"discriminator.minibatch": "std"}, "minibatch must be one of none, discrimination, stddev, not 'std'"),
        ({"generator.initializer": "kaiming"}, "initializer must be one of normal, xavier, orthogonal"),
        ({"classes": 10}, "config.classes is 10, but neither player is told of classes"),
        ({"augment.name": "color,color"}, "config.augment.name names color twice"),
        ({"task": "autoencoder"}, "model 'dcgan' has no encoder"),
        ({"task": "chess"}, "unknown task 'chess'"),
        ({"prior": "laplace"}, "unknown prior 'laplace'"),
        ({"terms.r1.weight": -1.0}, "terms.r1.weight must be finite and from 0 up"),
        ({"schedules.generator_rate.kind": "step"}, "unknown config.schedules.generator_rate.kind 'step'"),
        ({"optimizer.generator.schedule": "linear"}, "is config.schedules.generator_rate now"),
        (
            {"generator.remat": True, "parallel.logical_shards": 8},
            "config.generator.remat saves nothing with config.parallel.logical_shards",
        ),
        ({"optimizer.generator.clip": -0.1}, "must be a finite number from 0 up"),
    ],
)
def test_what_cannot_be_built_is_one_line(changes: dict[str, Any], message: str) -> None:
    config = small("dcgan")
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message.replace("[", r"\[")) as error:
        build_gan(config)
    assert "\n" not in str(error.value)


# --- gradients of gradients, intervals --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wgan_gp", "relativistic", "dragan"])
def test_gradients_of_gradients_are_finite_differences(name: str) -> None:
    config = small(name)
    for term in ("r1", "r2"):
        config.terms[term].every = 1
    config.compute_dtype = "float64"
    config.optimizer.discriminator = optimizer_entry("sgd", 1.0)
    with jax.enable_x64(True):
        gan, state, batch = start(config)
        context = Context(gan, state.seed, state.step, state.hyperparams, batch["index"])
        examples = Examples(batch["image"][0], batch["label"][0], 0)
        drawn = jnp.asarray(RNG.uniform(-1, 1, examples.image.shape))
        fake = Generated(drawn, drawn)
        shared = Shared(examples, examples.image, examples.image, fake, state.generator.variables)

        @jax.jit
        def step(params: Any) -> tuple[Any, Array]:
            player = state.discriminator.replace(params=params)
            (after, _), metrics = discriminator_step(context, (player, {}), shared)
            return jax.tree.map(jnp.subtract, params, after.params), metrics["d_loss"]

        params = jax.tree.map(lambda p: 3 * p, state.discriminator.params)  # so that the penalty weighs something
        gradient, _ = step(params)
        direction = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape)), params)
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
        h = 1e-9  # small, because the gradient jumps where a LeakyReLU's input changes its sign
        up, down = (step(jax.tree.map(lambda p, d, h=h: p + h * d, params, direction))[1] for h in (h, -h))
        assert_allclose((up - down) / (2 * h), slope, rtol=1e-6, atol=2e-6)  # the loss itself is rounded


def optimizer_entry(name: str, rate: float) -> Any:
    from gan_jax.config import optimizer

    return optimizer(name, rate)


def test_lazy_penalties_come_every_nth_step_with_n_times_the_weight() -> None:
    config = small("relativistic")
    config.terms.r1.every, config.terms.r2.every = 3, 2
    gan, state, batch = start(config)
    step = jax.jit(partial(update, gan))
    seen: dict[str, list[float]] = {"d_r1": [], "d_r2": []}
    for _ in range(7):
        state, metrics = step(state, batch)
        for name, values in seen.items():
            values.append(float(metrics[name]))
    assert [value > 0 for value in seen["d_r1"]] == [True, False, False, True, False, False, True]
    assert [value > 0 for value in seen["d_r2"]] == [True, False, True, False, True, False, True]
    config.terms.r1.every = config.terms.r2.every = 1
    every, state, _ = start(config)
    metrics = jax.jit(partial(update, every))(state, batch)[1]
    assert_allclose(seen["d_r1"][0], 3 * metrics["d_r1"], rtol=1e-5)
    assert_allclose(seen["d_r2"][0], 2 * metrics["d_r2"], rtol=1e-5)


@pytest.mark.parametrize("name", ["acgan", "projection", "aae", "relativistic"])
def test_what_d_says_losses_and_the_state_are_float32_where_networks_compute_in_bfloat16(name: str) -> None:
    config = small(name)
    config.compute_dtype = "bfloat16"
    gan, hyper = build_gan(config)
    state = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    image = jax.ShapeDtypeStruct((1, 16, *gan.image_shape), jnp.float32)
    batch = {"image": image, "label": jnp.zeros((1, 16), jnp.int32), "index": jnp.arange(16)}
    after, metrics = jax.eval_shape(partial(update, gan), state, batch)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)
    assert {value.dtype for value in metrics.values()} == {np.dtype(np.float32)}
    seen = jnp.zeros((16, gan.latent_dim) if name == "aae" else (16, *gan.image_shape))
    label = jnp.zeros(16, jnp.int32)
    first = partial(gan.discriminator.init_with_output, jax.random.key(0), label=label, train=True)
    said, _ = jax.eval_shape(first, seen)
    assert {leaf.dtype for leaf in jax.tree.leaves(said)} == {np.dtype(np.float32)}


# --- terms ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_feature_matching_alone_trains_the_generator_on_any_number_of_devices() -> None:
    config = small("dcgan")
    config.compute_dtype = "float64"
    config.terms.adversarial.weight, config.terms.feature_matching.weight = 0.0, 1.0
    from tests.helpers import distance, trained

    with jax.enable_x64(True):
        one, eight = (trained(config, devices, steps=3) for devices in (1, 8))
        assert distance(one.generator.params, eight.generator.params) < 1e-10
        gan, hyper = build_gan(config)
        assert differ(one.generator.params, init_state(gan, 0, hyper).generator.params)


# --- optimizers -------------------------------------------------------------------------------------------------------


def test_historical_averaging_pulls_to_the_mean_of_the_past() -> None:
    optimizer = optimizers.Recipe("sgd", historical=True)(0.1, historical_averaging=0.3)
    params, gradient, past = jnp.asarray([1.0, -2.0]), jnp.asarray([0.5, 0.25]), []
    state = optimizer.init(params)
    for _ in range(5):
        past.append(np.asarray(params, np.float64))
        pull = 2 * 0.3 * (past[-1] - np.mean(past, 0))
        updates, state = optimizer.update(gradient, state, params)
        assert_allclose(updates, -0.1 * (np.asarray(gradient) + pull), rtol=1e-5)
        params = optax.apply_updates(params, updates)


def test_weights_stay_within_the_clip() -> None:
    config = small("wgan")
    gan, state, batch = start(config)
    step = jax.jit(partial(update, gan))
    for _ in range(3):
        state, _ = step(state, batch)
        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(state.discriminator.params))
        assert largest <= 0.01 * (1 + 1e-6)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(state.generator.params)) > 0.05


# --- a critic first, the average's start ------------------------------------------------------------------------------


def test_a_warm_up_gives_the_critic_more_steps_before_each_of_the_generators() -> None:
    config = small("wgan")
    config.schedules.critic_first.update({"moves": 3.0, "factor": 4.0, "period": 5.0})
    gan, state, _ = start(config)
    active = jax.jit(lambda step: hyperparams_now(gan, state.replace(step=step))["optimizer"]["generator"]["active"])
    moves = np.flatnonzero([active(jnp.int32(step)) for step in range(40)])
    between = np.diff(moves, prepend=-1)
    # Three moves after 4 steps each, then one a step, but after every fifth once more after 4.
    np.testing.assert_array_equal(between[:20], [4, 4, 4] + [1, 1, 1, 1, 1, 4] + [1, 1, 1, 1, 4] * 2 + [1])


def test_a_generator_that_is_held_keeps_its_parameters_and_moments() -> None:
    config = small("wgan")
    config.schedules.critic_first.update({"moves": 2.0, "factor": 3.0})
    gan, before, batch = start(config)
    step = jax.jit(partial(update, gan))
    states = [before]
    for _ in range(3):
        states.append(step(states[-1], batch)[0])
    held, moved = states[2].generator, states[3].generator
    assert same((before.generator.params, before.generator.opt_state), (held.params, held.opt_state))
    params = before.ema["params"], states[2].ema["params"]
    jax.tree.map(partial(assert_allclose, rtol=1e-5, atol=1e-7), *params)
    assert differ(states[0].discriminator.params, states[2].discriminator.params)
    assert differ(held.params, moved.params)


def test_the_average_is_the_parameters_until_it_starts() -> None:
    config = small("gan")
    config.averages.ema.start = 2
    gan, state, batch = start(config)
    step = jax.jit(partial(update, gan))
    for i in range(4):
        state, _ = step(state, batch)
        assert same(state.ema, state.generator.variables) == (i < 2)
