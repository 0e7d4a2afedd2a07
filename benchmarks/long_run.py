"""A long run watched from outside: memory, open files, threads and disk, which must stay flat.

    python -m benchmarks.long_run --minutes=60

Trains configs/gan.py with a checkpoint every few seconds, then ends it by SIGTERM: exit code 75. Further
flags go to launch.py.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLAGS = (
    *(
        "--config=configs/gan.py",
        "--config.steps=20000000",
        "--config.checkpoint.every=300",
        "--config.checkpoint.keep=3",
    ),
    *("--config.sample.every=1000", "--config.eval.every=1000", "--config.log.every=100"),
    "--config.eval.features=none",
)


def size(path: Path) -> int:
    """Bytes of all files in ``path``; of one that goes meanwhile, none."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(Path(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


def look(pid: int, workdir: Path) -> dict[str, float]:
    """Return what the process holds now."""
    place = Path(f"/proc/{pid}")
    pages = int((place / "statm").read_text().split()[1])
    kept = [path for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()]
    return {
        "memory MB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "open files": len(list((place / "fd").iterdir())),
        "threads": len(list((place / "task").iterdir())),
        "checkpoints": len(kept),
        "checkpoints MB": size(workdir / "checkpoints") / 2**20,
        "other files MB": (size(workdir) - size(workdir / "checkpoints")) / 2**20,
        "newest step": max((int(path.name) for path in kept), default=0),
    }


def main() -> None:
    """Print a line every few seconds, and at last the range of the second half."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between looks")
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        workdir = Path(name) / "run"
        command = [sys.executable, "launch.py", *FLAGS, f"--workdir={workdir}", *more]
        with (Path(name) / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            begin, looks = time.monotonic(), []
            while process.poll() is None and time.monotonic() - begin < 60 * options.minutes:
                time.sleep(options.every)
                if (workdir / "metrics.jsonl").exists() and process.poll() is None:
                    looks.append(look(process.pid, workdir))
                    shown = ", ".join(f"{key} {value:,.0f}" for key, value in looks[-1].items())
                    print(f"{time.monotonic() - begin:6.0f} s: {shown}", flush=True)
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            code = process.wait()
        print(f"SIGTERM: exit code {code} after {time.monotonic() - asked:.1f} s")
        if len(looks) < 2:
            sys.exit("too short: the run had hardly begun")
        half = looks[len(looks) // 2 :]
        for key in looks[0]:
            first, last = half[0][key], half[-1][key]
            low, high = min(x[key] for x in half), max(x[key] for x in half)
            print(f"{key:<16}second half: from {first:,.1f} to {last:,.1f}, between {low:,.1f} and {high:,.1f}")


if __name__ == "__main__":
    main()
