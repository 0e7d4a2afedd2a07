"""Drawing and judging: what is drawn of a generator, and figures of how near it comes to the data."""

from gan_jax.evaluate import reference, sampling, seen
from gan_jax.evaluate.evaluator import NEIGHBOURS, Evaluator, neighbours
from gan_jax.evaluate.extractors import automatic, find
from gan_jax.evaluate.gan_train import gan_train

__all__ = ["NEIGHBOURS", "Evaluator", "automatic", "find", "gan_train", "neighbours", "reference", "sampling", "seen"]
