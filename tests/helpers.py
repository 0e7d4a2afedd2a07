"""What tests of many rooms share: small GANs, whole runs, and comparisons."""

import atexit
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from benchmarks.fidelity import stand_ins
from gan_jax import build
from gan_jax.build import build_gan
from gan_jax.config import default, to_plain
from gan_jax.core.gan import GAN
from gan_jax.core.losses import Array
from gan_jax.core.state import GANState, init_state
from gan_jax.data.options import Options
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import placement, program
from gan_jax.training import run as a_run
from gan_jax.training import train
from tests import forkserver

ROOT = Path(__file__).resolve().parent.parent


def data_options(**changed: Any) -> Options:
    """The options of `default` with some changed."""
    return Options(**(default().data.to_dict() | changed))


def fidelity_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets torch-fidelity be imported with a stand-in for torchvision, which it wants and our tests don't use."""
    reason = "not installed: pip install -e '.[oracle]'"
    pytest.importorskip("torch", reason=f"PyTorch is {reason}")
    for name, module in stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)
    pytest.importorskip("torch_fidelity", reason=f"torch-fidelity is {reason}")


NAMES = sorted(path.stem for path in (ROOT / "configs").glob("[a-z]*.py"))
FOUNDING = ("dcgan", "gan")  # what most tests look at; the others are tried as wholes, at half the side
_NARROW: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": ({"widths": (32, 48)}, {"widths": (48, 32)}),
    "dcgan": ({"widths": (16, 8)}, {"widths": (8, 16)}),
    "resnet": ({"widths": (8, 6), "first": 4}, {"widths": (6, 8)}),
    "r3gan": (
        {"widths": (8, 6, 4), "blocks": (1, 1, 1), "groups": (2, 3, 2)},
        {"widths": (4, 6, 8), "blocks": (1, 1, 1), "groups": (2, 3, 2)},
    ),
    "stylegan2": (
        {"channel_base": 32, "channel_max": 6, "w_dim": 6, "mapping_layers": 1},
        {"channel_base": 32, "channel_max": 6, "mapping_layers": 1},
    ),
    "progan": ({"channel_base": 32, "channel_max": 6}, {"channel_base": 32, "channel_max": 6}),
    "fastgan": ({"width": 2}, {"width": 2}),
    "biggan": ({"widths": (8, 6), "first": 8, "embedding": 4}, {"widths": (8, 8)}),
    "biggan_deep": ({"widths": (8, 8), "first": 8, "embedding": 4}, {"widths": (8, 8), "first": 8}),
    "aae": ({"widths": (24,), "encoder_widths": (24,)}, {"widths": (16,)}),
}

# Compiler options: the same operations, compiled in less time.
QUICKLY: dict[str, str | bool] = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}


def small(name: str) -> ConfigDict:
    """The config ``name``, or ``name:preset``, with narrow networks and a short run: the same code, in seconds."""
    file, *preset = name.split(":")
    config: ConfigDict = importlib.import_module(f"configs.{file}").get_config(*preset)
    for player, narrow in zip(("generator", "discriminator"), _NARROW[config.model], strict=True):
        config[player].update(narrow)
    if config.generator.get("attention"):
        config.discriminator.widths = (8, 8)
        config.generator.attention = config.discriminator.attention = 8
    latent = 9 if config.model == "biggan" else 8  # in three parts
    config.update({"steps": 10, "batch_size": 16, "latent_dim": latent, "steps_per_dispatch": 4})
    config.log.every, config.sample.every, config.eval.every, config.checkpoint.every = 1, 5, 5, 4
    config.sample.rows = 2
    config.parallel.population = "map"  # for the same bits whatever this machine would measure
    config.eval.update({"features": "none", "samples": 40})
    if "critic_first" in config.schedules:
        config.schedules.critic_first.factor = 2.0
    if name not in FOUNDING:
        config.data.image_size = {"stylegan2": 8, "progan": 8, "fastgan": 32}.get(config.model, 16)
        config.stages = ConfigDict()
    return config


def __getattr__(name: str) -> list[jax.Device]:
    """``ONE``, when it is first asked for: importing this starts no backend, which couldn't be forked then."""
    if name != "ONE":
        raise AttributeError(name)
    return jax.devices()[:1]


def run(config: ConfigDict, path: Path, devices: list[jax.Device] | None = None) -> GANState:
    state = train.train(config, path, devices or jax.devices()[:1])
    assert state is not None
    result: GANState = jax.device_get(state)
    return result


