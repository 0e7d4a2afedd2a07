"""Statistics of a data set's features in a file, to share: what FID compares with, without the images."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.util.errors import UserError
from gan_jax.util.files import read_arrays, write_arrays

_VERSION = 1
_TEXTS = ("data", "features", "made")


@dataclasses.dataclass(frozen=True)
class Reference:
    """Mean and covariance of features, and where they are from.

    Attributes:
      mean: float64 ``[d]``.
      covariance: float64 ``[d, d]``, unbiased.
      count: of the images.
      data: the data set's name.
      features: their name, with a hash of the network's weights.
      made: what else decides them, as JSON: the images' shape and digest, and how they were brought to that shape.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int
    data: str
    features: str
    made: str

    @property
    def name(self) -> str:
        """The data's, with a hash of the statistics."""
        hashed = hashlib.blake2b(digest_size=4)
        for array in (self.mean, self.covariance):
            hashed.update(np.ascontiguousarray(array, np.float64).tobytes())
        return f"{self.data}:{hashed.hexdigest()}"

    def check(self, path: Path, features: str) -> None:
        """Refuse to compare with what ``path`` holds, this, by other ``features``."""
        if features != self.features:
            raise UserError(
                f"--reference={path} is of features {self.features}, and this evaluation's are {features}: "
                "set --config.eval.features to those"
            )

    def write(self, path: Path) -> None:
        """Write it to a file ``.npz``."""
        texts: dict[str, Any] = {name: np.array(getattr(self, name)) for name in _TEXTS}
        numbers = {"mean": self.mean, "covariance": self.covariance, "count": np.array(self.count)}
        write_arrays(path, {"version": np.array(_VERSION), **numbers, **texts})


def made_of(shape: tuple[int, ...], digest: str, options: dict[str, Any]) -> str:
    """Return what `Reference.made` says."""
    return json.dumps({"shape": list(shape), "digest": digest, **options}, sort_keys=True)


def read(path: Path) -> Reference:
    """Return what `Reference.write` wrote to ``path``.

    Raises:
      UserError: the file isn't there, or is something else.
    """
    if not path.is_file():
        raise UserError(f"--reference={path}: there is no such file: --mode=reference makes it")
    found = read_arrays(path)
    try:
        assert found is not None
        assert int(found["version"]) == _VERSION
        texts = {name: str(found[name]) for name in _TEXTS}
        mean, covariance = (np.asarray(found[name], np.float64) for name in ("mean", "covariance"))
        assert mean.ndim == 1
        assert covariance.shape == (len(mean), len(mean))
        assert np.isfinite(mean).all()
        assert np.isfinite(covariance).all()
        return Reference(mean, covariance, int(found["count"]), **texts)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--reference={path} holds no statistics of features: give what --mode=reference wrote"
        ) from error
