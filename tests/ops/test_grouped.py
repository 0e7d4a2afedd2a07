"""The convolution in groups against PyTorch's, with derivatives to the second order, and against XLA's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import grouped

Array = Any
RNG = np.random.default_rng(0)


def penalty(x: Array, kernel: Array) -> Array:
    """Whose gradient has second derivatives in it, with respect to both."""
    return (jax.grad(lambda x: jnp.tanh(grouped.grouped_conv(x, kernel)).sum())(x) ** 2).sum()


def found(x: Array, kernel: Array) -> Any:
    return grouped.grouped_conv(x, kernel), jax.value_and_grad(penalty, (0, 1))(x, kernel)


@pytest.mark.parametrize(("groups", "f", "c", "side"), [(3, 2, 4, 3), (1, 3, 2, 5), (4, 1, 1, 3)])
def test_values_and_two_derivatives_are_pytorchs(groups: int, f: int, c: int, side: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")
    x, kernel = RNG.normal(size=(2, 4, 5, groups * f)), RNG.normal(size=(side, side, f, groups * c))
    image, weight = (torch.tensor(np.moveaxis(x, -1, 1)), torch.tensor(kernel.transpose(3, 2, 0, 1)))
    image.requires_grad_(), weight.requires_grad_()
    out = torch.nn.functional.conv2d(image, weight, padding=side // 2, groups=groups)
    (slope,) = torch.autograd.grad(out.tanh().sum(), image, create_graph=True)
    first, second = torch.autograd.grad((slope**2).sum(), (image, weight))
    with jax.enable_x64(True):
        value, (size, (in_x, in_kernel)) = jax.device_get(jax.jit(found)(x, kernel))
    np.testing.assert_allclose(value, np.moveaxis(out.detach().numpy(), 1, -1), atol=1e-12)
    np.testing.assert_allclose(size, (slope**2).sum().item(), rtol=1e-12)
    np.testing.assert_allclose(in_x, np.moveaxis(first.numpy(), 1, -1), atol=1e-11)
    np.testing.assert_allclose(in_kernel, second.numpy().transpose(2, 3, 1, 0), atol=1e-11)


def test_it_is_the_same_as_for_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = RNG.normal(size=(2, 4, 5, 6)), RNG.normal(size=(3, 3, 2, 6))
    with jax.enable_x64(True):
        here = jax.device_get(jax.jit(found)(x, kernel))
        assert "conv_general" not in str(jax.make_jaxpr(found)(x, kernel))
        monkeypatch.setattr(grouped, "on_cpu", lambda: False)
        there = jax.device_get(jax.jit(lambda *arrays: found(*arrays))(x, kernel))
        assert "feature_group_count=3" in str(jax.make_jaxpr(lambda *arrays: found(*arrays))(x, kernel))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), here, there)
