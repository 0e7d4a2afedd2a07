"""Figures on a generator and discriminator: features, the evaluator, monitors."""

import dataclasses
import hashlib
import http.server
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from gan_jax import build, data, stages
from gan_jax.cli.modes import MODES
from gan_jax.cli.request import Request
from gan_jax.core.state import GANState
from gan_jax.data import Dataset
from gan_jax.data.order import shuffled
from gan_jax.evaluate import Evaluator, classifier, find, gan_train, inception, metrics, monitors, neighbours
from gan_jax.evaluate.extractors import Extractor
from gan_jax.evaluate.gan_train import Joined
from gan_jax.evaluate.held_out import held_out
from gan_jax.training.run import Run
from gan_jax.training.train import train
from gan_jax.util.errors import UserError
from tests.helpers import MEANS, data_options, fidelity_without_torchvision, small, trained_gan


def means(images: jax.Array) -> jax.Array:
    """Features of a user's own: the mean of each of 4 x 4 parts."""
    n, h, w, c = images.shape
    return images.reshape(n, 4, h // 4, 4, w // 4, c).astype(jnp.float32).mean((2, 4, 5)).reshape(n, 16)


def mnist() -> Dataset:
    return data.load(data_options(), None)


def test_held_out_is_the_mean_probability_of_real_and_keeps_the_two_sets_apart() -> None:
    gan, state = trained_gan()
    images = np.random.default_rng(0).integers(0, 256, (2, 300, 28, 28, 1), np.uint8)
    labels = np.zeros(300, np.int32)
    figures = held_out(gan, state, (images[0], labels), (images[1], labels))
    p = jax.tree.map(np.asarray, state.discriminator.params)
    for name, batch in zip(("d_seen", "d_unseen"), images, strict=True):
        x = batch[:250].reshape(250, -1) / 127.5 - 1
        for layer in ("Dense_0", "Dense_1", "Dense_2"):
            x = x @ p[layer]["kernel"] + p[layer]["bias"]
            x = x if layer == "Dense_2" else np.where(x > 0, x, 0.2 * x)
        assert_allclose(figures[name], (1 / (1 + np.exp(-x))).mean(), rtol=1e-5)
    assert figures["d_seen"] != figures["d_unseen"]
    assert set(held_out(gan, state, (images[0], labels), (images[1][:0], labels[:0]))) == {"d_seen"}


# --- extractors -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_classifier_learns_digits_the_same_each_time_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(classifier._RECIPE, "steps", 120)
    dataset = mnist()
    first = classifier.trained(dataset, tmp_path)
    assert first.accuracy is not None
    assert first.accuracy > 0.9
    again = classifier.fit(dataset.train_images, dataset.train_labels, 10)
    jax.tree.map(np.testing.assert_array_equal, again, first.variables)
    shapes = {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(again)}
    assert shapes["params/Conv_0/kernel"] == (3, 3, 1, 32)
    assert shapes["params/Conv_1/kernel"] == (3, 3, 32, 64)
    assert shapes["params/Dense_0/kernel"] == (7 * 7 * 64, 128)
    assert shapes["params/Dense_1/kernel"] == (128, 10)
    monkeypatch.setattr(classifier, "fit", lambda *_: pytest.fail("trained twice"))
    kept = classifier.trained(dataset, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, kept.variables, first.variables)
    give = find("auto", dataset, tmp_path)
    assert give is not None
    found = give()
    assert found.name == f"classifier:embedded:mnist5k:{first.digest[:8]}"
    assert found.accuracy == first.accuracy


def test_large_images_are_averaged_down_before_they_are_classified() -> None:
    module = classifier.Classifier(3)
    large = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = module.init(jax.random.key(1), large, train=False)
    halved = large.reshape(2, 32, 2, 32, 2, 3).mean((2, 4))
    for a, b in zip(
        jax.tree.leaves(module.apply(variables, large, train=False)),
        jax.tree.leaves(module.apply(variables, halved, train=False)),
        strict=True,
    ):
        assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clasifier", "unknown eval.features 'clasifier'; valid: auto, none, classifier"),
        ("no.such:thing", "eval.features=no.such:thing: ModuleNotFoundError"),
        (
            "tests.evaluate.test_evaluate:nothing",
            r"tests.evaluate.test_evaluate has no function nothing\(images\): write it",
        ),
        ("nowhere/mine.py:means", "eval.features=nowhere/mine.py:means: there is no file nowhere/mine.py"),
        ("means:", "unknown eval.features 'means:'; valid: .* FILE.py:function, package.module:function"),
        ("inception:no/such.pth", "cannot read the weights in no/such.pth: No such file"),
        ("classifier", "needs labels of two classes or more, and x has none"),
    ],
)
def test_features_that_cannot_be_had_are_one_line(name: str, message: str, tmp_path: Path) -> None:
    none = np.zeros(0, np.int32)
    dataset = Dataset("x", np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32), np.zeros((0, 8, 8, 1)), none, 0)
    with pytest.raises(UserError, match=message) as error:
        find(name, dataset, tmp_path)
    assert "\n" not in str(error.value)
    assert find("auto", dataset, tmp_path) is None
    assert find("none", dataset, tmp_path) is None


