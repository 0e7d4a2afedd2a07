"""Features of a VGG16 that nobody trained, for FID and its like where there are neither labels nor weights.

Naeem et al. 2020 (arXiv:2002.09797) compare by a randomly initialised VGG16 too: nothing in it is tuned to ImageNet.
Here each image is resized to 32x32, and its features are means over all positions of the last convolution of each of
the five blocks, of 32 channels each: 160 in all, so that a covariance of 1,000 images has full rank. Channels of random
weights are all alike, so any 32 will do.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.ops.conv import conv, patches_conv

Array = jax.Array
SIDE = 32  # of the images that it looks at: larger ones take four times as long a doubling
FEW = 4  # pixels on a side up to which patches are the faster way
KEPT = 32  # channels of each block whose means are features
# Channels of its 3x3 convolutions with ReLU: configuration D of Simonyan & Zisserman 2014 (arXiv:1409.1556). A block
# ends in 2x2 maximum pooling.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
Weights = tuple[np.ndarray, ...]


def weights(seed: int = 0) -> Weights:
    """Kernels float32 ``[3, 3, f, c]`` by He et al. 2015 (arXiv:1502.01852), uniform; biases are 0.

    They come from NumPy's frozen generator, and take no sum and no root of many numbers: the same bits on any machine.
    """
    rng, found, before = np.random.RandomState(seed), [], 3
    for channels in (c for block in BLOCKS for c in block):
        uniform = rng.random_sample((3, 3, before, channels)).astype(np.float32) * 2 - 1
        found.append((np.sqrt(6 / (9 * before)) * uniform).astype(np.float32))
        before = channels
    return tuple(found)


def apply(variables: Any, images: Array) -> tuple[Array, Array]:
    """uint8 ``[n, H, W, 1 or 3]`` -> features ``[n, 160]`` in the weights' dtype, and no logits ``[n, 0]``."""
    x = images.astype(variables[0].dtype) / 127.5 - 1
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))
    if x.shape[1:3] != (SIDE, SIDE):
        x = jax.image.resize(x, (len(x), SIDE, SIDE, 3), "linear")  # smaller by an antialiased filter
    features = [maps[..., :KEPT].mean((1, 2)) for maps in blocks([(kernel, 0.0) for kernel in variables], x)]
    return jnp.concatenate(features, -1), jnp.zeros((len(images), 0))


def blocks(layers: Sequence[tuple[Any, Any]], x: Array) -> Iterator[Array]:
    """Yield the last activations ``[n, h, w, c]`` of each block, for kernels and biases of the convolutions in order.

    A block halves the side of the one before, rounded down.
    """
    remaining = iter(layers)
    for block in BLOCKS:
        for _ in block:
            kernel, bias = next(remaining)
            x = jax.nn.relu((conv if x.shape[1] > FEW else patches_conv)(x, jnp.asarray(kernel)) + bias)
        yield x
        n, height, width, channels = x.shape
        x = x[:, : height // 2 * 2, : width // 2 * 2]
        x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
