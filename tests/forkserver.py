"""Processes of ``launch.py`` that needn't import JAX: forked from one that has, ``python -m tests.forkserver``.

A third of the quick tests' time went into these imports. Of a new process all is as ever but for that: its arguments,
folder, environment, output, exit code, and that no backend of JAX has begun. `tests.helpers.launch` asks for them.

The server reads a line of JSON for each (``argv``, ``cwd``, ``env``, and files ``out`` and ``err`` for what it prints),
and answers with the exit code when it has ended.
"""

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Server:
    """One, in a process of its own, that begins with the first line that is asked for."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.imported_with: dict[str, str] = {}

    def run(self, argv: Sequence[str], timeout: float, only: str = "") -> "subprocess.CompletedProcess[str]":
        """Run ``launch.py`` with these arguments, as ``subprocess.run`` would in today's folder and environment.

        With ``only`` it prints that word where it would begin what the mode does, and ends.
        """
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            asked = {"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ), "out": str(out), "err": str(err)}
            asked["only"] = only
            if self.process is None or self.imported_with != _read_by_imports():
                self.close()
                self.imported_with = _read_by_imports()
                command = [sys.executable, "-m", "tests.forkserver"]
                pipe = subprocess.PIPE
                self.process = subprocess.Popen(
                    command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, start_new_session=True
                )
            code = self._answer(json.dumps(asked), argv, timeout)
            return subprocess.CompletedProcess([*argv], code, out.read_text(), err.read_text())

    def _answer(self, line: str, argv: Sequence[str], timeout: float) -> int:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            self.close()
            raise subprocess.TimeoutExpired([*argv], timeout)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End it with all that it runs."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.process = None


def _read_by_imports() -> dict[str, str]:
    """What of the environment JAX and Python look at but once."""
    return {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "PYTHON", "GAN_JAX"))}


def main() -> None:
    """Serve until the input ends; in a new process, run ``launch.py``, and return or raise as that does."""
    import jax  # noqa: F401
    from jax._src import xla_bridge

    import gan_jax.cli.main
    import gan_jax.evaluate
    import gan_jax.runs.visualize
    import gan_jax.training.train  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        assert not xla_bridge.backends_are_initialized(), "an import began to use JAX, which can't be forked then"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads: there are none of ours
            pid = os.fork()
        if pid == 0:
            return _become(asked)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(asked: dict[str, Any]) -> None:
    written = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (name, how) in enumerate(((os.devnull, os.O_RDONLY), (asked["out"], written), (asked["err"], written))):
        os.dup2(os.open(name, how), number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["launch.py", *asked["argv"]]
    if asked["only"]:
        from gan_jax.cli import command

        command.run = lambda *_: print(asked["only"])
    try:
        runpy.run_path("launch.py", run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    else:
        code = 0
    # As Python ends, but for taking every module down, which copies all the memory that a fork shares: half a second.
    vars(threading)["_shutdown"]()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