# --- the evaluator ----------------------------------------------------------------------------------------------------


def evaluator(devices: int = 1, samples: int = 130, dataset: Dataset | None = None) -> tuple[Evaluator, GANState]:
    dataset = dataset or mnist()
    gan, state = trained_gan()
    return Evaluator(gan, dataset, find(MEANS, dataset, None), samples, jax.devices()[:devices]), state


def test_figures_are_those_of_the_drawn_features() -> None:
    judge, state = evaluator()
    fake, logits, images = judge.draw(state)
    assert (fake.shape, logits.shape, images.shape) == ((130, 16), (130, 0), (130, 28, 28, 1))
    assert_allclose(fake, images.reshape(130, 4, 7, 4, 7).mean((2, 4)).reshape(130, 16), rtol=1e-5)
    dataset = mnist()
    real = dataset.train_images[judge.train_numbers].reshape(-1, 4, 7, 4, 7).mean((2, 4)).reshape(-1, 16)
    assert_allclose(judge.real, real, rtol=1e-5, atol=1e-5)
    figures = judge.figures(state)
    fid = metrics.frechet_distance(*metrics.moments(real), *metrics.moments(fake))
    assert figures[f"fid[{MEANS}]"] == pytest.approx(fid, rel=1e-5)
    fresh = dataset.test_images[shuffled(500, 1)[:130]].reshape(-1, 4, 7, 4, 7).mean((2, 4)).reshape(-1, 16)
    floor = metrics.frechet_distance(*metrics.moments(real), *metrics.moments(fresh))
    assert judge.floor[f"fid[{MEANS}]"] == pytest.approx(floor, rel=1e-5)
    assert floor < fid / 10
    assert judge.floor["images"] == figures["eval_samples"] == 130
    assert figures["eval_references"] == 4500
    for name in ("kid", "kid_std", "mind", "precision", "recall", "density", "coverage"):
        assert f"{name}[{MEANS}]" in figures
    assert 0 <= figures["duplicates"] <= 1


def test_where_it_costs_little_the_current_weights_are_judged_too() -> None:
    gan, state = trained_gan()
    own = Extractor("own", lambda _, images: (means(images), jnp.zeros((len(images), 0))), {}, quick=True)
    judge = Evaluator(gan, mnist(), lambda: own, 40, jax.devices()[:1])
    other = jax.tree.map(lambda leaf: leaf + 0.2, state.generator.params)
    changed = state.replace(generator=state.generator.replace(params=other))
    figures = judge.figures(changed)
    current = judge.draw(changed.replace(averages={"ema": changed.generator.variables}))[0]
    desired = metrics.frechet_distance(*metrics.moments(judge.real), *metrics.moments(current))
    assert figures["fid_current[own]"] == pytest.approx(desired, rel=1e-6)
    assert figures["fid[own]"] == judge.figures(state)["fid[own]"] != figures["fid_current[own]"]
    slow = dataclasses.replace(own, quick=False)
    assert "fid_current[own]" not in Evaluator(gan, mnist(), lambda: slow, 40, jax.devices()[:1]).figures(state)


