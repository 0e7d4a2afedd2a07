"""R3GAN's networks against published counts and PyTorch, its presets against the paper's code."""

import importlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.build import build_gan
from gan_jax.core.state import hyperparams_now, init_state, parameter_count
from gan_jax.models import r3gan
from gan_jax.ops.xla_cpu import for_any_machine
from gan_jax.util.errors import UserError

Array = Any
COUNTS = {
    "cifar10": (20_732_160, 20_683_776),
    "cifar10_cond": (20_781_952, 21_280_512),
    "ffhq64": (22_429_824, 22_381_440),
    "folder@256": (23_057_952, 23_009_568),
    "imagenet32": (82_914_304, 86_548_992),
    "imagenet64": (103_570_432, 107_205_120),
}
# Batch, penalties' weight, the average's half-life at last, the chance of an augmentation at last, millions of images.
NUMBERS = {
    "cifar10": (512, 0.05, 5e6, 0.55, 20),
    "cifar10_cond": (512, 0.05, 5e6, 0.55, 20),
    "ffhq64": (256, 2.0, 5e5, 0.3, 20),
    "folder@256": (256, 150.0, 5e5, 0.3, 20),
    "imagenet32": (4096, 0.5, 5e7, 0.5, 200),
    "imagenet64": (4096, 1.0, 5e7, 0.4, 200),
}


def get_config(preset: str) -> Any:
    return importlib.import_module("configs.r3gan").get_config(preset)


@pytest.mark.parametrize("preset", COUNTS)
def test_a_preset_has_the_published_parameters_and_numbers(preset: str) -> None:
    config = get_config(preset)
    gan, hyper = build_gan(config)
    state = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    assert (parameter_count(state.generator.params), parameter_count(state.discriminator.params)) == COUNTS[preset]
    batch, weight, half_life, p, millions = NUMBERS[preset]
    assert config.batch_size == batch
    assert abs(config.steps * batch - millions * 1e6) < batch
    state = state.replace(hyperparams=hyper, memory={"terms": {}, "schedules": {}})
    for images, share in ((0, 0.0), (millions * 5e5, 0.5), (millions * 1e6, 1.0)):
        now = hyperparams_now(gan, state.replace(step=jnp.float32(images / batch)))

        def between(first: float, last: float, share: float = share) -> Any:
            return pytest.approx(first + share * (last - first), rel=1e-4, abs=1e-9)

        for player in now["optimizer"].values():
            assert float(player["learning_rate"]) == between(2e-4, 5e-5)
            assert (float(player["b1"]), float(player["b2"])) == (0, between(0.9, 0.99))
        assert (
            float(now["terms"]["r1"]["weight"]) == float(now["terms"]["r2"]["weight"]) == between(weight, weight / 10)
        )
        assert float(now["augment"]["p"]) == between(0, p)
        assert float(now["averages"]["ema"]["half_life"]) * batch == between(0, half_life)


def spread(leaf: Array) -> float:
    return float(np.sqrt(np.mean(np.square(leaf))))


def test_initial_values_are_normal_and_blocks_begin_as_identities() -> None:
    """Standard deviation gain / sqrt(fan in); within four standard errors."""
    shape: dict[str, Any] = {"widths": (32, 16), "blocks": (1, 2), "groups": (4, 4), "classes": 10}
    generator = r3gan.Generator((8, 8, 3), conditional="concat", **shape)
    shape |= {"widths": (16, 32), "blocks": (2, 1)}
    discriminator = r3gan.Discriminator(conditional="projection", **shape)
    label = jnp.zeros(1, jnp.int32)
    inputs = {"generator": (generator, jnp.zeros((1, 64))), "discriminator": (discriminator, jnp.zeros((1, 8, 8, 3)))}
    drawn = {
        name: jax.jit(lambda m=m, x=x: m.init(jax.random.key(0), x, train=True, label=label))()["params"]
        for name, (m, x) in inputs.items()
    }
    gain = math.sqrt(2 / 1.04) * 3 ** (-1 / 4)  # 3 blocks
    expected = {
        "generator": {
            "basis": 1.0,
            **{"Linear_0": 10**-0.5, "Linear_1": 128**-0.5, "Linear_2": gain * 32**-0.5, "Linear_3": 0.0},
            **{"Linear_4": 32**-0.5, "Linear_5": gain * 16**-0.5, "Linear_9": 16**-0.5},
            **{"GroupedConv_0": gain * (9 * 16) ** -0.5, "GroupedConv_1": gain * (9 * 8) ** -0.5, "Activation_0": 0.0},
        },
        "discriminator": {
            **{"Linear_0": 3**-0.5, "Linear_1": gain * 16**-0.5, "Linear_2": 0.0, "Linear_5": 16**-0.5},
            **{"Depthwise_0": 1 / 4, "Linear_8": 32**-0.5, "Linear_9": 10**-0.5 * 32**-0.5},
        },
    }
    for player, names in expected.items():
        for name, size in names.items():
            (leaf,) = jax.tree.leaves(drawn[player][name])
            assert spread(leaf) == pytest.approx(size, rel=4 / math.sqrt(2 * leaf.size)), (player, name)


