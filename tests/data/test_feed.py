"""Memory and stream feed the same batches; hosts read their shares; memory stays bounded."""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from gan_jax import build
from gan_jax.data import stream
from gan_jax.data.stream import Reader, read
from gan_jax.runtime import placement
from gan_jax.util.errors import UserError
from tests.data.test_sources import TFDS, pixels, real
from tests.helpers import ONE, assert_identical, run, run_until, small


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def reader(length: int = 50, index: np.ndarray | None = None, batch: int = 16, d_steps: int = 1) -> Reader:
    index = np.arange(batch, dtype=np.int32) if index is None else index
    return Reader(noise(length, 4, 4, 1), np.arange(length, dtype=np.int32), index, batch, d_steps, 7)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(16, 200), st.sampled_from([1, 2, 4, 8]), st.integers(1, 3))
def test_all_hosts_together_read_each_epoch_once(length: int, hosts: int, d_steps: int) -> None:
    steps = length  # a whole number of epochs
    shares = [reader(length, index, d_steps=d_steps) for index in placement.shard_index(16, hosts)]
    whole = reader(length, d_steps=d_steps)
    drawn = []
    for step in range(steps):
        parts = [share(step) for share in shares]
        assert parts[0]["image"].shape == (d_steps, 16 // hosts, 4, 4, 1)
        for name, value in whole(step).items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts], 1), value)
        drawn.append(np.concatenate([part["label"] for part in parts], 1).ravel())
    epochs = np.concatenate(drawn).reshape(-1, length)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.broadcast_to(np.arange(length), epochs.shape))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_its_reader_step_by_step_from_anywhere(workers: int) -> None:
    source = reader(d_steps=2)
    for first, last in ((0, 9), (5, 9)):
        batches = read(source, first, workers)
        for step in range(first, last):
            batch = next(batches)
            for name, value in source(step).items():
                np.testing.assert_array_equal(batch[name], value)
        batches.close()


def test_a_stream_can_be_left_in_the_middle() -> None:
    batches = read(reader(), 0, 0)
    next(batches)
    batches.close()


def test_a_stream_kills_workers_that_do_not_end_and_takes_none_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(stream, "end", lambda *why: ended.append(why))
    monkeypatch.setattr(stream, "_GRACE", 0.0)
    monkeypatch.setattr(stream, "_PATIENCE", 2.0)  # so long that a worker killed first would be seen
    large = Reader(noise(50, 64, 64, 3), np.zeros(50, np.int32), np.arange(16, dtype=np.int32), 16, 1, 7)
    batches = read(large, 0, 2)  # a pipe can't hold a batch, so that workers wait for somebody to read it
    for _ in range(4):
        next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) >= 2
    began = time.monotonic()
    batches.close()
    assert time.monotonic() - began < 20  # grain's own patience is 25 s a worker
    time.sleep(1.5)
    assert not ended
    assert not any(worker.is_alive() for worker in workers)


def test_an_error_while_reading_reaches_the_user() -> None:
    class Broken(np.ndarray):
        def __getitem__(self, _: Any) -> Any:
            raise UserError("cannot read x.png (gone)")

    broken = Reader(noise(50, 4, 4, 1).view(Broken), np.zeros(50, np.int32), np.arange(4, dtype=np.int32), 4, 1, 0)
    with pytest.raises(UserError, match=r"cannot read x\.png"):
        next(read(broken, 0, 0))


def batches(config: ConfigDict, devices: int, plan: list[tuple[int, int]]) -> list[dict[str, np.ndarray]]:
    """What each step of a plan gets, all devices together, as the compiled program has it."""
    gan, _ = build.build_gan(config)
    chosen = jax.devices()[:devices]
    fed = build.build_feed(config, gan, build.build_dataset(config, None), chosen)
    fetch = jax.pmap(
        lambda data, share, step: fed.fetch(data, share, jax.numpy.uint32(config.seed), step),
        in_axes=(None, 0, None),
        devices=tuple(chosen),
    )
    out = []
    for (first, count), share in fed.shares(plan):
        for step in range(first, first + count):
            batch = fetch(fed.data, share, np.int32(step))
            joined = {name: np.concatenate(list(batch[name]), 1) for name in ("image", "label")}
            out.append(joined | {"index": np.concatenate(list(batch["index"]))})
    return out


