"""Bringing images to the size and number of channels that a run asks for."""

import numpy as np
from PIL import Image


def fit(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    """uint8 ``[N, H, W, C]`` -> uint8 ``[N, size, size, channels]``, unchanged where it already has that shape.

    Resized by Pillow's antialiased Lanczos filter; grey becomes three equal channels, RGB grey by its ITU-R 601 luma.
    """
    if images.shape[1:] == (size, size, channels):
        return images
    mode = {1: "L", 3: "RGB"}[channels]
    out = np.empty((len(images), size, size, channels), np.uint8)
    for i, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert(mode)
        out[i] = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)).reshape(size, size, channels)
    return out
