"""Films through latents: that they pass what they should, close, and can be played."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import gan_jax
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core.state import GANState
from gan_jax.runs import film
from gan_jax.use.walk import walk
from gan_jax.util.errors import UserError

NAMES = ("cgan", "stylegan2", "fastgan")


@pytest.fixture(scope="module")
def runs(trained: dict[str, tuple[Path, GANState]]) -> dict[str, Path]:
    return {name: trained[name][0] for name in NAMES}


def drawn(own: gan_jax.Trained, seed: int, **options: Any) -> np.ndarray:
    """The first image of a seed, as floats."""
    of_prior = {} if own.has_mapping else {"truncation": options.pop("truncation")}
    image: np.ndarray = np.asarray(own.generate(own.latents(1, seed=seed, **of_prior), **options))[0]
    return image


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loop", [True, False])
def test_a_walk_passes_the_images_of_its_seeds(name: str, loop: bool, runs: dict[str, Path]) -> None:
    own = gan_jax.load(runs[name])
    seeds, label = np.array([5, 1, 9]), 3 if name == "cgan" else None
    count = 12 if loop else 13
    told: dict[str, Any] = {"truncation": 0.5, **({} if name == "cgan" else {"noise_mode": "const"})}
    frames = list(walk(own, seeds[None], count, loop=loop, label=label, **told))
    assert len(frames) == count
    passed = frames[::4] if loop else frames[::6]
    for frame, seed in zip(passed, seeds, strict=True):
        image = drawn(own, int(seed), label=label, **told)
        assert_allclose(frame.astype(float), np.clip((image + 1) * 127.5, 0, 255), atol=1.01)
    steps = [np.abs(a.astype(float) - b).mean() for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)]
    if loop:  # the last frame is as near to the first as others to their next
        assert steps[-1] < 2 * max(steps[:-1])
        far = np.abs(frames[0].astype(float) - frames[4]).mean()
        assert max(steps) < 0.7 * far or far < 1  # of untrained images that differ by less than a grey level


def test_cells_of_a_grid_have_seeds_of_their_own(runs: dict[str, Path]) -> None:
    own = gan_jax.load(runs["cgan"])
    alone = [list(walk(own, np.array([seeds]), 6, label=2)) for seeds in ([0, 1], [2, 3])]
    both = list(walk(own, np.array([[0, 1], [2, 3]]), 6, columns=2, label=2))
    for frame, left, right in zip(both, *alone, strict=True):
        assert_array_equal(frame[2:18, 2:18], left)
        assert_array_equal(frame[2:18, 20:36], right)


@pytest.mark.parametrize("name", ["cgan", "stylegan2"])
def test_a_walk_goes_beside_its_codes(name: str, runs: dict[str, Path]) -> None:
    own = gan_jax.load(runs[name])
    shift = own.directions(count=1).shift({0: 2.0})
    label = 3 if name == "cgan" else None
    told: dict[str, Any] = {} if name == "cgan" else {"noise_mode": "const"}
    (frame,) = walk(own, np.array([[5]]), 1, label=label, shift=shift, **told)
    wanted = own.generate(own.latents(1, seed=5), label, seed=5, shift=shift, **told)[0]
    assert_allclose(frame, np.clip((np.asarray(wanted) + 1) * 127.5, 0, 255), atol=1.01)


def test_one_seed_stands_still(runs: dict[str, Path]) -> None:
    """In any noise that is asked for: what flickers is no film."""
    for name in NAMES:
        asked: list[dict[str, Any]] = [{}, {"noise_mode": "random"} if name != "cgan" else {}]
        for options in asked:
            frames = list(walk(gan_jax.load(runs[name]), np.array([[4]]), 5, **options))
            assert all((frame == frames[0]).all() for frame in frames)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_makes_a_film(name: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = runs[name]
    MODES["walk"].run(Request(path, seconds=0.5, fps=10.0, grid="2x1"))
    assert f"a film of step 0, 0.5 s through 8 seeds: {path / 'walk.gif'}" in capsys.readouterr().out
    picture: Any
    with Image.open(path / "walk.gif") as picture:
        assert (picture.n_frames, picture.info["loop"], picture.info["duration"]) == (5, 0, 100)
        assert min(picture.size) >= 256


def test_an_mp4_can_be_read_again(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="not installed: pip install -e '.[film]'")
    frames = [np.full((28, 28, 1), 20 * i, np.uint8) for i in range(6)]
    film.save(iter(frames), 6, tmp_path / "new" / "a.mp4", 12)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.mp4"]
    played = ["-i", str(tmp_path / "new" / "a.mp4"), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run([ffmpeg.get_ffmpeg_exe(), *played], capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.uint8).reshape(6, 280, 280)
    assert_allclose(found.mean((1, 2)), 20 * np.arange(6), atol=3)
    assert b" 12 fps" in done.stderr
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/a.mp4: "):
        film.save(iter(frames), 6, tmp_path / "file" / "a.mp4", 12)


@pytest.mark.parametrize(
    ("request_of", "message"),
    [
        ({"out": Path("a.png")}, r"--out must end in .gif or .mp4 in this mode"),
        ({"seeds": "0-2", "grid": "2x1"}, r"--grid=2x1 has 2 places, which 3 seeds don't fill"),
        ({"sampling": "standing=2"}, "standing is for samples and evaluations, not for this mode"),
        ({"label": "12"}, "has no such class"),
    ],
)
def test_what_cannot_be_is_one_line(request_of: dict[str, Any], message: str, runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=message):
        MODES["walk"].run(Request(runs["cgan"], **request_of))


@pytest.mark.parametrize("per_second", [24.0, 30.0, 50.0, 7.0])
def test_a_gif_lasts_as_long_as_it_should(per_second: float, tmp_path: Path) -> None:
    count = round(2 * per_second)
    film.save((np.full((8, 8, 1), i, np.uint8) for i in range(count)), count, tmp_path / "a.gif", per_second)
    picture: Any
    with Image.open(tmp_path / "a.gif") as picture:
        durations = []
        for number in range(picture.n_frames):
            picture.seek(number)
            durations.append(picture.info["duration"])
    assert sum(durations) == 2000


def test_a_film_without_ffmpeg_is_refused_with_what_helps(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"an .mp4 needs FFmpeg: pip install -e '.\[film\]', or give --out=FILE.gif"):
        MODES["walk"].run(Request(runs["cgan"], out=Path("a.mp4")))