@pytest.mark.parametrize("d_steps", [1, 3])
def test_memory_and_stream_feed_the_same_to_the_bit_on_any_number_of_devices(d_steps: int) -> None:
    config = small("gan")
    config.d_steps, config.data.flip = d_steps, True
    plan = [(3, 4), (7, 1), (8, 2)]
    reference = batches(config, 1, plan)
    dataset = build.build_dataset(config, None)
    known = {
        image.tobytes(): label for image, label in zip(pixels(dataset.train_images), dataset.train_labels, strict=True)
    }
    for batch in reference:
        np.testing.assert_array_equal(batch["index"], np.arange(16))
        assert batch["image"].shape == (d_steps, 16, 28, 28, 1)
        assert batch["image"].dtype == np.float32
        images = batch["image"].reshape(-1, 28, 28, 1)
        rounded = np.round((images + 1) * 127.5).astype(np.uint8)
        np.testing.assert_allclose(images, rounded / 127.5 - 1, atol=1e-6)
        for image, label in zip(rounded, batch["label"].ravel(), strict=True):
            found = known.get(image.tobytes(), known.get(np.ascontiguousarray(image[:, ::-1]).tobytes()))
            assert found == label
    for budget, devices in ((1024, 4), (3, 1), (3, 4)):  # the digits take 3.4 MB
        config.data.device_budget_mb = budget
        for ours, theirs in zip(batches(config, devices, plan), reference, strict=True):
            for name in theirs:
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{name}, {budget} MB, {devices}")


def test_half_of_the_images_are_mirrored() -> None:
    config = small("gan")
    plain = batches(config, 1, [(0, 4)])
    config.data.flip = True
    flipped = batches(config, 1, [(0, 4)])
    count = 0
    for a, b in zip(plain, flipped, strict=True):
        for one, other in zip(a["image"][0], b["image"][0], strict=True):
            mirrored = bool((other == one[:, ::-1]).all())
            assert mirrored or (other == one).all()
            count += mirrored
    assert 20 <= count <= 44  # 32 of 64 expected, with a deviation of 4


@pytest.mark.slow
def test_memory_and_stream_train_the_same_network_to_the_bit(config: ConfigDict, tmp_path: Path) -> None:
    config.data.flip = True
    memory = run(config, tmp_path / "memory")
    config.data.device_budget_mb = 0
    assert_identical(run(config, tmp_path / "stream"), memory)


@pytest.mark.slow
@real
def test_memory_and_stream_train_the_same_network_on_real_mnist(tmp_path: Path) -> None:
    config = small("dcgan")
    config.data.update({"source": "tfds", "name": "mnist", "dir": str(TFDS)})
    memory = run(config, tmp_path / "memory", jax.devices()[:2])
    config.data.device_budget_mb = 1
    config.data.workers = 2
    assert_identical(run(config, tmp_path / "stream", jax.devices()[:2]), memory)


def test_a_streamed_run_resumes_without_a_state_of_its_stream(tmp_path: Path) -> None:
    config = small("gan")
    config.data.device_budget_mb = 0
    whole = run(config, tmp_path / "whole")

    run_until(config, tmp_path / "cut", ONE, "draw", at=5)
    assert_identical(run(config, tmp_path / "cut"), whole)


def test_a_dispatch_of_a_stream_stays_within_the_devices_budget() -> None:
    config = small("gan")
    config.data.image_size, config.data.device_budget_mb, config.steps_per_dispatch = 64, 1, 1000
    gan, _ = build.build_gan(config)
    fed = build.build_feed(config, gan, build.build_dataset(config, None), jax.devices()[:2])
    assert fed.streamed
    assert fed.capacity == 2**20 // (3 * 16 * 64 * 64)
    shapes = {name: leaf.shape for name, leaf in fed.nothing.items()}
    assert shapes["image"] == (2, fed.capacity, 1, 8, 64, 64, 1)
    assert list(fed.shares([])) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell a process's peak memory")
def test_a_streams_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (20, 400):
        path = tmp_path / "images.u8"
        with path.open("wb") as file:
            for _ in range(megabytes):
                file.write(bytes(2**20))
        command = [sys.executable, "-m", "benchmarks.stream_memory", str(path), "400"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout))
    assert peaks[1] - peaks[0] < 60, peaks  # MB; loading the larger one would take 380 more


def test_spread_puts_each_row_on_its_device() -> None:
    devices = jax.devices()[:4]
    out = placement.sharded(np.arange(8).reshape(4, 2), devices)
    for device, shard in zip(devices, sorted(out.addressable_shards, key=lambda s: s.index[0].start), strict=True):
        assert shard.device == device
