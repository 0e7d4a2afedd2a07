"""What XLA makes of each config's training step: no slow kind of convolution, and no more work than was recorded.

And what it is given for GPUs, which takes no GPU: plain convolutions, and nothing that is meant for CPUs.

A guard against regressions that isn't a timed test. `CEILINGS` are the arithmetic and the bytes of the operations of
`small` configs' programs, on one CPU device, 5 % above what jax 0.10 and 0.12 count; a change that needs more raises
them knowingly: ``python -m tests.runtime.test_programs`` prints what is counted.
"""

import re
from functools import cache, partial
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from benchmarks import gpu_program
from benchmarks.program import parts
from gan_jax.core.update import update
from gan_jax.runtime import program
from tests.helpers import NAMES, QUICKLY, small

QUICK = ("dcgan", "wgan_gp")
CEILINGS = {  # millions of floating-point operations, megabytes
    "aae": (1.6, 3.0),
    "acgan": (14.0, 9.1),
    "biggan": (66.0, 37.1),
    "cgan": (28.0, 11.1),
    "dcgan": (44.9, 24.7),
    "dragan": (17.6, 10.8),
    "fastgan": (420.0, 197.0),
    "gan": (14.6, 14.1),
    "improved": (50.8, 34.3),
    "lsgan": (12.9, 8.3),
    "progan": (18.8, 8.0),
    "projection": (42.6, 22.6),
    "r3gan": (104.8, 185.4),
    "relativistic": (23.1, 13.8),
    "sagan": (58.1, 33.5),
    "sngan": (42.5, 22.5),
    "stylegan2": (16.7, 11.6),
    "wgan": (14.4, 9.8),
    "wgan_gp": (18.9, 12.3),
}


@cache
def counted(name: str) -> tuple[str, float, float]:
    """The optimised operations of a step of a config, as text; their FLOPs, in millions, and megabytes."""
    compiled = compiled_step(small(name))
    cost = compiled.cost_analysis()
    return compiled.as_text() or "", cost["flops"] / 1e6, cost["bytes accessed"] / 1e6


def compiled_step(config: ConfigDict) -> Any:
    """The program of ``config``, on one device."""
    gan, fed, state = parts(config)
    chunk = program.compile_chunk(gan, fed.fetch, fed.capacity, jax.devices()[:1])
    lowered = chunk.lower(state, fed.data, fed.nothing)
    return lowered.compile(compiler_options=chunk.options | QUICKLY)


def slow_convolutions(text: str) -> list[str]:
    """Those of a program that XLA:CPU has no fast code for: with a reversed kernel, or in another layout."""
    found = re.findall(r"convolution\(.*", text)
    assert len(found) == text.count("convolution("), "not understood"
    return [line for line in found if "rhs_reversal" in line or "dim_labels=b01f_01io->b01f" not in line]


def test_a_loop_carries_its_state_and_nothing_that_is_the_same_in_all_steps() -> None:
    _, fed, state = parts(small("dcgan"))
    loops = [line.split(" while(")[0] for line in counted("dcgan")[0].splitlines() if " while(" in line]
    carried = max(len(re.findall(r"\w+\[", loop)) for loop in loops)
    assert carried <= len(jax.tree.leaves((state, fed.data))) + 5  # which step, how many, their metrics, all fine


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_a_step_is_made_of_fast_operations_and_no_more_than_recorded(name: str) -> None:
    text, flops, megabytes = counted(name)
    assert not slow_convolutions(text)
    assert "all-reduce" not in text  # one device has nobody to add with
    most_flops, most_megabytes = CEILINGS[name]
    assert flops <= most_flops
    assert megabytes <= most_megabytes


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_the_step_for_a_gpu_is_of_plain_convolutions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(name)
    if config.model in ("dcgan", "resnet"):  # too wide for pixels to be taken together, and with sides of 28, 14, 7, 4
        config.data.image_size = 28
        for player in (config.generator, config.discriminator):
            player.widths = (72,) * (3 if config.model == "dcgan" else 2)
            player.update({"attention": 14} if "attention" in player else {})
    gan, fed, state = parts(config)
    share = jax.tree.map(lambda x: x[0], fed.nothing)
    batch = jax.eval_shape(lambda state: fed.fetch(fed.data, share, state.seed, state.step), state)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    text = jax.jit(partial(update, gan)).trace(state, batch).lower(lowering_platforms=("cuda",)).as_text()
    held = re.findall(r"tensor<.*?>", " ".join(re.findall(r"optimization_barrier .*", text)))
    assert all(re.fullmatch(r"tensor<\d+x\d+xf32>", each) for each in held)  # partial sums: see `BatchNorm`
    assert "custom_call" not in text
    if config.model in ("dcgan", "resnet"):
        assert "stablehlo.convolution" in text
        assert not zeros_between_pixels(text)


