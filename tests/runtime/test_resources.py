"""What a training step is said to cost."""

from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest

from gan_jax import build
from gan_jax.core.state import init_state
from gan_jax.runtime import placement, program, resources
from tests.helpers import small


@pytest.mark.parametrize(
    ("d_steps", "own", "devices"),
    [(1, 0, 1), (5, 0, 1), (5, 2, 1), *(pytest.param(*of, marks=pytest.mark.slow) for of in ((1, 0, 2), (2, 0, 1)))],
)
def test_flops_are_those_counted_by_hand(d_steps: int, own: int, devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = jax.stages.Lowered.cost_analysis

    def on_the_host(lowered: jax.stages.Lowered) -> Any:  # on a GPU there is nothing to be had but there
        return counted(lowered) if jax.config.jax_default_device else None  # type: ignore[attr-defined]

    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", on_the_host)
    config = small("gan")
    config.update({"batch_size": 128, "d_steps": d_steps, "g_batches": own, "steps_per_dispatch": 2})
    gan, hyper = build.build_gan(config)
    chosen = jax.devices()[:devices]
    fed = build.build_feed(config, gan, build.build_dataset(config, None), chosen)
    chunk = program.compile_chunk(gan, fed.fetch, fed.capacity, chosen)
    state = placement.replicated(init_state(gan, 0, hyper), chosen)
    state, _ = chunk(state, 0, fed.data, fed.nothing)
    cost = resources.cost(gan, chunk, state, 128, devices)

    def forward(sizes: list[int]) -> list[int]:
        return [2 * 128 * a * b for a, b in pairwise(sizes)]

    g, d = forward([8, 32, 48, 784]), forward([784, 48, 32, 1])
    # Forward, the weights' gradient, and the inputs' but for the first layer.
    d_step = 2 * (3 * sum(d) - d[0])
    early = sum(g) + d_step
    g_step = 3 * sum(g) - g[0] + 2 * sum(d)
    by_hand = d_steps * early + own * g_step if own else (d_steps - 1) * early + d_step + g_step
    assert by_hand < cost.flops < 1.15 * by_hand  # with activations, losses, Adam and random numbers
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves((state, fed.data)))
    assert arrays < cost.device_memory < arrays + 64 * 2**20
    assert cost.bytes > 0


def test_the_matmul_rate_and_what_it_is_compared_with() -> None:
    devices = jax.devices()[:2]
    cost = resources.Cost(flops=4e9, bytes=2e9, device_memory=3 * 2**20)
    found = resources.figures(cost, [50.0, 100.0, 200.0], 10, devices, np.float32)
    assert found["images_per_second_median"] == 100
    assert found["images_per_second_quartiles"] == [75, 150]
    assert found["gflop_per_second"] == pytest.approx(40)  # ten steps a second
    assert found["share_of_matmul_rate"] == pytest.approx(40 / found["matmul_gflop_per_second"], rel=1e-3)
    assert 1 < found["matmul_gflop_per_second"] < 1e5
    assert found["device_memory_mb"] == 3