def test_features_of_the_data_are_kept_by_their_extractors_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gan, _ = trained_gan()

    def judge(extractor: Extractor) -> Evaluator:
        return Evaluator(gan, mnist(), lambda: extractor, 40, jax.devices()[:1], tmp_path)

    one = Extractor("one", lambda _, images: (means(images), jnp.zeros((len(images), 0))), {})
    first = judge(one)
    assert not first.ready
    first.prepare()
    assert first.ready
    refused = dataclasses.replace(one, apply=lambda *_: pytest.fail("extracted twice"))
    kept = judge(refused)
    np.testing.assert_array_equal(kept.real, first.real)
    assert kept.floor == first.floor
    (file,) = tmp_path.glob("features-*.npz")
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(judge(one).real, first.real)
    other = dataclasses.replace(
        one, name="other", apply=lambda _, images: (2 * means(images), jnp.zeros((len(images), 0)))
    )
    np.testing.assert_array_equal(judge(other).real, 2 * first.real)
    judge(dataclasses.replace(one, name="a.module:function", pure=False))
    assert len(list(tmp_path.glob("features-*.npz"))) == 2
    others = dataclasses.replace(mnist(), test_images=255 - np.asarray(mnist().test_images))
    floor = Evaluator(gan, others, lambda: one, 40, jax.devices()[:1], tmp_path).floor
    assert floor["fid[one]"] > 2 * first.floor["fid[one]"]


@pytest.mark.slow
def test_a_run_is_evaluated_on_its_own_images_wherever_they_lie(tmp_path: Path) -> None:
    config, file = small("gan"), tmp_path / "images.npz"
    config.data.update({"source": "npz", "dir": str(file), "labels": True})
    config.eval.features = MEANS
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    np.savez(file, images=images, labels=np.zeros(40, int))
    train(config, tmp_path / "run", jax.devices()[:1])

    def evaluate(**overrides: Any) -> dict[str, Any]:
        for old in (tmp_path / "run").glob("evaluation_*.json"):
            old.unlink()
        MODES["evaluate"].run(Request(tmp_path / "run", num_samples=12, overrides=overrides))
        (found,) = (tmp_path / "run").glob("evaluation_*.json")
        figures: dict[str, Any] = json.loads(found.read_text())
        return figures

    first = evaluate()
    file.rename(tmp_path / "moved.npz")
    assert evaluate(**{"data.dir": str(tmp_path / "moved.npz")}) == first
    np.savez(file, images=images[::-1], labels=np.zeros(40, int))
    with pytest.raises(UserError, match="the images of npz:images are not those that the run"):
        evaluate()


def test_classes_are_judged_beside_those_that_are_seen_in_the_data(tmp_path: Path) -> None:
    """By the same classifier, however wrong it is."""

    def bright(images: Any) -> Any:
        return (images.reshape(len(images), -1).mean(-1) > 46.3).astype(int)  # of few digits

    gan, state = trained_gan()
    one = Extractor("one", lambda _, images: (means(images), jax.nn.one_hot(bright(images), 41)), {}, classes=True)
    dataset = mnist()
    first, kept = (Evaluator(gan, dataset, lambda: one, 130, jax.devices()[:1], tmp_path) for _ in range(2))
    real = bright(dataset.train_images[np.arange(4500)])
    assert 0.05 < real.mean() < 0.15
    fake = bright(first.draw(state)[2])
    assert first.figures(state)["class_distance"] == pytest.approx(abs(fake.mean() - real.mean()), rel=1e-6)
    assert set(first.itself) == {"duplicates", "class_distance"}
    assert 0 < first.itself["class_distance"] < 0.06
    assert 0 < first.itself["duplicates"] < 0.1  # 130 of 4,500: 1.4 % are drawn twice
    kept.prepare()
    assert kept.itself == first.itself
    assert kept.figures(state)["class_distance"] == first.figures(state)["class_distance"]


