"""Pictures: grids of images, and the animation of a run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from gan_jax import progress
from gan_jax.errors import UserError
from gan_jax.files import open_regular, write_arrays, write_atomically

FRAMES, SIDE = 120, 640  # of an animation, at most: frames, and pixels of a side
T = TypeVar("T")


def grid(images: np.ndarray, columns: int, border: int = 2) -> np.ndarray:
    """uint8 ``[N, H, W, C]`` -> one picture uint8 ``[rows (H + border) + border, ..., C]``, row by row."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    out = np.zeros((rows * (height + border) + border, columns * (width + border) + border, channels), np.uint8)
    for i, image in enumerate(images):
        top, left = (n * (side + border) + border for n, side in zip(divmod(i, columns), (height, width), strict=True))
        out[top : top + height, left : left + width] = image
    return out


def save_png(picture: np.ndarray, path: Path) -> None:
    """Writes uint8 ``[H, W, 1 or 3]`` as PNG, replacing ``path`` in one step."""
    write_atomically(path, lambda file: _to_pil(picture).save(file, "PNG"))


def check_ending(path: Path) -> None:
    """Refuses what `save_images` can't write, before the images are made.

    Raises:
      UserError: ``path`` ends in neither .npz nor .png, and isn't a folder's name without an ending.
    """
    if path.suffix.lower() not in ("", ".npz", ".png"):
        raise UserError(f"--out must end in .npz or .png, or be a folder without an ending, not {str(path)!r}")


def save_images(images: np.ndarray, path: Path, labels: np.ndarray | None = None) -> None:
    """Writes uint8 ``[N, H, W, C]``: to ``.npz`` under the key ``images``, to ``.png`` as one grid, else to a folder.

    With labels ``[N]``, the array ``labels`` is in the ``.npz`` too, and the grid has 10 columns.

    Raises:
      UserError: ``path`` ends in neither, or can't be written.
    """
    check_ending(path)
    try:
        if path.suffix.lower() == ".npz":
            write_arrays(path, {"images": images} | ({} if labels is None else {"labels": labels}))
        elif path.suffix.lower() == ".png":
            save_png(grid(images, math.isqrt(len(images) - 1) + 1 if labels is None else min(10, len(images))), path)
        else:
            names = {f"{i:06d}.png" for i in range(len(images))}
            others = {entry.name for entry in path.iterdir()} - names if path.exists() else set()
            if others:
                raise UserError(f"{path} holds other files ({min(others)}, ...): give a new folder")
            for i, image in enumerate(progress.bar(images, unit="file", disable=len(images) < 1000)):
                save_png(image, path / f"{i:06d}.png")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def save_animation(frames: Sequence[Path], path: Path, seconds: float = 6.0) -> None:
    """A looping GIF of the given PNG files, about ``seconds`` long and at rest on the last.

    Of more than `FRAMES` it shows as many, evenly chosen, the first and the last among them; pictures with a side of
    more than `SIDE` pixels are made smaller.
    """
    chosen = evenly(frames, FRAMES)
    pause = max(20, int(1000 * seconds / len(chosen)))
    durations = [pause] * (len(chosen) - 1) + [1500]
    options: dict[str, Any] = {"duration": durations, "loop": 0, "optimize": True}
    with progress.bar(chosen, desc=path.name, unit="frame", delay=2, leave=False) as shown:
        pictures = map(_frame, shown)
        first = next(pictures)
        write_atomically(path, lambda file: first.save(file, "GIF", save_all=True, append_images=pictures, **options))


def evenly(things: Sequence[T], count: int) -> list[T]:
    """``count`` of the things, two or more, as evenly chosen as can be, the first and the last among them; or all."""
    if len(things) <= count:
        return list(things)
    return [things[round(i * (len(things) - 1) / (count - 1))] for i in range(count)]


def smaller(picture: Image.Image, side: int) -> Image.Image:
    """``picture`` with no side of more than ``side`` pixels, in its own proportions."""
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _frame(file: Path) -> Image.Image:
    with open_regular(file) as opened, Image.open(opened) as picture:
        return smaller(picture, SIDE).convert("P", palette=Image.Palette.ADAPTIVE)


def _to_pil(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
