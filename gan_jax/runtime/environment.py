"""What this process asks of its surroundings: where compiled programs are kept, how its CPU works, its memory."""

import ctypes
import os
from contextlib import suppress
from importlib.util import find_spec

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt
# LLVM's loop strength reduction takes up to a third of the time to compile a DCGAN for CPUs, and its program isn't
# faster. XLA has this for a whole process alone, GPUs' programs too.
_LLVM, _QUICKLY = "--xla_backend_extra_options", "-disable-lsr"
_OTHER_DEVICES = ("jax_plugins", "libtpu")  # packages that bring them


def prepare() -> None:
    """Set the process up for training, before JAX is first used.

    - Compiled programs are kept on disk, in ``$JAX_COMPILATION_CACHE_DIR`` or the user's cache directory; nowhere if
      that can't be written, or if this user has no home.
    - A program of one CPU device runs in the thread that calls it, which would only wait for it, and memory that it
      frees stays with the process: else each call of a program that takes 100 MB is given them by the system page by
      page, which costs as much as a third of a step (`benchmarks.trainer`). `give_back` returns what is free.
    - Where CPUs are all there is, ``XLA_FLAGS`` lets LLVM leave out a slow pass, unless it has LLVM's options already.
    """
    os.environ["XLA_FLAGS"] = _flags(os.environ.get("XLA_FLAGS", ""))
    import jax

    asked: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    jax.config.update("jax_compilation_cache_dir", _cache(asked))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    with suppress(OSError, AttributeError, TypeError):  # glibc has it, others not
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Return free memory to the system."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _flags(asked: str) -> str:
    """XLA's flags where these are asked for."""
    cpus_alone = os.environ.get("JAX_PLATFORMS") == "cpu" or not any(map(find_spec, _OTHER_DEVICES))
    return f"{asked} {_LLVM}={_QUICKLY}".strip() if cpus_alone and _LLVM not in asked else asked


def _cache(asked: str | None) -> str | None:
    """Where compiled programs are kept, or None; ``asked``: where JAX was told to."""
    path = os.path.expanduser(asked or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "gan_jax"))
    if path.startswith("~"):  # nobody's home
        return None
    with suppress(OSError):
        os.makedirs(path, exist_ok=True)
    return path if asked or os.access(path, os.W_OK | os.X_OK) else None
