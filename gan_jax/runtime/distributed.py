"""One run on many hosts: its processes find each other, wait for each other, and stop when one of them is gone.

Every process runs the same program on the same numbers. Process 0 alone speaks and writes; in a checkpoint all take
part. JAX is imported inside the functions, because the command line is parsed before it is.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NoReturn

from gan_jax.util.errors import UserError, plain

START = 300  # seconds that a process waits for the others at the start
SILENCE = 30  # seconds without a sign of life after which a process counts as gone
_PATIENCE = 6 * 3600  # seconds that the others wait while process 0 reads and decodes the data
_CLUSTERS = ("slurm", "ompi", "gcetpu", "gketpu")  # JAX's names of those that are looked for
_GONE = 75  # exit code, as mail systems have it: the same command may succeed later
_LINE = (
    "error: another process of this run is gone, or this one was killed: "
    "start all of them again, the run resumes from its last checkpoint"
)
# Words of the errors of collectives (gloo, NCCL) and of JAX's coordination service.
_OF_OTHERS = ("gloo", "nccl", "connection", "unavailable", "deadline", "coordination", "heartbeat", "barrier")

_meetings, _decisions = count(), count()
_watcher: "subprocess.Popen[str] | None" = None


def start(coordinator: str | None, processes: int | None, process: int | None, seconds: int = START) -> None:
    """Join the other processes of this run, if there are any. Nothing else must have been asked of JAX before.

    Args:
      coordinator: ``HOST:PORT`` of process 0, where the others find it.
      processes: how many there are; 1 and nothing else: this one alone, whatever the machine says.
      process: the number of this one. All three None: what SLURM, Open MPI or a TPU pod say, if one of them started it.
      seconds: how long to wait for the others.

    Raises:
      UserError: the numbers don't fit, or not all are there in time.
    """
    import jax

    if processes == 1 and coordinator is None and process in (None, 0):
        return
    if (coordinator, processes, process) != (None, None, None):
        given = _checked(coordinator, processes, process)
    elif in_a_cluster():
        given = {}
    else:
        return
    # A signal to stop is for this program, and not for JAX's notice of preemption.
    jax.config.update("jax_enable_preemption_service", False)
    there = coordinator or "their coordinator"
    apart = (
        f"not all processes of this run met at {there} within {seconds} s: start them all, with the same --coordinator "
        "and --processes and a --process of its own each, or --processes=1 to run alone"
    )
    _last_words(f"error: {apart}")
    if coordinator and process:
        _reach(coordinator, seconds, apart)
    try:
        jax.distributed.initialize(**given, initialization_timeout=seconds, heartbeat_timeout_seconds=SILENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{apart} ({' '.join(str(error).split())[:200]})") from error
    _last_words(_LINE)
    atexit.register(_last_words, "")
    _check_number(processes)
    if not is_first():  # the others say nothing but their errors
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ["TQDM_DISABLE"] = "1"


def _checked(coordinator: str | None, processes: int | None, process: int | None) -> dict[str, Any]:
    """Return what the flags give, for `jax.distributed.initialize`."""
    if coordinator is None or processes is None or process is None:
        raise UserError("many hosts want --coordinator=HOST:PORT, --processes=N and --process=I, all three")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator={coordinator}: give HOST:PORT of process 0, e.g. host0:1234")
    if not 0 <= process < processes:
        raise UserError(f"--process={process} of --processes={processes}: they are numbered from 0 to {processes - 1}")
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
        "cluster_detection_method": "deactivate",
    }


def _check_number(processes: int | None) -> None:
    """Refuse a number of processes that isn't process 0's, which would wait for others than come."""
    key, client = "gan_jax/processes", _state().client
    if _state().process_id == 0:
        client.key_value_set(key, str(processes))
    elif (theirs := client.blocking_key_value_get(key, START * 1000)) != str(processes):
        raise UserError(f"--processes={processes}, but process 0 has --processes={theirs}: give all the same")


def in_a_cluster() -> bool:
    """Whether SLURM, Open MPI or a TPU pod started this process as one of several.

    Asked of JAX's own detection, which looks at the environment, and on TPU hosts at their metadata.
    """
    from jax._src import clusters

    for kind in clusters.ClusterEnv._cluster_types:
        if kind.name in _CLUSTERS and kind.is_env_present():
            return kind.get_process_count() > 1
    return False


def _reach(coordinator: str, seconds: int, apart: str) -> None:
    """Wait until process 0 listens: JAX, which doesn't come back from a wait in vain, then has none before it."""
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(f"{apart} ({error})") from error
        time.sleep(0.5)


