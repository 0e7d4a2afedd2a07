"""Activations against NumPy, and what their derivatives read."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import activations

Array = jax.Array
Activation = Callable[..., Array]
BOTH = pytest.mark.parametrize(("activation", "slope"), [(activations.relu, 0.0), (activations.leaky_relu, 0.2)])


def shifted(x: Array) -> Array:
    """Stands for a norm."""
    return 2 * x - 1


@BOTH
@pytest.mark.parametrize("norm", [None, shifted], ids=["no norm", "a norm"])
@pytest.mark.parametrize("off_cpu", [False, True])
def test_values_and_two_derivatives_are_those_of_numpy(
    activation: Activation,
    slope: float,
    norm: Callable[[Array], Array] | None,
    off_cpu: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activations, "on_cpu", lambda: not off_cpu)
    x = np.array([-2.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, 3.5], np.float32)
    y, factor = (x, 1) if norm is None else (2 * x - 1, 2)

    def activated(x: Array) -> Array:
        return activation(x) if norm is None else activation(x, norm)

    inclination = np.where(y > 0 if slope == 0 else y >= 0, np.float32(1), np.float32(slope))
    np.testing.assert_array_equal(activated(jnp.asarray(x)), inclination * y)
    np.testing.assert_array_equal(jax.vmap(jax.grad(activated))(x), inclination * factor)
    second = jax.vmap(jax.grad(jax.grad(lambda x: activated(x) ** 3)))(x)
    np.testing.assert_allclose(second, 6 * inclination**3 * y * factor**2, rtol=1e-6)
    assert activated(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


@BOTH
def test_without_a_norm_the_derivative_is_told_by_what_came_out(
    activation: Activation, slope: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "on_cpu", lambda: False)

    def pulled_back(x: Array, tangent: Array, norm: Callable[[Array], Array]) -> Array:
        (gradient,) = jax.vjp(lambda x: activation(x, norm), x)[1](tangent)
        assert isinstance(gradient, Array)
        return gradient

    def program(norm: Callable[[Array], Array]) -> str:
        text = jax.jit(pulled_back, static_argnums=2).lower(jnp.ones(5), jnp.ones(5), norm).compile().as_text()
        assert text
        return text

    assert "maximum" in program(lambda x: x)
    assert "maximum" not in program(shifted)