def zeros_between_pixels(text: str) -> list[str]:
    """The transposed convolutions, and the gradients of kernels, of a program that XLA:GPU doesn't see to be such.

    It gives cuDNN the first if their kernel is reversed right before, the second if the gradient that it is convolved
    with has more pixels a side than the kernel. Of others it makes a convolution of an image with zeros between its
    pixels, of four times the products: so it was, seen in what it makes of wgan_gp for an H100.
    """
    made_by, found, dilated, gradients = dict[str, str](), [], 0, 0
    for line in text.splitlines():  # names are used again in other regions, but never before they are made there
        if transposed := re.search(r"convolution\(%\S+, (%\S+)\).*lhs_dilate = \[2, 2\]", line):
            dilated += 1
            if made_by.get(transposed[1]) != "stablehlo.reverse":
                found.append(line)
        if gradient := re.search(r"rhs_dilate = \[2, 2\].*tensor<\d+x(\d+)x\d+x\d+x\w+>\) -> tensor<(\d+)x", line):
            gradients += 1
            if int(gradient[1]) <= int(gradient[2]):
                found.append(line)
        if made := re.match(r"\s*(%\w+)(?::\d+)? = \"?([\w.]+)", line):
            made_by[made[1]] = made[2]
    assert dilated == text.count("lhs_dilate = [2, 2]") > 0, "not understood"
    assert gradients == text.count("rhs_dilate = [2, 2]") > 0, "not understood"
    return found


@pytest.mark.parametrize("on_cpu", [False, True])
def test_no_step_on_a_gpu_has_a_loop_of_unknown_length(on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "on_cpu", lambda: on_cpu)
    gan, fed, state = parts(small("wgan_gp"))
    chunk = program.compile_chunk(gan, fed.fetch, fed.capacity, jax.devices()[:1])
    traced = jax.make_jaxpr(chunk.mapped)(state, np.int32(1), fed.data, fed.nothing)
    assert deepest_loop(traced) == (2 if on_cpu else 1)


def test_graphs_are_for_one_gpu_of_nvidia() -> None:
    nvidia, other = (mock.Mock(platform="gpu", device_kind=kind) for kind in ("NVIDIA H100 80GB HBM3", "AMD MI300X"))
    graphs = program._options([nvidia])
    assert graphs in ({}, program._CUDA_OPTIONS)  # none if this XLA doesn't know them
    assert program._options([nvidia, nvidia]) == program._options([other]) == {}
    assert program._known({"xla_gpu_enable_command_buffer": "FUSION"})
    assert program._known({"xla_gpu_enable_command_buffer": "SOMETHING"}) == {}


def test_products_of_bfloat16_are_of_the_library_that_is_fast_at_them() -> None:
    for dtype, fast in ((jnp.float32, ""), (jnp.bfloat16, program._PRODUCTS)):
        lowered = mock.Mock(wraps=jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4), dtype)))
        lowered.compile = mock.Mock()
        for before in ("", "LIBRARY_FUSION_TYPE_REDUCE"):
            program.compiled(lowered, {program._YNN: before})
            asked = lowered.compile.call_args.kwargs["compiler_options"][program._YNN]
            assert asked.split(",") == ([name for name in (before, fast) if name] or [""])
        program.compiled(lowered, {})
        assert lowered.compile.call_args.kwargs["compiler_options"] is None


def deepest_loop(program: Any) -> int:
    """How many loops without a given number of turns lie in each other, at most."""
    depths = [0]
    for equation in getattr(program, "jaxpr", program).eqns:
        inner = max(
            (deepest_loop(x) for x in jax.tree.leaves(equation.params, is_leaf=is_program) if is_program(x)), default=0
        )
        depths.append(inner + (equation.primitive.name == "while"))
    return max(depths)


