"""How many classes a run has, where its config leaves that to the data."""

from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.config import changed
from gan_jax.data import Dataset, Options
from gan_jax.runs.workdir import Workdir
from gan_jax.util.errors import UserError

_SOME = 2  # classes of a GAN that is built only to see whether it can be


def with_classes(
    config: ConfigDict, workdir: Workdir, counted: dict[Options, int] | None = None
) -> tuple[ConfigDict, Dataset | None]:
    """Return ``config`` with a number of classes, if it has none, though a player is told of them.

    It is that of the run in ``workdir``, if one has begun there, or else of the data: the networks need it, so what the
    run keeps is the number, and neither resuming nor sampling asks the data again.

    Args:
      config: of a run; any other is returned as it is.
      workdir: of the run.
      counted: what was counted before, by where; it gets what is counted now.

    Returns:
      The config, and the data set that was counted, if any was.

    Raises:
      UserError: the data can't be read, or has no classes; or the config can't be built, with any number of them.
    """
    players = (config.generator, config.discriminator)
    if (
        config.classes
        or config.data.condition
        or all(player.get("conditional", "none") == "none" for player in players)
    ):
        return config, None
    if workdir.holds_run() and workdir.begun() and (known := workdir.config().classes):
        return changed(config, {"classes": known}), None
    build.build_stages(changed(config, {"classes": _SOME}))  # what is wrong is said before the images are decoded
    options, dataset = build.image_options(config), None
    counted = {} if counted is None else counted
    if options not in counted:
        dataset = build.build_dataset(config, workdir.cache)
        counted[options] = dataset.classes
    if not counted[options]:
        raise UserError(
            "config.classes is 0, as many as the data has, but it has no labels: set config.data.labels=True, or "
            "choose labelled data, or a GAN without labels"
        )
    return changed(config, {"classes": counted[options]}), dataset
