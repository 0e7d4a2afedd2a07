"""FID's Inception-v3 (the TensorFlow graph of 2015-12-05, as Heusel et al. 2017 used it), and its weights.

The network differs from the usual Inception-v3 in its poolings: average pooling leaves the padding out of the count,
and the last block pools by maximum. Weights come from a file in the layout of ``pt_inception-2015-12-05-6726825d.pth``,
which PyTorch wrote; it is read here without PyTorch, and nothing but arrays is unpickled from it.
"""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan_jax.evaluate import pil
from gan_jax.evaluate.torch_weights import fitted, read_state_dict
from gan_jax.util import progress
from gan_jax.util.errors import UserError
from gan_jax.util.files import write_atomically

Array = jax.Array
_SIDE = 299
_SPATIAL = 7  # channels of sFID: 7 x 17 x 17 are about as many features as FID's
_FILE = "pt_inception-2015-12-05-6726825d.pth"  # the end of its name is the start of its SHA-256
_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{_FILE}"


class Inception(nn.Module):
    """uint8 images ``[B, H, W, 1 or 3]`` -> features ``[B, 2048]`` and logits without bias ``[B, 1008]``, float32.

    Attributes:
      clean: whether images are resized as by clean-fid (Parmar et al. 2022, arXiv:2104.11222), which loses nothing to
        aliasing: Pillow's bicubic filter of each channel in float32. Else as in FID's graph, TensorFlow 1's bilinear.
      spatial: whether features are those of sFID (Nash et al. 2021, arXiv:2103.03841), ``[B, 2023]``, without logits
        ``[B, 0]``: the first 7 channels of the maps of 17x17 that the graph calls ``mixed_6/conv``, as OpenAI's
        guided-diffusion takes them.
    """

    clean: bool = False
    spatial: bool = False

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3))
        x = jnp.clip(pil.resize(x, _SIDE), 0, 255) if self.clean else resize(x, _SIDE)
        x = (x - 128) / 128
        x = _Conv(32, (3, 3), 2, name="Conv2d_1a_3x3")(x)
        x = _Conv(32, (3, 3), name="Conv2d_2a_3x3")(x)
        x = _Conv(64, (3, 3), padding=(1, 1), name="Conv2d_2b_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))
        x = _Conv(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = _Conv(192, (3, 3), name="Conv2d_4a_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = _A(pooled, name=name)(x)
        x = _B(name="Mixed_6a")(x)
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            if self.spatial and name == "Mixed_6d":
                return _C(width, alone=True, name=name)(x)[..., :_SPATIAL].reshape(len(x), -1), jnp.zeros((len(x), 0))
            x = _C(width, name=name)(x)
        x = _D(name="Mixed_7a")(x)
        x = _E(_average, name="Mixed_7b")(x)
        x = _E(_maximum, name="Mixed_7c")(x)
        features = x.mean((1, 2))
        return features, nn.Dense(1008, use_bias=False, name="fc")(features)


class _Conv(nn.Module):
    """Convolution, batch norm by running statistics, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        padding = [(p, p) for p in self.padding]
        strides = (self.stride, self.stride)
        x = nn.Conv(self.features, self.kernel, strides, padding, use_bias=False, name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


def _average(x: Array) -> Array:
    pooled: Array = nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)), count_include_pad=False)
    return pooled


def _maximum(x: Array) -> Array:
    pooled: Array = nn.max_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)))
    return pooled


def _join(*branches: Array) -> Array:
    return jnp.concatenate(branches, -1)


class _A(nn.Module):
    pooled: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        one = _Conv(64, (1, 1), name="branch1x1")(x)
        five = _Conv(48, (1, 1), name="branch5x5_1")(x)
        five = _Conv(64, (5, 5), padding=(2, 2), name="branch5x5_2")(five)
        three = _Conv(64, (1, 1), name="branch3x3dbl_1")(x)
        three = _Conv(96, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(three)
        three = _Conv(96, (3, 3), padding=(1, 1), name="branch3x3dbl_3")(three)
        return _join(one, five, three, _Conv(self.pooled, (1, 1), name="branch_pool")(_average(x)))


class _B(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = _Conv(384, (3, 3), 2, name="branch3x3")(x)
        double = _Conv(64, (1, 1), name="branch3x3dbl_1")(x)
        double = _Conv(96, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(double)
        double = _Conv(96, (3, 3), 2, name="branch3x3dbl_3")(double)
        return _join(three, double, nn.max_pool(x, (3, 3), (2, 2)))


class _C(nn.Module):
    width: int
    alone: bool = False  # whether only the first branch is wanted

    @nn.compact
    def __call__(self, x: Array) -> Array:
        row: Any = {"kernel": (1, 7), "padding": (0, 3)}
        column: Any = {"kernel": (7, 1), "padding": (3, 0)}
        one = _Conv(192, (1, 1), name="branch1x1")(x)
        if self.alone:
            return one
        seven = _Conv(self.width, (1, 1), name="branch7x7_1")(x)
        seven = _Conv(self.width, **row, name="branch7x7_2")(seven)
        seven = _Conv(192, **column, name="branch7x7_3")(seven)
        double = _Conv(self.width, (1, 1), name="branch7x7dbl_1")(x)
        double = _Conv(self.width, **column, name="branch7x7dbl_2")(double)
        double = _Conv(self.width, **row, name="branch7x7dbl_3")(double)
        double = _Conv(self.width, **column, name="branch7x7dbl_4")(double)
        double = _Conv(192, **row, name="branch7x7dbl_5")(double)
        return _join(one, seven, double, _Conv(192, (1, 1), name="branch_pool")(_average(x)))


class _D(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = _Conv(192, (1, 1), name="branch3x3_1")(x)
        three = _Conv(320, (3, 3), 2, name="branch3x3_2")(three)
        seven = _Conv(192, (1, 1), name="branch7x7x3_1")(x)
        seven = _Conv(192, (1, 7), padding=(0, 3), name="branch7x7x3_2")(seven)
        seven = _Conv(192, (7, 1), padding=(3, 0), name="branch7x7x3_3")(seven)
        seven = _Conv(192, (3, 3), 2, name="branch7x7x3_4")(seven)
        return _join(three, seven, nn.max_pool(x, (3, 3), (2, 2)))


class _E(nn.Module):
    pool: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        row: Any = {"kernel": (1, 3), "padding": (0, 1)}
        column: Any = {"kernel": (3, 1), "padding": (1, 0)}
        one = _Conv(320, (1, 1), name="branch1x1")(x)
        three = _Conv(384, (1, 1), name="branch3x3_1")(x)
        three = _join(_Conv(384, **row, name="branch3x3_2a")(three), _Conv(384, **column, name="branch3x3_2b")(three))
        double = _Conv(448, (1, 1), name="branch3x3dbl_1")(x)
        double = _Conv(384, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(double)
        double = _join(
            _Conv(384, **row, name="branch3x3dbl_3a")(double), _Conv(384, **column, name="branch3x3dbl_3b")(double)
        )
        return _join(one, three, double, _Conv(192, (1, 1), name="branch_pool")(self.pool(x)))


def resize(images: Array, side: int) -> Array:
    """``[B, H, W, C]`` -> ``[B, side, side, C]`` as TensorFlow 1's ``resize_bilinear``: pixel i looks at i H / side."""

    def weights(size: int) -> np.ndarray:
        position = np.arange(side) * np.float32(size / side)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, size - 1)
        matrix = np.zeros((side, size), np.float32)
        np.add.at(matrix, (np.arange(side), low), 1 - (position - low))
        np.add.at(matrix, (np.arange(side), high), position - low)
        return matrix

    _, height, width, _ = images.shape
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("yh,bhwc,xw->byxc", weights(height), images, weights(width), precision=exact)


def load(path: Path) -> dict[str, Any]:
    """Load the network's variables from a PyTorch file of weights.

    Raises:
      UserError: the file is missing or isn't one; names the first weight that is missing or of another shape.
    """
    state = read_state_dict(path)
    shapes = jax.eval_shape(lambda: Inception().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8)))
    return fitted(shapes, state, _theirs, path=path, other="it isn't FID's Inception of 2015-12-05")


