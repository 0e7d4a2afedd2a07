"""What a bug report needs: versions, devices, memory, data, caches, and whether one step of training works here."""

import os
import platform
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

import gan_jax
from gan_jax import build
from gan_jax.config import default
from gan_jax.core.state import state_shapes
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir
from gan_jax.training.train import train
from gan_jax.util.errors import UserError

_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorstore", "numpy", "pillow", "ml_collections"),
    *("grain", "tensorflow-datasets", "basemap-data", "tensorboardX"),
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu"),
)
_VARIABLES = ("JAX_", "XLA_", "CUDA_VISIBLE", "TF_CPP")  # how their names begin


def examine(config: ConfigDict | None, workdir: Path) -> None:
    """Print all that is known of this machine, a line each.

    Args:
      config: whose data is looked for; those of `gan_jax.config.default` if None.
      workdir: beside which data is kept.

    Raises:
      UserError: the self-test failed.
    """
    for name, text in [*_software(), *_machine(workdir), *_devices(), *_kept(config, workdir)]:
        print(f"{name:<16}{text}")
    begin = time.perf_counter()
    failure = self_test()
    if failure:
        print(failure)
        raise UserError(f"the self-test failed: {failure.strip().splitlines()[-1]}")
    print(f"{'self-test':<16}passed: one step, saved, restored and the same; {time.perf_counter() - begin:.1f} s")


def _software() -> Iterator[tuple[str, str]]:
    yield "gan_jax", gan_jax.__version__
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    yield "packages", ", ".join(found)
    variables = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    yield "environment", ", ".join(f"{name}={value}" for name, value in sorted(variables.items())) or "nothing set"


def _machine(workdir: Path) -> Iterator[tuple[str, str]]:
    page, cores = os.sysconf("SC_PAGE_SIZE"), len(os.sched_getaffinity(0))
    total, free = (os.sysconf(name) * page / 2**30 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    yield "machine", f"{cores} cores, {total:.1f} GB of memory, {free:.1f} GB unused"
    place = next(path for path in [workdir.absolute(), *workdir.absolute().parents] if path.exists())
    disk, files = shutil.disk_usage(place), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    free_there = f"{disk.free / 2**30:.1f} of {disk.total / 2**30:.1f} GB free for {workdir}"
    writable = "" if os.access(place, os.W_OK) else f", but {place} is not writable"
    yield "disk", f"{free_there}{writable}; {files} open files allowed"


def _devices() -> Iterator[tuple[str, str]]:
    driver = Path("/proc/driver/nvidia/version")
    text = driver.read_text().splitlines()[0] if driver.exists() else "no driver of NVIDIA's is loaded"
    try:
        yield "CUDA", f"usable by JAX, {len(jax.devices('cuda'))} devices; {text}"
    except RuntimeError as error:
        yield "CUDA", f"not usable by JAX ({str(error).splitlines()[0]}); {text}"
    for device in jax.devices():
        limit = (device.memory_stats() or {}).get("bytes_limit")
        memory = f", {limit / 2**30:.1f} GB" if limit else ""
        yield f"device {device.id}", f"{device.device_kind} ({device.platform}){memory}"


def _kept(config: ConfigDict | None, workdir: Path) -> Iterator[tuple[str, str]]:
    config = default() if config is None else config
    try:
        dataset = build.build_dataset(config, Workdir(workdir).cache, reading=True)
        images = f"{len(dataset.train_images):,} train and {len(dataset.test_images):,} test images"
        yield "data", f"{dataset.name}: {images}, {dataset.digest}"
        yield from dataset.description.items()
    except UserError as error:
        yield "data", f"not usable: {error}"
    cache = Path(jax.config.jax_compilation_cache_dir or "")  # type: ignore[attr-defined]
    programs = [path.stat().st_size for path in cache.glob("*") if path.is_file()] if cache.name else []
    writable = os.access(next(path for path in [cache, *cache.parents] if path.exists()), os.W_OK)
    state = f"{len(programs)} files, {sum(programs) / 2**20:.1f} MB, {'' if writable else 'not '}writable"
    yield "compile cache", f"{cache}: {state}" if cache.name else "none"


def self_test() -> str:
    """Train a tiny GAN for one step, and compare what it saved with what it had.

    Return what went wrong, if anything did.
    """
    config = default()
    config.steps, config.batch_size, config.latent_dim, config.model = 1, 8 * jax.local_device_count(), 4, "mlp"
    for player in ("generator", "discriminator"):
        config[player].update({"widths": (8,), "norm": "none"})
    config.eval.features = "none"
    said = StringIO()
    try:
        with tempfile.TemporaryDirectory() as name, redirect_stdout(said), redirect_stderr(said):
            state = train(config, Path(name) / "run")
            gan, hyper = build.build_gan(config)
            with Checkpoints(Path(name) / "run" / "checkpoints") as checkpoints:
                saved = checkpoints.restore(state_shapes(gan, hyper))
            jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), saved)
        return ""
    except Exception:  # whatever it is, it belongs into the report
        return f"{said.getvalue()}\n{traceback.format_exc()}"
