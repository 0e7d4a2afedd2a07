"""Features of a network that nobody trained: PyTorch's, by the same weights; and what they tell apart."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gan_jax.data import Dataset, shapes
from gan_jax.evaluate import find, metrics, vgg
from tests.helpers import QUICKLY

HASH = "88a6a19a"


def test_weights_are_the_same_on_any_machine_and_keep_the_size_of_activations() -> None:
    found = vgg.weights()
    hashed = hashlib.blake2b(digest_size=12)
    for kernel in found:
        hashed.update(kernel.tobytes())
    assert hashed.hexdigest()[:8] == HASH
    assert [kernel.shape[2:] for kernel in found[:3]] == [(3, 64), (64, 64), (64, 128)]
    assert len(found) == 13
    for kernel in found[1:]:
        assert kernel.var() * 9 * kernel.shape[2] == pytest.approx(2, rel=0.02)  # He: twice 1 over the inputs
    assert not np.array_equal(vgg.weights(1)[0], found[0])


def test_the_figures_are_named_by_the_weights() -> None:
    none = np.zeros(0, np.int32)
    images = np.zeros((20, 8, 8, 1), np.uint8)
    dataset = Dataset("x", images, np.zeros(20, np.int32), images[:0], none, 0)
    give = find("random", dataset, None)
    assert give is not None
    extractor = give()
    assert (extractor.name, extractor.classes, extractor.pure) == (f"random:vgg16:{HASH}", False, True)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (48, 48, 3)])
def test_features_are_those_of_pytorchs_layers(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    with jax.enable_x64(True):
        kernels = [kernel.astype(np.float64) for kernel in vgg.weights()]
        features, logits = jax.jit(vgg.apply, compiler_options=QUICKLY)(kernels, jnp.asarray(images))
    assert (features.shape, features.dtype, logits.shape) == ((2, 160), np.float64, (2, 0))
    x = torch.from_numpy(images).double().permute(0, 3, 1, 2).expand(-1, 3, -1, -1) / 127.5 - 1
    if shape[0] != 32:
        x = torch.nn.functional.interpolate(x, (32, 32), mode="bilinear", antialias=True, align_corners=False)
    expected: list[Any] = []
    waiting = iter(kernels)
    with torch.no_grad():
        for block in (2, 2, 3, 3, 3):
            for _ in range(block):
                kernel = torch.from_numpy(next(waiting).transpose(3, 2, 0, 1).copy())
                layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
                layer.weight = torch.nn.Parameter(kernel)
                x = torch.nn.ReLU()(layer(x))
            expected.append(x[:, :32].mean((2, 3)).numpy())
            x = torch.nn.MaxPool2d(2)(x)
    assert_allclose(features, np.concatenate(expected, 1), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_noise_is_farther_off_than_blur_and_blur_than_fresh_images() -> None:
    images, _ = shapes.draw(32, 0, 400)
    real, fresh = images[:200], images[200:]
    padded = np.pad(fresh.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    mean = sum(padded[:, i : i + 32, j : j + 32] for i in range(3) for j in range(3)) / 9
    noise = fresh + np.random.default_rng(0).normal(0, 40, fresh.shape)
    apply, kernels = jax.jit(vgg.apply), vgg.weights()

    def moments(images: Any) -> Any:
        whole = np.clip(np.round(images), 0, 255).astype(np.uint8)
        return metrics.moments(np.concatenate([apply(kernels, part)[0] for part in np.split(whole, 2)]))

    fresh_fid, blurred, noisy = (metrics.frechet_distance(*moments(real), *moments(of)) for of in (fresh, mean, noise))
    assert 2 * fresh_fid < blurred < noisy / 2
