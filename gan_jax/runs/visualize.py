"""Pictures: grids of images, and the animation of a run."""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gan_jax.core.pixels import USUAL, Pixels
from gan_jax.util import progress
from gan_jax.util.errors import UserError, clipped, listed
from gan_jax.util.files import open_regular, read_regular, write_atomically, write_images

FRAMES, SIDE = 120, 640  # of an animation, at most: frames, and pixels of a side
_NUMBERS = 3  # of a vector, in a caption
_MARGIN = 96  # pixels at most that captions take
T = TypeVar("T")


def grid(images: np.ndarray, columns: int, captions: Sequence[str] = (), border: int = 2) -> np.ndarray:
    """uint8 ``[N, H, W, C]`` -> one picture uint8 ``[rows (H + border) + border, ..., C]``, row by row.

    ``captions`` of the rows, if there are any, stand in a margin at the left.
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    out = np.zeros((rows * (height + border) + border, columns * (width + border) + border, channels), np.uint8)
    for i, image in enumerate(images):
        top, left = (n * (side + border) + border for n, side in zip(divmod(i, columns), (height, width), strict=True))
        out[top : top + height, left : left + width] = image
    return np.concatenate([_margin(captions, height + border, out.shape), out], 1) if captions else out


def _margin(captions: Sequence[str], pitch: int, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 ``[height of shape, ..., C]`` with a line of white text for each row of ``pitch`` pixels."""
    font = ImageFont.load_default()
    width = min(_MARGIN, max(math.ceil(font.getlength(text)) for text in captions))
    image = Image.new("L", (width + 4, shape[0]))
    draw = ImageDraw.Draw(image)
    for row, text in enumerate(captions):
        draw.text((3, row * pitch + pitch // 2 - 5), text, fill=255, font=font)
    return np.repeat(np.asarray(image)[..., None], shape[2], -1)


def captions(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return what stands before rows of these classes: the name, or, where its letters can't be drawn, the number.

    Before rows of vectors ``[N, K]`` these are their first numbers.
    """
    if labels.ndim > 1:
        return [listed((f"{number:.3g}" for number in vector), _NUMBERS) for vector in labels]
    return [names[label] if names[label].isascii() else f"class {label}" for label in labels if names]


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write uint8 ``[H, W, 1, 3 or 4]``, or uint16 ``[H, W, 1]``, as PNG, replacing ``path`` in one step."""
    write_atomically(path, lambda file: _to_pil(picture).save(file, "PNG"))


def check_ending(path: Path) -> None:
    """Refuse what `save_images` can't write, before the images are made.

    Raises:
      UserError: ``path`` ends in neither .npz nor .png, and isn't a folder's name without an ending.
    """
    if path.suffix.lower() not in ("", ".npz", ".png"):
        raise UserError(f"--out must end in .npz or .png, or be a folder without an ending, not {str(path)!r}")


def save_images(
    images: Any,
    path: Path,
    labels: np.ndarray | None = None,
    names: Sequence[str] = (),
    *,
    seeds: np.ndarray | None = None,
    columns: int | None = None,
    pixels: Pixels = USUAL,
) -> None:
    """Write images ``[N, H, W, C]``: to ``.npz`` under the key ``images``, to ``.png`` as one grid, else to a folder.

    The grid shows what people can see of them (`Pixels.shown`). The files of a folder are PNGs of 1, 3 or 4 channels,
    transparent ones with colours that aren't multiplied by alpha, or of 16 bits and one channel. The ``.npz`` has the
    images in their own form, and of 16 bits in the greys of the data's files (`Pixels.greys`), as such PNGs do.

    With labels ``[N]`` or vectors ``[N, K]``, the ``.npz`` has ``labels`` and the classes' names too, ``classes``
    ``[K]``; the grid has 10 columns and the labels before its rows; and a file of a folder has its own in its name.

    Args:
      images: an array, or whatever has a ``shape`` and batches to iterate over; but for a grid, memory holds one.
      path: see above.
      labels, names: see above.
      seeds: of each image ``[N]``: in the ``.npz`` too, and the name of a folder's file.
      columns: of the grid, if not as above.
      pixels: what the images' numbers are.

    Raises:
      UserError: ``path`` ends in neither, or can't be written; or it is a folder, and PNG has no such images.
    """
    check_ending(path)
    if not path.suffix:
        _check_png(images.shape[-1], pixels, path)
    batches = [images] if isinstance(images, np.ndarray) else images
    try:
        if path.suffix.lower() == ".npz":
            beside = {} if labels is None else {"labels": labels}
            beside |= {"classes": np.array(names, str)} if len(names) else {}
            beside |= {} if seeds is None else {"seeds": seeds}
            write_images(path, images.shape, map(pixels.greys, batches), beside, pixels.dtype)
        elif path.suffix.lower() == ".png":
            whole = np.concatenate([pixels.shown(batch) for batch in batches])
            columns = columns or (math.isqrt(len(whole) - 1) + 1 if labels is None else min(10, len(whole)))
            save_png(grid(whole, columns, [] if labels is None else captions(labels[::columns], names)), path)
        else:
            kinds = [] if labels is None else [_for_files(text) for text in captions(labels, names)]
            numbers = range(len(images)) if seeds is None else seeds
            stems = (f"{number:06d}" if seeds is None else f"seed{number:06d}" for number in numbers)
            files = [f"{stem}{kind}.png" for stem, kind in zip(stems, kinds or [""] * len(images), strict=True)]
            others = {entry.name for entry in path.iterdir()} - {*files} if path.exists() else set()
            others -= set() if seeds is None else {name for name in others if re.fullmatch(r"seed\d+.*\.png", name)}
            if others:
                raise UserError(f"{path} holds other files ({clipped(min(others))}, ...): give a new folder")
            for image, file in zip((image for batch in batches for image in batch), files, strict=True):
                save_png(pixels.greys(pixels.straight(image)), path / file)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _check_png(channels: int, pixels: Pixels, path: Path) -> None:
    """Raise `UserError` if a PNG, as Pillow writes it, can't hold images of so many channels."""
    instead = f"give --out={path}.npz, which holds all, or {path}.png, one picture of what can be seen"
    if pixels.bits == 16 and channels > 1:
        raise UserError(
            f"--out={path}: images of {channels} channels and 16 bits would lose half of them as PNG: {instead}"
        )
    if channels not in (1, 3) and pixels.alpha == "none":
        raise UserError(f"--out={path}: a PNG has no {channels} channels like these: {instead}")


def _for_files(name: str) -> str:
    """Return a class as part of a file's name: what has a meaning for shells or file systems becomes an underscore."""
    return "_" + re.sub(r"[^A-Za-z0-9-]", "_", name)[:40]


def save_animation(frames: Sequence[Path], path: Path, seconds: float = 6.0) -> None:
    """Write a looping GIF of the given PNG files, about ``seconds`` long and at rest on the last.

    Of more than `FRAMES` it shows as many, evenly chosen, the first and the last among them; pictures with a side of
    more than `SIDE` pixels are made smaller, and those of another shape than the last get a black border.
    """
    chosen = evenly(frames, FRAMES)
    pause = max(20, int(1000 * seconds / len(chosen)))
    durations = [pause] * (len(chosen) - 1) + [1500]
    options: dict[str, Any] = {"duration": durations, "loop": 0, "optimize": True}
    size = _frame(frames[-1]).size
    with progress.bar(chosen, desc=path.name, unit="frame", delay=2, leave=False) as shown:
        pictures = (_frame(file, size) for file in shown)
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


def png_within(path: Path, side: int) -> bytes:
    """Return the PNG file ``path``, made `smaller` if need be."""
    data, out = read_regular(path), io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        if max(picture.size) <= side:
            return data
        smaller(picture, side).save(out, "PNG")
        return out.getvalue()


def _frame(file: Path, size: tuple[int, int] | None = None) -> Image.Image:
    with open_regular(file) as opened, Image.open(opened) as picture:
        frame = smaller(picture, SIDE)
        frame = frame if size in (None, frame.size) else ImageOps.pad(frame, size)
        return frame.convert("P", palette=Image.Palette.ADAPTIVE)


def _to_pil(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
