"""A trained generator as files that need no checkpoint: weights, config, a model card, and compiled programs.

In the folder are ``params.safetensors``, ``config.json``, ``data.json``, ``README.md`` with ``card.png``, and the
generator as StableHLO, ``generator.stablehlo``, which `jax.export.deserialize` reads on CPUs, CUDA and TPUs, in batches
of any size; also ``generator.onnx``, if asked for. Nothing is pickled.
"""

import shutil
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import export as jax_export

from gan_jax.config import to_plain
from gan_jax.core import draw
from gan_jax.core.gan import GAN, Array, Variables, images_of
from gan_jax.core.networks import call
from gan_jax.core.pixels import USUAL, Pixels
from gan_jax.core.state import GANState, Player, parameter_count
from gan_jax.ops.xla_cpu import for_any_machine
from gan_jax.runs import visualize
from gan_jax.runs.figures import features, named
from gan_jax.util.errors import UserError, listed, needed, unknown_name
from gan_jax.util.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained

PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHTS, PROGRAM, ONNX = "params.safetensors", "generator.stablehlo", "generator.onnx"
_ROWS = 8  # of the picture
_FIGURES = ("fid", "kid", "precision", "recall", "density", "coverage", "inception_score")


def export(run: "Trained", out: Path, *, onnx: bool = False, **options: Any) -> list[str]:
    """Write the generator of ``run`` to the folder ``out``.

    Args:
      run: the GAN.
      out: a new folder, or one that held an export.
      onnx: whether as ONNX, too.
      **options: of sampling, for the programs: ``truncation``; ``noise_mode`` is ``const`` if not told.

    Returns:
      The names of the files.

    Raises:
      UserError: the folder holds other things, can't be written, or a package is missing.
    """
    with needed("safetensors", "export"):
        from safetensors.numpy import save
    with needed("flatbuffers", "export"):
        import_module("flatbuffers")  # what serialises StableHLO wants it
    if out.suffix:
        raise UserError(f"an export is a folder: give a name without an ending, not {str(out)!r}")
    if out.exists() and ({entry.name for entry in out.iterdir()} - {*_NAMES}):
        raise UserError(f"{out} holds other files: give a new folder")
    function = partial(_function, run.gan, run.params, tuple(sorted(_constant(run.gan, options).items())))
    program = serialised(run.gan, function)
    model = _as_onnx(run.gan, function) if onnx else b""
    leaves = traverse_util.flatten_dict(jax.device_get(run.params), sep=".")
    weights = save(
        {name: np.array(value, order="C") for name, value in leaves.items()},
        {"step": str(run.step)},  # one entry: the package writes several in any order
    )
    pixels = run.gan.pixels
    images = pixels.shown(pixels.own(run.sample(_ROWS**2, **_constant(run.gan, options))))
    files: dict[str, bytes] = {WEIGHTS: weights, PROGRAM: program, **({ONNX: model} if onnx else {})}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomically(out / name, partial(_write, data))
        write_json(out / "config.json", {**to_plain(run.config), "stages": {}})
        known = run.workdir / "data.json"
        if known.exists() and known.parent != out:
            shutil.copyfile(known, out / "data.json")
        if not onnx:  # of an export before this one
            (out / ONNX).unlink(missing_ok=True)
        visualize.save_png(visualize.grid(images, _ROWS), out / "card.png")
        write_atomically(out / "README.md", partial(_write, _card(run, [*files], options).encode()))
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    return sorted(name for name in _NAMES if (out / name).exists())


_NAMES = (WEIGHTS, PROGRAM, ONNX, "config.json", "data.json", "README.md", "card.png")


