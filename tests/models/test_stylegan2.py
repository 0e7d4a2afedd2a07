"""StyleGAN2 against PyTorch in float64: values and two derivatives; its numbers of parameters; what is its own."""

from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from configs.stylegan2 import get_config
from gan_jax import layers
from gan_jax.build import build_gan, check_batch
from gan_jax.core.draw import latents, options_of
from gan_jax.core.networks import call
from gan_jax.core.randomness import example_keys
from gan_jax.core.state import parameter_count
from gan_jax.evaluate.sampling import read
from gan_jax.layers.minibatch import stddev_channel
from gan_jax.models import stylegan2
from gan_jax.util.errors import UserError
from tests.helpers import QUICKLY, small
from tests.oracle import draws
from tests.oracle.cases import assert_same, randomized

WIDE: Any = {"dtype": np.float64, "param_dtype": np.float64}
B, Z, W = 6, 5, 7
LABEL = np.arange(B, dtype=np.int32) % 3
NARROW: Any = {"channel_base": 48, "channel_max": 6, "mapping_layers": 2}


def torch_modules() -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[oracle]'")
    from tests.oracle import networks, stylegan2

    return torch, networks, stylegan2


def quickly(function: Any, *arguments: Any) -> Any:
    return jax.jit(function).lower(*arguments).compile(compiler_options=QUICKLY)(*arguments)


def generator(side: int = 8, **more: Any) -> stylegan2.Generator:
    return stylegan2.Generator((side, side, 3), latent_dim=Z, w_dim=W, **NARROW, **more)


def keys(count: int = B) -> Any:
    return example_keys(jax.random.key(3), jnp.arange(count))


def begun(module: Any, x: np.ndarray, **told: Any) -> Any:
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=True, **told))
    return randomized(shapes, 1, equalized=True)


def test_a_training_pass_of_the_generator_and_its_derivatives_agree_with_pytorch() -> None:
    """Images, w's mean, and the gradient of a path length and of the images, so second derivatives too."""
    torch, networks, theirs = torch_modules()
    with jax.enable_x64(True):
        module = generator(classes=3, conditional="concat", **WIDE)
        rng = np.random.default_rng(0)
        z, y, c = rng.normal(size=(B, Z)), rng.normal(size=(B, 8, 8, 3)), rng.normal(size=(B, 8, 8, 3))
        told = {"label": LABEL, "keys": keys()}
        variables = begun(module, z, **told)

        def apply(variables: Any, x: Any, **more: Any) -> Any:
            return call(module, variables, x, train=True, mutable=["moving", "noise"], **told, **more)

        def ours(params: Any) -> Any:
            own = {**variables, "params": params}
            images, written = apply(own, z)
            w = apply(own, z, method="mapping")[0]
            product = jax.grad(lambda w: (apply(own, w, method="synthesis")[0] * y).sum() / 8)(w)
            lengths = jnp.sqrt(jnp.square(product).sum(2).mean(1))
            return jnp.square(lengths - 0.7).mean() + (images * c).mean(), (images, written, w, lengths)

        (_, found), gradient = quickly(jax.value_and_grad(ours, has_aux=True), variables["params"])
        params, label = networks.tensors(variables["params"]), torch.tensor(LABEL).long()
        leaves = [leaf.requires_grad_() for leaf in jax.tree.leaves(params)]
        other, cut = draws.mixing_of_each(list(keys()), Z, 4, 0.9)
        assert len(set(cut)) > 2
        first = theirs.mapped(params["mapping_network"], torch.tensor(z), label)
        second = theirs.mapped(params["mapping_network"], torch.tensor(other), label)
        w = theirs.mixed(first, second, torch.tensor(cut), 4)
        names, maps = ("conv1_4", "conv0_8", "conv1_8"), draws.noise_of_each(list(keys()), (4, 8, 8))
        noise = {name: torch.tensor(own)[:, None] for name, own in zip(names, maps, strict=True)}
        images = theirs.synthesized(params["synthesis_network"], w, noise, 8)
        lengths = theirs.lengths(images, w, torch.tensor(y).permute(0, 3, 1, 2))
        loss = (lengths - 0.7).square().mean() + (images * torch.tensor(c).permute(0, 3, 1, 2)).mean()
        gradients = iter(torch.autograd.grad(loss, leaves))
        mean = 0.995 * variables["moving"]["mapping_network"]["w_avg"] + 0.005 * first.detach().numpy().mean(0)
    moving = {"mapping_network": {"w_avg": mean}}
    expected = (images.permute(0, 2, 3, 1).detach().numpy(), w.detach().numpy(), lengths.detach().numpy())
    assert_same((found[0], *found[2:]), expected, 1e-11)
    assert_same(found[1], {"moving": moving, "noise": variables["noise"]}, 1e-11)
    assert_same(gradient, jax.tree.map(lambda _: next(gradients).numpy(), gradient), 1e-10)


