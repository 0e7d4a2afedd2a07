"""The picture of the front page: a row of samples of each of several runs.

    python -m benchmarks.front docs/front.png "DCGAN=runs/dcgan" "StyleGAN2 + ADA=runs/stylegan2_earth32"

Samples are those of seed 0, as ``--mode=sample`` draws them, none chosen.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import gan_jax

_SIDE, _COUNT, _MARGIN, _GAP = 56, 14, 132, 4


def row(name: str, workdir: str) -> Image.Image:
    """Its name, and its first samples, each of `_SIDE` pixels."""
    run = gan_jax.load(workdir)
    labels = np.arange(_COUNT) % max(run.gan.classes, 1)
    images = run.sample(_COUNT, label=labels if run.gan.classes else None)
    strip = Image.new("RGB", (_MARGIN + _COUNT * (_SIDE + _GAP), _SIDE + _GAP), "white")
    draw = ImageDraw.Draw(strip)
    draw.multiline_text((0, _SIDE // 2 - 14), name.replace("|", "\n"), "black", ImageFont.load_default(13))
    for number, image in enumerate(images):
        pixels = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
        small = pixels.resize(
            (_SIDE, _SIDE), Image.Resampling.LANCZOS if image.shape[0] > _SIDE else Image.Resampling.BICUBIC
        )
        strip.paste(small, (_MARGIN + number * (_SIDE + _GAP), 0))
    return strip


def main() -> None:
    """Write the picture that the arguments ask for."""
    out, *runs = sys.argv[1:]
    rows = [row(*run.split("=", 1)) for run in runs]
    picture = Image.new("RGB", (rows[0].width, sum(strip.height for strip in rows)), "white")
    top = 0
    for strip in rows:
        picture.paste(strip, (0, top))
        top += strip.height
    picture.save(Path(out), optimize=True)


if __name__ == "__main__":
    main()