def _last_words(line: str) -> None:
    """Set what a process beside this one says if this one ends without a word; nothing if ``line`` is empty.

    So it ends when JAX's coordination service gives up on another: from a thread of its own, past all exceptions.
    """
    global _watcher
    if _watcher is None:
        wait = "import sys; last = ([''] + sys.stdin.read().splitlines())[-1]; last and print(last, file=sys.stderr)"
        _watcher = subprocess.Popen(
            [sys.executable, "-S", "-c", wait], stdin=subprocess.PIPE, start_new_session=True, text=True, bufsize=1
        )
    assert _watcher.stdin is not None
    _watcher.stdin.write(f"{line}\n")


def _state() -> Any:
    from jax._src import distributed  # what JAX has no public name for, and orbax reads as well

    return distributed.global_state


def several() -> bool:
    """Whether this run has more than one process."""
    return "jax" in sys.modules and _state().client is not None


def is_first() -> bool:
    """Whether this is process 0, or the only one: that which speaks and writes."""
    import jax

    return not several() or jax.process_index() == 0


def barrier() -> None:
    """Wait until all processes are here; each must come by the same number of times."""
    if several():
        _state().client.wait_at_barrier(f"gan_jax/{next(_meetings)}", _PATIENCE * 1000)


@contextmanager
def first_goes_first() -> Iterator[None]:
    """Process 0 runs the block before all others, who then find what it left on disk."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def broadcast(value: Any) -> Any:
    """Return what process 0 has for ``value``, of JSON: a decision that all must take alike."""
    if not several():
        return value
    key = f"gan_jax/{next(_decisions)}"
    if is_first():
        _state().client.key_value_set(key, json.dumps(value))
        return value
    return json.loads(_state().client.blocking_key_value_get(key, _PATIENCE * 1000))


class Calls:
    """When all processes look after what one of them was told of: after a step that none has dispatched yet."""

    def __init__(self) -> None:
        self._number, self._sent = next(_decisions), False

    def due(self, step: int, told: str, at: int) -> str:
        """Return what one was told of, or nothing; the same in all processes.

        Args:
          step: that after which this process looks.
          told: what this one was told of, or nothing.
          at: the step, no other process being further, after which all shall look.
        """
        if not several():
            return told
        client, key = _state().client, f"gan_jax/call/{self._number}"
        if told and not self._sent:
            self._sent = True
            try:
                client.key_value_set(key, json.dumps([at, told]))
            except Exception as error:  # another was first
                if "exist" not in str(error).lower():
                    raise
        try:
            when, what = json.loads(client.key_value_try_get(key))
        except Exception as error:  # nobody called
            if "not found" not in str(error).lower().replace("_", " "):
                raise
            return ""
        if step < when:
            return ""
        self._number, self._sent = next(_decisions), False
        return str(what)


def leave_if_lost(error: Exception) -> None:
    """End this process, with one line, if ``error`` says that another can't be reached."""
    reason = " ".join(str(error).split())
    if several() and any(word in reason.lower() for word in _OF_OTHERS):
        leave(_LINE.replace("gone", f"gone ({reason[:200]})", 1), _GONE)


def leave(line: str, code: int) -> NoReturn:
    """End this process with a last line, at once in a run of several: a shutdown of JAX would wait for the others."""
    if _watcher is None:
        print(line, file=sys.stderr, flush=True)
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    ours = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # JAX's threads find out, too, and have a page to say
    os.write(ours, f"{plain(line)}\n".encode())
    _last_words("")
    os._exit(code)
