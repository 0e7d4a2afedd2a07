"""Pages of HTML that open without a network: Jinja's templates in ``pages/``, with uPlot for their charts.

Whatever a template is given is escaped. uPlot (50 kB, MIT, ``pages/uplot.LICENSE``) is in each page once.
"""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gan_jax.util.files import write_atomically


def write(path: Path, template: str, **given: Any) -> Path:
    """Write the page ``template`` of ``given`` to ``path``, and return that."""
    text = _templates().get_template(template).render(**given)
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))
    return path


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(_read)
    found = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    found.globals["raw"] = _raw
    return found


def _read(name: str) -> str:
    return resources.files("gan_jax.runs").joinpath("pages", name).read_text(encoding="utf-8")


def _raw(name: str) -> Markup:
    """Return a file of ours as it is, style or script."""
    return Markup(_read(name))
