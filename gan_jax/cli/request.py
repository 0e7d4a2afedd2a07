"""What a command line asks for: one object, its fields named as the flags."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax.runtime.signals import Stop


@dataclasses.dataclass(frozen=True)
class Request:
    """A parsed command line; `launch.py` explains the flags.

    Attributes:
      workdir: of the run, sweep or search.
      config: what ``--config`` gave, or None.
      config_path: where it is from, with what stands behind its colon.
      overrides: each ``--config.KEY=VALUE``, by key.
      runs: further workdirs, of modes that take several.
      stop: whether somebody asked for the end; None where nobody listens.
    """

    workdir: Path
    config: ConfigDict | None = None
    config_path: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stop: Stop | None = None
    runs: tuple[Path, ...] = ()
    out: Path | None = None
    num_samples: int | None = None
    step: int | str | None = None
    seed: int = 0
    seeds: str | None = None
    grid: str | None = None
    seconds: float = 10.0
    fps: float = 24.0
    loop: bool = True
    label: str | None = None
    labels: str | None = None
    shift: str | None = None
    codes: str | None = None
    rows: str = "0-3"
    cols: str = "4-9"
    styles: str | None = None
    image: Path | None = None
    features: str = "random"
    num_steps: int = 1000
    method: str = "sefa"
    num_directions: int = 10
    onnx: bool = False
    yes: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    sampling: str | None = None
    classifiers: int = 0
    by_class: bool = False
    samples: Path | None = None
    ppl: str | None = None
    reference: Path | None = None
    sweep: str | None = None
    search: str | None = None
    trials: int = 64
    population: int | None = None
    objective: str = "fid"
    executor: str | None = None
    executor_args: str = ""
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    fallback: Path | None = None
    change: bool = False
    init_from: str | None = None
    track: str | None = None