@pytest.mark.parametrize("architecture", stylegan2.ARCHITECTURES)
def test_the_discriminator_and_its_derivatives_agree_with_pytorch(architecture: str) -> None:
    """Logits and features of images in a frame, and the gradient of them and of R1, so second derivatives too."""
    torch, networks, theirs = torch_modules()
    with jax.enable_x64(True):
        told: Any = {"classes": 3, "conditional": "projection"} if architecture == "orig" else {}
        module = stylegan2.Discriminator(architecture=architecture, stddev_group=4, **NARROW, **told, **WIDE)
        rng = np.random.default_rng(0)
        x, c = rng.uniform(-1, 1, (B, 12, 12, 3)), rng.normal(size=B)
        variables = begun(module, x, label=LABEL)

        def said(params: Any, x: Any) -> Any:
            return module.apply({"params": params}, x, train=True, label=LABEL)

        def ours(params: Any) -> Any:
            output = said(params, x)
            slope = jax.grad(lambda x: said(params, x).logits.sum())(x)
            total = (output.logits * c).mean() + 0.5 * jnp.square(slope).sum((1, 2, 3)).mean()
            return total, (output.logits, output.features, slope)

        (_, found), gradient = quickly(jax.value_and_grad(ours, has_aux=True), variables["params"])
        params = networks.tensors(variables["params"])
        leaves = [leaf.requires_grad_() for leaf in jax.tree.leaves(params)]
        images = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
        logits, features = theirs.judged(params, images, torch.tensor(LABEL).long(), 2)
        (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        loss = (logits * torch.tensor(c)).mean() + slope.square().sum((1, 2, 3)).mean() / 2
        gradients = iter(torch.autograd.grad(loss, leaves))
    expected = (logits, features, slope.permute(0, 2, 3, 1))
    assert_same(found, tuple(t.detach().numpy() for t in expected), 1e-11)
    assert_same(gradient, jax.tree.map(lambda _: next(gradients).numpy(), gradient), 1e-10)


# --- what is its own --------------------------------------------------------------------------------------------------


def test_without_noise_or_mixing_a_drawn_image_is_of_its_latent_alone() -> None:
    module, z = generator(), np.random.default_rng(0).normal(size=(B, Z)).astype(np.float32)
    variables = begun(module, z, keys=keys())

    def drawn(**told: Any) -> Any:
        return quickly(lambda z: call(module, variables, z, train=False, keys=keys(), **told), z)

    usual = drawn()
    assert np.abs(drawn(noise_mode="none") - usual).max() > 0.01
    assert np.abs(drawn(noise_mode="const") - drawn(noise_mode="none")).max() > 0.01
    still = drawn(noise_mode="none", truncation=0.0)
    assert_allclose(still, np.broadcast_to(still[:1], still.shape), atol=1e-5)

    def by_hand(z: Any) -> Any:
        w, mean = call(module, variables, z, method="mapping"), variables["moving"]["mapping_network"]["w_avg"]
        part = jnp.where((jnp.arange(4) < 3)[:, None], mean + 0.7 * (w - mean), w)
        return module.apply(variables, part, noise_mode="none", method="synthesis")

    assert_allclose(drawn(noise_mode="none", truncation=0.7, truncation_cutoff=3), quickly(by_hand, z), atol=1e-5)


def test_truncation_is_of_w_and_not_of_z() -> None:
    gan, _ = build_gan(small("stylegan2"))
    assert options_of(gan) == ({}, {"noise_mode": "random", "truncation": 1.0, "truncation_cutoff": 0})
    assert_array_equal(latents(gan, keys(), truncation=0.1), latents(gan, keys()))
    assert read(gan, "truncation=0 truncation_cutoff=3", "here").options == (
        ("truncation", 0.0),
        ("truncation_cutoff", 3),
    )
    with pytest.raises(UserError, match="here: truncation_cutoff must be a whole number from 0 up, not -1"):
        read(gan, "truncation_cutoff=-1", "here")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto@256x8", {"batch_size": 64, "terms.r1.weight": 0.2048, "averages.ema.half_life": 20e3, "steps": 390_625}),
        ("auto@64", {"batch_size": 32, "terms.r1.weight": 0.0256, "averages.ema.half_life": 10e3}),
        ("auto@1024x8", {"batch_size": 32, "optimizer.discriminator.learning_rate": 0.002}),
        ("paper512", {"batch_size": 64, "terms.r1.weight": 0.5, "discriminator.stddev_group": 8, "data.flip": True}),
        ("cifar_cond", {"classes": 10, "terms.path_length.weight": 0.0, "optimizer.generator.learning_rate": 0.002}),
    ],
)
def test_a_preset_has_its_authors_numbers(name: str, expected: dict[str, Any]) -> None:
    config = get_config(name)
    for key, value in expected.items():
        assert reduce(getattr, key.split("."), config) == pytest.approx(value), key


