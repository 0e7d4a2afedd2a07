"""The benchmark beside PyTorch: that both sides do the same work, and that it would say so if they didn't."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")

from collections.abc import Callable
from typing import Any

import torch
from ml_collections import ConfigDict

from benchmarks import train_step
from benchmarks.program import case_config, cycle
from benchmarks.sides import Apart, Counter, Ours, Torch, torch_side
from benchmarks.torch_biggan import Attention
from benchmarks.torch_reference import Spectral, Trainer
from benchmarks.train_step import TOLERANCE, difference

WIDTHS = {"a": ((16, 8), (8, 16)), "d": ((6, 5), (6, 5, 5)), "e": ((6, 5), (6, 5, 5))}


def narrow(name: str) -> ConfigDict:
    """A case with small networks on small images."""
    config = case_config(name)
    config.generator.widths, config.discriminator.widths = WIDTHS[name]
    config.update({"batch_size": 8, "latent_dim": 8, "d_steps": {"a": 1, "d": 1, "e": 2}[name]})
    config.data.image_size = 16
    if name == "e":
        config.generator.first = 7
    return config


def narrow_modern(name: str) -> ConfigDict:
    """R3GAN's or StyleGAN2's, as small."""
    config = case_config(name)
    config.update({"batch_size": 4, "latent_dim": 5})
    config.data.image_size = 8
    stages = {"widths": (6, 6), "blocks": (1, 1), "groups": (3, 3)}
    shared = stages if name.startswith("f") else {"channel_base": 48, "channel_max": 6}
    config.generator.update(shared | ({"w_dim": 6} if name.startswith("g") else {}))
    config.discriminator.update(shared)
    return config


def narrow_big(name: str) -> ConfigDict:
    """SAGAN's or BigGAN's, as small; attention is above its gate of 0 from the first step's end on alone."""
    config = case_config(name)
    config.update({"batch_size": 4, "latent_dim": 6, "d_steps": 1})
    config.data.image_size = 16
    config.generator.update({"widths": (16, 8), "first": 5, "attention": 8})
    config.discriminator.update({"widths": (8, 6), "downs": 1, "attention": 8})
    if name.startswith("i"):
        config.generator.embedding = 3
    return config


def measured(repeats: int, apart: float | None = None) -> list[dict[str, Any]]:
    rows, sides = train_step.made(narrow("a"), [("float32", None), ("float32", "")], 1, apart)
    train_step.take_turns(rows, sides, repeats, 1)
    train_step.finish(rows, {"float32": 100.0}, 10.0)
    for side in sides.values():
        side.end()
    return rows


def no_power_iteration(trainer: Trainer) -> None:
    for layer in trainer.discriminator.modules():
        if isinstance(layer, Spectral):
            layer.track_running_stats = False
            layer.register_forward_pre_hook(lambda layer, _: setattr(layer, "track_running_stats", False))


def faster(trainer: Trainer) -> None:
    trainer.g_optimizer.param_groups[0]["lr"] *= 1.5


def less_penalty(trainer: Trainer) -> None:
    trainer.penalty *= 0.9


def other_loss(trainer: Trainer) -> None:
    trainer.loss = "wasserstein"


def less_r1(trainer: Any) -> None:
    trainer.r1 = trainer.r1._replace(weight=0.9 * trainer.r1.weight)


def less_r2(trainer: Any) -> None:
    trainer.r2 = trainer.r2._replace(weight=0.9 * trainer.r2.weight)


def shorter_paths(trainer: Any) -> None:
    trainer.path_length = trainer.path_length._replace(weight=0.9 * trainer.path_length.weight)


def penalty_in_every_step(trainer: Any) -> None:
    trainer.r1 = trainer.r1._replace(every=1)


