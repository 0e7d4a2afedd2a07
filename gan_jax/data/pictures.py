"""The folder source: pictures wherever ``data.dir`` says, in a folder, an archive, shards, or far away."""

from gan_jax.data import archive, folder, remote, shards
from gan_jax.data.options import Options
from gan_jax.data.parts import Source
from gan_jax.util import named


def check(options: Options) -> None:
    """Raise `UserError` if there is nothing at ``options.dir``."""
    if remote.is_url(options.dir):
        return  # who reads it asks
    if not _is_archive(options) and not (options.dir and shards.paths(options.dir)):
        folder.place(options)


def find(options: Options) -> Source:
    """Return the images in ``options.dir``: a folder, a zip or tar of one, WebDataset's shards, or a bucket.

    Raises:
      UserError: there is none of these, or see the modules of each.
    """
    if remote.is_url(options.dir):
        shards.check_address(options.dir)
        packed = archive.is_named_so(options.dir.partition("?")[0])
        there = archive.look(options.dir, options.label_key) if packed else remote.look(options.dir)
        shards.check_address(options.dir, there)
        return folder.source(there, options)
    if options.dir and (found := shards.paths(options.dir)):
        return shards.find(found, options)
    if _is_archive(options):
        return folder.source(archive.look(named.path(options.dir, "data.dir"), options.label_key), options)
    return folder.find(options)


def _is_archive(options: Options) -> bool:
    place = named.path(options.dir, "data.dir")
    return bool(options.dir) and place.is_file() and archive.is_named_so(place.name)
