"""Runs that are killed at random moments and taken up again: ``python -m tests.kill DIRECTORY SEED KILLS``.

Every run is a process of its own, forked after the imports, which else would take most of the time. Each third kill
waits for the writing of a checkpoint. Ends with code 0 if every run ended as the undisturbed one did, to the bit.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax._src import xla_bridge
from ml_collections import ConfigDict
from PIL import Image

from gan_jax import build
from gan_jax.core.state import init_state
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.training import train
from tests.helpers import small


def config() -> ConfigDict:
    """Forty steps with a checkpoint at every other."""
    found = small("gan")
    found.steps, found.steps_per_dispatch, found.log.every = 40, 3, 3
    found.sample.every, found.eval.every, found.checkpoint.every, found.checkpoint.keep = 5, 10, 2, 2
    return found


def fork(path: Path, act: Callable[[], object]) -> int:
    """Does it in another process, whose number it returns; this one never begins to use JAX, which doesn't fork."""
    assert not xla_bridge.backends_are_initialized(), "an import began to use JAX: the forks would wait for its threads"
    pid = os.fork()
    if pid:
        return pid
    log = os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        act()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def trained(path: Path) -> int:
    """Trains there in another process."""
    return fork(path, lambda: train.train(config(), path, jax.local_devices()[:1]))


def succeeds(pid: int, path: Path) -> None:
    """Waits for a process, which must end well."""
    assert os.waitpid(pid, 0)[1] == 0, Path(f"{path}.log").read_text()


def ended(pid: int) -> bool:
    """Whether the process ended by itself; it must have succeeded then."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if found:
        assert os.waitstatus_to_exitcode(status) == 0, f"a run ended with {os.waitstatus_to_exitcode(status)}"
    return bool(found)


def check_files(path: Path) -> None:
    """Nothing that has its name is half written."""
    for file in path.glob("*.json"):
        json.loads(file.read_text())
    for file in [*path.rglob("*.png"), *path.glob("*.gif")]:
        with Image.open(file) as image:
            image.load()


def check_same(path: Path, whole: Path) -> None:
    """Two runs ended alike."""
    check_files(path)
    states, logs = [], []
    gan, hyper = build.build_gan(config())
    like = jax.eval_shape(lambda: init_state(gan, 0, hyper))
    for place in (path, whole):
        with Checkpoints(place / "checkpoints") as checkpoints:
            states.append(checkpoints.restore(like))
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        logs.append([{k: v for k, v in x.items() if k not in ("seconds", "images_per_second")} for x in lines])
        assert sorted(int(kept.name) for kept in (place / "checkpoints").iterdir()) == [38, 40]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert logs[0] == logs[1]
    assert [record["step"] for record in logs[0]] == [step for step in range(1, 41) if step % 2 == 0 or step % 3 == 0]
    for picture in (whole / "samples").iterdir():
        assert picture.read_bytes() == (path / "samples" / picture.name).read_bytes()


def main(directory: Path, seed: int, kills: int) -> None:
    """Kills until there were so many."""
    chance, whole = random.Random(seed), directory / "whole"
    seconds = 0.0
    for _ in range(2):  # the second time without compiling
        shutil.rmtree(whole, ignore_errors=True)
        begin = time.monotonic()
        succeeds(trained(whole), whole)
        seconds = time.monotonic() - begin
    done = saving = runs = 0
    while done < kills:
        path = directory / f"run{runs}"
        fresh = not path.exists()
        pid, begin, wait = trained(path), time.monotonic(), chance.uniform(0, seconds)
        over = False
        while not (over := ended(pid)) and time.monotonic() - begin < wait:
            time.sleep(0.001)
        if not over and done % 3 == 2:
            while not (over := ended(pid)) and not list(path.glob("checkpoints/*tmp*")):
                pass
            saving += not over
        if over:
            seconds = time.monotonic() - begin if fresh else seconds  # on a machine that is busy now and then
            succeeds(fork(path, lambda path=path: check_same(path, whole)), path)  # type: ignore[misc]
            runs += 1
            continue
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done += 1
        if path.exists():
            check_files(path)
    succeeds(trained(path), path)
    succeeds(fork(path, lambda: check_same(path, whole)), path)
    resumed = sum(Path(f"{directory / f'run{i}'}.log").read_text().count("resumed from") for i in range(runs + 1))
    print(
        f"{done} kills, {saving} of them in a save, {resumed} resumptions, {runs + 1} runs, all as the undisturbed one"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
