"""A batch in logical shards gives the same bits on any number of devices."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from ml_collections import ConfigDict

from gan_jax.ops import winograd
from gan_jax.runtime import lockstep, placement
from gan_jax.training import train
from gan_jax.util.errors import UserError
from tests.helpers import NAMES, assert_identical, distance, records, run, run_until, saved, small, trained

AXIS = lockstep.AXIS


def on(devices: int, function: Callable[..., Any], shared: Any, own: Any) -> Any:
    """`lockstep.lockstep` of 8 shards, on as many devices."""
    each = 8 // devices

    def run(shared: Any, own: Any, count: Any) -> Any:
        places: dict[str, Any] = {"device_axis": "d", "shards": 8, "each": each, "count": count}
        return lockstep.lockstep(function, shared, own, **places)

    mapped = jax.pmap(run, "d", in_axes=(None, 0, None), out_axes=None, devices=jax.devices()[:devices])
    count = np.asarray([each, 1], np.int32)
    arguments = (shared, placement.shared_out(own, devices, 8), count)
    return jax.device_get(mapped.lower(*arguments).compile(compiler_options=lockstep.COMPILER_OPTIONS)(*arguments))


def plainly(function: Callable[..., Any], shared: Any, own: Any) -> Any:
    """The same by pmap over 8 devices."""
    return jax.device_get(jax.pmap(function, AXIS, in_axes=(None, 0), out_axes=None)(shared, own))


def moments(w: Any, x: Any) -> Any:
    y = jnp.tanh(x @ w)
    mean = lax.pmean(y.mean(0), AXIS)
    return lax.pmean(jnp.square(y - mean).mean(0), AXIS), lax.psum(1, AXIS)


def gradient(w: Any, x: Any) -> Any:
    """Through a mean and through a gathering, to the second order."""

    def loss(w: Any) -> Any:
        y = x @ w
        far = jnp.square(y[:, None] - lax.all_gather(y, AXIS, tiled=True)[None]).sum()
        return (jnp.sin(y - lax.pmean(y.mean(0), AXIS)) ** 2).sum() + 0.01 * far

    def norm(w: Any) -> Any:
        return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(lax.pmean(jax.grad(loss)(w), AXIS)))

    return lax.pmean(jax.grad(norm)(w), AXIS)


def noise(key: Any, x: Any) -> Any:
    """Keys for each example, some of them drawn before a mean and used after it."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(lax.axis_index(AXIS) * len(x) + jnp.arange(len(x)))
    first = jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys)
    mean = lax.pmean(first.mean(), AXIS)
    second = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 1), (3,)))(keys)
    return lax.all_gather(first * mean + second, AXIS)


def scanned(w: Any, x: Any) -> Any:
    """A loop in which what all have in common is carried, and what begins so and then differs."""

    def body(carry: Any, row: Any) -> Any:
        common, own, late = carry
        common = common + lax.pmean((row @ w).sum(), AXIS)
        return (common, own * 0.5 + row, late + own), (common, row.sum())

    zero = jnp.zeros(x.shape[-1])
    carry, (common, own) = lax.scan(body, (jnp.zeros(()), zero, zero), x)
    return carry[0], lax.pmean(carry[1:], AXIS), common, lax.pmean(own, AXIS)


def chosen(w: Any, x: Any) -> Any:
    step, w = w
    found = lax.cond(step % 2 == 0, lambda x: lax.pmean((x @ w).mean(0), AXIS) * x, lambda x: x + w[0], x)
    return lax.pmean(found, AXIS)


CASES: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "moments": (moments, lambda w: w),
    "gradient": (gradient, lambda w: w),
    "noise": (noise, lambda w: jax.random.key(3)),
    "scanned": (scanned, lambda w: w),
    "chosen, first": (chosen, lambda w: (jnp.int32(0), w)),
    "chosen, second": (chosen, lambda w: (jnp.int32(1), w)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_speaks_to_others_gives_the_same_bits_on_any_number_of_devices(case: str) -> None:
    function, shared = CASES[case]
    random = np.random.default_rng(0)
    w = shared(jnp.asarray(random.normal(size=(5, 5)), jnp.float32))
    x = random.normal(size=(8, 4, 5)).astype(np.float32)
    found = {devices: on(devices, function, w, x) for devices in (1, 2, 8)}
    assert_identical(found[1], found[2])
    assert_identical(found[1], found[8])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5), found[1], plainly(function, w, x))


