"""Films: GIF by Pillow, MP4 by FFmpeg."""

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_jax.util.errors import UserError
from gan_jax.util.files import write_atomically

ENDINGS = (".gif", ".mp4")
_SMALLEST = 256  # pixels of a film's shorter side, to which smaller images are enlarged
_CRF = "18"  # of H.264: as good as the images to the eye


def check(path: Path) -> None:
    """Refuse what `save` can't write, before anything is drawn.

    Raises:
      UserError: the file ends otherwise, or FFmpeg isn't installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"--out must end in .gif or .mp4 in this mode: it gets a film, not {str(path)!r}")
    if path.suffix.lower() == ".mp4":
        _ffmpeg()


def save(frames: Iterable[np.ndarray], count: int, path: Path, per_second: float) -> None:
    """Write ``count`` frames uint8 ``[H, W, 1 or 3]``, so many a second; a GIF goes round without end.

    Small ones are enlarged, each pixel to a square. A GIF's frames last whole hundredths of a second, some one more
    than others, so that the film has its length; browsers make none shorter than two. Of an MP4 memory holds one frame.

    Raises:
      UserError: the file can't be written.
    """
    enlarged = map(_enlarged, frames)
    try:
        if path.suffix.lower() == ".gif":
            pictures = (Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE) for frame in enlarged)
            first = next(pictures)
            options: dict[str, Any] = {
                "append_images": pictures,
                "duration": _durations(count, per_second),
                "loop": 0,
            }
            write_atomically(path, lambda file: first.save(file, "GIF", save_all=True, **options))
        else:
            _save_mp4(enlarged, path, per_second)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _durations(count: int, per_second: float) -> list[int]:
    """Milliseconds of each frame, whole hundredths of a second that add up."""
    ends = [10 * round(100 * number / per_second) for number in range(count + 1)]
    return [max(20, end - begin) for begin, end in pairwise(ends)]


def _enlarged(frame: np.ndarray) -> np.ndarray:
    """RGB, of sides that are even, as MP4 wants them."""
    frame = np.repeat(frame, 3, -1) if frame.shape[-1] == 1 else frame
    scale = max(1, -(-_SMALLEST // min(frame.shape[:2])))
    frame = frame.repeat(scale, 0).repeat(scale, 1)
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)))


def _ffmpeg() -> str:
    """Where FFmpeg lies."""
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise UserError("an .mp4 needs FFmpeg: pip install -e '.[film]', or give --out=FILE.gif") from error
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _save_mp4(frames: Iterator[np.ndarray], path: Path, per_second: float) -> None:
    first = next(frames)
    height, width, _ = first.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{per_second:g}", "-i", "-"]
    wanted = ["-c:v", "libx264", "-crf", _CRF, "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(partial)]
    command = [_ffmpeg(), "-y", "-loglevel", "error", *given, *wanted]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it says why
                for frame in chain([first], frames):
                    process.stdin.write(np.ascontiguousarray(frame).data)
            said = process.communicate()[1].decode(errors="replace").strip()
        if process.returncode:
            raise OSError(f"FFmpeg: {said.splitlines()[-1] if said else process.returncode}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