def begun(config: ConfigDict, path: Path) -> GANState:
    """A workdir whose run has made no step yet, with a checkpoint of its first state: nothing of it is compiled."""
    gan, hyper = build.build_gan(config)
    dataset, place = build.build_dataset(config, None), Workdir(path)
    place.check_data(dataset.name, dataset.digest, len(dataset.train_images), dataset.class_counts)
    place.claim(config)
    state: GANState = jax.device_get(jax.jit(init_state, static_argnums=0)(gan, config.seed, hyper))
    with Checkpoints(place.checkpoints, 1) as checkpoints:
        checkpoints.save(0, state, to_plain(config), wait=True)
    return state


def saved(config: ConfigDict, path: Path) -> GANState:
    """The state in the newest checkpoint of a workdir."""
    gan, hyper = build.build_gan(config)
    with Checkpoints(path / "checkpoints") as checkpoints:
        state: GANState = checkpoints.restore(jax.eval_shape(lambda: init_state(gan, 0, hyper)))
    return state


def charts_of(page: Path | str) -> list[dict[str, Any]]:
    """The charts of a page, as its script has them; nothing in it is loaded from elsewhere."""
    text = page if isinstance(page, str) else page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=.?(https?:)?//", text)
    (found,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)
    charts: list[dict[str, Any]] = json.loads(found)
    return charts


def assert_identical(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def records(path: Path) -> list[dict[str, float]]:
    """The logged metrics, without the times."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


class StopError(Exception):
    """An interruption made by a test."""


def run_until(config: ConfigDict, path: Path, devices: list[jax.Device], dies: str, at: int | None = None) -> None:
    """Runs until ``dies``, a method of `gan_jax.training.run.Run`, is called (for step ``at``), and dies there."""
    honest = getattr(a_run.Run, dies)

    def dying(self: a_run.Run, *arguments: Any) -> Any:
        if at in (None, arguments[0]):
            raise StopError
        return honest(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(a_run.Run, dies, dying)
        with pytest.raises(StopError):
            run(config, path, devices)


def trained(config: ConfigDict, devices: int, steps: int = 10) -> GANState:
    """The state after ``steps`` steps on the first ``devices`` virtual devices."""
    gan, hyper = build.build_gan(config)
    chosen = jax.devices()[:devices]
    config.steps_per_dispatch = steps
    fed = build.build_feed(config, gan, build.build_dataset(config, None), chosen)
    chunk = program.compile_chunk(gan, fed.fetch, steps, chosen, config.parallel.logical_shards)
    begin = placement.replicated(jax.jit(lambda: init_state(gan, config.seed, hyper))(), chosen)
    ((_, share),) = fed.shares([(0, steps)])
    final, _ = chunk(begin, steps, fed.data, share)
    result: GANState = jax.device_get(final)
    return result


def distance(a: Any, b: Any) -> float:
    """The largest difference of two trees, relative to the largest value of each leaf."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max() / np.abs(x).max()) for x, y in leaves if np.abs(x).max() > 0)


def start(config: ConfigDict) -> tuple[GAN, GANState, dict[str, Array]]:
    gan, hyper = build_gan(config)
    state = jax.jit(init_state, static_argnums=0)(gan, config.seed, hyper)
    shape = (config.d_steps, config.batch_size, *gan.image_shape)
    image = jax.random.uniform(jax.random.key(5), shape, gan.dtype, -1, 1)
    return (
        gan,
        state,
        {"image": image, "index": jnp.arange(config.batch_size), "label": jnp.zeros(shape[:2], jnp.int32)},
    )


def differ(a: object, b: object) -> bool:
    """Whether every leaf differs somewhere."""
    return all(bool((x != y).any()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def same(a: object, b: object) -> bool:
    return all(bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


SMALL = [
    *("--config.generator.widths=(16,8)", "--config.discriminator.widths=(8,16)", "--config.latent_dim=8"),
    *("--config.batch_size=16", "--config.steps_per_dispatch=4", "--config.sample.rows=2"),
    "--config.eval.features=none",
    *("--config.log.every=1", "--config.sample.every=5", "--config.eval.every=5", "--config.checkpoint.every=4"),
]
DCGAN = "--config=configs/dcgan.py"


_server = forkserver.Server()
atexit.register(_server.close)


def launch(*flags: str, code: int = 0, only: str = "") -> str:
    """All that ``launch.py`` prints with these flags; it must exit with ``code`` and show no traceback.

    With ``only`` it does nothing but read the flags, and print that word.
    """
    done = _server.run(flags, timeout=300, only=only)
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed, printed
    assert done.returncode == code, printed
    return printed


MEANS = "tests.evaluate.test_evaluate:means"


def trained_gan() -> tuple[GAN, GANState]:
    gan, hyper = build.build_gan(small("gan"))
    return gan, init_state(gan, 0, hyper)
