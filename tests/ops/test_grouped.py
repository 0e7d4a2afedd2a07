"""The convolution in groups against PyTorch's, with derivatives to the second order, and against XLA's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import grouped, planes

Array = Any
RNG = np.random.default_rng(0)


def conv(x: Array, kernel: Array) -> Array:
    """Between `planes.enter` and `planes.leave` with kernels of 1, so that it takes images and gives them."""
    one = [jnp.eye(channels, dtype=x.dtype) for channels in (x.shape[-1], kernel.shape[-1])]
    return planes.leave(grouped.grouped_conv(planes.enter(x, one[0]), kernel), one[1])


def twice(function: Any, *arrays: Array) -> Any:
    """The value, and a penalty with its gradients: second derivatives, with respect to all."""

    def penalty(x: Array, *others: Array) -> Array:
        return (jax.grad(lambda x: jnp.tanh(function(x, *others)).sum())(x) ** 2).sum()

    return function(*arrays), jax.value_and_grad(penalty, tuple(range(len(arrays))))(*arrays)


def found(x: Array, kernel: Array) -> Any:
    return twice(conv, x, kernel)


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


@pytest.mark.parametrize("pixels", [20, 40, 10**6])  # parts of one image, of two, and of all
def test_it_is_the_same_as_for_other_devices(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    monkeypatch.setattr(planes, "_PIXELS", pixels)
    x, kernel = RNG.normal(size=(6, 4, 5, 6)), RNG.normal(size=(3, 3, 2, 6))
    with jax.enable_x64(True):
        here = jax.device_get(jax.jit(lambda *arrays: found(*arrays))(x, kernel))
        assert "conv_general" not in str(jax.make_jaxpr(lambda *arrays: found(*arrays))(x, kernel))
        monkeypatch.setattr(planes, "on_cpu", lambda: False)
        there = jax.device_get(jax.jit(lambda *arrays: found(*arrays))(x, kernel))
        assert "feature_group_count=3" in str(jax.make_jaxpr(lambda *arrays: found(*arrays))(x, kernel))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), here, there)


def test_trials_beside_each_other_are_each_alone() -> None:
    x, kernel = RNG.normal(size=(3, 2, 4, 5, 6)), RNG.normal(size=(3, 3, 3, 2, 6))
    with jax.enable_x64(True):
        together = jax.jit(jax.vmap(lambda *arrays: found(*arrays)))(x, kernel)
        for i in range(3):
            alone = jax.jit(lambda *arrays: found(*arrays))(x[i], kernel[i])
            jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-11), together, alone)
