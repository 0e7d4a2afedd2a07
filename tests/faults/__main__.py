"""Put each named fault into a copy of the checkout and run the tests that should find it: ``python -m tests.faults``.

First the unmodified copy's tests run, which must pass. Ends with code 1 if they don't, or if a fault isn't found.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults import EVERY
from tests.faults.fault import Fault

ROOT = Path(__file__).parents[2]
_LIMIT = 600  # seconds that a fault's tests may take
_FOUND = "found"


def copy(directory: Path) -> Path:
    """A copy of what Git tracks or would track; what lies beside the checkout, in ``shared``, is there too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    to = directory / "checkout"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    if (shared := ROOT.parent / "shared").exists():
        (directory / "shared").symlink_to(shared)
    return to


def run(checkout: Path, tests: Iterable[str], *options: str, limit: float | None = None) -> tuple[int, str]:
    """Pytest's exit code and what it says last; the code is -1 if it takes more than ``limit`` seconds."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfEs", *options, *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"took more than {limit} s"
    return done.returncode, "\n".join((done.stdout + done.stderr).splitlines()[-12:])


def outcome(code: int, said: str) -> str:
    """What a run with a fault comes to: only tests that fail have found it, not a module that can't be imported."""
    if code == 1:
        return _FOUND
    if code == 0:
        return "NOT FOUND (tests were skipped)" if " skipped" in said.splitlines()[-1] else "NOT FOUND"
    return f"NOT RUN\n{said}"


def judge(fault: Fault) -> tuple[str, float]:
    """The outcome with the fault in a copy of its own, and seconds."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        checkout = copy(Path(directory))
        try:
            fault.apply(checkout)
            found = outcome(*run(checkout, fault.tests, "-x", "-n", "0", limit=_LIMIT))
        except ValueError as error:
            found = outcome(-1, str(error))
    return found, time.perf_counter() - begin


def control(faults: Iterable[Fault], jobs: int) -> bool:
    """Whether all their tests pass without any fault."""
    tests = sorted({test for fault in faults for test in fault.tests})
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        code, said = run(copy(Path(directory)), tests, "-n", str(jobs if jobs > 1 else 0))
    name = "clean" if code == 0 else "NOT CLEAN"
    print(
        f"{name}: without a fault {said.splitlines()[-1].strip('= ')}; {time.perf_counter() - begin:.0f} s", flush=True
    )
    if code:
        print(said)
    return code == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Judges the chosen faults, ``jobs`` at a time, and returns the exit code."""
    parser = argparse.ArgumentParser("python -m tests.faults", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="the faults AREA.NAME in whose names it is found")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="faults at a time")
    parser.add_argument("--list", action="store_true", help="print names and what they break, and run nothing")
    flags = parser.parse_args(arguments)
    chosen = {name: fault for name, fault in EVERY.items() if re.search(flags.only, name)}
    if flags.list:
        print("\n".join(f"{name}: {fault.breaks}" for name, fault in chosen.items()))
        return 0
    if not chosen:
        parser.error(f"no fault's name matches {flags.only!r}")
    if not control(chosen.values(), flags.jobs):
        return 1
    begin, missed = time.perf_counter(), []
    with concurrent.futures.ThreadPoolExecutor(flags.jobs) as pool:
        waiting = {pool.submit(judge, fault): name for name, fault in chosen.items()}
        for done in concurrent.futures.as_completed(waiting):
            (found, seconds), name = done.result(), waiting[done]
            print(f"{seconds:4.0f} s  {name}: {found}", flush=True)
            if found != _FOUND:
                missed.append(name)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} found in {time.perf_counter() - begin:.0f} s")
    for name in missed:
        print(f"not found: {name}: {chosen[name].breaks}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
