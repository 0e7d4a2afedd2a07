"""What is suggested for a key that isn't there, and other words to who errs: as a colleague would say them."""

from pathlib import Path

import pytest

from gan_jax import config
from gan_jax.runs.workdir import Workdir
from gan_jax.sweeps import planning
from gan_jax.training import train
from gan_jax.util import hints
from gan_jax.util.errors import UserError
from tests.helpers import ONE, small

G, D = "optimizer.generator", "optimizer.discriminator"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", {f"{G}.learning_rate", f"{D}.learning_rate"}),
        ("optimizer.generator.lr", {f"{G}.learning_rate"}),
        ("optimizer.lr", {f"{G}.learning_rate", f"{D}.learning_rate"}),
        ("learning-rate", {f"{G}.learning_rate", f"{D}.learning_rate"}),
        ("learningrate", {f"{G}.learning_rate", f"{D}.learning_rate"}),
        ("g_lr", {f"{G}.learning_rate"}),
        ("lr_d", {f"{D}.learning_rate"}),
        ("optimizer.discriminator.beta1", {f"{D}.b1"}),
        ("bs", {"batch_size"}),
        ("batch", {"batch_size"}),
        ("epochs", {"steps"}),
        ("gamma", {"terms.r1.weight"}),
        ("z_dim", {"latent_dim"}),
        ("n_critic", {"d_steps"}),
        ("log.ever", {"log.every"}),
        ("stepz", {"steps"}),
        ("generator.width", {"generator.widths"}),
        ("xyzzy", set()),
    ],
)
def test_a_key_is_known_by_other_names_by_its_end_and_by_spelling(key: str, meant: set[str]) -> None:
    known = config.dotted_keys(small("dcgan"))
    assert set(hints.likely(key, known)) == meant
    said = str(hints.unknown_key(key, known))
    assert all(repr(one) in said for one in meant)
    assert len(said) < 250


def test_every_name_of_others_leads_to_keys_that_there_are() -> None:
    known = config.dotted_keys(small("dcgan"))
    for name, ours in hints.ALIASES.items():
        assert any(f".{key}".endswith(f".{ours}") for key in known), name
        assert not any(f".{key}".endswith(f".{name}") for key in known), f"{name} is a key here"


def test_of_a_group_its_keys_are_said() -> None:
    said = str(hints.unknown_key("log.xyzzy", config.dotted_keys(small("dcgan"))))
    assert said == ("unknown config key 'log.xyzzy'; config.log has every, track; docs/config.md explains all keys")


@pytest.fixture
def begun(tmp_path: Path) -> Workdir:
    """A run on a folder of cats."""
    place, cats = Workdir(tmp_path / "dcgan_folder"), small("gan")
    cats.data.update({"source": "folder", "dir": str(tmp_path / "cats")})
    place.check_data("folder:cats", "1234", 5)
    place.claim(cats)
    (place.path / "metrics.jsonl").write_text('{"step": 1, "seconds": 0.5}\n')
    return place


def test_a_folder_that_is_not_there_is_said_before_what_else_differs(begun: Workdir, tmp_path: Path) -> None:
    dogs = small("gan")
    dogs.data.update({"source": "folder", "dir": str(tmp_path / "dgos")})
    dogs.loss = "hinge"
    for data_source, kind in (("folder", "a folder of images"), ("npz", "an .npz or .npy file")):
        dogs.data.source = data_source
        with pytest.raises(UserError, match=f"data.dir: .*dgos' is not there; the {data_source} source needs {kind}"):
            train.train(dogs, begun.path, ONE)
    dogs.data.source = "folder"
    begun.path.rename(tmp_path / "000")
    with pytest.raises(UserError, match=r"data.dir: .*dgos' is not there"):
        planning.plan(dogs, [{}], tmp_path)
    (tmp_path / "dgos").mkdir()
    said = r"holds a run with other settings \(loss: non_saturating -> hinge; data.dir: /.*\): give another --workdir"
    with pytest.raises(
        UserError, match=f"{said} to train with these, or leave them as they were to go on with that run"
    ):
        train.train(dogs, tmp_path / "000", ONE)


def test_two_folders_in_one_workdir_are_told_apart(begun: Workdir) -> None:
    with pytest.raises(UserError) as error:
        begun.check_data("folder:my dogs", "5678", 6)
    assert str(error.value) == (
        f"{begun.path} holds a run on folder:cats, and the data is folder:my dogs now: give another --workdir to train "
        f"on it, e.g. --workdir={begun.path}_my_dogs"
    )
