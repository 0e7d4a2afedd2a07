"""What is held out to be tested on: a share of the images, a fold of them, a list, or a folder of others."""

import os
import re
from collections.abc import Collection

import numpy as np

from gan_jax.data.options import Options
from gan_jax.data.order import shuffled
from gan_jax.data.parts import Part, hold_out
from gan_jax.util import named
from gan_jax.util.errors import UserError, clipped, listed, printable
from gan_jax.util.files import read_regular

_NAMED = 5  # lines in a message


def check(options: Options) -> None:
    """Refuse ways of holding out that can't be together, or that the source doesn't know.

    Raises:
      UserError: names the keys.
    """
    given = [key for key in ("test_dir", "test_list", "fold") if getattr(options, key)]
    if len(given) > 1:
        several = listed(f"data.{key}" for key in given)
        raise UserError(f"{several} each say which images are tested on: set one of them, and leave the others empty")
    known = {"test_dir": ("folder", "npz"), "test_list": ("folder",)}
    for key in given:
        sources = known.get(key, (options.source,))
        if options.source not in sources and not named.is_function(options.source):
            raise UserError(
                f"data.{key} is for the source {' or '.join(sources)}, and data.source is {options.source!r}: "
                f"leave it empty{', or set data.fold' if key == 'test_list' and options.source == 'npz' else ''}"
            )
    if options.fold:
        fold(options.fold)


def fold(text: str) -> tuple[int, int]:
    """Return which part, from 1 on, of how many ``text`` says, as ``2/5``.

    Raises:
      UserError: it says something else.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    which, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= which <= count or count < 2:
        raise UserError(f"data.fold must be as 2/5, the second of five parts, not {clipped(repr(text))}")
    return which, count


def split(whole: Part, options: Options, name: str) -> tuple[Part, Part]:
    """Split ``whole`` into a train and a test part, without a say of chance: by ``options.fold``, or ``test_fraction``.

    Of k folds each image is in one. They differ by one image at most, and so do the images of any class in them. Which
    image is in which is `gan_jax.data.order.shuffled` with epoch 0.

    Raises:
      UserError: there are fewer images than folds.
    """
    if not options.fold:
        return hold_out(whole, options.test_fraction)
    which, count = fold(options.fold)
    order = shuffled(len(whole.images), 0)
    if len(order) < count:
        raise UserError(f"data.fold is {options.fold}, and {name} has {len(order):,} images: ask for as many or fewer")
    if whole.labels is not None and whole.labels.ndim == 1:
        order = order[np.argsort(whole.labels[order], kind="stable")]
    chosen = order[which - 1 :: count]
    return whole.subset(np.setdiff1d(order, chosen)), whole.subset(np.sort(chosen))


def listed_files(options: Options, names: Collection[str]) -> set[str]:
    """Read the paths, among ``names``, in the file ``options.test_list``, a line each.

    Raises:
      UserError: there is no such file, or a line in it names no image.
    """
    path = named.path(options.test_list, "data.test_list")
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(
            f"data.test_list: cannot read {options.test_list!r} ({error.strerror or error}): it must be a text file "
            "with the path of an image in data.dir in each line"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"data.test_list: {options.test_list!r} is no text in UTF-8: save it as such") from error
    found = dict.fromkeys(os.path.normpath(line.strip().replace("\\", "/")) for line in lines if line.strip())
    if not found:
        raise UserError(f"data.test_list: {options.test_list!r} is empty: write the path of an image in each line")
    if lost := [repr(printable(name)) for name in found if name not in names]:
        raise UserError(
            f"data.test_list: {len(lost):,} of the {len(found):,} lines of {options.test_list!r} name no image in "
            f"{options.dir!r}: {listed(lost, _NAMED)}; lines are paths below data.dir, with the endings"
        )
    return set(found)
