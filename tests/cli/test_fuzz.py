"""Whatever a user gives, or a disk holds: it works, or it is one clear line. Never a traceback, never a hang."""

import ast
import io
import json
import math
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import config_flags
from PIL import Image

from gan_jax import build, config_files, data
from gan_jax.cli import arguments, command
from gan_jax.config import dotted_keys
from gan_jax.core.state import init_state
from gan_jax.data.decode import UnreadableImageError, decode
from gan_jax.evaluate.torch_weights import read_state_dict
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import placement
from gan_jax.util.errors import UserError
from gan_jax.util.files import read_arrays, write_arrays
from tests.helpers import NAMES, ROOT, data_options

SLOW = pytest.param(20, marks=pytest.mark.slow)  # times as many cases


def cases(count: int) -> settings:
    """So many, the same every time."""
    quiet = list(HealthCheck)
    return settings(max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=quiet)


def one_line(act: Callable[[], object]) -> bool:
    """Whether ``act`` succeeds; else it must say what is wrong in one line."""
    begin, said = time.monotonic(), "fine"
    try:
        act()
    except (UserError, UnreadableImageError, MemoryError) as error:
        said = str(error)
    assert time.monotonic() - begin < 60
    assert said.strip()
    assert "\n" not in said
    return said == "fine"


# --- the command line -------------------------------------------------------------------------------------------------

NUMBERS = ["0", "1", "-1", "2", "3", "7", "100", "2147483647", "2147483648", "4294967296", "99999999999999999999999"]
NUMBERS += ["0.5", "1e-8", "1e308", "1e400", "-0.0", "nan", "inf", "-inf", "1e", "0x10", "1_000"]
WORDS = [
    "True",
    "False",
    "None",
    "",
    " ",
    "none",
    "adam",
    "hinge",
    "batch",
    "resnet",
    "mlp",
    "aae",
    "autoencoder",
    "r1",
]
WORDS += ["r1,r2", "color,translation", "(8,)", "(8, 8)", "(8, -8)", "(0,)", "()", "[1, 2]", "(1e3,)", "('a',)", "{}"]
WORDS += [
    "concat",
    "auxiliary",
    "projection",
    "embedding",
    "float64",
    "bfloat16",
    "linear",
    "cosine",
    "../../x",
    "\x00",
]
VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(WORDS),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.integers(1, 64).map(str),
    st.floats(0, 1).map(str),
)