def test_half_a_batch_wants_an_even_share() -> None:
    config = small("stylegan2")
    config.terms.path_length.update({"weight": 2.0, "half_batch": True})
    config.batch_size = 24
    check_batch(config, 4)
    for devices, share in ((8, 3), (24, 1)):
        with pytest.raises(UserError, match=rf"every second of {share} examples \(batch_size 24 by {devices}\)"):
            check_batch(config, devices)
    config.batch_size = 15
    with pytest.raises(UserError, match="make that an even number, or set half_batch to False"):
        build_gan(config)
    config.terms.path_length.half_batch = False
    check_batch(config)


def test_auto_says_what_it_chose() -> None:
    chose = "batch 64, R1 0.2048, 16384 / side channels, rate 0.0025, half-life 20 thousand"
    assert get_config("auto@256x8").note == f"auto chose for 256x256 on 8 devices: {chose}"
    assert "on 1 device: batch 16, R1 0.8192" in get_config("auto@256").note
    assert not get_config("paper256").note


def test_what_is_no_preset_is_refused() -> None:
    for name in ("auto@256xmany", "auto@x8", "cifar@32x2", "paper256_cond"):
        with pytest.raises(UserError):
            get_config(name)


def test_ws_mean_is_of_all_devices_and_styles_are_mixed_in_training_alone() -> None:
    with jax.enable_x64(True):
        module = generator(**WIDE)
        z = np.random.default_rng(0).normal(size=(8, Z))
        variables = begun(module, z, keys=keys(8))

        def mapped(z: Any, keys: Any, axis_name: str | None = None) -> Any:
            told = {"train": True, "keys": keys, "axis_name": axis_name}
            return call(module, variables, z, method="mapping", mutable=["moving"], **told)

        w, written = jax.jit(mapped)(z, keys(8))
        spread = z.reshape(4, 2, Z), keys(8).reshape(4, 2)
        again = jax.pmap(partial(mapped, axis_name="d"), "d", devices=jax.devices()[:4])(*spread)
        assert_allclose(again[0].reshape(w.shape), w, rtol=1e-12)
        for of_device in again[1]["moving"]["mapping_network"]["w_avg"]:
            assert_allclose(of_device, written["moving"]["mapping_network"]["w_avg"], rtol=1e-12)
        plain: Any = quickly(lambda z: call(module, variables, z, method="mapping"), z)
        assert_array_equal(plain, np.broadcast_to(plain[:, :1], plain.shape))
        assert_allclose(w[:, 0], plain[:, 0], rtol=1e-12)
        assert np.abs(w[:, -1] - plain[:, -1]).max() > 0.01


