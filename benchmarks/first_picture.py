"""Seconds from a command to its first picture: ``--mode=sample``, ``play`` and ``evaluate``, of digits.

    python -m benchmarks.first_picture --configs=dcgan,sngan,biggan,r3gan,stylegan2

Each command begins a process. "cold" has no compiled programs, "warm" those of the commands before.

- sample: until it ends, 64 images drawn and written.
- play: until the page has its first image, asked for by HTTP.
- evaluate: until it ends, 1,000 samples judged by all figures and the report written.

Medians of the repeats; of cold starts there is one.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from gan_jax.util import progress

_LAUNCH = (sys.executable, "launch.py")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", default="dcgan,sngan,biggan,r3gan,stylegan2", help="presets with digits")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| digits | sample, cold | warm | play, cold | warm | evaluate, cold | warm |\n|---|---|---|---|---|---|---|")
    for name in options.configs.split(","):
        found = taken(name, options.repeats)
        print(f"| {name} | {' | '.join(f'{seconds:.1f}' for seconds in found)} |", flush=True)


def taken(name: str, repeats: int) -> list[float]:
    """Return the seconds of each mode, cold and warm, of a run of a preset."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        config = (f"--config=configs/{name}.py:mnist5k", "--config.steps=8")
        subprocess.run([*_LAUNCH, *config, f"--workdir={run}"], check=True, stdout=subprocess.DEVNULL)
        for mode in (sample, play, evaluate):
            variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/{mode.__name__}"}
            starts = [mode(run, variables) for _ in progress.bar(range(1 + repeats), desc=f"{name}, {mode.__name__}")]
            found += [starts[0], statistics.median(starts[1:])]
    return found


def sample(run: Path, variables: dict[str, str]) -> float:
    """Seconds to draw a picture."""
    return _ended(variables, "--mode=sample", f"--workdir={run}", "--num_samples=64")


def evaluate(run: Path, variables: dict[str, str]) -> float:
    """Seconds to judge samples."""
    return _ended(variables, "--mode=evaluate", f"--workdir={run}", "--num_samples=1000")


def play(run: Path, variables: dict[str, str]) -> float:
    """Seconds until the page could show its first image."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, begin = f"http://127.0.0.1:{port}", time.perf_counter()
    command = [*_LAUNCH, "--mode=play", f"--workdir={run}", f"--port={port}"]
    with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                with suppress(OSError):
                    urllib.request.urlopen(url).read()
                    break
                assert process.poll() is None, f"{command} failed"
                time.sleep(0.01)
            asked = json.dumps({"a": {"seed": 1}}).encode()
            picture = urllib.request.urlopen(urllib.request.Request(f"{url}/image", asked)).read()
            seconds = time.perf_counter() - begin
        finally:
            process.terminate()
    assert picture.startswith(b"\x89PNG")
    return seconds


def _ended(variables: dict[str, str], *flags: str) -> float:
    begin = time.perf_counter()
    subprocess.run([*_LAUNCH, *flags], check=True, env=variables, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