def test_each_class_is_judged_beside_its_own_images() -> None:
    """FID by SciPy, of the samples that were asked for a class and of that class's images."""
    gan, state = trained_gan()
    two = Extractor("two", lambda _, images: (_halves(images), jnp.zeros((len(images), 0))), {})
    dataset = mnist()
    judge = Evaluator(gan, dataset, lambda: two, 300, jax.devices()[:1])
    drawn = judge.draw(state)
    found, asked = judge.by_class(drawn), judge.labels(np.arange(300))
    assert set(found) == {"fid_within[two]", *(f"fid_of_{digit}[two]" for digit in range(10))}
    for digit in (0, 7):
        real = _halves(dataset.train_images[dataset.train_labels == digit])
        fake = drawn[0][asked == digit]
        between = np.square(real.mean(0) - fake.mean(0)).sum()
        covariances = [np.cov(x, rowvar=False) for x in (real, fake)]
        between += np.trace(sum(covariances) - 2 * scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real)
        assert found[f"fid_of_{digit}[two]"] == pytest.approx(between, rel=1e-4)
    assert found["fid_within[two]"] == pytest.approx(np.mean([v for k, v in found.items() if "within" not in k]))


def _halves(images: Any) -> Any:
    """Means of the upper and of the lower half."""
    return images.reshape(len(images), 2, -1).mean(-1) / 255


def test_one_class_has_no_entropy() -> None:
    gan, state = trained_gan()
    one = Extractor("one", lambda _, images: (means(images), jnp.zeros((len(images), 1))), {}, classes=True)
    judge = Evaluator(gan, mnist(), lambda: one, 40, jax.devices()[:1])
    assert not {"class_entropy", "class_distance"} & (judge.figures(state).keys() | judge.itself.keys())


def test_figures_are_the_same_on_any_number_of_devices_and_leave_the_state_alone() -> None:
    one, state = evaluator(1)
    before = jax.tree.map(np.array, state)
    figures = one.figures(state)
    assert figures == one.figures(state)
    assert figures == evaluator(8)[0].figures(state)
    jax.tree.map(np.testing.assert_array_equal, state, before)


def test_with_and_without_evaluation_training_ends_the_same_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small("gan")
    plain = jax.device_get(train(config, tmp_path / "plain", jax.devices()[:2]))
    config.eval.update({"features": MEANS, "every": 2})
    judged = jax.device_get(train(config, tmp_path / "judged", jax.devices()[:2]))
    jax.tree.map(np.testing.assert_array_equal, plain, judged)
    summary = json.loads((tmp_path / "judged" / "summary.json").read_text())
    assert {f"fid[{MEANS}]", "verdict", "floor", "g_loss_oscillation"} <= summary.keys()
    fid, floor = summary[f"fid[{MEANS}]"], summary["floor"][f"fid[{MEANS}]"]
    out, bars = capsys.readouterr()
    ends = [line for line in out.splitlines() if ": d loss " in line]
    assert f", fid {fid:.3g}" in bars.splitlines()[-1]
    assert ["fid" in line for line in ends] == [False, True]
    assert ends[1].startswith(summary["verdict"])
    log = [json.loads(line) for line in (tmp_path / "judged" / "metrics.jsonl").read_text().splitlines()]
    found = {record["step"]: record[f"fid[{MEANS}]"] for record in log if f"fid[{MEANS}]" in record}
    best = min(found.values())
    assert best == summary[f"best_fid[{MEANS}]"]
    assert found[summary[f"best_fid_step[{MEANS}]"]] == best
    said = "the best so far" if fid == best else f"best {best:.3g} at step {summary[f'best_fid_step[{MEANS}]']}"
    assert ends[1].endswith(f", fid {fid:.3g} ({said}, 40 fresh images {floor:.3g})")
    printed = [line for line in out.splitlines() if line.startswith("step ")]
    assert [line.split()[:4] for line in printed] == [
        ["step", f"{n}", "fid", f"{value:.3g}"] for n, value in found.items()
    ]


