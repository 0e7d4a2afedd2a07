"""How far one image is from another, as networks see it: a differentiable `Distance`, for `gan_jax.use.project`.

LPIPS (Zhang et al. 2018, arXiv:1801.03924, eq. 1): the squared distance of VGG16's activations at each place, unit
vectors over channels, weighed by channel, the mean over places, and the sum over the five blocks.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.evaluate import vgg
from gan_jax.evaluate.extractors import Extractor, digest
from gan_jax.evaluate.seen import Seen, suffix, through
from gan_jax.evaluate.torch_weights import read_state_dict
from gan_jax.util.errors import UserError

Array = jax.Array
_SIDE = 256  # pixels of a side at most that VGG sees
_FEWEST = 16  # that it can see
_SMALLEST = 8  # of the pyramid of pixels
# Mean and standard deviation of ImageNet's channels (torchvision), for pixels from 0 to 255.
_MEAN, _DEVIATION = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


@dataclasses.dataclass(frozen=True)
class Distance:
    """A distance of images.

    Attributes:
      name: in words.
      apply: ``apply(variables, x, y)``: distances ``[N]`` of images ``[N, H, W, C]`` from one other ``[1, H, W, C]``,
        floats from 0 to 255.
      variables: its weights.
    """

    name: str
    apply: Callable[[Any, Array, Array], Array]
    variables: Any


def pixels() -> Distance:
    """Return the squared distance of pixels at several scales alone."""
    return Distance("pixels", _pixels, ())


@dataclasses.dataclass(frozen=True)
class _OfBoth:
    """Pixels of all channels, and LPIPS of what VGG16 sees of them."""

    seen: Seen | None

    def __call__(self, variables: Any, x: Array, y: Array) -> Array:
        far: Array = _pixels((), x, y) + through(between, self.seen)(variables, x, y)
        return far


def random(seen: Seen | None = None) -> Distance:
    """Return pixels and LPIPS by a VGG16 that nobody trained (`gan_jax.evaluate.vgg`), its channels weighed alike.

    Args:
      seen: what VGG16 sees of images that aren't grey or RGB; None: they are.
    """
    weights = (tuple((kernel, 0.0) for kernel in vgg.weights()), ())
    return Distance(f"pixels and a random VGG16{suffix(seen)}", _OfBoth(seen), weights)


def lpips(weights: Path, weighing: Path | None = None, *, seen: Seen | None = None) -> Distance:
    """Return pixels and LPIPS by files of PyTorch.

    Args:
      weights: of torchvision's VGG16.
      weighing: of LPIPS' own weights of channels (``vgg.pth`` of its authors); None: all alike.
      seen: see `random`.

    Raises:
      UserError: a file is missing, or holds something else.
    """
    own = () if weighing is None else _weighing(read_state_dict(weighing), weighing)
    kind = "LPIPS" if own else "VGG16"
    found = _vgg(read_state_dict(weights), weights), own
    return Distance(f"pixels and {kind} by {weights.name}{suffix(seen)}", _OfBoth(seen), found)


def of_paths(named: str, read: Callable[[str], Path], side: int, seen: Seen | None = None) -> Distance:
    """Return LPIPS alone (`between`), for path lengths, by what ``--ppl`` names.

    Args:
      named: ``lpips:VGG.pth,LPIPS.pth``, ``lpips:VGG.pth`` or ``random``.
      read: gives the path of a file as the user wrote it.
      side: of the images.
      seen: see `random`.

    Raises:
      UserError: it is none of these, a file isn't what it should be, or images are too small for VGG16.
    """
    kind, _, rest = named.partition(":")
    files = [read(part) for part in rest.split(",") if part]
    if not (named == "random" or (kind == "lpips" and 1 <= len(files) <= 2)):
        raise UserError(f"--ppl={named}: write lpips:VGG.pth,LPIPS.pth, lpips:VGG.pth or random")
    if side < _FEWEST:
        raise UserError(
            f"--ppl: VGG16 needs images of {_FEWEST} pixels a side or more, and these have {side}: leave it out"
        )
    found = lpips(*files) if files else random()
    short = "lpips" if len(files) == 2 else "vgg16" if files else "random:vgg16"
    return Distance(f"{short}:{digest(found.variables)[:8]}{suffix(seen)}", through(between, seen), found.variables)


def of_features(extractor: Extractor) -> Distance:
    """Return pixels and the squared distance of features, over the mean square of those of the other image."""

    def apply(variables: Any, x: Array, y: Array) -> Array:
        of_x, of_y = (extractor.apply(variables, images)[0] for images in (x, y))
        return _pixels((), x, y) + jnp.square(of_x - of_y).mean(1) / (jnp.square(of_y).mean() + 1e-10)

    return Distance(f"pixels and {extractor.name}", apply, extractor.variables)


def _pixels(_: Any, x: Array, y: Array) -> Array:
    """Return the mean square of differences, in [0, 4], of both and of both halved, over and over; the mean of all."""
    found = []
    while True:
        found.append(jnp.square((x - y) / 127.5).mean((1, 2, 3)))
        if min(x.shape[1:3]) < 2 * _SMALLEST:
            return jnp.stack(found).mean(0)
        x, y = _halved(x), _halved(y)


def _halved(x: Array) -> Array:
    """Means of 2x2 pixels; of an odd side without the last."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def between(variables: Any, x: Array, y: Array) -> Array:
    """LPIPS alone, ``[N]``, of images ``[N, H, W, C]`` from as many others, or from one, floats from 0 to 255.

    Sides of 512 and more are halved down to 256 and more.
    """
    layers, weighing = variables
    both = jnp.concatenate([x, y])
    while min(both.shape[1:3]) >= 2 * _SIDE:
        both = _halved(both)
    both = (jnp.broadcast_to(both, (*both.shape[:3], 3)) - _MEAN) / _DEVIATION
    total = jnp.zeros(len(x))
    for number, maps in enumerate(vgg.blocks(layers, both)):
        unit = maps / (jnp.sqrt(jnp.square(maps).sum(-1, keepdims=True) + 1e-20) + 1e-10)
        square = jnp.square(unit[: len(x)] - unit[len(x) :])
        total += (square @ weighing[number] if weighing else square.sum(-1)).mean((1, 2))
    return total


def _vgg(state: Mapping[str, np.ndarray], file: Path) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Kernels ``[3, 3, f, c]`` and biases ``[c]`` of the convolutions, in their order."""
    names = sorted(
        (name for name in state if name.startswith("features.") and name.endswith(".weight")),
        key=lambda name: int(name.split(".")[1]),
    )
    shapes = [(c, 3, 3) for block in vgg.BLOCKS for c in block]
    if [(len(state[name]), *state[name].shape[2:]) for name in names] != shapes:
        raise UserError(f"{file} isn't torchvision's VGG16: it should hold the 13 kernels features.0.weight and so on")
    return tuple(
        (state[name].transpose(2, 3, 1, 0).astype(np.float32), state[name.replace("weight", "bias")].astype(np.float32))
        for name in names
    )


def _weighing(state: Mapping[str, np.ndarray], file: Path) -> tuple[np.ndarray, ...]:
    names = [f"lin{number}.model.1.weight" for number in range(len(vgg.BLOCKS))]
    wanted = [block[-1] for block in vgg.BLOCKS]
    if [state[name].size if name in state else 0 for name in names] != wanted:
        raise UserError(f"{file} isn't LPIPS' weights for VGG16: it should hold lin0.model.1.weight and so on")
    return tuple(state[name].ravel().astype(np.float32) for name in names)
