"""Codes of many draws: how w, or latents, are spread."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained

_DRAWS, _BATCH = 10_000, 500  # of which one divides the other, for one program


def many(run: "Trained", seed: int, label: int | None = None) -> np.ndarray:
    """Return w, or latents where there is no mapping network, ``[N, D]`` of N draws; of all classes, if not of one."""
    z = run.latents(_DRAWS, seed=seed)
    if not run.has_mapping:
        return np.asarray(z)
    labels = np.full(_DRAWS, label) if label is not None else np.arange(_DRAWS) % max(run.gan.classes, 1)
    labels = run._labels(_DRAWS, None) if run.gan.condition else labels
    parts = [slice(i, i + _BATCH) for i in range(0, _DRAWS, _BATCH)]
    return np.concatenate([np.asarray(run.mapping(z[part], labels[part])[:, 0]) for part in parts])