def test_neighbours_are_a_sample_and_the_train_images_nearest_to_it() -> None:
    dataset = mnist()
    judge, state = evaluator(dataset=dataset)
    picture = neighbours(judge, judge.draw(state), dataset, rows=3)
    assert picture.shape == (6 * 6, 28, 28, 1)
    features = np.asarray(means(jnp.asarray(picture)))
    for row in features.reshape(6, 6, 16):
        direct = np.linalg.norm(judge.real - row[0], axis=1)
        assert_allclose(np.linalg.norm(row[1:] - row[0], axis=1), np.sort(direct)[:5], rtol=1e-4)


# --- monitors ---------------------------------------------------------------------------------------------------------


def test_duplicates_tell_collapse_from_health() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(1000, 8))
    assert monitors.duplicates(real, rng.normal(size=(1000, 8))) < 0.03
    few = rng.normal(size=(20, 8))[rng.integers(0, 20, 1000)]
    assert monitors.duplicates(real, few + 1e-6 * rng.normal(size=(1000, 8))) == 1
    half = np.concatenate([few[:500], rng.normal(size=(500, 8))])
    assert 0.45 < monitors.duplicates(real, half) < 0.55


def test_class_entropy_is_that_of_the_counts() -> None:
    assert monitors.class_entropy(np.eye(4)[np.arange(400) % 4]) == pytest.approx(1)
    assert monitors.class_entropy(np.eye(4)[np.zeros(400, int)]) == 0
    p = np.array([0.5, 0.25, 0.25])
    logits = np.eye(4)[np.repeat([0, 1, 2], [200, 100, 100])]
    assert monitors.class_entropy(logits) == pytest.approx(-(p * np.log(p)).sum() / np.log(4))


def test_duplicates_do_not_mind_those_that_the_data_has() -> None:
    """Neither copies nor near copies make a healthy GAN collapsed, nor do they hide one that is."""
    rng = np.random.default_rng(0)
    fake, one = rng.normal(size=(1000, 8)), np.ones((1000, 8)) + 0.01 * rng.normal(size=(1000, 8))
    plain = rng.normal(size=(1000, 8))
    for noise in (0, 1e-4):
        twice = np.concatenate([plain, plain[:100] + noise * rng.normal(size=(100, 8))])[rng.permutation(1100)]
        assert monitors.duplicates(twice, fake) < 0.03
        assert monitors.duplicates(twice, one) == 1
    assert monitors.duplicates(np.repeat(plain[:500], 2, 0), fake) < 0.06  # of 1,000 among 500
    assert monitors.duplicates(np.repeat(plain[:500], 2, 0), one) == 1
    assert monitors.duplicates(np.repeat(plain[:1], 50, 0), fake) == 0


def test_class_distance_is_the_share_that_is_of_the_wrong_class() -> None:
    real = np.repeat([0, 40], [93, 7])
    assert monitors.class_distance(real, np.repeat([40, 0], [7, 93])) == 0
    assert monitors.class_distance(real, np.zeros(50, int)) == pytest.approx(0.07)
    assert monitors.class_distance(real, np.full(50, 40)) == pytest.approx(0.93)
    assert monitors.class_distance(np.arange(10), np.repeat(np.arange(5), 7)) == pytest.approx(0.5)
    assert monitors.class_distance(np.array([0]), np.array([3])) == 1


def log(**last: float) -> list[dict[str, float]]:
    """A healthy log of 5,000 steps, a line each 100, whose last fifth has other figures."""
    healthy = {"d_loss": 1.2, "g_loss": 0.9, "d_accuracy_real": 0.7, "d_accuracy_fake": 0.75}
    start: list[dict[str, float]] = [{"step": i, **healthy} for i in range(100, 4001, 100)]
    return start + [{"step": i, **healthy, **last} for i in range(4100, 5001, 100)]


