"""Style mixing: images with the coarse styles of one latent and the fine ones of another (Karras et al. 2019)."""

from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core import draw
from gan_jax.evaluate.sample import first_keys
from gan_jax.util.errors import UserError

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained

_BATCH = 64


def mix(
    run: "Trained", rows: np.ndarray, columns: np.ndarray, styles: np.ndarray, label: Any = None, **options: Any
) -> np.ndarray:
    """Return images ``[1 + R, 1 + C, H, W, K]``: those of the columns' seeds above, of the rows' at the left.

    Each other has the w of its row, but in the copies ``styles``, which are of its column. Its noise is the row's.

    Args:
      run: a GAN with a mapping network.
      rows, columns: seeds ``[R]`` and ``[C]``, each of its first image.
      styles: which copies of w; those of the lowest sides come first.
      label: the class of all, a number; 0 if None.
      **options: of sampling, as ``truncation``.

    Raises:
      UserError: there is no mapping network, or no such copy of w.
    """
    if not run.has_mapping:
        raise UserError(f"styles are those of w, and {run.config.model} has no mapping network: interpolate instead")
    copies: int = run.gan.generator.copies
    if styles.max() >= copies:
        raise UserError(f"--styles: there are {copies} copies of w, from 0 to {copies - 1}, and no {styles.max()}")
    mapped = draw.own_of(options, draw.network_options(run.gan, "mapping"))
    rest = {name: value for name, value in options.items() if name not in mapped}
    z = draw.latents(run.gan, first_keys(np.concatenate([rows, columns])))
    w = np.asarray(run.mapping(z, label, **mapped))
    of_rows, of_columns = w[: len(rows)], w[len(rows) :]
    table = np.tile(of_rows[:, None], (1, len(columns) + 1, 1, 1))
    table[:, 1:, styles] = of_columns[None, :, styles]
    above = np.concatenate([np.zeros_like(w[:1]), of_columns])[None]
    table = np.concatenate([above, table])
    seeds = np.broadcast_to(np.concatenate([rows[:1], rows])[:, None], table.shape[:2]).copy()
    seeds[0, 1:] = columns
    flat, numbers = table.reshape(-1, *w.shape[1:]), seeds.ravel()
    images = np.concatenate(
        [
            np.asarray(run.gan.pixels.whole(_synthesized(run, flat[part], numbers[part], rest)))
            for part in (slice(i, i + _BATCH) for i in range(0, len(flat), _BATCH))
        ]
    )
    images[0] = 0
    return images.reshape(*table.shape[:2], *images.shape[1:])


def _synthesized(run: "Trained", w: np.ndarray, seeds: np.ndarray, options: dict[str, Any]) -> Any:
    count = len(w)
    w, seeds = (np.concatenate([x, np.repeat(x[:1], _BATCH - count, 0)]) for x in (w, seeds))  # one program
    return run.synthesis(w, keys=first_keys(seeds), **options)[:count]
