"""What the modes do that use a trained generator; JAX is imported when a mode starts."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_jax.cli.arguments import read_grid, read_seeds, read_shift
from gan_jax.cli.request import Request
from gan_jax.util import named
from gan_jax.util.errors import UserError, counted, listed


def sample(request: Request) -> None:
    """Draw images, of one seed or the first of several, of one class or of some."""
    from gan_jax.evaluate import sample, sampling

    if request.codes is not None:
        _draw_codes(request)
        return
    seeds = read_seeds(request.seeds) if request.seeds is not None else None
    labels = _labels(request)
    columns, rows = read_grid(request.grid) if request.grid is not None else (None, 1)
    for flag, value in (("num_samples", request.num_samples), ("seed", request.seed)):
        if seeds is not None and value:
            raise UserError(f"--seeds={request.seeds} says which images: leave out --{flag}")
    if len(ways := sampling.several(request.sampling or "")) > 1:
        _sweep_of_options(request, ways, seeds)
        return
    if seeds is not None and isinstance(labels, list):  # a class a row, a seed a column
        columns, rows, seeds = len(seeds), len(labels), _repeated(seeds, len(labels))
    count = len(seeds) if seeds is not None else request.num_samples or (columns or 0) * rows or 100
    if columns and not columns * (rows - 1) < count <= columns * rows:
        raise UserError(f"--grid={request.grid} has {columns * rows:,} places, and there are {count:,} images")
    if request.grid and request.out and request.out.suffix.lower() != ".png":
        raise UserError(f"--grid={request.grid} is of one picture: --out must end in .png, not {str(request.out)!r}")
    said = counted(count, "sample")
    if seeds is not None:
        said = f"{said} of {counted(len(set(seeds.tolist())), 'seed')}"
    name = "seeds" if seeds is not None and not columns else "samples.png"
    _draw(request, name, sample.samples, (count, said), seeds=seeds, columns=columns)


def _draw_codes(request: Request) -> None:
    """Draw the images of codes that were found by projection, moved along directions if so told."""
    import numpy as np

    from gan_jax.runs import visualize
    from gan_jax.use import projected

    _refuse(request, "codes", ("seeds", "seed", "num_samples", "grid", "label", "labels", "sampling"))
    out = request.out or request.workdir / "codes.png"
    visualize.check_ending(out)
    run = _run(request)
    found = _codes(run, request)
    shift = None if request.shift is None else _shift(run, request)
    images = np.stack([projected.image(run, code, shift) for code in found])
    out = request.out or _in(request.workdir, out.name)
    visualize.save_images(images, out, columns=min(10, len(images)), pixels=run.gan.pixels)
    print(f"the images of {counted(len(images), 'code')}, step {run.step:,}: {out}")


def _codes(run: Any, request: Request) -> list[Any]:
    """Return what ``--codes`` names."""
    from gan_jax.use import projected

    assert request.codes is not None
    return [projected.load(run, named.path(file, "--codes")) for file in request.codes.split(",")]


def _refuse(request: Request, given: str, others: tuple[str, ...]) -> None:
    """Refuse flags beside ``given``, which says what they would."""
    for name in others:
        if getattr(request, name):
            raise UserError(f"--{given}={getattr(request, given)} says what is drawn: leave out --{name}")


def _shift(run: Any, request: Request) -> Any:
    """Return what ``--shift`` adds to codes."""
    from gan_jax.use import directions

    file = run.workdir / "directions" / "directions.npz"
    return directions.fitting(directions.load(file), run, file).shift(read_shift(request.shift or ""))


def _repeated(seeds: Any, times: int) -> Any:
    import numpy as np

    return np.tile(seeds, times)


def _sweep_of_options(request: Request, ways: list[str], seeds: Any) -> None:
    """Draw a row for each value of an option of ``--sampling``, with the same images in its columns."""
    import numpy as np

    from gan_jax.evaluate import sample
    from gan_jax.runs import visualize
    from gan_jax.use import loading

    for flag in ("grid", "shift", "labels"):
        if getattr(request, flag) is not None:
            raise UserError(f"--sampling={request.sampling!r} makes a row for each value: leave out --{flag}")
    out = request.out or request.workdir / "samples.png"
    if out.suffix.lower() != ".png":
        raise UserError(f"--sampling={request.sampling!r} makes one picture: --out must end in .png, not {str(out)!r}")
    count = len(seeds) if seeds is not None else request.num_samples or 10
    _, gan, state, step = loading.restore(request.workdir, request.step)
    hows = [_how(gan, way) for way in ways]
    labels = loading.labels(gan, request.workdir, count, request.label, "--label", 1, request.seed)
    counts, by = loading.counts(gan, request.workdir), request.seed if seeds is None else seeds
    rows = [sample.samples(gan, state, by, labels.told, how=how, counts=counts).array() for how in hows]
    out = request.out or _in(request.workdir, out.name)
    others = [ways[(number + 1) % len(ways)].split() for number in range(len(ways))]
    captions = [
        next(part for part in way.split() if part not in other) for way, other in zip(ways, others, strict=True)
    ]
    visualize.save_png(visualize.grid(gan.pixels.shown(np.concatenate(rows)), count, captions), out)
    print(f"{count} samples of step {step:,} in {len(ways)} ways, {listed(captions)}: {out}")


def _labels(request: Request) -> Any:
    """Return what ``--label`` or ``--labels`` says."""
    if request.labels is None:
        return request.label
    if request.label is not None:
        raise UserError(f"--labels={request.labels} says which classes: leave out --label")
    return request.labels.split(";" if ";" in request.labels else ",")


def interpolate(request: Request) -> None:
    """Draw ten rows, each from one image to another."""
    from gan_jax.evaluate import sample

    _draw(request, "interpolations.png", sample.interpolate, (100, "10 spherical interpolations"))


def _draw(
    request: Request,
    name: str,
    draw: Callable[..., Any],
    what: tuple[int, str],
    *,
    seeds: Any = None,
    columns: int | None = None,
) -> None:
    """Write images made by ``draw`` to ``name``, or where ``--out`` says; ``what`` is how many, and what they are."""
    from gan_jax.runs import visualize
    from gan_jax.use import loading, trained

    workdir, seed = request.workdir, request.seed
    visualize.check_ending(request.out or workdir / name)
    restored = loading.restore(workdir, request.step)
    _, gan, state, step = restored
    how = _how(gan, request.sampling)
    out = request.out or _in(workdir, name)
    more: dict[str, Any] = {}
    if request.shift is not None:
        more["shift"] = _shift(trained.Trained(workdir, restored, "average"), request)
    # Of seeds each image is the first of its own, whatever others there are.
    row = columns or (10 if seeds is None else what[0])
    asked, flag = _labels(request), "--label" if request.labels is None else "--labels"
    told, kinds, names = loading.labels(gan, workdir, what[0], asked, flag, row, seed)
    by = seed if seeds is None else seeds
    images = draw(gan, state, by, told, how=how, counts=loading.counts(gan, workdir), **more)
    written: dict[str, Any] = {"seeds": seeds, "columns": columns, "pixels": gan.pixels}
    visualize.save_images(images, out, kinds if gan.classes or gan.condition else None, names, **written)
    whose = f", seed {seed}" if seeds is None else ""
    print(f"{what[1]} of step {step:,}{whose}{_said(how)}: {out}")


def walk(request: Request) -> None:
    """Make a film through the first images of seeds."""
    import numpy as np

    from gan_jax.runs import film
    from gan_jax.use import walk as walking

    out = request.out or request.workdir / "walk.gif"
    film.check(out)
    columns, rows = read_grid(request.grid) if request.grid is not None else (1, 1)
    consecutive = request.seed + np.arange(4 * columns * rows)
    seeds = read_seeds(request.seeds) if request.seeds is not None else consecutive
    if request.codes is not None:
        _refuse(request, "codes", ("seeds", "seed", "grid", "sampling"))
        seeds = np.zeros(len(request.codes.split(",")), int)
    if len(seeds) % (columns * rows):
        raise UserError(f"--grid={request.grid} has {columns * rows:,} places, which {len(seeds):,} seeds don't fill")
    run = _run(request)
    how = _how(run.gan, request.sampling)
    passed = "seed" if request.codes is None else "code"
    frames = max(1, round(request.seconds * request.fps))
    seeds = seeds.reshape(columns * rows, -1)
    told = {"columns": columns, "loop": request.loop, "label": _label(run, request), **_options(how)}
    if request.codes is not None:
        found = _codes(run, request)
        run.params = found[0].params
        told |= {"codes": np.stack([code.code for code in found])[None]}
        told |= {} if request.label else {"label": found[0].label}
    if request.shift is not None:
        told |= {"shift": _shift(run, request)}
    out = request.out or _in(request.workdir, out.name)
    film.save(walking.walk(run, seeds, frames, **told), frames, out, request.fps)
    print(
        f"a film of step {run.step:,}, {request.seconds:g} s through {counted(seeds.size, passed)}{_said(how)}: {out}"
    )


def mix(request: Request) -> None:
    """Draw a table of images with the styles of two."""
    import numpy as np

    from gan_jax.runs import visualize
    from gan_jax.use import mixing

    out = _picture(request, "mixed.png")
    rows, columns = (read_seeds(text, flag) for text, flag in ((request.rows, "rows"), (request.cols, "cols")))
    run = _run(request)
    how = _how(run.gan, request.sampling)
    copies = getattr(run.gan.generator, "copies", 1)
    styles = np.arange(copies // 2) if request.styles is None else read_seeds(request.styles, "styles")
    table = mixing.mix(run, rows, columns, styles, _label(run, request), **_options(how))
    out = request.out or _in(request.workdir, out.name)
    visualize.save_png(visualize.grid(run.gan.pixels.shown(table.reshape(-1, *table.shape[2:])), table.shape[1]), out)
    kinds = f"{len(rows)} x {len(columns)} images of step {run.step:,}"
    print(f"{kinds}, the styles {listed(styles)} of {copies} from the columns{_said(how)}: {out}")


def project(request: Request) -> None:
    """Find the code of a picture."""
    from gan_jax.use import check, projected

    if request.image is None:
        raise UserError("--mode=project finds the code of a picture: give --image=FILE")
    out = request.out or request.workdir / f"projected_{request.image.stem}"
    if out.suffix:
        raise UserError(f"--out must be a folder without an ending in this mode, not {str(out)!r}")
    run = _run(request)
    target = projected.read(run, request.image)
    check.not_of_conditions(run.gan, "projection")
    label = None if request.label is None else _class(run, request.label)
    distance = projected.distance(run, request.features)
    out = request.out or _in(request.workdir, out.name)
    found = run.project(
        run.gan.pixels.greys(target), distance=distance, steps=request.num_steps, label=label, seed=request.seed
    )
    projected.save(found, target, out, run.gan.pixels)
    whose = f", class {run.classes[found.label]}" if run.gan.classes else ""
    print(f"the {found.space}{whose}, nearest to {request.image} by {distance.name}, at step {run.step:,}: {out}")
    print(f"distance {found.distance:.4g}, at first {found.start:.4g}: {out / 'projected.png'}")


def directions(request: Request) -> None:
    """Find directions, and draw what each does."""
    from gan_jax.runs import visualize
    from gan_jax.use import directions as found_by
    from gan_jax.util import progress

    out = request.out or request.workdir / "directions"
    if out.suffix:
        raise UserError(f"--out must be a folder without an ending in this mode, not {str(out)!r}")
    run = _run(request)
    how = _how(run.gan, request.sampling)
    found = found_by.find(run, request.method, request.num_directions)
    out = request.out or _in(request.workdir, out.name)
    found.save(out / "directions.npz")
    label = _label(run, request)
    with progress.bar(total=len(found.vectors), unit="picture") as bar:
        for number in range(len(found.vectors)):
            picture = found_by.picture(run, found, number, request.seed, label, **_options(how))
            visualize.save_png(picture, out / f"direction_{number:02d}.png")
            bar.update(1)
    print(f"{counted(len(found.vectors), 'direction')} in {found.space} by {found.method}, of step {run.step:,}: {out}")
    if request.out is None:  # where --shift looks for them
        print(f"draw along the first: {named.program()} --mode=sample --workdir={request.workdir} --shift=0=2")


def export(request: Request) -> None:
    """Write the generator as files."""
    from gan_jax.use import export as exporting

    if request.out is None or request.out.suffix:
        raise UserError("--mode=export writes a folder: give --out=FOLDER, a name without an ending")
    if "noise_mode=random" in (request.sampling or "").split():
        raise UserError("--sampling: an exported generator draws nothing by itself: noise_mode is const or none")
    run = _run(request)
    options = _options(_how(run.gan, request.sampling))
    files = exporting.export(run, request.out, onnx=request.onnx, **options)
    print(f"the generator of step {run.step:,}, {listed(files)}: {request.out}")


def play(request: Request) -> None:
    """Serve a page to play with."""
    from gan_jax.use import play as playing
    from gan_jax.util import progress

    run = _run(request)
    player = playing.Player(run)
    with progress.elapsed("compiling the generator"):
        player.about()
        for noise in ("const", "random"):
            player.image({"a": {"seed": 0, "noise": noise}, "b": {"seed": 1}, "t": 0.5})
    with playing.server(player, request.host, request.port) as server:
        whose = "this machine's alone; --host=0.0.0.0 lets others in" if request.host in playing.LOCAL else "anyone's"
        shown = f"[{request.host}]" if ":" in request.host else request.host
        print(f"{run.config.model} of step {run.step:,}: http://{shown}:{server.server_port} ({whose})", flush=True)
        print("Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _run(request: Request) -> Any:
    from gan_jax.use import loading, trained

    return trained.Trained(request.workdir, loading.restore(request.workdir, request.step), "average")


def _picture(request: Request, name: str) -> Path:
    out = request.out or request.workdir / name
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png in this mode: it gets a picture, not {str(out)!r}")
    return out


def _label(run: Any, request: Request) -> Any:
    """Return the number of the one class of all images, or shares of each class."""
    from gan_jax.use import loading

    return loading.labels(run.gan, request.workdir, 1, request.label, "--label").told[0]


def _class(run: Any, text: str) -> int:
    found = _label(run, Request(run.workdir, label=text))
    if found.ndim:
        raise UserError(f"--label={text}: a picture has one class: give one")
    return int(found)


def _options(how: Any) -> dict[str, Any]:
    if how.standing:
        raise UserError("--sampling: standing is for samples and evaluations, not for this mode: leave it out")
    return dict(how.options)


def _how(gan: Any, text: str | None) -> Any:
    """How to draw by ``--sampling``."""
    from gan_jax.evaluate import sampling

    return sampling.read(gan, text or "", "--sampling")


def _said(how: Any) -> str:
    return f", {how}" if str(how) else ""


def _in(workdir: Path, name: str) -> Path:
    """Return the picture ``name`` of the run in ``workdir``, if it can be written there."""
    from gan_jax.util.files import refusal

    if reason := refusal(workdir):
        raise UserError(f"cannot write to {workdir} ({reason}): give --out={'FILE' if Path(name).suffix else 'FOLDER'}")
    return workdir / name