@pytest.mark.parametrize(
    ("last", "desired"),
    [
        ({}, "healthy"),
        ({"class_distance": 0.1, "duplicates": 0.02}, "healthy"),
        ({"class_entropy": 0.01}, "healthy"),  # as it may be in the data
        ({"class_distance": 0.5}, "collapsed"),
        ({"duplicates": 0.8}, "collapsed"),
        ({"d_accuracy_real": 1.0, "d_accuracy_fake": 0.999}, "D won"),
        ({"d_accuracy_real": 1.0, "d_accuracy_fake": 0.9}, "healthy"),
        ({"g_loss": 1e5}, "diverged"),
        ({"g_loss": float("nan")}, "diverged"),
    ],
)
def test_the_verdict_follows_its_rules(last: dict[str, float], desired: str) -> None:
    name, why = monitors.verdict(log(**last), 5000)
    assert name == desired
    assert "d accuracy real" in why


def test_collapse_is_judged_beside_draws_from_the_data() -> None:
    few = {"duplicates": 0.6, "class_distance": 0.3}  # as of a hundred images of a hundred classes
    for figures, desired in (
        ({"duplicates": 0.7}, "healthy"),
        ({"duplicates": 0.73}, "collapsed"),  # .6 + .3 x .4 = .72
        ({"class_distance": 0.6}, "healthy"),
        ({"class_distance": 0.63}, "collapsed"),  # .3 + .45 x .7 = .615
    ):
        assert monitors.verdict(log(**figures), 5000, few)[0] == desired, figures
    said = monitors.verdict(log(duplicates=0.7), 5000, few)[1]
    assert "duplicates 0.7 (draws from the data 0.6)" in said
    assert monitors.verdict(log(duplicates=1.0), 5000, {"duplicates": 1.0})[0] == "healthy"  # nobody can know


def test_a_critic_has_no_scale_and_may_tell_all_apart() -> None:
    apart = {"d_accuracy_real": 1.0, "d_accuracy_fake": 1.0}
    assert monitors.verdict(log(**apart), 5000, critic=True)[0] == "healthy"
    drifting = [{"step": i, "d_loss": -40.0, "g_loss": 0.6 * i} for i in range(100, 5001, 100)]
    assert monitors.verdict(drifting, 5000, critic=True)[0] == "healthy"
    assert monitors.verdict(drifting, 5000)[0] == "diverged"
    assert monitors.verdict(log(g_loss=1e5), 5000, critic=True)[0] == "diverged"
    assert monitors.verdict(log(g_loss=1e5)[-1:], 5000, critic=True)[0] == "healthy"  # there is nothing before
    assert monitors.verdict(log(g_loss=float("inf")), 5000, critic=True)[0] == "diverged"


def test_a_loss_of_large_weights_may_be_large() -> None:
    assert monitors.verdict(log(g_loss=2e4), 5000, scale=100.0)[0] == "healthy"
    assert monitors.verdict(log(g_loss=2e5), 5000, scale=100.0)[0] == "diverged"


def test_d_has_not_won_while_the_distance_falls() -> None:
    records = log(d_accuracy_real=1.0, d_accuracy_fake=1.0)
    records[9]["fid[x]"] = 100.0
    for last, desired in ((90.0, "healthy"), (96.0, "D won"), (170.0, "D won")):
        records[-1]["fid[x]"] = last
        assert monitors.verdict(records, 5000)[0] == desired, last


def test_a_distance_that_rose_by_half_from_its_best_is_told() -> None:
    records = log()
    records[1]["fid[x]"], records[9]["fid[x]"] = 52.6, 60.0
    for last, desired in ((78.0, "healthy"), (285.0, "past its best")):
        records[-1]["fid[x]"] = last
        assert monitors.verdict(records, 5000)[0] == desired
    assert monitors.best(records) == {"fid[x]": (52.6, 200)}
    records[1]["eval_samples"], records[9]["eval_samples"], records[-1]["eval_samples"] = 100.0, 2000.0, 2000.0
    assert monitors.best(records) == {"fid[x]": (60.0, 1000)}  # of as many samples as now
    records[-1]["fid[x]"] = 80.0
    assert monitors.verdict(records, 5000)[0] == "healthy"


