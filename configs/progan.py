"""The progressive GAN (Karras et al. 2018, arXiv:1710.10196): networks that grow from 4x4 pixels, a side at a time.

    python launch.py --config=configs/progan.py                                     # digits of 32x32
    python launch.py --config=configs/progan.py:earth64
    python launch.py --config=configs/progan.py:folder@256 --config.data.dir=IMAGES # any power of two; celeba_hq1024

Each side but the first has two stages of as many images (``config.stages``): in the first its layers fade in, by
``schedules.fade``, in the second they are whole. At the beginning of each the optimizers forget. The loss is WGAN-GP's
with a drift of .001 D(real)^2. Published are 600,000 images a stage, 12 million in all, batches of 128 up to 16x16,
then 64, 32, 16, 8, 4, rates of .001 (at 1024x1024 .0015), Adam (0, .99). ``celeba_hq1024`` has these.

Unlike theirs: images of lower sides are resized by the data's own filter; groups of the minibatch's standard deviation
are of the global batch; one batch a move of the fade, not four; other images than 1024x1024 end with the stage that
makes them whole.

The small ones have up to 64 channels (8 at 32x32, 4 at 64x64), and 48,000 images a stage.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from gan_jax import sides
from gan_jax.config import SMALL, adam, average, default, schedule, stage
from gan_jax.util.errors import UserError

_BATCH = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}  # 4 above
_IMAGES, _TOTAL = 600_000, 12_000_000
_FEW = 48_000


def get_config(preset: str = "mnist5k") -> ConfigDict:
    data = "folder@1024" if preset == "celeba_hq1024" else preset
    config = default(data)
    small = data in SMALL
    height, width = (32, 32) if sides.of(config.data) == (28, 28) else sides.of(config.data)
    side = min(height, width)
    if side < 8 or side & (side - 1):
        raise UserError(f"the progressive GAN grows to sides of 8, 16, 32 and so on, not to {side}: e.g. folder@256")
    if max(height, width) % (side // 4):
        raise UserError(
            f"the progressive GAN grows from 4 pixels on the shorter side: where that is {side}, the longer one is a "
            f"multiple of {side // 4}, not {max(height, width)}: e.g. folder@64x96"
        )
    shared = {"conditional": "none", "channel_base": 8192, "channel_max": 512, "remat": False}
    if small:
        shared.update({"channel_base": 256, "channel_max": 64})
    config.model, config.loss, config.latent_dim = "progan", "wasserstein", shared["channel_max"]
    config.generator = ConfigDict(shared)
    config.discriminator = ConfigDict({**shared, "stddev_group": 4})
    for player in ("generator", "discriminator"):
        config.optimizer[player] = adam(1e-3, 0.0, 0.99)
    config.terms.wgan_gp.weight, config.terms.drift.weight = 10.0, 0.001
    config.averages.ema = average(decay=0.99 if small else 0.999)
    config.g_batches = 0 if small else 1
    config.data.flip = config.data.name.startswith("earth") or preset == "celeba_hq1024"
    config.schedules.fade = schedule("fade", "constant")
    config.sample.every = config.checkpoint.every = config.eval.every = 500 if small else 5000
    _grow(config, (height, width), small)
    return config


def _size(whole: tuple[int, int], side: int) -> dict[str, int]:
    """Return the keys of images that become ``whole``, (height, width), while their shorter side is ``side``."""
    height, width = (each * side // min(whole) for each in whole)
    return {sides.KEY: height} if height == width else sides.keys_of(height, width)


def _grow(config: ConfigDict, whole: tuple[int, int], small: bool) -> None:
    """Stages from 4x4, or longer, to ``whole``, (height, width)."""
    each, seen = _FEW if small else _IMAGES, 0
    batch, side = _batch(4, small), min(whole)
    config.update_from_flattened_dict(_size(whole, 4))
    config.batch_size, steps = batch, 0
    for number in range(3, side.bit_length()):
        larger = 2**number
        for name, ready in ((f"to{larger}", False), (f"at{larger}", True)):
            steps += math.ceil(each / batch)
            seen += math.ceil(each / batch) * batch
            batch = _batch(larger, small)
            values: dict[str, Any] = {**_size(whole, larger), "batch_size": batch, "fade": float(ready)}
            fading = {"kind": "linear", "final": 1.0, "begin": float(steps), "length": math.ceil(each / batch)}
            values |= {f"schedules.fade.{key}": value for key, value in fading.items()} if not ready else {}
            values |= {"schedules.fade.kind": "constant"} if ready else {}
            if larger == 1024:
                values |= {f"optimizer.{player}.learning_rate": 1.5e-3 for player in ("generator", "discriminator")}
            config.stages[name] = stage(steps, values)
    rest = each if small or side < 1024 else _TOTAL - seen
    config.steps = steps + math.ceil(rest / batch)


def _batch(side: int, small: bool) -> int:
    """Images in one, while images are of ``side``."""
    if small:
        return 64 if side <= 16 else 32
    return _BATCH.get(side, 4)


def get_hyper(hyper: Any) -> Any:
    return hyper.sweep("seed", range(3))
