"""Walks through latents: images that change into each other, by way of those of given seeds."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from gan_jax.core import draw
from gan_jax.evaluate.sample import first_keys, slerp
from gan_jax.runs.visualize import grid
from gan_jax.use.trained import Trained
from gan_jax.util import progress

_BATCH = 256  # images, about


def walk(
    run: Trained,
    seeds: np.ndarray,
    frames: int,
    *,
    columns: int = 1,
    loop: bool = True,
    label: Any = None,
    codes: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    **options: Any,
) -> Iterator[np.ndarray]:
    """Yield the frames of a film, pictures uint8 ``[H, W, C]``, that goes through the first images of the seeds.

    In w, where there is a mapping network, on a cubic spline (as in NVlabs/stylegan3, gen_video.py); else in z, on
    great circles from one latent to the next.

    Args:
      run: the GAN.
      seeds: ``[cells, K]``: of each cell of the picture the seeds that it passes, at even times.
      frames: how many.
      columns: of the picture.
      loop: whether it ends where it begins, so that it can go round.
      label: the class of all, a number; 0 if None.
      codes: ``[cells, K, D]``, w or latents, to pass in place of those of the seeds.
      shift: added to each of them ``[D]``, see `gan_jax.use.directions`.
      **options: of sampling. What a network draws by itself is the same in all frames, its noise that of no sample
        (``noise_mode="const"``) if not told.
    """
    cells, stops = seeds.shape
    of_prior, own = draw.options_of(run.gan)
    z = np.asarray(draw.latents(run.gan, first_keys(seeds.ravel()), **draw.own_of(options, of_prior)))
    told = draw.own_of(options, own)
    told |= {"noise_mode": "const"} if "noise_mode" in own and "noise_mode" not in told else {}
    styled = run.has_mapping
    if codes is not None:
        points = codes.reshape(cells * stops, -1)
        points = np.repeat(points[:, None], run.gan.generator.copies, 1) if styled else points
    elif styled:
        mapped = draw.network_options(run.gan, "mapping")
        points = np.asarray(run.mapping(z, label, **{name: told.pop(name) for name in mapped if name in told}))
    else:
        points = z
    points = points if shift is None else points + shift
    path = (_splines if styled else _circles)(points.reshape(cells, stops, *points.shape[1:]), loop)
    times = np.arange(frames) * (stops / frames if loop else (stops - 1) / max(frames - 1, 1))
    together = max(1, _BATCH // cells)
    keys = jnp.tile(first_keys(seeds[:, 0]), together)
    with progress.bar(total=frames, unit="frame") as bar:
        for start in range(0, frames, together):
            now = times[start : start + together]
            padded = np.pad(now, (0, together - len(now)), mode="edge")  # one compiled program
            latents = path(padded).reshape(together * cells, *points.shape[1:])
            made = (
                run.synthesis(latents, keys=keys, **told) if styled else run.generate(latents, label, keys=keys, **told)
            )
            images = run.gan.pixels.shown(run.gan.pixels.whole(made))
            images = images.reshape(together, cells, *images.shape[1:])
            for picture in images[: len(now)]:
                yield picture[0] if cells == 1 else grid(picture, columns)
                bar.update(1)


def _splines(points: np.ndarray, loop: bool) -> Any:
    """Return splines, ``times [n] -> [n, cells, ...]``, through points ``[cells, K, ...]``.

    They pass these at times 0, 1, ..., K - 1 (K: the first).
    """
    if points.shape[1] == 1:
        return lambda times: np.repeat(points[:, 0][None], len(times), 0)
    ends = points[:, :1] if loop else points[:, :0]
    through = np.concatenate([points, ends], 1).swapaxes(0, 1)
    return CubicSpline(np.arange(len(through)), through, bc_type="periodic" if loop else "not-a-knot")


def _circles(points: np.ndarray, loop: bool) -> Any:
    """Return the same as `_splines`, on the great circle from each point to the next."""
    following = np.roll(points, -1, 1)
    each = jax.jit(jax.vmap(slerp))
    last = points.shape[1] - (0 if loop else 1)

    def path(times: np.ndarray) -> np.ndarray:
        at = np.minimum(times.astype(int), max(last - 1, 0))
        begin, end = (np.moveaxis(x[:, at], 1, 0) for x in (points, following))  # [n, cells, Z]
        part = np.repeat((times - at)[:, None], begin.shape[1], 1)
        flat = each(begin.reshape(-1, begin.shape[-1]), end.reshape(-1, end.shape[-1]), jnp.asarray(part.ravel()))
        return np.asarray(flat).reshape(begin.shape)

    return path
