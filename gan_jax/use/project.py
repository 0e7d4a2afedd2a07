"""An image's place in latent space, by gradient descent: the code whose image comes nearest to it.

The schedule is that of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, appendix D): Adam's rate of .1 rises over the
first 5 % of the steps and falls as a cosine in the last 25 %; in the first 75 % the code is shaken less and less. Where
there is a mapping network the code is one w, which begins as the mean of 10,000, and maps of noise are found beside it,
kept from drawing a picture by a penalty on what neighbouring pixels have in common. Elsewhere it is a latent z: several
begin at the nearest of 512 draws, the best one counts, and none leaves the region that latents come from.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.core import draw
from gan_jax.core.gan import GAN, Array, Variables, images_of
from gan_jax.core.networks import call
from gan_jax.evaluate import sample
from gan_jax.evaluate.perceptual import Distance
from gan_jax.use.codes import many
from gan_jax.util import progress

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained

RATE, RISE, FALL = 0.1, 0.05, 0.25  # of Adam's steps; shares of all of them
_SHAKEN, _SHAKE = 0.75, 0.05
_DRAWS, _STARTS = 512, 8
_NOISE_WEIGHT, _NOISE_SMALLEST = 1e5, 8


@dataclasses.dataclass(frozen=True)
class Projection:
    """An image, found again in latent space.

    Attributes:
      space: ``w`` or ``z``.
      code: ``[w_dim]`` or ``[latent_dim]``.
      label: the number of its class, 0 where there are none.
      params: the generator's variables with the maps of noise that were found; see `Trained.apply`.
      image: of the code, whole numbers ``[H, W, C]``.
      distance: from the image that was looked for, by the `Distance` that was descended.
      start: the distance at the first step.
      frames: images on the way ``[F, H, W, C]``.
    """

    space: str
    code: np.ndarray
    label: int
    params: Variables
    image: np.ndarray
    distance: float
    start: float
    frames: np.ndarray


def project(
    run: "Trained",
    image: np.ndarray,
    distance: Distance,
    *,
    steps: int = 1000,
    label: int | None = None,
    seed: int = 0,
    frames: int = 100,
    told: Callable[[int, float], None] | None = None,
) -> Projection:
    """Find the code whose image is nearest to ``image`` ``[H, W, C]``, whole numbers, of the GAN's own shape.

    Args:
      run: the GAN.
      image: see above.
      distance: what nearest means.
      steps: of Adam.
      label: the number of its class; None: in w that of the mean over all classes, in z whatever begins nearest.
      seed: of the draws that it begins with, and of what shakes it.
      frames: how many images on the way are kept, at most.
      told: called with the step and the distance, now and then.
    """
    gan, scale = run.gan, 257 if image.dtype == np.uint16 else 1
    target = jnp.asarray(image, gan.dtype)[None] / scale
    of_distance = distance.apply, distance.variables, target
    begin = (_mean_w if run.has_mapping else _nearest)(run, of_distance, label, seed)
    noise = {"noise": run.params["noise"]} if "noise" in run.params else {}
    codes, labels = jnp.asarray(begin.codes), jnp.asarray(begin.labels)
    found = {"codes": codes, "noise": noise}
    carried: Any = (found, _ADAM.init(found), jnp.int32(0))
    chunk = max(1, math.ceil(steps / frames))
    given: Any = {"params": run.params, "labels": labels, "begin": begin._asdict(), "key": jax.random.key(seed)}
    given |= {"variables": distance.variables, "target": target, "steps": jnp.int32(steps)}
    way, start = [], math.nan
    with progress.bar(total=steps, unit="step") as bar:
        for step in range(0, steps, chunk):
            carried, now, far = _descend(gan, distance.apply, chunk, carried, given)
            start = float(far[0].min()) if step == 0 else start
            way.append(np.asarray(gan.pixels.whole(now))[int(far[-1].argmin())])
            bar.set_postfix_str(f"distance {float(far[-1].min()):.4g}", refresh=False)
            bar.update(min(chunk, steps - step))
            if told is not None:
                told(min(step + chunk, steps), float(far[-1].min()))
    now, far = _final(gan, distance.apply, carried[0], given)
    best = int(far.argmin())
    last = np.asarray(gan.pixels.whole(now))[best]
    params = {**run.params, **carried[0]["noise"]}
    code, number = np.asarray(carried[0]["codes"][best]), int(begin.labels[best])
    return Projection(run.space, code, number, params, last, float(far[best]), start, np.stack([*way, last]))


@dataclasses.dataclass(frozen=True)
class _Begin:
    """Where the descent begins: codes ``[K, D]`` and labels ``[K]``; how far codes spread, and their bounds."""

    codes: np.ndarray
    labels: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    longest: np.ndarray

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("spread", "low", "high", "longest")}


def _mean_w(run: "Trained", _: Any, label: int | None, seed: int) -> _Begin:
    w = many(run, seed, label)
    mean = w.mean(0, keepdims=True)
    spread = np.sqrt(np.square(w - mean).sum(1).mean())
    everywhere = np.full(w.shape[1], np.inf, w.dtype)
    return _Begin(mean, np.array([label or 0], np.int32), spread, -everywhere, everywhere, np.asarray(np.inf, w.dtype))


def _nearest(run: "Trained", of_distance: Any, label: int | None, seed: int) -> _Begin:
    apply, variables, target = of_distance
    z, classes = np.asarray(run.latents(_DRAWS, seed=seed)), max(run.gan.classes, 1)
    labels = (np.full(_DRAWS, label) if label is not None else np.arange(_DRAWS) % classes).astype(np.int32)
    parts = [slice(i, i + 64) for i in range(0, _DRAWS, 64)]
    far = np.concatenate(
        [_far(apply, variables, _to_255(run.generate(z[part], labels[part])), target) for part in parts]
    )
    chosen = np.argsort(far, kind="stable")[:_STARTS]
    spread = np.sqrt(np.square(z - z.mean(0)).mean())
    longest = np.linalg.norm(z, axis=1).max()
    return _Begin(z[chosen], labels[chosen], spread, z.min(0), z.max(0), longest)


_ADAM = optax.scale_by_adam(0.9, 0.999)


@partial(jax.jit, static_argnums=0)
def _far(apply: Any, variables: Any, images: Array, target: Array) -> Array:
    far: Array = apply(variables, images, target)
    return far


def _to_255(images: Array) -> Array:
    return jnp.clip(images * 127.5 + 127.5, 0, 255)


def images_of_codes(gan: GAN, params: Variables, codes: Array, labels: Array) -> Array:
    """Return images ``[K, H, W, C]`` of codes ``[K, D]`` and labels ``[K]``; copies of w are one, noise is const."""
    keys = sample.fixed_keys(0, jnp.arange(len(codes)))
    options: dict[str, Any] = {"noise_mode": "const"} if "noise_mode" in draw.network_options(gan) else {}
    if not draw.has_mapping(gan):
        return draw.generate(gan, params, (codes, labels, keys), **options)
    w = jnp.broadcast_to(codes[:, None], (len(codes), gan.generator.copies, codes.shape[1]))
    told = draw.told(gan, labels, keys, **options)
    return images_of(call(gan.generator, params, w, method="synthesis", train=False, **told))


def _loss(found: Any, gan: GAN, apply: Any, told: Any, shaken: Array | float) -> tuple[Array, tuple[Array, Array]]:
    images = images_of_codes(gan, {**told["params"], **found["noise"]}, found["codes"] + shaken, told["labels"])
    seen = images + jax.lax.stop_gradient(jnp.clip(images, -1, 1) - images)  # beyond [-1, 1] there is a way back
    far = apply(told["variables"], seen * 127.5 + 127.5, told["target"])
    alike = sum((likeness(noise) for noise in jax.tree.leaves(found["noise"])), jnp.zeros(()))
    return far.sum() + _NOISE_WEIGHT * alike, (images, far)


def likeness(noise: Array) -> Array:
    """Return what neighbours in a map ``[H, W, 1]`` have in common, at its own scale and those halved down to 8."""
    total, maps = jnp.zeros(()), noise[None]
    while True:
        total += sum(jnp.square((maps * jnp.roll(maps, 1, axis)).mean()) for axis in (1, 2))
        if min(maps.shape[1:3]) <= _NOISE_SMALLEST:
            return total
        n, height, width, channels = maps.shape
        maps = maps.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _descend(gan: GAN, apply: Any, count: int, carried: Any, told: Any) -> tuple[Any, Array, Array]:
    """``count`` steps; the images and distances ``[count, K]`` of the last ones."""
    begin = told["begin"]

    def step(carried: Any, _: Any) -> tuple[Any, tuple[Array, Array]]:
        found, moments, number = carried
        part = number / told["steps"]
        shake = begin["spread"] * _SHAKE * jnp.square(jnp.maximum(0, 1 - part / _SHAKEN))
        key = jax.random.fold_in(told["key"], number)
        shaken = shake * jax.random.normal(key, found["codes"].shape, found["codes"].dtype)
        gradient, seen = jax.grad(_loss, has_aux=True)(found, gan, apply, told, shaken)
        moved, moments = _ADAM.update(gradient, moments)
        goes_on = number < told["steps"]  # the last chunk may be longer than what is left
        new = jax.tree.map(
            lambda x, step: x - jnp.where(goes_on, rate(number, told["steps"]) * step, 0).astype(x.dtype), found, moved
        )
        new = {"codes": _within(new["codes"], begin), "noise": jax.tree.map(_standard, new["noise"])}
        return (new, moments, number + 1), seen

    carried, (images, far) = jax.lax.scan(step, carried, length=count)
    return carried, images[-1], far


def rate(number: Array | int, steps: Array | int) -> Array:
    """Return Adam's rate in step ``number`` of ``steps``."""
    falling = jnp.clip((1 - number / steps) / FALL, 0, 1)
    return RATE * (0.5 - 0.5 * jnp.cos(jnp.pi * falling)) * jnp.minimum(1, (number + 1) / (steps * RISE))


def _within(codes: Array, begin: Any) -> Array:
    codes = jnp.clip(codes, begin["low"], begin["high"])
    length = jnp.linalg.norm(codes, axis=1, keepdims=True)
    return jnp.where(length > begin["longest"], codes * (begin["longest"] / jnp.maximum(length, 1e-12)), codes)


def _standard(noise: Array) -> Array:
    noise = noise - noise.mean()
    return noise * jax.lax.rsqrt(jnp.square(noise).mean() + 1e-12)


@partial(jax.jit, static_argnums=(0, 1))
def _final(gan: GAN, apply: Any, found: Any, told: Any) -> tuple[Array, Array]:
    return _loss(found, gan, apply, told, 0.0)[1]
