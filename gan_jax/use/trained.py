"""A trained GAN in Python: `load`, and what it returns."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_jax import build, config_files
from gan_jax.config import check_references
from gan_jax.core import draw
from gan_jax.core.gan import GAN, Array, Variables, images_of
from gan_jax.core.losses import discriminator_output
from gan_jax.core.networks import call
from gan_jax.core.pixels import to_float
from gan_jax.core.state import GANState
from gan_jax.evaluate import perceptual, sample, sampling, seen
from gan_jax.evaluate.perceptual import Distance
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import environment
from gan_jax.training.train import train as _train
from gan_jax.use import check, export, loading
from gan_jax.use.directions import Directions, find
from gan_jax.use.project import Projection, project
from gan_jax.util import named
from gan_jax.util.errors import UserError, listed

_BATCH = 256
_WHOLE = (np.uint8, np.uint16)
_WEIGHTS = ("average", "current")


class Trained:
    """A trained GAN, as `load` returns it.

    Attributes:
      workdir: of the run.
      config: of the run, or of its stage that made these weights.
      step: that they are of.
      gan: what it is made of, see `gan_jax.core.gan.GAN`.
      classes: names of its classes; empty if it was trained without labels.
      params: the generator's variables, a pytree: its weights (``params["params"]``) and statistics.
    """

    def __init__(self, workdir: Path, restored: loading.Restored, weights: str) -> None:
        self.workdir, self.config, self.step = workdir, restored.config, restored.step
        self.classes: list[str] = Workdir(workdir).class_names(restored.gan.classes)
        self.gan, self._state = restored.gan, restored.state
        if weights == "current":
            self._state = self._state.replace(
                averages=dict.fromkeys(self._state.averages, self._state.generator.variables)
            )
        self.params: Variables = self._state.ema

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        side = "x".join(map(str, self.gan.image_shape))
        return f"<{self.config.model} of {self.workdir}, step {self.step:,}, images {side}>"

    def sample(
        self,
        count: int = 64,
        *,
        seed: int = 0,
        label: str | int | Sequence[float] | np.ndarray | None = None,
        shift: Any = None,
        **options: Any,
    ) -> np.ndarray:
        """Draw images ``[count, H, W, C]``, uint8 or uint16; as ``--mode=sample`` of that seed does, to the bit.

        Those of 16 bits are in the greys of the data's files, ``data.range`` undone.

        Args:
          count: of images.
          seed: which ones, from 0 to 2^32 - 1: image i is a function of the weights, the seed, i and its label.
          label: a class by its name or number for all, or an even mix as ``"3+5"``; numbers ``[count]``; shares of each
            class ``[count, classes]``; None: a class a row of ten. Of a GAN of conditions a vector for all, numbers
            ``[K]``, or ``[count, K]``; None: one of the training images' a row of ten.
          shift: added to each w ``[w_dim]`` or each copy ``[copies, w_dim]``, where there is a mapping network, else to
            each latent ``[latent_dim]``: see `directions`.
          **options: as of ``--sampling``: ``truncation=0.7``, ``noise_mode="const"``, ``standing=16``.

        Raises:
          gan_jax.util.errors.UserError: there is no such class or option.
        """
        count = check.count(count)
        if label is None:
            labels = loading.labels(self.gan, self.workdir, count, None, "label", seed=check.seed(seed)).told
        else:
            labels = self._labels(count, label)
        text = " ".join(f"{name}={value}" for name, value in options.items())
        how, seed = sampling.read(self.gan, text, "sample()"), check.seed(seed)
        shift = self._shift(shift)
        counts = loading.counts(self.gan, self.workdir)
        drawn = sample.samples(self.gan, self._state, seed, labels, how=how, counts=counts, shift=shift).array()
        greys: np.ndarray = self.gan.pixels.greys(drawn)
        return greys

    def latents(self, count: int, *, seed: int = 0, **options: Any) -> Array:
        """Draw the latents ``[count, latent_dim]`` of the images that `sample` draws by that seed.

        Args:
          count, seed: see `sample`.
          **options: the prior's own, as ``truncation`` where no mapping network takes it.
        """
        check.options(options, draw.options_of(self.gan)[0], "latents()")
        return sample.fixed_latents(self.gan, check.seed(seed), check.count(count), **options)

    def generate(
        self, z: Any, label: Any = None, *, seed: int = 0, keys: Any = None, shift: Any = None, **options: Any
    ) -> Array:
        """Return images ``[B, H, W, C]``, in [-1, 1] or about, of latents.

        Args:
          z: ``[B, latent_dim]``.
          label: numbers of classes ``[B]``, or one for all; 0 if None; or shares of each class ``[B, classes]``.
          seed: of what the network draws by itself, such as noise.
          keys: in its place a PRNG key for each example ``[B]``.
          shift: see `sample`.
          **options: the network's own: ``truncation=0.7``, ``noise_mode="const"``.

        Raises:
          gan_jax.util.errors.UserError: latents, labels or options can't be.
        """
        check.options(options, draw.network_options(self.gan), "generate()")
        inputs = self._inputs(z, label, seed, keys)
        given = tuple(sorted(options.items()))
        images: Array = _generated(self.gan, given, self.params, inputs, self._shift(shift))
        return images

    @property
    def space(self) -> str:
        """Where codes lie: ``w``, or ``z`` where there is no mapping network."""
        return "w" if self.has_mapping else "z"

    @property
    def code_length(self) -> int:
        """How many numbers a w has, or a latent where there is no mapping network."""
        length: int = self.gan.generator.w_dim if self.has_mapping else self.gan.latent_dim
        return length

    @property
    def has_mapping(self) -> bool:
        """Whether there is a mapping network, so that there are w."""
        return draw.has_mapping(self.gan)

    def mapping(self, z: Any, label: Any = None, **options: Any) -> Array:
        """Return w ``[B, copies, w_dim]`` of latents ``[B, latent_dim]``, of networks with a mapping network.

        Args:
          z, label: see `generate`.
          **options: the mapping network's own: ``truncation=0.7``, ``truncation_cutoff``.

        Raises:
          gan_jax.util.errors.UserError: there is none.
        """
        self._check_mapping()
        check.options(options, draw.network_options(self.gan, "mapping"), "mapping()")
        w: Array = _mapped(self.gan, tuple(sorted(options.items())), self.params, self._inputs(z, label, 0))
        return w

    def synthesis(self, w: Any, *, seed: int = 0, keys: Any = None, **options: Any) -> Array:
        """Return images ``[B, H, W, C]`` of w ``[B, copies, w_dim]``, or ``[B, w_dim]``; else as `generate`.

        Raises:
          gan_jax.util.errors.UserError: there is no mapping network, whose w it would be.
        """
        self._check_mapping()
        check.options(options, draw.network_options(self.gan, "synthesis"), "synthesis()")
        w = jnp.asarray(w, self.gan.dtype)
        w = jnp.repeat(w[:, None], self.gan.generator.copies, 1) if w.ndim == 2 else w
        if w.shape[1:] != (self.gan.generator.copies, self.code_length):
            copies = f"[B, {self.gan.generator.copies}, {self.code_length}]"
            raise UserError(f"w must be {copies}, or [B, {self.code_length}] for all copies, not {list(w.shape)}")
        keys = sample.fixed_keys(check.seed(seed), np.arange(len(w))) if keys is None else keys
        images: Array = _synthesized(self.gan, tuple(sorted(options.items())), self.params, (w, keys))
        return images

    @property
    def apply(self) -> Callable[..., Array]:
        """``apply(params, z, label=None, keys=None, **options)``: images ``[B, H, W, C]``, a pure function.

        It can be jitted, differentiated and vmapped. ``params`` is a pytree like `params`, ``keys`` a PRNG key for each
        example ``[B]``, for what the network draws by itself.
        """
        return partial(_applied, self.gan)

    def discriminate(self, images: Any, label: Any = None) -> np.ndarray:
        """Return what D says of images ``[N]``: the probability that they are real, or its score where it has no scale.

        By running statistics, where training had those of batches. A D that compares images with each other (minibatch
        discrimination, or their standard deviation, as StyleGAN2's) still does so, within 256 at a time.

        Args:
          images: uint8, uint16 in the greys of the data's files, or floats in [-1, 1], ``[N, H, W, C]``.
          label: numbers of classes ``[N]``, or one for all; 0 if None.
        """
        if self._state.discriminator is None:
            raise UserError(f"{self.workdir} holds an exported generator, without a D: load the run that it is of")
        images = np.asarray(images)
        if images.dtype not in _WHOLE and not np.issubdtype(images.dtype, np.floating):
            raise UserError(f"images must be uint8, uint16 or floats in [-1, 1], not {images.dtype}")
        images = self.gan.pixels.own(images)
        if images.shape[1:] != self.gan.image_shape:
            raise UserError(f"images must be [N, {listed(self.gan.image_shape)}], not {list(images.shape)}")
        labels = self._labels(len(images), label)
        parts = [slice(start, start + _BATCH) for start in range(0, len(images), _BATCH)]
        said = [np.asarray(_said(self.gan, self._state, images[part], labels[part])) for part in parts]
        return np.concatenate(said) if said else np.zeros(0, np.float32)

    def project(
        self,
        image: Any,
        *,
        distance: Distance | None = None,
        steps: int = 1000,
        label: int | None = None,
        seed: int = 0,
        told: Callable[[int, float], None] | None = None,
    ) -> Projection:
        """Find the code whose image is nearest to ``image`` ``[H, W, C]``, uint8 or uint16 as `sample` draws.

        Args:
          image: of the GAN's own shape.
          distance: what nearest means, one of `gan_jax.evaluate.perceptual`; None: pixels at several scales and the
            features of a random VGG16.
          steps: of Adam.
          label: the number of its class; None: whatever comes nearest.
          seed: of the draws that it begins with.
          told: called with the step and the distance, now and then.

        Raises:
          gan_jax.util.errors.UserError: the image has another shape.
        """
        check.not_of_conditions(self.gan, "projection")
        image = np.asarray(image)
        pixels = self.gan.pixels
        if image.shape != self.gan.image_shape or image.dtype != pixels.dtype:
            shape = listed(self.gan.image_shape)
            raise UserError(f"the image must be {pixels.dtype} [{shape}], not {image.dtype} {list(image.shape)}")
        by = distance or perceptual.random(seen.of(build.image_options(self.config)))
        return project(self, pixels.own(image), by, steps=steps, label=label, seed=check.seed(seed), told=told)

    def directions(self, method: str = "sefa", count: int = 10) -> Directions:
        """Find directions that change something of an image: ``run.sample(shift=found.shift({0: 2.0}))``.

        Args:
          method: ``sefa``, from the generator's first weights (Shen & Zhou 2021), or ``pca``, the principal components
            of w (Härkönen et al. 2020).
          count: of directions.

        Raises:
          gan_jax.util.errors.UserError: there is no such method, or no w for ``pca``.
        """
        return find(self, method, count)

    def export(self, out: str | Path, *, onnx: bool = False, **options: Any) -> list[str]:
        """Write the generator to the folder ``out``: weights, StableHLO, a model card, as ONNX too if so told.

        Args:
          out: a new folder; `gan_jax.load` takes it as it takes a run.
          onnx: see above.
          **options: of the network, for the programs: ``truncation=0.7``; ``noise_mode`` is ``const`` if not told.

        Returns:
          The names of the files.

        Raises:
          gan_jax.util.errors.UserError: it can't be written, or a package is missing.
        """
        return export.export(self, named.path(str(out), "out"), onnx=onnx, **options)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the log, a dict a line: ``pandas.DataFrame(run.metrics())`` is a table of it."""
        return Workdir(self.workdir).records()

    def _inputs(self, z: Any, label: Any, seed: int, keys: Any = None) -> tuple[Array, Array, Array]:
        z = jnp.asarray(z, self.gan.dtype)
        if z.ndim != 2 or z.shape[1] != self.gan.latent_dim:
            raise UserError(f"latents must be [B, {self.gan.latent_dim}], not {list(z.shape)}")
        labels = self._labels(len(z), label)
        keys = sample.fixed_keys(check.seed(seed), np.arange(len(z))) if keys is None else keys
        return z, jnp.asarray(labels), keys

    def _shift(self, shift: Any) -> np.ndarray | None:
        if shift is None:
            return None
        try:
            found = np.asarray(shift, self.gan.dtype)
        except (TypeError, ValueError):
            found = np.empty(0)
        if found.ndim == 0 or found.shape[-1] != self.code_length:
            kind = type(shift).__name__ if not hasattr(shift, "shape") else list(shift.shape)
            raise UserError(
                f"a shift must be [{self.code_length}], as directions().shift({{0: 2.0}}) gives, not {kind}"
            )
        return found

    def _labels(self, count: int, given: Any) -> np.ndarray:
        """Numbers of classes ``[count]``, or shares ``[count, classes]``; or vectors ``[count, condition]``."""
        classes = max(self.gan.classes, 1)
        if isinstance(given, str) or (self.gan.condition and given is None):
            return loading.labels(self.gan, self.workdir, count, given, "label").told
        label = np.asarray(0 if given is None else given)
        if self.gan.condition:
            return self._vectors(count, label)
        if np.issubdtype(label.dtype, np.floating) and label.shape in ((classes,), (count, classes)):
            if not (np.isfinite(label).all() and (label >= 0).all() and np.allclose(label.sum(-1), 1, atol=1e-3)):
                raise UserError("shares of classes must be from 0 to 1, and add up to 1 in each row")
            return np.broadcast_to(label, (count, classes))
        if label.shape not in ((), (count,)) or not np.issubdtype(label.dtype, np.integer):
            told = f"one number, or one for each of {count}, or shares of each class as floats [{count}, {classes}]"
            raise UserError(f"labels must be {told}, not {label.dtype} of shape {list(label.shape)}")
        if label.size and not 0 <= label.min() <= label.max() < classes:
            raise UserError(f"labels must be from 0 to {classes - 1}: the GAN has {self.gan.classes} classes")
        return np.broadcast_to(label, (count,)).astype(np.int32)

    def _vectors(self, count: int, given: np.ndarray) -> np.ndarray:
        """Vectors float32 ``[count, condition]``."""
        length = self.gan.condition
        if given.shape not in ((length,), (count, length)) or given.dtype.kind not in "biuf":
            told = f"vectors of {length} numbers, [{length}] or [{count}, {length}]"
            raise UserError(f"labels must be {told}, not {given.dtype} of shape {list(given.shape)}")
        found = np.broadcast_to(given, (count, length)).astype(np.float32)
        if not np.isfinite(found).all():
            raise UserError("labels must be finite numbers")
        return found

    def _check_mapping(self) -> None:
        if not self.has_mapping:
            raise UserError(f"{self.config.model} has no mapping network, and so no w: use generate(z)")


def get_config(name: str) -> ConfigDict:
    """Return the config that ``--config=NAME`` stands for.

    Args:
      name: of a built-in config, as ``dcgan`` or ``stylegan2:earth32``, what it takes behind a colon, or the path of a
        file with a function ``get_config``.

    Raises:
      gan_jax.util.errors.UserError: there is none, or running it fails.
    """
    config_files.importable()
    return config_files.load_config(config_files.resolved(name))


def load(workdir: str | Path, *, step: int | str | None = None, weights: str = "average") -> Trained:
    """Load the trained GAN of the run in ``workdir``.

    Args:
      workdir: of a run, as ``runs/dcgan``.
      step: of which checkpoint; None: the last; ``best``: that of the best evaluation.
      weights: ``average``, the generator's averaged weights, which a run's samples are drawn with; or ``current``.

    Raises:
      gan_jax.util.errors.UserError: there is no such run or checkpoint.
    """
    if weights not in _WEIGHTS:
        raise UserError(f"weights must be {listed(map(repr, _WEIGHTS), between=' or ')}, not {weights!r}")
    environment.prepare()
    path = named.path(str(workdir), "workdir")
    return Trained(path, loading.restore(path, step), weights)


def train(config: ConfigDict, workdir: str | Path, *, devices: Sequence[jax.Device] | None = None) -> Trained:
    """Train what ``config`` says in ``workdir``, from its last checkpoint on if there is one, and load it.

    Args:
      config: of a config file's ``get_config``, or `gan_jax.config.default`; changed as you like.
      workdir: where the run is written; the same call goes on with it.
      devices: to train on; all, if None.

    Raises:
      gan_jax.util.errors.UserError: anything wrong in the config, or with the workdir.
      gan_jax.util.errors.DivergedError: numbers aren't finite any more.
    """
    environment.prepare()
    check_references(config)
    build.enable_float64(config)
    path = named.path(str(workdir), "workdir")
    _train(config, path, devices)
    return load(path)


def _applied(
    gan: GAN, params: Variables, z: Array, label: Array | None = None, keys: Array | None = None, **options: Any
) -> Array:
    check.options(options, draw.network_options(gan), "apply()")
    label = gan.labels(len(z)) if label is None else label
    keys = sample.fixed_keys(0, np.arange(len(z))) if keys is None else keys
    return draw.generate(gan, params, (z, label, keys), **options)


@partial(jax.jit, static_argnums=(0, 1))
def _generated(gan: GAN, options: tuple[tuple[str, Any], ...], params: Variables, inputs: Any, shift: Any) -> Array:
    return draw.generate(gan, params, inputs, shift, **dict(options))


@partial(jax.jit, static_argnums=(0, 1))
def _mapped(gan: GAN, options: tuple[tuple[str, Any], ...], params: Variables, inputs: Any) -> Array:
    z, label, keys = inputs
    w: Array = call(gan.generator, params, z, method="mapping", train=False, **_told(gan, label, keys, options))
    return w


@partial(jax.jit, static_argnums=(0, 1))
def _synthesized(gan: GAN, options: tuple[tuple[str, Any], ...], params: Variables, inputs: Any) -> Array:
    w, keys = inputs
    told = _told(gan, jnp.zeros(len(w), jnp.int32), keys, options)
    return images_of(call(gan.generator, params, w, method="synthesis", train=False, **told))


def _told(gan: GAN, label: Array, keys: Array, options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return {**draw.told(gan, label, keys), **dict(options)}


@partial(jax.jit, static_argnums=0)
def _said(gan: GAN, state: GANState, images: Array, label: Array) -> Array:
    images = to_float(images, gan.dtype) if images.dtype in _WHOLE else images.astype(gan.dtype)
    shown = gan.task.shown(gan, state.generator.variables, images, label)
    keys = sample.fixed_keys(0, jnp.arange(len(images)))
    told: dict[str, Any] = {"label": label, "keys": keys, "train": False}
    logits = call(gan.discriminator, state.discriminator.variables, shown, **told).logits
    return discriminator_output(gan.loss, logits).reshape(len(images), -1).mean(1)
