"""Weights from files of PyTorch and of safetensors, read without them: nothing but arrays is unpickled."""

import collections
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.util.errors import UserError
from gan_jax.util.files import read_regular


def read_weights(path: Path) -> Mapping[str, np.ndarray]:
    """Return the arrays of a file ``.safetensors``, or of one that ``torch.save`` wrote.

    Raises:
      UserError: the file is missing, damaged, or holds anything but arrays.
    """
    if path.suffix != ".safetensors":
        return read_state_dict(path)
    return _read(path, _read_safetensors)


def read_state_dict(path: Path) -> Mapping[str, np.ndarray]:
    """Read the arrays of a file that ``torch.save`` wrote, by PyTorch before or since 1.6, without PyTorch.

    Raises:
      UserError: the file is missing, damaged, or holds anything but arrays.
    """
    return _read(path, lambda data: _read_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _read_legacy(data))


def fitted(
    shapes: Any,
    state: Mapping[str, np.ndarray],
    theirs: Callable[[list[str]], str],
    *,
    path: Path,
    other: str,
    unused: frozenset[str] | None = None,
) -> dict[str, Any]:
    """Return Flax' variables float32, of ``shapes``, from PyTorch's weights: kernels are turned as Flax has them.

    Args:
      shapes: the variables, as ``jax.eval_shape`` of ``init`` gives them.
      state: what `read_weights` read.
      theirs: gives the name in ``state`` of a leaf, from its keys.
      path: of the file.
      other: what is said of a file that doesn't fit.
      unused: names that the network does without; None: any.

    Raises:
      UserError: names the first weight that lacks, has another shape, or is too many.
    """
    used: set[str] = set()

    def fetch(keys: Any, leaf: Any) -> np.ndarray:
        name = theirs([key.key for key in keys])
        if name not in state:
            raise UserError(f"{path} has no weight {name!r}: {other}")
        used.add(name)
        value = state[name]
        if keys[-1].key == "kernel":
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        if value.shape != leaf.shape:
            raise UserError(f"{path}: {name!r} has shape {value.shape}, not {leaf.shape}: {other}")
        return np.ascontiguousarray(value, np.float32)

    variables: dict[str, Any] = jax.tree_util.tree_map_with_path(fetch, shapes)
    extra = sorted(state.keys() - used - unused) if unused is not None else []
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise UserError(f"{path} has a weight {extra[0]!r}{more} too many: {other}")
    return variables


def _read(path: Path, decode: Callable[[bytes], Mapping[str, Any]]) -> Mapping[str, np.ndarray]:
    try:
        data = read_regular(path)
    except OSError as error:
        raise UserError(f"cannot read the weights in {path}: {error.strerror}") from error
    try:
        state = decode(data)
        return {str(name): value for name, value in state.items() if isinstance(value, np.ndarray)}
    except Exception as error:  # of damaged bytes, the decoders raise anything
        raise UserError(f"cannot read the weights in {path}: {' '.join(str(error).split())}") from error


_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "HalfStorage": "<f2",
}


# Of safetensors; BF16 is the upper half of a float.
_SAFE_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def _read_safetensors(data: bytes) -> dict[str, Any]:
    """Of a length of 8 bytes, a header in JSON of so many, and the arrays, each where its header says."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]
    header.pop("__metadata__", None)
    found = {}
    for name, told in header.items():
        begin, end = told["data_offsets"]
        if not 0 <= begin <= end <= len(body):
            raise ValueError("a weight lies outside the file")
        flat = np.frombuffer(body[begin:end], _SAFE_TYPES[told["dtype"]])
        if told["dtype"] == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        found[name] = flat.reshape(told["shape"])
    return found


class _Unpickler(pickle._Unpickler):
    """Makes arrays and nothing else: what else a pickle names is refused.

    Of pickle's two this is the one written in Python: that in C makes room for as many objects as a file says that it
    has, were it 32 GB.
    """

    def __init__(self, file: Any, storage: Any) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")

    def persistent_load(self, pid: Any) -> Any:
        return self._storage(pid)


def _rebuild(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    return ("view", storage, offset, size, stride)


def _read_zip(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        root = name.removesuffix("data.pkl")
        storages: dict[str, np.ndarray] = {}

        def storage(pid: Any) -> Any:
            _, kind, key, *_ = pid
            if key not in storages:
                storages[key] = np.frombuffer(archive.read(f"{root}data/{key}"), kind)
            return key

        tree = _Unpickler(archive.open(name), storage).load()
        return {key: _view(value, storages) for key, value in tree.items()}


def _read_legacy(data: bytes) -> dict[str, Any]:
    file = io.BytesIO(data)
    kinds: dict[str, str] = {}

    def storage(pid: Any) -> Any:
        _, kind, key, *_ = pid
        kinds[str(key)] = kind
        return str(key)

    def load() -> Any:
        return _Unpickler(file, storage).load()

    if load() != 0x1950A86A20F9469CFC6C:
        raise ValueError("not a file of torch.save")
    load(), load()  # the version, and the machine it was written on
    tree, keys = load(), load()
    storages = {}
    for key in keys:
        kind = np.dtype(kinds[str(key)])
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        storages[str(key)] = np.frombuffer(file.read(count * kind.itemsize), kind, count)
    return {key: _view(value, storages) for key, value in tree.items()}


def _view(value: Any, storages: Mapping[str, np.ndarray]) -> Any:
    if not (isinstance(value, tuple) and value and value[0] == "view"):
        return value
    _, key, offset, size, stride = value
    flat = storages[key]
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else offset
    if min((*stride, offset, 0)) < 0 or last >= len(flat):
        raise ValueError("a weight lies outside its storage")
    strides = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, strides)