def built(argv: list[str]) -> None:
    """All that happens to a command line before anything compiles."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, lock_config=True, flag_values=values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", argv)  # where config flags look for overrides
        command.parse(values, argv)
    gan, hyper = build.build_gan(values.config)
    placement.shard_index(values.config.batch_size, 1)
    placement.check_memory(jax.eval_shape(lambda: init_state(gan, 0, hyper)), jax.devices()[:1])


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize("times", [1, SLOW])
def test_any_override_of_a_config_builds_or_is_one_line(times: int) -> None:
    known = {name: dotted_keys(config_files.load_config(f"configs/{name}.py")) for name in NAMES}
    keys = st.sampled_from(NAMES).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.lists(
                st.tuples(st.one_of(st.sampled_from(known[name]), st.text("abc._=-", max_size=9)), VALUES),
                min_size=1,
                max_size=3,
            ),
        )
    )
    succeeded = []

    @cases(40 * times)
    @given(keys)
    def check(drawn: tuple[str, list[tuple[str, str]]]) -> None:
        name, overrides = drawn
        argv = [f"--config.{key}={value}" for key, value in overrides]
        succeeded.append(one_line(lambda: built(["launch.py", f"--config=configs/{name}.py", *argv])))

    check()
    assert 0 < sum(succeeded) < len(succeeded)


@cases(300)
@given(st.lists(st.tuples(st.text(max_size=9), VALUES), max_size=3).map(lambda p: " ".join(f"{k}={v}" for k, v in p)))
def test_any_sweep_is_read_or_is_one_line(text: str) -> None:
    one_line(lambda: arguments.read_sweep(text))


# --- images -----------------------------------------------------------------------------------------------------------


def pictures() -> dict[str, bytes]:
    """A good file of each kind."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
    found = {}
    for name, kind, image, how in (
        ("rgb.png", "PNG", noise[..., :3], {}),
        ("rgba.png", "PNG", noise, {}),
        ("grey16.png", "PNG", noise[..., 0].astype(np.uint16) * 257, {}),
        ("rgb.jpg", "JPEG", noise[..., :3], {}),
        ("progressive.jpg", "JPEG", noise[..., :3], {"progressive": True}),
        ("rgb.webp", "WEBP", noise[..., :3], {}),
        ("rgb.bmp", "BMP", noise[..., :3], {}),
        ("rgb.tif", "TIFF", noise[..., :3], {}),
        ("lzw.tif", "TIFF", noise, {"compression": "tiff_lzw"}),
        ("jpeg.tif", "TIFF", noise[..., :3], {"compression": "jpeg"}),
        ("rgb.gif", "GIF", noise[..., :3], {}),
        ("rgba.avif", "AVIF", noise, {}),
    ):
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind, **how)
        found[name] = file.getvalue()
    return found


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` with a few of: bytes changed, removed, doubled, put in, its end cut off, numbers made large."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at, many = int(rng.integers(0, max(1, len(out)))), int(rng.integers(1, 9))
        match rng.integers(0, 7):
            case 0:
                out[at : at + many] = rng.bytes(many)
            case 1:
                del out[at : at + many]
            case 2:
                out[at:at] = out[at : at + 8 * many]
            case 3:
                out[at:at] = rng.bytes(many)
            case 4:
                del out[max(at, 1) :]
            case 5:
                out[at : at + 4] = b"\xff\xff\xff\x7f"
            case _:
                out[at : at + 1] = b"\x00"
    return _checksummed(bytes(out)) if rng.integers(0, 2) else bytes(out)


def _checksummed(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that more than they is tried."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        size = int.from_bytes(out[at : at + 4], "big")
        if at + 12 + size > len(out):
            break
        out[at + 8 + size : at + 12 + size] = struct.pack(">I", zlib.crc32(bytes(out[at + 4 : at + 8 + size])))
        at += 12 + size
    return bytes(out)


@pytest.mark.parametrize("times", [1, SLOW])
def test_any_bytes_are_an_image_or_say_why_not(times: int) -> None:
    files, rng, options = pictures(), np.random.default_rng(1), data_options(image_size=8, channels=3)
    readable = 0
    for number in range(700 * times):
        data = mutated(files[sorted(files)[number % len(files)]], rng)

        def check(data: bytes = data) -> None:
            assert decode(data, options).shape == (8, 8, 3)

        readable += one_line(check)
    assert 50 * times < readable < 600 * times


@pytest.mark.parametrize("side", [10_000, 50_000, 2**31 - 1])
def test_images_that_claim_to_be_huge_are_refused_before_they_are_decoded(side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\x00" * 10**7)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    begin = time.monotonic()
    with pytest.raises(UnreadableImageError):
        decode(bomb, data_options(image_size=8))
    assert time.monotonic() - begin < 1


def test_a_folder_of_hostile_files_is_one_warning(tmp_path: Path) -> None:
    rng, files = np.random.default_rng(2), pictures()
    for i, name in enumerate(sorted(files) * 4):
        (tmp_path / f"{i}{name}").write_bytes(mutated(files[name], rng))
    (tmp_path / "good.png").write_bytes(files["rgb.png"])
    dataset = data.load(data_options(source="folder", dir=str(tmp_path), image_size=8, test_fraction=0.0), None)
    (warning,) = dataset.warnings
    assert "left out" in warning
    assert "\n" not in warning


# --- other files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, SLOW])
@pytest.mark.parametrize("compressed", [False, True])
def test_any_npz_is_read_or_is_one_line(compressed: bool, times: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    path, rng = tmp_path / "x.npz", np.random.default_rng(3)
    (np.savez_compressed if compressed else np.savez)(path, images=images, labels=np.arange(12))
    good = path.read_bytes()

    def load() -> None:
        dataset = data.load(data_options(source="npz", dir=str(path), image_size=8, channels=3), None)
        dataset.train_images[np.arange(len(dataset.train_images))]

    for _ in range(150 * times):
        path.write_bytes(mutated(good, rng))
        one_line(load)
        read_arrays(path)


def test_an_npz_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_arrays(path, {"images": np.zeros((3, 8, 8, 3), np.uint8)})
    data_ = path.read_bytes().replace(b"(3, 8, 8, 3)", b"(9, 8, 8, 3)")
    path.write_bytes(data_)
    with pytest.raises(UserError, match="cannot read"):
        data.load(data_options(source="npz", dir=str(path), image_size=8, channels=3), None)


def test_nothing_that_a_pickle_asks_for_is_called(tmp_path: Path) -> None:
    called = tmp_path / "called"
    hostile = np.array([_Calls(str(called))], object)
    np.savez(tmp_path / "x.npz", images=hostile)
    with pytest.raises(UserError):
        data.load(data_options(source="npz", dir=str(tmp_path / "x.npz")), None)
    assert read_arrays(tmp_path / "x.npz") is None
    assert not called.exists()


class _Calls:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("times", [1, SLOW])
def test_any_file_of_weights_is_read_or_is_one_line(times: int, tmp_path: Path) -> None:
    good = (
        b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x01s.",
        b"\x80\x02].",
    )
    rng, path = np.random.default_rng(4), tmp_path / "w.pth"
    for _ in range(400 * times):
        path.write_bytes(mutated(b"".join(good), rng))
        one_line(lambda: read_state_dict(path))


def test_weights_that_claim_more_than_they_have_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")  # a memo number of 2^31 - 1
    begin = time.monotonic()
    with pytest.raises(UserError):
        read_state_dict(tmp_path / "w.pth")
    assert time.monotonic() - begin < 1


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["step", "seconds", "to", "seed", "digest", "verdict", "model", "data"]), inner, max_size=4
        ),
    ),
    max_leaves=6,
)


@cases(150)
@given(JSON)
def test_any_json_in_a_workdir_is_left_out_or_is_one_line(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("run")
    text = json.dumps(value)
    (path / "diverged").mkdir()
    for name in ("config.json", "data.json", "summary.json", "metrics.jsonl", "diverged/rollbacks.json"):
        (path / name).write_text(text)
    workdir = Workdir(path)
    one_line(workdir.config)
    one_line(lambda: workdir.check_data("x", "y", 5))
    assert workdir.summary() is None or isinstance(workdir.summary(), dict)
    for record in workdir.records():
        assert math.isfinite(record["step"] + record["seconds"])
    assert all(isinstance(rollback["seed"], int) for rollback in workdir.rollbacks(10**9))


def test_nothing_is_unpickled_but_arrays_of_our_own_processes_and_checked_weights() -> None:
    """The list in docs/trust.md, held to the source."""
    found = set()
    for file in (ROOT / "gan_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                if {"pickle", "marshal", "shelve", "dill", "joblib"} & set(names):
                    found.add(file.relative_to(ROOT / "gan_jax").as_posix())
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant)
                assert node.value.value is False
            if isinstance(node, ast.Attribute) and node.attr == "load" and getattr(node.value, "id", "") == "np":
                assert "allow_pickle=False" in ast.unparse(_call_of(file, node))
    assert found == {"data/stream.py", "evaluate/torch_weights.py"}


def _call_of(file: Path, function: ast.Attribute) -> ast.Call:
    calls = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
    return next(call for call in calls if call.func.lineno == function.lineno and "np.load" in ast.unparse(call.func))