def test_a_run_of_few_updates_says_nothing_but_divergence() -> None:
    """However many or few lines its log has."""
    assert monitors.verdict(log(class_distance=0.9), 499)[0] == "too short to say"
    assert monitors.verdict(log(class_distance=0.9), 500)[0] == "collapsed"
    assert monitors.verdict(log(class_distance=0.9)[-1:], 5000)[0] == "collapsed"
    assert monitors.verdict(log(g_loss=1e5), 10)[0] == "diverged"


def test_an_evaluation_before_the_last_fifth_still_counts() -> None:
    records = log()
    records[10]["class_distance"] = 0.9
    assert monitors.verdict(records, 5000)[0] == "collapsed"


def test_the_means_of_a_verdict_are_over_steps_not_lines() -> None:
    """Lines are means themselves: of 100 steps, and of 10 at an evaluation between two of them."""
    early = {"step": 800, "d_loss": 1.0, "g_loss": 1.0}
    late = [{"step": 900, "d_loss": 1.0, "g_loss": 1.0}, {"step": 910, "d_loss": 12.0, "g_loss": 1.0}]
    said = monitors.verdict([early, *late, {"step": 1000, "d_loss": 2.0, "g_loss": 1.0}], 1000)[1]
    assert f"d loss {(100 * 1 + 10 * 12 + 90 * 2) / 200:.3g}," in said


