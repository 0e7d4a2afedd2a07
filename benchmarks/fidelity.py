"""Our evaluation against torch-fidelity's: the same network and weights, images, features and machine, by turns.

    python -m benchmarks.fidelity --out=fidelity.json        # with the extra `oracle`

Inception gets random weights, which make no other work; both read them from one file. Figures are checked to agree
before they are timed. torch-fidelity's features come from its network alone, without its data loader.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.evaluate import inception, metrics
from gan_jax.runtime import program

BATCH = 50


def main() -> None:
    """Measure, print and save a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("fidelity.json"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if "torchvision" not in sys.modules:
        sys.modules.update(stand_ins())
    results = {}
    for name, (ours, theirs) in {**features(options.images), **distances(options.samples)}.items():
        seconds = by_turns(ours, theirs, options.repeats)
        ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
        results[name] = {"seconds": statistics.median(seconds[0]), "torch_fidelity": statistics.median(seconds[1])}
        results[name]["ratio"] = ratio
        print(
            f"{name:44}{results[name]['seconds']:9.2f} s{results[name]['torch_fidelity']:9.2f} s{ratio:7.2f}",
            flush=True,
        )
    machine = {"device": jax.devices()[0].device_kind, "cores": len(os.sched_getaffinity(0))}
    versions = {"python": platform.python_version(), "jax": jax.__version__, "torch": sys.modules["torch"].__version__}
    options.out.write_text(json.dumps({**machine, **versions, "results": results}, indent=2) + "\n")


def by_turns(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of both, after a first call of each, whose results must agree."""
    np.testing.assert_allclose(ours(), theirs(), rtol=1e-3, atol=1e-3)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, kept in zip((ours, theirs), seconds, strict=True):
            begin = time.perf_counter()
            call()
            kept.append(time.perf_counter() - begin)
    return seconds


def features(count: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Inception's features of ``count`` images of 32x32."""
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as module

    torch.manual_seed(0)
    kind = module.FeatureExtractorInceptionV3
    load, kind.load_state_dict = kind.load_state_dict, lambda self, state: None
    read, torch.load = torch.load, lambda *a, **k: {}
    theirs = kind("inception-v3-compat", ["2048"], feature_extractor_weights_path="random")
    kind.load_state_dict, torch.load = load, read
    for value in theirs.state_dict().values():
        if value.dim() == 4:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "weights.pth")
        variables = inception.load(Path(folder) / "weights.pth")
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    extract = program.map_examples(lambda v, x: inception.Inception().apply(v, x)[0], jax.devices(), "features")
    planes = torch.tensor(images.transpose(0, 3, 1, 2))

    def by_torch() -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([theirs(part)[0].numpy() for part in planes.split(BATCH)])

    return {f"Inception features of {count} images": (lambda: extract(variables, lambda i: images[i], count), by_torch)}


def distances(count: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Return what computes the figures on ``count`` given features of 2048 numbers, and on as many reals."""
    import torch
    from torch_fidelity import metric_fid, metric_kid, metric_prc

    real, fake = np.random.default_rng(1).standard_normal((2, count, 2048)).astype(np.float32)
    fake = fake * 1.1 + 0.1
    torch_real, torch_fake = torch.tensor(real), torch.tensor(fake)
    quiet: dict[str, Any] = {"verbose": False}

    def their_fid() -> float:
        statistics_of = metric_fid.fid_features_to_statistics
        found = metric_fid.fid_statistics_to_metric(statistics_of(torch_fake), statistics_of(torch_real), False)
        return float(found["frechet_inception_distance"])

    def their_kid() -> float:
        found = metric_kid.kid_features_to_metric(torch_fake, torch_real, kid_subset_size=1000, **quiet)
        return float(found["kernel_inception_distance_mean"])

    def their_prc() -> list[float]:
        found = metric_prc.prc_features_to_metric(torch_fake, torch_real, prc_batch_size=1000, **quiet)
        return [float(found["precision"]), float(found["recall"])]

    def our_prc() -> list[float]:
        found = metrics.manifold_metrics(real, fake)
        return [found["precision"], found["recall"]]

    of = f"{count:,} samples"
    return {
        f"FID of {of}": (lambda: metrics.frechet_distance(*metrics.moments(real), *metrics.moments(fake)), their_fid),
        f"KID of {of}": (lambda: metrics.kernel_distance(real, fake)[0], their_kid),
        f"precision and recall of {of}": (our_prc, their_prc),
    }


def stand_ins() -> dict[str, Any]:
    """Modules for ``sys.modules`` in place of torchvision, which torch-fidelity imports and nothing here uses."""
    modules: dict[str, Any] = {}
    for name in ("", ".datasets", ".transforms", ".transforms.functional", ".models"):
        stand_in = modules[f"torchvision{name}"] = types.ModuleType(f"torchvision{name}")
        stand_in.__file__, stand_in.__path__ = __file__, []
        stand_in.CIFAR10 = stand_in.CIFAR100 = stand_in.STL10 = object  # type: ignore[attr-defined]
    modules["torchvision.transforms"].functional = None
    return modules


if __name__ == "__main__":
    main()
