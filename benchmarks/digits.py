"""Our digits beside those of a plain PyTorch DCGAN: the same networks, images, batch size and number of images.

    python launch.py --config=configs/dcgan.py
    python -m benchmarks.digits --workdir=runs/dcgan --out=digits.png

Needs PyTorch (the extra ``oracle``). Trains pytorch/examples' DCGAN by its own recipe (N(0, .02), Adam 2e-4 (.5, .999),
no average of the weights) on the data and for the steps of the run in ``--workdir``, then saves one picture: our grid
on the left, PyTorch's on the right, which draws in evaluation mode.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.torch_reference import Trainer, dcgan_discriminator, dcgan_generator
from gan_jax.build import build_dataset
from gan_jax.runs import visualize
from gan_jax.runs.workdir import Workdir
from gan_jax.util import progress


def main() -> None:
    """Train PyTorch's, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="a finished run of configs/dcgan.py")
    parser.add_argument("--out", type=Path, required=True, help="the picture, .png")
    parser.add_argument(
        "--steps", type=int, help="compare after so many steps, at which the run drew a grid; all if not given"
    )
    parser.add_argument("--threads", type=int, default=2)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.manual_seed(0)

    workdir = Workdir(flags.workdir)
    config = workdir.config()
    dataset = build_dataset(config, cache=None)
    images = dataset.train_images[np.arange(len(dataset.train_images))]
    data = torch.from_numpy(np.moveaxis(images, -1, 1) / np.float32(127.5) - 1)
    _, side, _, channels = images.shape
    generator = dcgan_generator(config.latent_dim, config.generator.widths, side, channels)
    discriminator = dcgan_discriminator(config.discriminator.widths, side, channels)
    generator.apply(initialise)
    discriminator.apply(initialise)
    adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
    trainer = Trainer(generator, discriminator, "non_saturating", (1.0, 0.0, 1.0), adam, adam)
    fixed = torch.randn(config.sample.rows**2, config.latent_dim)
    order = torch.randperm(len(data))
    steps = flags.steps or config.steps
    for _ in progress.bar(range(steps), unit="step"):
        if len(order) < config.batch_size:
            order = torch.randperm(len(data))
        chosen, order = order[: config.batch_size], order[config.batch_size :]
        trainer.step(data[chosen][None], torch.randn(1, config.batch_size, config.latent_dim))

    with torch.no_grad():
        drawn = generator.eval()(fixed).permute(0, 2, 3, 1).numpy()
    theirs = visualize.grid(np.round((drawn + 1) * 127.5).astype(np.uint8), config.sample.rows)
    grid = flags.workdir / "samples" / f"step_{steps:08d}.png"
    with Image.open(grid) as picture:
        ours: np.ndarray = np.asarray(picture).reshape(theirs.shape)
    between = np.full((len(ours), 12, ours.shape[-1]), 255, np.uint8)
    visualize.save_png(np.concatenate([ours, between, theirs], axis=1), flags.out)
    print(f"left {grid}, right PyTorch after as many images: {flags.out}")


def initialise(module: nn.Module) -> None:
    """pytorch/examples' ``weights_init``."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


if __name__ == "__main__":
    main()