def other_gate(trainer: Any) -> None:
    for layer in trainer.discriminator.modules():
        if isinstance(layer, Attention):
            layer.gate.data.fill_(0.5)


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        pytest.param("a", (faster, other_loss), marks=pytest.mark.slow),
        pytest.param("d", (less_penalty,), marks=pytest.mark.slow),
        pytest.param("e", (no_power_iteration,), marks=pytest.mark.slow),
        pytest.param("f32", (less_r1, less_r2, faster, other_loss), marks=pytest.mark.slow),
        pytest.param("g32", (less_r1, shorter_paths, penalty_in_every_step), marks=pytest.mark.slow),
        pytest.param("h32", (no_power_iteration, faster), marks=pytest.mark.slow),
        pytest.param("i32wide", (no_power_iteration, other_gate), marks=pytest.mark.slow),
    ],
)
def test_the_same_work_is_checked(name: str, faults: tuple[Callable[[Any], None], ...]) -> None:
    config = narrow if name in WIDTHS else narrow_modern if name[0] in "fg" else narrow_big
    ours = Ours(config(name), "float32", 1)
    expected = ours.first()
    for precision in ("float32", "float64"):
        assert difference(torch_side(ours, precision).first(), expected) < TOLERANCE / 10
    rows: list[dict[str, Any]] = [{}]
    train_step.arithmetic(rows, {0: torch_side(ours, "float32")})
    assert "error" not in rows[0]
    assert rows[0]["gflop_per_step"] > 0
    assert rows[0]["gb_per_step"] > 0
    for fault in faults:
        theirs = torch_side(ours, "float32")
        fault(theirs.trainer)
        assert difference(theirs.first(), expected) > TOLERANCE


@pytest.mark.parametrize(("name", "steps"), [("a", 1), ("d", 1), ("f64", 1), ("g32", 16), ("g64", 16)])
def test_a_cycle_has_each_penalty(name: str, steps: int) -> None:
    assert cycle(case_config(name)) == steps


@pytest.mark.slow
def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured(2)
    assert [row["name"] for row in rows] == ["gan_jax", "PyTorch eager"]
    for row in rows:
        assert "error" not in row
        assert len(row["milliseconds"]) == 2
    assert rows[1]["ratio_same"] == rows[1]["ratio_any"] == 1
    assert len(train_step.table(rows).splitlines()) == 3

    def out_of_memory(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Torch, "run", out_of_memory)
    rows = measured(1)
    assert "RuntimeError: out of memory" in train_step.table(rows)
    assert rows[0]["ms"] > 0


@pytest.mark.slow
def test_rows_of_processes_of_their_own() -> None:
    rows = measured(2, apart=300)
    assert [row["name"] for row in rows] == ["gan_jax", "PyTorch eager"]
    for row in rows:
        assert "error" not in row
        assert len(row["milliseconds"]) == 2
        assert row["losses_off"] < TOLERANCE
        assert row["gflop_per_step"] > 0
    rows = measured(2, apart=0.01)
    assert all("first takes longer than 0 s" in row["error"] for row in rows)
    assert not Apart.living


@pytest.mark.slow
def test_what_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Torch.first

    def wrong(self: Torch) -> list[list[float]]:
        if self.precision == "float64":
            other_loss(self.trainer)
        return honest(self)

    monkeypatch.setattr(Torch, "first", wrong)
    monkeypatch.setattr(train_step, "ROUNDINGS", 0.1)
    rows = measured(1)
    for row in rows:
        assert row["differs"]
        assert not row["milliseconds"]
    assert "off those in float64" in train_step.table(rows)


def test_arithmetic_and_bytes_are_counted_to_the_gradient_of_a_gradient() -> None:
    x, w = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5, requires_grad=True)
    with Counter() as count:
        y = x @ w
    assert count.flops == 2 * 3 * 4 * 5
    assert count.bytes == 4 * (12 + 20 + 15)
    with Counter() as count:
        [gradient] = torch.autograd.grad(y.square().sum(), x, create_graph=True)  # (2 y) w'
        gradient.sum().backward()  # two products more each for 2 y and w', and for x and w behind y
    assert count.flops == 2 * 3 * 4 * 5 * (1 + 2 + 2)


def test_not_a_number_differs() -> None:
    assert difference([[float("nan"), 1.0]], [[1.0, 1.0]]) > TOLERANCE


@pytest.mark.parametrize(
    ("flag", "said"), [("--cases=z", "nothing to measure"), ("--precisions=float8", "--precisions are of float32")]
)
def test_wrong_flags(flag: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["train_step", flag])
    with pytest.raises(SystemExit, match="2"):
        train_step.main()
    assert said in capsys.readouterr().err