@pytest.mark.parametrize(("devices", "group", "size"), [(2, 4, 4), (4, 3, 1), (8, 32, 16), (1, 4, 4)])
def test_the_deviation_of_a_group_is_that_of_every_so_manieth_example(devices: int, group: int, size: int) -> None:
    x = np.random.default_rng(0).normal(size=(16, 2, 3, 5)).astype(np.float32)
    of_devices = jax.pmap(lambda x: stddev_channel(x, "d", group), "d", devices=jax.devices()[:devices])
    found = of_devices(x.reshape(devices, -1, *x.shape[1:])).reshape(16, 6)
    assert_array_equal(found, np.repeat(found[:, :1], 6, 1))
    for i in range(16):
        own = x[[j for j in range(16) if j % (16 // size) == i % (16 // size)]]
        assert len(own) == size
        assert_allclose(found[i, 0], np.sqrt(own.var(0) + 1e-8).mean(), rtol=1e-5)


def test_the_highest_sides_compute_in_bfloat16_and_clamp() -> None:
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=(B, Z)).astype(np.float32), rng.uniform(-1, 1, (B, 8, 8, 3)).astype(np.float32)
    whole, low = (generator(low_precision=n) for n in (0, 4))
    variables = begun(whole, z, keys=keys())

    def drawn(module: Any, z: Any) -> Any:
        return call(module, variables, z, train=False, keys=keys())

    def said(judge: Any, weights: Any) -> Any:
        return judge.apply(weights, x, train=False)

    images = [quickly(partial(drawn, module), z) for module in (whole, low)]
    assert images[1].dtype == np.float32
    assert 1e-4 < np.abs(images[0] - images[1]).max() / np.abs(images[0]).max() < 0.1
    sides = [4, 8, 16, 32]
    for n, lower in ((0, 0), (2, 2), (4, 3)):
        types = [stylegan2._types(generator(low_precision=n), side, sides) for side in sides]
        assert [own["dtype"] for own in types] == [jnp.float32] * (4 - lower) + [jnp.bfloat16] * lower
        assert {own["clamp"] for own in types} == {256.0 if n else 0.0}
    assert stylegan2._types(generator(low_precision=4, **WIDE), 32, sides)["dtype"] == np.float64
    judges = [stylegan2.Discriminator(low_precision=n, **NARROW) for n in (0, 4)]
    weights = begun(judges[0], x)
    logits = [quickly(partial(said, judge), weights).logits for judge in judges]
    assert 1e-5 < np.abs(logits[0] - logits[1]).max() / np.abs(logits[0]).max() < 0.1
    huge = jax.tree.map(lambda leaf: 1e4 * leaf, weights)
    assert np.isfinite(quickly(partial(said, judges[1]), huge).features).all()


def test_images_of_other_sides_are_the_middle_of_the_next_power_of_two() -> None:
    assert stylegan2.sides_of(28) == stylegan2.sides_of(32) == [4, 8, 16, 32]
    images = jnp.arange(32 * 32.0).reshape(1, 32, 32, 1)
    middle = layers.cropped(images, 28, 28)
    assert_array_equal(middle, images[:, 2:-2, 2:-2])
    framed = layers.framed(middle, 32, 32)
    assert_array_equal(framed[:, 2:-2, 2:-2], middle)
    assert float(framed.sum() - middle.sum()) == -(32**2 - 28**2)
    with pytest.raises(ValueError, match="side 8 and more, not 7"):
        stylegan2.sides_of(7)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "channels", "depth", "g_count", "d_count"),
    [
        (64, 16384, 2, 22_243_608, 23_407_361),
        pytest.param(128, 16384, 2, 22_949_277, 23_882_369, marks=pytest.mark.slow),
        pytest.param(256, 16384, 2, 23_191_522, 24_001_089, marks=pytest.mark.slow),
        (256, 16384, 8, 24_767_458, 24_001_089),
        pytest.param(512, 32768, 8, 30_276_583, 28_982_849, marks=pytest.mark.slow),
        (1024, 32768, 8, 30_370_060, 29_012_513),
        (32, 32768, 2, 19_947_539, 20_720_641),
    ],
)
def test_networks_have_their_authors_parameters(
    side: int, channels: int, depth: int, g_count: int, d_count: int
) -> None:
    architecture = "orig" if side == 32 else "resnet"
    g = stylegan2.Generator((side, side, 3), channel_base=channels, mapping_layers=depth)
    d = stylegan2.Discriminator(channel_base=channels, architecture=architecture)
    assert (counted(g, jnp.zeros((1, 512))), counted(d, jnp.zeros((1, side, side, 3)))) == (g_count, d_count)


def test_conditional_networks_have_their_authors_parameters() -> None:
    """As the published log of CIFAR-10 says."""
    g = stylegan2.Generator((32, 32, 3), classes=10, conditional="concat", mapping_layers=2)
    d = stylegan2.Discriminator(classes=10, conditional="projection", architecture="orig")
    assert (counted(g, jnp.zeros((1, 512))), counted(d, jnp.zeros((1, 32, 32, 3)))) == (20_215_315, 23_089_664)


def counted(module: Any, x: Any) -> int:
    told = {"label": jnp.zeros(1, jnp.int32)} | ({"keys": keys(1)} if isinstance(module, stylegan2.Generator) else {})
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=True, **told))
    return parameter_count(shapes["params"])