def test_the_verdict_is_told_what_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a critic that is warmed up: in its first 500 steps G moves 25 times, and then in 481 of the last 500."""
    config, told = small("wgan"), {}
    config.steps = 1000
    config.schedules.critic_first.update({"moves": 25.0, "factor": 20.0, "period": 481.0})
    config.terms.adversarial.weight, config.terms.reconstruction.weight = 30.0, 1e6  # the second has nothing to decode
    gan, _ = build.build_gan(config)

    def verdict(records: Any, updates: int, data: Any, **rest: Any) -> tuple[str, str]:
        told.update({"updates": updates, "data": data, **rest})
        return "healthy", ""

    monkeypatch.setattr(monitors, "verdict", verdict)
    run = Run.__new__(Run)
    run.config, run.gan, run.evaluator = config, gan, SimpleNamespace(itself={"duplicates": 0.5})  # type: ignore[assignment]
    run.stage = stages.plan(config)[-1]
    run.verdict([])
    assert told == {"updates": 25 + 481, "data": {"duplicates": 0.5}, "critic": True, "scale": 30.0}
    run.config, run.gan = small("gan"), build.build_gan(small("gan"))[0]
    run.stage = stages.plan(run.config)[-1]
    run.verdict([])
    assert told == {"updates": 10, "data": {"duplicates": 0.5}, "critic": False, "scale": 1.0}


def test_oscillation_is_the_spread_over_the_size() -> None:
    values = [100.0] * 8 + [1.0, 3.0]
    records = [{"step": float(step), "g_loss": value} for step, value in enumerate(values, 1)]
    assert monitors.oscillation(records) == pytest.approx(0.5)
    assert monitors.oscillation([{"step": 1.0, "d_loss": 1.0}]) == 0


# --- GAN-train --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_classifiers_learn_from_samples_what_these_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(classifier._RECIPE, "steps", 60)
    dataset = mnist()
    good, labels = dataset.train_images[np.arange(600) * 7], dataset.train_labels[np.arange(600) * 7]
    found = gan_train(dataset, good, labels, 1)
    assert set(found) == {f"{n}{s}" for n in ("gan_train", "gan_test", "real_train", "augmented") for s in ("", "_std")}
    assert min(found["gan_train"], found["gan_test"], found["real_train"], found["augmented"]) > 0.75
    assert found["real_train_std"] == 0
    wrong = gan_train(dataset, good, (labels + 1) % 10, 1)
    assert wrong["gan_train"] < 0.15
    assert wrong["gan_test"] < 0.15
    assert wrong["real_train"] > 0.75


def test_two_sets_of_images_are_read_as_one() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 2, 3, 1), np.uint8)
    both = Joined(images[:4], images[4:])
    numbers = np.asarray([8, 0, 3, 4, 4])
    np.testing.assert_array_equal(both[numbers], images[numbers])
    assert len(both) == 9


# --- Inception --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_inception_is_torch_fidelitys_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fidelity_without_torchvision(monkeypatch)
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as module

    torch.manual_seed(0)
    kind = module.FeatureExtractorInceptionV3
    layers, maps = ["2048", "logits_unbiased"], list[np.ndarray]()
    monkeypatch.setattr(kind, "load_state_dict", lambda self, state: None)
    monkeypatch.setattr(torch, "load", lambda *a, **k: {})
    theirs = kind("inception-v3-compat", layers, feature_extractor_weights_path="any")
    monkeypatch.undo()
    for name, value in theirs.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif value.dim() == 4:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), np.uint8)
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda *told: maps.append(told[2].numpy()))
    with torch.no_grad():
        expected = [x.numpy() for x in theirs(torch.tensor(images.transpose(0, 3, 1, 2)))]
    for form in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(theirs.state_dict(), tmp_path / "weights.pth", **form)
        variables = inception.load(tmp_path / "weights.pth")
    actual = jax.jit(inception.Inception().apply)(variables, images)
    for ours, desired in zip(actual, expected, strict=True):
        assert_allclose(ours, desired, atol=1e-4 * np.abs(desired).max(), rtol=1e-4)
    ours, logits = jax.jit(inception.Inception(spatial=True).apply)(variables, images)
    assert (ours.shape, logits.shape) == ((2, 2023), (2, 0))
    spatial = maps[0][:, :7].transpose(0, 2, 3, 1).reshape(2, -1)  # 7 of 192 channels of 17x17
    assert_allclose(ours, spatial, atol=1e-4 * np.abs(spatial).max(), rtol=1e-4)


@pytest.mark.parametrize("content", [b"the weights", b"something else", None])
def test_weights_are_fetched_once_and_checked(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: Any) -> None:
            pass

    asked: list[str] = []
    name = f"weights-{hashlib.sha256(b'the weights').hexdigest()[:8]}.pth"
    with http.server.HTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(inception, "_FILE", name)
        monkeypatch.setattr(inception, "_URL", f"http://localhost:{server.server_port}/{name}")
        if content == b"the weights":
            assert inception.fetched(tmp_path).read_bytes() == content
            inception.fetched(tmp_path)
        else:
            message = (
                r"and can't be fetched \(Not Found\)" if content is None else "a file of SHA-256 [0-9a-f]{8}, which"
            )
            with pytest.raises(UserError, match=message):
                inception.fetched(tmp_path)
            assert not list(tmp_path.iterdir())
        server.shutdown()
    assert asked == [f"/{name}"]
    if content == b"something else":  # the server is gone, as without a network
        with pytest.raises(UserError, match=f"weights are missing: .*{name}, and can't be fetched .*eval.features=inc"):
            inception.fetched(tmp_path)


def test_weights_are_read_without_running_what_they_name(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return print, ("run",)

    for content in (b"", b"text", pickle.dumps(Evil()), pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(Evil())):
        (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read the weights in .*weights\.pth"):
            inception.load(tmp_path / "weights.pth")


def test_too_few_images_to_compare_with_are_refused_in_one_line() -> None:
    config = small("gan")
    config.eval.features = "tests.evaluate.test_evaluate:means"
    gan, _ = build.build_gan(config)
    whole = build.build_dataset(config, None)
    nine = np.arange(9)
    few = dataclasses.replace(whole, train_images=whole.train_images[nine], train_labels=whole.train_labels[nine])
    with pytest.raises(UserError, match=r"has 9 images .* an evaluation needs 10 or more: .*eval.features='none'"):
        build.build_evaluator(config, gan, few, None, jax.devices()[:1])
    config.eval.features = "none"
    assert build.build_evaluator(config, gan, few, None, jax.devices()[:1]).extractor is None
