"""Directions in latent space that change something of an image.

Two ways to find them without labels: SeFa (Shen & Zhou 2021, arXiv:2007.06600), from the generator's weights alone, and
the principal components of w (GANSpace, Härkönen et al. 2020, arXiv:2004.02546, section 2.1).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan_jax.core import draw
from gan_jax.core.networks import call
from gan_jax.evaluate import sample
from gan_jax.runs import visualize
from gan_jax.use import check
from gan_jax.use.codes import many
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed
from gan_jax.util.files import read_arrays, write_arrays

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained

METHODS = ("sefa", "pca")
_ROWS, _STRENGTHS = 4, (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # of a picture


@dataclasses.dataclass(frozen=True)
class Directions:
    """Directions, the strongest first.

    Attributes:
      vectors: ``[K, w_dim]`` or ``[K, latent_dim]``; each as long as codes are spread along it, one standard deviation.
      space: ``w`` or ``z``.
      method: that found them, one of `METHODS`.
    """

    vectors: np.ndarray
    space: str
    method: str

    def shift(self, strengths: Mapping[int, float]) -> np.ndarray:
        """Return what is added to codes: so many standard deviations along each direction, by its number.

        Raises:
          gan_jax.util.errors.UserError: there is no such direction.
        """
        if not isinstance(strengths, Mapping):
            raise UserError(f"a shift is strengths by the directions' numbers, as {{0: 2.0}}, not {strengths!r}")
        for number in strengths:
            if not 0 <= number < len(self.vectors):
                raise UserError(f"there is no direction {number}: there are {len(self.vectors)}, from 0 on")
        parts = [strength * self.vectors[number] for number, strength in strengths.items()]
        total: np.ndarray = np.sum(parts, axis=0) if parts else np.zeros_like(self.vectors[0])
        return total.astype(self.vectors.dtype)

    def save(self, path: Path) -> None:
        """Write them to an ``.npz`` file."""
        write_arrays(path, {"vectors": self.vectors, "space": np.array(self.space), "method": np.array(self.method)})


def load(path: Path) -> Directions:
    """Read what `Directions.save` wrote.

    Raises:
      UserError: there is no such file, or it is something else.
    """
    found = read_arrays(path)
    if found is None or not {"vectors", "space", "method"} <= set(found):
        why = "is no file of directions" if path.exists() else "isn't there"
        raise UserError(f"{path} {why}: {named.program()} --mode=directions writes it")
    return Directions(found["vectors"], str(found["space"]), str(found["method"]))


def fitting(found: Directions, run: "Trained", where: object) -> Directions:
    """Return directions from ``where``, if they are of codes as ``run`` has them.

    Raises:
      UserError: they are of another space, or of codes of another length.
    """
    shape = found.vectors.shape if found.space == run.space else ()
    check.codes(run, shape if len(shape) == 2 else (), where)
    return found


def find(run: "Trained", method: str = "sefa", count: int = 10, seed: int = 0) -> Directions:
    """Find directions.

    Args:
      run: the GAN.
      method: ``sefa``: the right singular vectors of the weights that a code meets first, which change what they make
        of it the most; ``pca``: the principal components of w of 10,000 latents.
      count: how many, at most as many as a code has numbers.
      seed: of the latents.

    Raises:
      UserError: there is no such method, or no w for ``pca``.
    """
    if method not in METHODS:
        raise UserError(f"method must be {listed(METHODS, between=' or ')}, not {method!r}")
    count = check.count(count)
    if method == "pca" and not run.has_mapping:
        raise UserError(f"pca is of w, and {run.config.model} has no mapping network: take sefa")
    codes = many(run, seed)
    if method == "sefa":
        first = _first_weights(run)
        _, _, vectors = np.linalg.svd(first.astype(np.float64), full_matrices=False)
    else:
        _, vectors = np.linalg.eigh(np.cov(codes.T.astype(np.float64)))
        vectors = vectors.T[::-1]
    vectors = vectors[: min(count, len(vectors))]
    vectors *= np.where(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(1)] < 0, -1, 1)[:, None]
    spread = ((codes - codes.mean(0)) @ vectors.T).std(0)
    return Directions((vectors * spread[:, None]).astype(codes.dtype), run.space, method)


def picture(
    run: "Trained", found: Directions, number: int, seed: int = 0, label: Any = None, **options: Any
) -> np.ndarray:
    """Return a picture uint8 ``[H, W, C]`` of a direction: rows of four images, from -3 to 3 standard deviations."""
    of_prior, own = draw.options_of(run.gan)
    z = run.latents(_ROWS, seed=seed, **draw.own_of(options, of_prior))
    keys = sample.fixed_keys(seed, np.arange(_ROWS))
    told = {"keys": keys, **draw.own_of(options, own)}
    columns = [run.generate(z, label, shift=strength * found.vectors[number], **told) for strength in _STRENGTHS]
    pixels, images = run.gan.pixels, jnp.stack(columns, 1)
    shown = pixels.shown(pixels.whole(images.reshape(-1, *images.shape[2:])))
    return visualize.grid(shown, len(_STRENGTHS))


def _first_weights(run: "Trained") -> np.ndarray:
    """Return the matrix ``[outputs, D]`` of the layers that a code meets first.

    These are all affine ones of styles, or the first. The matrix is the derivative of what they make, by the code: so
    equalised rates, spectral norms and labels beside the code need no care.
    """
    gan, network = run.gan, run.gan.generator
    network = network.clone(remat=False) if hasattr(network, "remat") else network
    keys, label = sample.fixed_keys(0, np.zeros(1, int)), gan.labels(1)
    told = {"train": False, **draw.told(gan, label, keys)}

    def made(code: Any, params: Any) -> Any:
        outputs: list[Any] = []

        def listen(layer: Any, arguments: Any, options: Any, context: Any) -> Any:
            result = layer(*arguments, **options)
            module, styled = context.module, context.module.name == "style"
            linear = context.method_name == "__call__" and module.has_variable("params", "kernel")
            if linear and (styled if run.has_mapping else not outputs):
                outputs.append(result.ravel())
            return result

        with nn.intercept_methods(listen):
            if run.has_mapping:
                w = jnp.broadcast_to(code, (1, network.copies, len(code)))
                call(network, params, w, method="synthesis", **told)
            else:
                call(network, params, code[None], **told)
        return jnp.concatenate(outputs)

    length = gan.generator.w_dim if run.has_mapping else gan.latent_dim
    return np.asarray(jax.jit(jax.jacobian(made))(jnp.zeros(length, gan.dtype), run.params))