def _constant(gan: GAN, options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` of the network with noise that needs no keys."""
    prior, own = draw.options_of(gan)
    for name in options:
        if name in prior:
            raise UserError(
                f"{name} is an option of the prior, and an exported generator is given latents: leave it out"
            )
        if name not in own:
            raise unknown_name("option of an export:", name, own)
    if options.get("noise_mode") == "random":
        raise UserError("an exported generator draws nothing by itself: noise_mode is const or none")
    return {"noise_mode": "const", **options} if "noise_mode" in own else dict(options)


def _function(gan: GAN, params: Variables, options: tuple[tuple[str, Any], ...], z: Array, label: Array) -> Array:
    """Images ``[B, H, W, C]`` float32 of latents ``[B, Z]`` and labels ``[B]``."""
    network = gan.generator.clone(remat=False) if hasattr(gan.generator, "remat") else gan.generator
    told: dict[str, Any] = {"label": label, "train": False, **dict(options)}
    images = images_of(call(network, params, z.astype(gan.dtype), **told))
    return images.astype(jnp.float32)


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _inputs(gan: GAN) -> list[tuple[str, jax.ShapeDtypeStruct]]:
    (batch,) = jax_export.symbolic_shape("batch", constraints=["batch >= 1"])
    latents = jax.ShapeDtypeStruct((batch, gan.latent_dim), jnp.float32)
    labels = jax.eval_shape(lambda: gan.labels(1))
    return [("latents", latents), ("labels", jax.ShapeDtypeStruct((batch, *labels.shape[1:]), labels.dtype))]


def serialised(gan: GAN, function: Any) -> bytes:
    """Return ``function(latents, labels)`` as `jax.export` serialises it, for all platforms and batches."""
    with for_any_machine():
        exported = jax_export.export(jax.jit(function), platforms=PLATFORMS)(*[like for _, like in _inputs(gan)])
    return bytes(exported.serialize())


def _as_onnx(gan: GAN, function: Any) -> bytes:
    if gan.dtype != jnp.float32:
        raise UserError("--onnx is for runs in float32 or bfloat16: this one has compute_dtype=float64")
    with needed("onnx", "onnx"):
        from gan_jax.use.to_onnx import convert
    inputs, told = _inputs(gan), function
    if not (gan.classes or gan.condition):  # ONNX drops what isn't used, and runtimes refuse what they aren't asked for
        inputs = inputs[:1]

        def told(z: Array) -> Any:
            return function(z, jnp.zeros(z.shape[0], jnp.int32))

    with for_any_machine():
        return bytes(convert(told, inputs, "images").SerializeToString())


def restored(folder: Path) -> GANState:
    """Return the state of an exported generator, without a discriminator.

    Raises:
      UserError: the weights are damaged, or of another network.
    """
    with needed("safetensors", "export"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(folder / WEIGHTS, "numpy") as file:
            step = int((file.metadata() or {}).get("step", 0))
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"cannot read {folder / WEIGHTS}: {error}") from error
    variables = jax.device_put(traverse_util.unflatten_dict(leaves, sep="."))
    stats = {name: value for name, value in variables.items() if name != "params"}
    seed = jnp.uint32(0)
    player = Player(variables["params"], stats, None)
    return GANState(jnp.int32(step), seed, player, None, {}, {}, {})  # type: ignore[arg-type]


def _card(run: "Trained", files: list[str], options: Mapping[str, Any]) -> str:
    """Return the model card."""
    config, shape = run.config, "x".join(map(str, run.gan.image_shape))
    known = read_json(run.workdir / "data.json") or {}
    data = f"{known.get('name', 'unknown')}, {known.get('images', 0):,} images"
    kind = "" if "conditional" not in config.generator or not run.gan.classes else " of classes"
    lines = [f"# {config.model}{kind}, {config.loss}", "", "![samples](card.png)", ""]
    lines += ["| | |", "|---|---|"]
    rows = {
        "images": shape + _kind(run.gan),
        "latents": f"{run.gan.latent_dim} numbers",
        "classes": listed(run.classes) if run.gan.classes else "none",
        "data": data,
        "steps": f"{run.step:,} of batches of {config.batch_size}",
        "parameters": f"{parameter_count(run.params['params']):,}",
        **{f"{named(name)} by {features([name])}": f"{value:.4g}" for name, value in _judged(run).items()},
        "built into the programs and the picture": _built_in(run.gan, options),
    }
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "With gan_jax:", "", "```python", "import gan_jax", "", 'run = gan_jax.load("FOLDER")']
    lines += ["images = run.sample(64, seed=0)", "```", "", "With JAX alone, on CPU, CUDA or TPU:", "", "```python"]
    lines += [*_consumer(run.gan.pixels).strip().splitlines(), "```"]
    if ONNX in files:
        given = f"np.zeros((16, {run.gan.condition}), np.float32)" if run.gan.condition else "np.zeros(16, np.int32)"
        label = f', "labels": {given}' if run.gan.classes or run.gan.condition else ""
        lines += ["", "With ONNX Runtime:", "", "```python", "import numpy as np", "import onnxruntime", ""]
        lines += [f'session = onnxruntime.InferenceSession("{ONNX}")']
        lines += [f"z = np.random.default_rng(0).standard_normal((16, {run.gan.latent_dim})).astype(np.float32)"]
        lines += [f'(images,) = session.run(None, {{"latents": z{label}}})  # [16, H, W, C], in [-1, 1]', "```"]
    labels = f"jnp.zeros((16, {run.gan.condition}))" if run.gan.condition else "jnp.zeros(16, jnp.int32)"
    return "\n".join(lines).replace("LATENT", str(run.gan.latent_dim)).replace("LABELS", labels) + "\n"


_CONSUMER = f"""
import jax
from jax import export, numpy as jnp

with open("{PROGRAM}", "rb") as file:
    generator = export.deserialize(file.read())
z = jax.random.normal(jax.random.key(0), (16, LATENT))
images = generator.call(z, LABELS)  # [16, H, W, C], in [-1, 1]; labels are for GANs of classes or conditions
pixels = ((images.clip(-1, 1) + 1) * HALF).round().astype(jnp.DTYPE)NOTE
"""


def _kind(gan: GAN) -> str:
    """Return what an image's numbers are, behind its shape; nothing of 8 bits without alpha."""
    pixels = gan.pixels
    alpha = "" if pixels.alpha == "none" else f", RGBA with {pixels.alpha} alpha"
    window = "" if (pixels.low, pixels.high) == (USUAL.low, USUAL.high) else f", greys {pixels.low} to {pixels.high}"
    return alpha + (f", 16 bits{window}" if pixels.bits == 16 else "")


def _consumer(pixels: Pixels) -> str:
    """Return a program that draws images, and brings them to whole numbers."""
    notes = {"none": "", "straight": "RGBA", "premultiplied": "RGBA, the colours multiplied by alpha"}
    told = [notes[pixels.alpha]] if notes[pixels.alpha] else []
    if pixels.bits == 16 and (pixels.low, pixels.high) != (USUAL.low, USUAL.high):
        told += [f"0 is the grey {pixels.low} of the data, 65535 the grey {pixels.high}"]
    note = f"  # {listed(told, between='; ')}" if told else ""
    found = _CONSUMER.replace("HALF", f"{pixels.top / 2:g}").replace("DTYPE", pixels.dtype).replace("NOTE", note)
    return found


def _built_in(gan: GAN, options: Mapping[str, Any]) -> str:
    found = [f"{name}={value}" for name, value in _constant(gan, options).items()]
    return f"{listed(found, between=' ')}; figures, and gan_jax.load, are without" if found else "nothing"


def _judged(run: "Trained") -> dict[str, float]:
    """Return the figures of the evaluation at this step, if there was one."""
    lines = [line for line in run.metrics() if line.get("step") == run.step and "eval_samples" in line]
    found = lines[-1] if lines else {}
    return {name: value for name, value in found.items() if name.partition("[")[0] in _FIGURES}


def is_export(folder: Path) -> bool:
    """Return whether an exported generator lies in ``folder``."""
    return (folder / WEIGHTS).is_file() and (folder / "config.json").is_file()