def is_program(x: Any) -> bool:
    """Whether it has equations."""
    return hasattr(getattr(x, "jaxpr", x), "eqns")


LOOPS = """
%f (p: f32[4]) -> f32[4] {
  ROOT %o = f32[4]{0} pad(%p, %c), padding=0_0x0_2
}

%h (p: f32[4]) -> f32[2,2] {
  ROOT %o = f32[2,2]{1,0} pad(%p, %c), padding=0_0x1_1_1x0_0
}

%early (p: (f32[4])) -> (f32[4]) {
  %x = f32[4]{0} get-tuple-element(%p), index=0
  ROOT %y = f32[4]{0} fusion(%x), kind=kLoop, calls=%f
}

%walk (p: (u32[8])) -> (u32[8]) {
  %z = u32[8]{0} get-tuple-element(%p), index=0
  ROOT %w = u32[8]{0} fusion(%z), kind=kLoop, calls=%g
}

%body (p: (f32[4], u32[8])) -> (f32[4], u32[8]) {
  %a = f32[4]{0} get-tuple-element(%p), index=0
  %b = u32[8]{0} get-tuple-element(%p), index=1
  %e = (f32[4]{0}) while(%a), condition=%c, body=%early, backend_config={"known_trip_count":{"n":"3"}}
  %l = (u32[8]{0}) while(%b), condition=%d, body=%walk
  %loop_pad_fusion.1 = f32[2,2]{1,0} fusion(%a), kind=kLoop, calls=%h
  %k = (f32[4]{0}, u8[0]{0}) custom-call(%loop_pad_fusion.1, %a), custom_call_target="__cudnn$convForward"
  %j = f32[4]{0} fusion(%a), kind=kLoop, calls=%f
  %m = (f32[4]{0}, u8[0]{0}) custom-call(%j, %a), custom_call_target="__cudnn$convBackwardInput"
  %r = ((f32[4]{0}), f32[4]{0}) all-reduce-start(%j), to_apply=%add
  %s = f32[4]{0} all-reduce-done(%r)
  ROOT %t = (f32[4]{0}, u32[8]{0}) tuple(%a, %b)
}

ENTRY %main (q: f32[4]) -> f32[4] {
  %n = (f32[4]{0}, u32[8]{0}) while(%q), condition=%i, body=%body
}
"""


def test_what_a_gpu_does_in_a_step_is_counted() -> None:
    found = gpu_program.step(LOOPS)
    assert dict(found.convolutions) == {"forward": 1, "input": 1, "padded": 1}
    assert found.kernels == 3 + 1 + 2  # the early loop has three turns; the other's number is not known
    assert found.waits == 2  # and that over the steps
    assert (found.sums, found.summed) == (1, 16)
    assert found.bytes == 3 * (16 + 16) + (32 + 32) + 2 * (16 + 16) + (16 + 16 + 16) + (16 + 16 + 16)


def test_the_gradients_of_plain_layers_would_be_found() -> None:
    x = jnp.zeros((8, 14, 14, 16))
    for layer in (nn.ConvTranspose(8, (4, 4), (2, 2)), nn.Conv(8, (4, 4), (2, 2))):
        variables = layer.init(jax.random.key(0), x)

        def train(variables: Any, layer: Any = layer) -> Any:
            gradient = jax.grad(lambda w: (layer.apply(w, x) ** 2).sum())
            return jax.lax.fori_loop(0, 3, lambda _, v: gradient(v), variables)

        text = jax.jit(train).lower(variables).compile().as_text()
        assert text
        assert slow_convolutions(text)


@pytest.mark.slow
def test_rematerialisation_takes_less_memory_for_more_arithmetic() -> None:
    def of(remat: bool) -> tuple[int, float]:
        config = small("dcgan")
        config.batch_size = 64
        config.generator.remat = config.discriminator.remat = remat
        config.generator.widths, config.discriminator.widths = (16, 16, 16), (16, 16, 16)
        compiled = compiled_step(config)
        return compiled.memory_analysis().temp_size_in_bytes, compiled.cost_analysis()["flops"]

    (kept, once), (again, twice) = of(False), of(True)
    assert again < 0.85 * kept
    assert 1.05 * once < twice < 1.5 * once


if __name__ == "__main__":
    for each in NAMES:
        print(f'    "{each}": ({counted(each)[1]:.1f}, {counted(each)[2]:.1f}),', flush=True)