def test_lower_precision_is_of_the_highest_resolutions_alone() -> None:
    """The types in which blocks of each side compute, read from what is traced."""
    shape: dict[str, Any] = {"widths": (4, 4, 4), "blocks": (1, 1, 1), "groups": (2, 2, 2), "low_precision": 2}
    modules = [r3gan.Generator((16, 16, 3), **shape), r3gan.Discriminator(**shape)]
    for module, x in zip(modules, (jnp.zeros((1, 5)), jnp.zeros((1, 16, 16, 3))), strict=True):
        variables = jax.eval_shape(lambda m=module, x=x: m.init(jax.random.key(0), x, train=True))
        with for_any_machine():  # CPUs compute convolutions in groups in float32
            text = str(jax.make_jaxpr(lambda v, m=module, x=x: m.apply(v, x, train=True))(variables))
        for side, kind in ((4, "f32"), (8, "bf16"), (16, "bf16")):
            inside = f"[1,{side},{side},8]"  # of a block
            assert f"{kind}{inside}" in text
            assert f"{({'f32', 'bf16'} - {kind}).pop()}{inside}" not in text
        out = jax.eval_shape(lambda v, m=module, x=x: m.apply(v, x, train=True), variables)
        assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data.image_size": 36}, "4 widths are for images whose shorter side is from 17 to 32, not 36x36"),
        ({"generator.blocks": (1, 1)}, "widths, blocks and groups must be of one length"),
        ({"discriminator.groups": (4, 6, 8, 7)}, "7 groups don't divide"),
    ],
)
def test_what_cannot_be_is_one_line(changed: dict[str, Any], message: str) -> None:
    config = get_config("mnist5k")
    config.update_from_flattened_dict(changed)
    with pytest.raises(UserError, match=message):
        build_gan(config)


def test_second_derivatives_are_pytorchs() -> None:
    """R1's, of each player's whole network with every kind of block: by images or latents, and by all weights."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")
    from tests.oracle.cases import case_config, first_images, first_values
    from tests.oracle.networks import Pass, generated, judged, tensors

    config, values = case_config("r3gan"), first_values("r3gan")
    images, labels = first_images(config)
    image, label = images[0, 0], labels[0, 0]
    z = np.random.default_rng(0).normal(size=(len(label), config.latent_dim))
    with jax.enable_x64(True):
        gan, _ = build_gan(config)
        for player, x in (("generator", z), ("discriminator", image)):
            module, params = getattr(gan, player), values[player]["params"]

            def out(params: Any, x: Array, module: Any = module, player: str = player) -> Array:
                said: Any = module.apply({"params": params}, x, train=True, label=label)
                return jnp.tanh(said if player == "generator" else said.logits)

            def penalty(params: Any, x: Array, out: Any = out) -> Array:
                return (jax.grad(lambda x: out(params, x).sum())(x) ** 2).sum()

            ours = jax.device_get(jax.jit(jax.value_and_grad(penalty, (0, 1)))(params, jnp.asarray(x)))
            theirs, at = tensors(values[player]), torch.tensor(x, requires_grad=True)
            leaves, structure = jax.tree.flatten(theirs["params"])
            for leaf in leaves:
                leaf.requires_grad_()
            told = torch.tensor(label).long()
            if player == "generator":
                said = generated(config, Pass(theirs), at, told)
            else:
                said = judged(config, Pass(theirs), at, told).logits
            (slope,) = torch.autograd.grad(said.tanh().sum(), at, create_graph=True)
            size = (slope**2).sum()
            *by_leaf, by_x = torch.autograd.grad(size, [*leaves, at])
            expected = size.item(), (jax.tree.unflatten(structure, [g.numpy() for g in by_leaf]), by_x.numpy())
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max()), ours, expected
            )
