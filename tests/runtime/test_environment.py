"""What a process is set up for: seen in processes of their own, which it changes."""

import os
import platform
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from gan_jax.runtime import environment

_PROGRAM = """
import os, sys
from pathlib import Path
import jax, jax.numpy as jnp
from gan_jax.runtime import environment
if sys.argv[1] == "prepared":
    environment.prepare()
    assert "-disable-lsr" in os.environ["XLA_FLAGS"]
else:
    jax.config.update("jax_cpu_enable_async_dispatch", False)

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

x = jnp.ones(5000)
compiled = jax.jit(lambda x: jnp.tanh(x[:, None] + x)).lower(x).compile()
environment.give_back()  # what compiling has freed
before = megabytes()
out = compiled(x)
ready = out.is_ready()
out.block_until_ready().delete()
kept = megabytes() - before
environment.give_back()
print(ready, kept, megabytes() - before)
"""


def measured(kind: str) -> tuple[bool, float, float]:
    """Of a program that makes 100 MB, which are then deleted: whether it is done when its call returns, and what the
    process has more than before, after it and after giving back."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", _PROGRAM, kind]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    ready, kept, left = found.stdout.split()
    return ready == "True", float(kept), float(left)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept by glibc's mallopt alone")
def test_a_program_of_one_cpu_keeps_its_memory_and_is_done_when_its_call_returns() -> None:
    ready, kept, left = measured("prepared")
    assert ready
    assert kept > 95
    assert left < 50
    assert measured("inline alone")[1] < 50  # else the test would see nothing


def test_llvm_leaves_out_a_slow_pass_where_there_are_cpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    packages: set[str] = set()
    monkeypatch.setattr(environment, "find_spec", lambda name: name in packages or None)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert environment._flags("") == "--xla_backend_extra_options=-disable-lsr"
    assert environment._flags("--one=1") == "--one=1 --xla_backend_extra_options=-disable-lsr"
    assert environment._flags(environment._flags("")) == environment._flags("")
    assert environment._flags("--xla_backend_extra_options=-other") == "--xla_backend_extra_options=-other"
    packages.add("jax_plugins")
    assert environment._flags("--one=1") == "--one=1"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert environment._flags("") == "--xla_backend_extra_options=-disable-lsr"


def test_programs_are_kept_at_home_or_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment._cache(None) == str(tmp_path / ".cache" / "gan_jax")
    assert environment._cache("~/programs") == str(tmp_path / "programs")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/other")
    assert environment._cache(None) == str(tmp_path / "other" / "gan_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/dev/null")  # of a user that has none
    assert environment._cache(None) is None
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    assert environment._cache(None) is None
    assert environment._cache(str(tmp_path)) == str(tmp_path)
