"""Vectors in the place of classes: which networks can be told of such."""

from ml_collections import ConfigDict

from gan_jax.util.errors import UserError

# Ways to be told that are for classes alone, and what of them a vector can't have.
_OF_CLASSES = {
    "norm": "gains of batch norm are those of a class",
    "auxiliary": "an auxiliary classifier names classes",
}


def check_condition(config: ConfigDict) -> None:
    """Refuse ``data.condition`` where labels are classes, or a network can be told of classes alone.

    Raises:
      UserError: see above.
    """
    if not (count := config.data.condition):
        return
    where = f"config.data.condition is {count}, vectors in the place of classes"
    if config.classes:
        raise UserError(f"{where}, and config.classes is {config.classes}: set one of them to 0")
    if not config.data.labels:
        raise UserError(f"{where}, and config.data.labels is False: set it to True")
    for player in ("generator", "discriminator"):
        told = config[player].get("conditional", "none")
        if told in _OF_CLASSES:
            raise UserError(
                f"{where}, and {_OF_CLASSES[told]}: set config.{player}.conditional, {told!r} now, to "
                + ("'concat'" if player == "generator" else "'concat' or 'projection'")
            )
    if config.generator.get("norm") == "virtual":
        raise UserError(f"{where}, and virtual batch norm's reference batch is of classes: set config.generator.norm")