def test_what_cannot_be_said_for_all_shards_is_refused() -> None:
    x = np.ones((8, 4), np.float32)
    with pytest.raises(ValueError, match="differs from shard to shard"):
        on(2, lambda _, x: x, (), x)
    with pytest.raises(NotImplementedError, match="a choice of each shard's own"):
        on(2, lambda _, x: lax.cond(x[0] > 0, lambda: lax.psum(x, AXIS), lambda: x), (), x)
    with pytest.raises(NotImplementedError, match="while with a collective operation"):
        on(2, lambda _, x: lax.while_loop(lambda y: y[0] < 9, lambda y: lax.psum(y, AXIS), x), (), x)


def sharded(name: str) -> ConfigDict:
    """`small`, in 8 shards."""
    config = small(name)
    config.parallel.logical_shards = 8
    for term in config.terms.values():
        if "every" in term:
            term.every = min(term.every, 2)
    return config


@pytest.mark.parametrize(
    ("name", "counts"), [("gan", (8,)), *(pytest.param(name, (2, 4, 8), marks=pytest.mark.slow) for name in NAMES)]
)
def test_float32_training_is_the_same_to_the_bit_on_1_2_4_and_8_devices(
    name: str, counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for option, value in (("xla_backend_optimization_level", "3"), ("xla_cpu_use_fusion_emitters", True)):
        if option in os.environ["XLA_FLAGS"]:  # as users', see conftest
            monkeypatch.setitem(lockstep.COMPILER_OPTIONS, option, value)
    whole = trained(sharded(name), 1, steps=6)
    for devices in counts:
        assert_identical(trained(sharded(name), devices, steps=6), whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gan", "dcgan"])
def test_so_is_that_of_networks_and_batches_of_full_size(name: str, tmp_path: Path) -> None:
    """Which are computed by other code than small ones; in processes of so many devices, which have other threads."""
    flags = ["--config.steps=20", "--config.eval.features=none", "--config.parallel.logical_shards=8"]
    states = []
    for devices in (1, 8):
        environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        command = [sys.executable, "launch.py", f"--config=configs/{name}.py", f"--workdir={tmp_path / str(devices)}"]
        subprocess.run([*command, *flags], check=True, env=environment, capture_output=True)
        config = importlib.import_module(f"configs.{name}").get_config()
        states.append(saved(config, tmp_path / str(devices)))
    assert_identical(*states)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcgan", "sngan"])
def test_so_is_that_of_convolutions_by_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "best_tile", lambda *_: 2)
    whole = trained(sharded(name), 1, steps=3)
    for devices in (2, 8):
        assert_identical(trained(sharded(name), devices, steps=3), whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logical_shards_change_nothing_but_rounding(name: str) -> None:
    with jax.enable_x64(True):
        plain, config = small(name), sharded(name)
        plain.compute_dtype = config.compute_dtype = "float64"
        plain.terms = config.terms
        plain.g_batches = config.g_batches = 2
        assert distance(trained(plain, 1, steps=4).generator, trained(config, 2, steps=4).generator) < 1e-10


@pytest.mark.slow
def test_without_logical_shards_the_bits_differ() -> None:
    """Or the tests above would prove nothing."""
    one, eight = (trained(small("dcgan"), devices, steps=4) for devices in (1, 8))
    with pytest.raises(AssertionError):
        assert_identical(one, eight)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1024, 0])  # from memory, or streamed
def test_a_run_resumed_on_other_devices_ends_as_one_never_stopped(budget: int, tmp_path: Path) -> None:
    config = sharded("gan")
    config.data.device_budget_mb = budget
    config.steps, config.checkpoint.every = 8, 4
    whole = run(config, tmp_path / "whole", jax.devices())
    run_until(config, tmp_path / "cut", jax.devices()[:4], "pause", at=8)
    assert_identical(run(config, tmp_path / "cut", jax.devices()[:1]), whole)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


def test_shards_that_do_not_fit_are_one_clear_line(tmp_path: Path) -> None:
    config = sharded("gan")
    with pytest.raises(UserError, match=r"logical_shards=8 can train on 1, 2, 4, 8 devices, not on 3"):
        train.train(config, tmp_path, jax.devices()[:3])
    config.batch_size = 20
    with pytest.raises(UserError, match=r"batch_size 20 is not divisible by the 8 logical shards.* 16 or 24"):
        train.train(config, tmp_path, jax.devices()[:2])
    config.parallel.logical_shards = 6
    with pytest.raises(UserError, match=r"logical_shards must be 0 or a power of two, not 6"):
        train.train(config, tmp_path, jax.devices()[:2])