def _theirs(keys: list[str]) -> str:
    """Return the file's name of a leaf: ``Mixed_5b.branch1x1.bn.running_mean`` of its keys to ``mean``."""
    collection, *modules, leaf = keys
    own = {"mean": "running_mean", "var": "running_var"} if collection == "batch_stats" else {"bias": "bias"}
    return ".".join([*modules, own.get(leaf, "weight")])


def fetched(folder: Path) -> Path:
    """Return the public file of weights in ``folder``, downloaded (92 MB) if it isn't there.

    Raises:
      UserError: it isn't there, and can't be fetched, or what comes isn't it.
    """
    path = folder / _FILE
    if path.exists():
        return path
    elsewhere = (
        f"put {_FILE} there, name it by eval.features=inception:FILE, or choose eval.features=classifier or random"
    )
    try:
        with urllib.request.urlopen(_URL, timeout=20) as response:
            size = int(response.headers.get("Content-Length", 0))
            with progress.bar(total=size, desc=f"fetching {_FILE}", unit="B", unit_scale=True, leave=False) as bar:
                write_atomically(path, lambda file: _copy_checked(response, file, bar))
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"FID's Inception weights are missing: {path}, and can't be fetched ({reason}); {elsewhere}"
        ) from error
    except ValueError as error:
        raise UserError(f"{_URL} gave {error}, which isn't {_FILE}; {elsewhere}") from error
    return path


def _copy_checked(source: Any, target: BinaryIO, bar: Any) -> None:
    hashed = hashlib.sha256()
    while block := source.read(2**20):
        hashed.update(block)
        target.write(block)
        bar.update(len(block))
    if not hashed.hexdigest().startswith(_FILE.partition(".pth")[0].rpartition("-")[2]):
        raise ValueError(f"a file of SHA-256 {hashed.hexdigest()[:8]}")
