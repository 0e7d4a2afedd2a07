"""The profile of a step: what an optimised program's operations are, and what their arithmetic and bytes are."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")

from benchmarks.operations import KINDS, Operation, operations, profile, report


def compiled(function: Callable[..., Any], *operands: Any) -> list[Operation]:
    text = jax.jit(function).lower(*operands).compile().as_text()
    assert text
    return list(operations(text).values())


@pytest.mark.parametrize("sides", [(30, 40, 50), (300, 400, 500)])
def test_a_product_is_found_alone_or_fused_with_its_arithmetic(sides: tuple[int, int, int]) -> None:
    m, k, n = sides
    found = compiled(lambda a, b: jnp.sin(a) @ b, jnp.ones((m, k)), jnp.ones((k, n)))
    products = [o for o in found if o.kind == "products"]
    assert {o.code for o in products} <= {"dot", "fusion"}
    assert products
    for operation in products:
        assert operation.gflop == pytest.approx(2e-9 * m * k * n)
        assert operation.bytes == 4 * (m * k + k * n + m * n)


def test_a_convolution_has_the_arithmetic_of_its_windows() -> None:
    def conv(x: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    [product] = [o for o in compiled(conv, jnp.ones((8, 7, 9, 3)), jnp.ones((3, 3, 3, 5))) if o.gflop]
    assert product.gflop == pytest.approx(2e-9 * 8 * 3 * 4 * 5 * 27)


def test_operations_are_of_their_layer_and_kind() -> None:
    class Generator(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return jnp.tanh(nn.BatchNorm(use_running_average=False, name="BatchNorm_0")(nn.Dense(60)(x))).sum()

    x = jnp.ones((50, 40))
    variables = Generator().init(jax.random.key(0), x)
    gradient = jax.grad(lambda v: Generator().apply(v, x, mutable=["batch_stats"])[0])
    found = compiled(gradient, variables)
    assert {o.layer for o in found if o.gflop} == {"Generator Dense_0", "Generator Dense_0 backward"}
    assert {"products", "norms", "activations"} <= {o.kind for o in found} <= set(KINDS)


@pytest.mark.parametrize(
    ("path", "layer", "kind"),
    [
        ("jit(_fun)/while/body/jvp(Discriminator)/Discriminator.body/StridedConv_2/add", "StridedConv_2", "around"),
        ("while/body/transpose(jvp(Discriminator))/D.body/Conv_7/Conv_7.kernel/div", "Conv_7 backward", "around"),
        ("transpose(jvp())/cond/jvp(Discriminator.x)/net/conv0_32/jit(f)/mul", "net.conv0_32 backward", "around"),
        ("while/body/jvp(Discriminator)/Discriminator.body/jit(leaky_relu)/mul", "", "activations"),
        ("jvp(Discriminator)/conv1_8/jit(leaky_relu)/mul", "conv1_8", "activations"),
        ("transpose(jvp(Discriminator))/Discriminator.body/BatchNorm_3/mul", "BatchNorm_3 backward", "norms"),
        ("jvp(Discriminator)/Discriminator.body/add", "", "data"),
        ("while/body/add", "", "data"),
    ],
)
def test_a_path_tells_the_layer_whatever_lies_between(path: str, layer: str, kind: str) -> None:
    operation = Operation("fusion", path, 1)
    assert operation.layer == (f"Discriminator {layer}" if layer else "")
    assert operation.kind.startswith(kind)


def test_what_a_loop_repeats_counts_as_often() -> None:
    def step(x: Any) -> Any:
        return lax.fori_loop(0, 5, lambda _, y: jnp.tanh(y @ y), x)

    x = jnp.eye(200)
    program = jax.jit(step).lower(x).compile()
    ours: Any = SimpleNamespace(
        chunk=SimpleNamespace(compiled=program),
        run=lambda steps: [jax.block_until_ready(program(x)) for _ in range(steps)],
    )
    found = [operation for operation, _ in profile(ours, 3) if operation.gflop]
    assert sum(operation.gflop for operation in found) == pytest.approx(5 * 2e-9 * 200**3)


def test_the_report_sums_up() -> None:
    ours = [
        (Operation("dot", "jvp(Generator)/Dense_0/dot_general", 0, gflop=2.0), 30.0),
        (Operation("fusion", "jvp(Generator)/Dense_0/add", 10**9), 5.0),
        (Operation("fusion", "jit(relu)/max", 10**8), 1.0),
    ]
    kinds, layers = report(ours, dict.fromkeys(KINDS, 2.0), 100.0, 50.0).split("\n\n")[1:]
    rows = {line[:46].strip(): line[46:].split() for line in (kinds + "\n" + layers).splitlines()}
    assert rows["products"] == ["1", "30.0", "20.0", "2.0"]
    assert rows["around products"] == ["1", "5.0", "20.0", "2.0"]
    assert rows["activations"] == ["1", "1.0", "2.0", "2.0"]
    assert rows["all"] == ["3", "36.0", "42.0", "12.0"]
    assert rows["Generator Dense_0"] == ["1", "30.0", "20.0", "67"]
