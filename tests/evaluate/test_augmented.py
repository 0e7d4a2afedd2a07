"""``--mode=augment``: a picture of the data's images as D sees them, at rising chances."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gan_jax import build
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core import augment
from gan_jax.evaluate.augmented import CHANCES, augmented
from gan_jax.util.errors import UserError
from tests.helpers import small


def test_what_happens_at_a_low_chance_happens_at_a_higher_one() -> None:
    config = small("gan")
    config.augment.name = "cutout"
    gan, hyper = build.build_gan(config)
    assert not gan.augment.by_chance  # in training it always happens; the picture is by chance
    images = np.random.default_rng(0).integers(0, 120, (40, 28, 28, 1), np.uint8)
    shown = augmented(gan, hyper["augment"], images, seed=3)
    np.testing.assert_array_equal(shown[0], images)
    cut = (shown != images).any((2, 3, 4))
    assert (cut[:-1] <= cut[1:]).all()
    assert cut[-1].all()
    assert 0.1 < cut[CHANCES.index(0.4)].mean() < 0.7
    for i in range(40):  # the same square at every chance
        squares = {shown[k, i].tobytes() for k in range(len(CHANCES)) if cut[k, i]}
        assert len(squares) == 1
    always = jax.vmap(lambda image: augment.cutout(image, jax.random.key(0)))(images[:1] / 127.5 - 1)
    assert (np.asarray(always) == 0).any()


def test_the_mode_writes_one_picture_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small("gan")
    config.augment.name = "translation"
    request = Request(tmp_path / "run", config=config, num_samples=3)
    MODES["augment"].run(request)
    out = tmp_path / "run_augmented.png"
    assert f"3 images of embedded:mnist5k as translation augments them, p from 0 to 1: {out}" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.size[1] == 6 * 30 + 2
        assert picture.size[0] > 3 * 30 + 2  # the chances stand before the rows
    assert not (tmp_path / "run").exists()
    config.augment.name = "none"
    with pytest.raises(UserError, match="nothing to show"):
        MODES["augment"].run(request)
    config.augment.name = "translation"
    with pytest.raises(UserError, match=r"must end in \.png"):
        MODES["augment"].run(Request(tmp_path / "run", config=config, out=Path("x.npz")))
