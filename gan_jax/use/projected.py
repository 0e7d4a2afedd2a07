"""What `gan_jax.use.project` is given, and what comes of it on disk."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from gan_jax import build
from gan_jax.core.gan import Variables
from gan_jax.core.pixels import USUAL, Pixels
from gan_jax.data.decode import UnreadableImageError, decode
from gan_jax.evaluate import extractors, perceptual, seen
from gan_jax.runs import film, visualize
from gan_jax.runs.workdir import Workdir
from gan_jax.use import check
from gan_jax.use.project import Projection, images_of_codes
from gan_jax.util import named
from gan_jax.util.errors import UserError
from gan_jax.util.files import read_arrays, read_regular, write_arrays

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained

_SECONDS = 5.0
KINDS = (
    "random, pixels, lpips:VGG.pth, lpips:VGG.pth,LPIPS.pth, classifier, inception, inception:FILE, FILE.py:function"
)


def read(run: "Trained", file: Path) -> np.ndarray:
    """Return the picture in ``file`` as images of the GAN are, ``[H, W, C]``: cut to their proportions, resized.

    Raises:
      UserError: there is no such file, or it is no image.
    """
    try:
        return from_bytes(run, read_regular(file), str(file))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def from_bytes(run: "Trained", data: bytes, name: str) -> np.ndarray:
    """Return the picture whose file has these bytes; see `read`."""
    options = build.image_options(run.config)
    fit = "crop" if options.fit == "none" else options.fit
    try:
        return decode(data, dataclasses.replace(options, fit=fit))
    except UnreadableImageError as error:
        raise UserError(f"cannot read {name}: {error}") from error


def distance(run: "Trained", features: str = "random") -> perceptual.Distance:
    """Return the distance that ``--features`` names, one of `KINDS`, beside that of pixels at several scales.

    Raises:
      UserError: there is none such, or its weights are missing.
    """
    kind, _, rest = features.partition(":")
    eyes = seen.of(build.image_options(run.config))
    if features == "pixels":
        return perceptual.pixels()
    if features == "random":
        return perceptual.random(eyes)
    if kind == "lpips":
        files = [named.path(part, "--features") for part in rest.split(",") if part]
        if not 1 <= len(files) <= 2:
            raise UserError(f"--features={features}: write lpips:VGG.pth, or lpips:VGG.pth,LPIPS.pth")
        return perceptual.lpips(*files, seen=eyes)
    if kind not in ("classifier", "inception") and not named.is_function(features):
        raise UserError(f"unknown --features {features!r}; valid: {KINDS}")
    cache = Workdir(run.workdir).cache
    dataset = build.build_dataset(run.config, cache, reading=True)
    make = extractors.find(features, dataset, cache, eyes)
    assert make is not None
    return perceptual.of_features(make())


class Code(NamedTuple):
    """A code that was found.

    Attributes:
      code: w or a latent ``[D]``.
      label: the number of its class.
      params: the generator's variables, with the maps of noise that were found beside it.
    """

    code: np.ndarray
    label: int
    params: Variables


def load(run: "Trained", file: Path) -> Code:
    """Read a ``code.npz`` that `save` wrote, of this GAN.

    Raises:
      UserError: there is no such file, or it is of another GAN.
    """
    found, space = read_arrays(file), run.space
    if found is None or "label" not in found:
        raise UserError(f"no code in {file}: {named.program()} --mode=project writes such files")
    shape = found[space].shape if space in found else ()
    check.codes(run, shape if len(shape) == 1 else (), file)
    noise = {
        name.removeprefix("noise."): jnp.asarray(maps) for name, maps in found.items() if name.startswith("noise.")
    }
    params = {**run.params, "noise": traverse_util.unflatten_dict(noise, sep=".")} if noise else run.params
    return Code(found[space], int(found["label"]), params)


def image(run: "Trained", found: Code, shift: np.ndarray | None = None) -> np.ndarray:
    """Return the image ``[H, W, C]`` of a code, with its own noise, moved by ``shift`` (see `Trained.sample`)."""
    code = jnp.asarray(found.code if shift is None else found.code + shift)
    made = images_of_codes(run.gan, found.params, code[None], jnp.array([found.label]))
    pixels: np.ndarray = np.asarray(run.gan.pixels.whole(made))[0]
    return pixels


def save(found: Projection, target: np.ndarray, out: Path, pixels: Pixels = USUAL) -> None:
    """Write ``code.npz``, ``projected.png`` (the picture beside what was found) and ``projected.gif`` (the way).

    ``code.npz`` has the code under the name of its space, ``label``, ``distance``, and maps of noise by their names.
    ``pixels`` says what the numbers of images are.

    Raises:
      UserError: they can't be written.
    """
    arrays = {found.space: found.code, "label": np.array(found.label), "distance": np.array(found.distance)}
    if "noise" in found.params:
        noise = traverse_util.flatten_dict(jax.device_get(found.params["noise"]), sep=".")
        arrays |= {f"noise.{name}": value for name, value in noise.items()}
    beside = visualize.grid(pixels.shown(np.stack([target, found.image])), 2)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_arrays(out / "code.npz", arrays)
        visualize.save_png(beside, out / "projected.png")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    count = len(found.frames)
    pictures = (visualize.grid(pixels.shown(np.stack([target, frame])), 2) for frame in found.frames)
    film.save(pictures, count, out / "projected.gif", count / _SECONDS)
