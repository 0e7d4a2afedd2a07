"""What the trainer adds to its compiled steps: start-up, and everything around the steps.

    python -m benchmarks.trainer --out=trainer.json

- start: seconds from launch to the first step done, of configs/dcgan.py, without and with compiled programs in a cache;
  of that, until the run says what it will do (imports, data) and until the program is there (tracing, compiling or
  loading); and seconds of ``--help``.
- kept: images/s of a whole run (progress, logging, samples, checkpoints, what D says of images unseen) to those of the
  bare compiled chunk, by turns; and what a dispatch costs, to the .25 s that one takes.
- stop: seconds from SIGTERM to the exit code 75, a checkpoint being written between them.

Medians.
"""

import argparse
import json
import os
import platform
import pty
import signal
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks.program import Program, case_config
from configs import dcgan
from gan_jax.runtime import environment
from gan_jax.training import train
from gan_jax.util import progress

_LAUNCH = (sys.executable, "launch.py", "--config=configs/dcgan.py")


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("trainer.json"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    environment.prepare()
    machine = {"device": jax.devices()[0].device_kind, "cores": len(os.sched_getaffinity(0))}
    found: dict[str, Any] = {**machine, "python": platform.python_version(), "jax": jax.__version__}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        found |= starts(path, options.repeats)
        found |= kept(path, options.repeats, options.steps)
    print(json.dumps(found, indent=2))
    options.out.write_text(json.dumps(found, indent=2) + "\n")


def starts(path: Path, repeats: int) -> dict[str, Any]:
    """Seconds of launches: cold, warm, of the help, and to their end after SIGTERM."""
    seen: dict[str, list[tuple[float, float, float]]] = {"cold": [], "warm": []}
    stops, helps = [], []
    for turn in progress.bar(range(repeats), desc="starts, cold and warm"):
        begin = time.perf_counter()
        subprocess.run([*_LAUNCH[:2], "--help"], check=False, capture_output=True)
        helps.append(time.perf_counter() - begin)
        for kind in ("cold", "warm"):
            *marks, stop = launched(path / f"{kind}{turn}", path / f"cache{turn}")
            seen[kind].append((marks[0], marks[1], marks[2]))
            stops.append(stop)
    parts = ("told", "compiled", "first_steps")
    found: dict[str, Any] = {
        kind: {part: round(statistics.median(of), 2) for part, of in zip(parts, zip(*rows, strict=True), strict=True)}
        for kind, rows in seen.items()
    }
    return found | {"help": round(statistics.median(helps), 2), "stop": round(statistics.median(stops), 2)}


def launched(workdir: Path, cache: Path) -> tuple[float, float, float, float]:
    """Seconds until the plan is printed, the progress bar is there, and it moves; then from SIGTERM to the end.

    On a terminal, as users have it: in a log a bar is a line every 10 s.
    """
    variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    begin, marks, text = time.perf_counter(), [], b""
    command = [*_LAUNCH, f"--workdir={workdir}/run"]
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (30, 200))
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=variables) as process:
        os.close(terminal)
        for sign in (b"output  ", b"0%|", b"images/s"):
            while sign not in text:
                new = _read(screen)
                assert new, text.decode()
                text += new
            marks.append(time.perf_counter() - begin)
        time.sleep(3)
        asked = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        while _read(screen):
            pass
        assert process.wait() == 75
    os.close(screen)
    return marks[0], marks[1], marks[2], time.perf_counter() - asked


def _read(screen: int) -> bytes:
    """Return what has come, or nothing once the other side is closed, of which Linux makes an error."""
    try:
        return os.read(screen, 4096)
    except OSError:
        return b""


def kept(path: Path, repeats: int, steps: int) -> dict[str, Any]:
    """Images/s of runs to those of the bare chunk, for the shipped config and for a batch of 128."""
    found: dict[str, Any] = {}
    for name, config in (("dcgan", dcgan.get_config()), ("a", case_config("a"))):
        count = max(steps * 32 // config.batch_size, 20)
        config.steps = count
        config.eval.features = "none"
        devices = jax.devices()[:1]
        program = Program(config, devices)
        program.run(1)
        bare, whole, nothing = [], [], []
        for turn in progress.bar(range(repeats), desc=f"whole runs of {name}"):
            begin = time.perf_counter()
            program.run(count)
            bare.append((time.perf_counter() - begin) / count)
            workdir = path / f"{name}{turn}"
            train.train(config, workdir, devices)
            whole.append(json.loads((workdir / "summary.json").read_text())["seconds"] / count)
            begin = time.perf_counter()
            for _ in range(20):
                program.run(0)
            nothing.append((time.perf_counter() - begin) / 20)
        found[name] = {
            "kept": round(statistics.median(a / b for a, b in zip(bare, whole, strict=True)), 3),
            "step_ms": round(1e3 * statistics.median(bare), 1),
            "dispatch_share": round(statistics.median(nothing) / 0.25, 4),
        }
    return found


if __name__ == "__main__":
    main()
