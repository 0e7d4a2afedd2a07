"""Devices, memory and what lies on them: the shares of a batch, and arrays put on all devices, on one, or spread."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gan_jax.util.errors import UserError, listed

AXIS = "device"


def shard_index(batch_size: int, devices: int, shards: int = 0) -> np.ndarray:
    """Global example indices ``[devices, batch_size / devices]``, or ``[shards, batch_size / shards]``, int32.

    Raises:
      UserError: not divisible; names the nearest batch sizes, or the numbers of devices, that are.
    """
    if shards % devices:
        known = listed(n for n in range(1, shards + 1) if shards % n == 0)
        raise UserError(f"config.parallel.logical_shards={shards} can train on {known} devices, not on {devices}")
    parts = shards or devices
    if batch_size % parts:
        below, above = batch_size // parts * parts, -(-batch_size // parts) * parts
        near = f"{below} or {above}" if below else f"{above}"
        what = "logical shards" if shards else "devices"
        raise UserError(f"batch_size {batch_size} is not divisible by the {parts} {what}; the nearest that is: {near}")
    return np.arange(batch_size, dtype=np.int32).reshape(parts, -1)


def all_devices() -> list[jax.Device]:
    """Return the devices of all processes of this run, those of each next to each other.

    Raises:
      UserError: the processes have different numbers of them.
    """
    devices = sorted(jax.devices(), key=lambda device: device.process_index)
    counts = np.bincount([device.process_index for device in devices])
    if len(set(counts)) > 1:
        raise UserError(f"the processes of this run have {listed(counts)} devices: give each as many")
    return devices


def kind(devices: Sequence[jax.Device]) -> str:
    """Return the devices' name, as ``NVIDIA H100 80GB HBM3``."""
    return str(devices[0].device_kind)


def platform(devices: Sequence[jax.Device]) -> str:
    """Return what they are: cpu, gpu or tpu."""
    return str(devices[0].platform)


def local_devices(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Those of ``devices`` that this process feeds."""
    return [device for device in devices if device.process_index == jax.process_index()]


def local_index(batch_size: int, devices: Sequence[jax.Device], shards: int = 0) -> np.ndarray:
    """Return the rows of `shard_index` that are those of this process's devices."""
    here = [device.process_index == jax.process_index() for device in devices]
    parts = shard_index(batch_size, len(devices), shards)
    rows: np.ndarray = parts.reshape(len(devices), -1, parts.shape[1])[here].reshape(-1, parts.shape[1])
    return rows


def nbytes(tree: Any) -> int:
    """Bytes of all leaves, arrays or their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def memory(devices: Sequence[jax.Device]) -> int:
    """Bytes of a device; of a CPU's, its part of the machine's."""
    if devices[0].platform == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
    return int((devices[0].memory_stats() or {}).get("bytes_limit", sys.maxsize))


def check_memory(tree: Any, devices: Sequence[jax.Device]) -> None:
    """Refuse what can't be, before anything is allocated.

    Raises:
      UserError: ``tree`` (of arrays or their shapes) is larger than the memory of a device, or, on a CPU, than each
        device's part of the machine's.
    """
    limit = memory(devices)
    needed = nbytes(tree)
    if needed > limit:
        raise UserError(
            f"the training state (parameters, their average, the optimizers' moments) takes {needed / 2**30:,.1f} GB, "
            f"and a device has {limit / 2**30:,.1f}: lower the networks' widths or data.image_size"
        )


def replicated(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Copy the leaves of ``tree`` to every device, as `compile_chunk`'s program wants its state and data."""
    return _put(tree, devices, jax.sharding.PartitionSpec())


def shared_out(tree: Any, devices: int, shards: int) -> Any:
    """Leaves ``[shards, ...]`` of ``tree`` as ``[devices, shards / devices, ...]``; as they are if ``shards`` is 0."""
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), tree) if shards else tree


def sharded(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Each leaf ``[devices of this process, ...]`` of ``tree`` cut along its first axis, a slice to each of them."""
    return _put(tree, devices, jax.sharding.PartitionSpec(AXIS))


def _put(tree: Any, devices: Sequence[jax.Device], spec: jax.sharding.PartitionSpec) -> Any:
    sharding = jax.sharding.NamedSharding(jax.sharding.Mesh(np.asarray(devices), (AXIS,)), spec)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)


def on_first(tree: Any) -> Any:
    """Return the copy of ``tree`` that lies on this process's first device: for work that one device does alone."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
