"""Record what the manual's notebooks show: ``python -m tests.notebooks`` runs them, and keeps their outputs tidy.

Bars of progress and places of temporary files are left out: they differ each time. ``make notebooks`` only runs them,
and ``python -m tests.notebooks --short`` only copies with a twentieth of the steps.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor

FOLDER = Path(__file__).resolve().parent.parent / "docs/notebooks"


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave out standard error, put what is printed together, and shorten places of temporary files."""
    for cell in notebook.cells:
        kept: list[nbformat.NotebookNode] = []
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                continue
            if output.get("name") == "stdout" and kept and kept[-1].get("name") == "stdout":
                kept[-1].text += output.text
            else:
                kept.append(output)
        for output in kept:
            for told in [output] if "text" in output else [output.data] if "data" in output else []:
                for key in ("text", "text/plain"):
                    if key in told:
                        told[key] = re.sub(r"/\S*/(?=dcgan\b)", ".../", told[key])
        if "outputs" in cell:
            cell.outputs = kept
        cell.metadata.pop("execution", None)


def shorten(notebook: nbformat.NotebookNode) -> None:
    """Divide whole hundreds, which are numbers of steps and samples, by 20."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"\b(\d+)00\b", lambda found: str(5 * int(found[1])), cell.source)


def main(short: bool) -> None:
    """Run all, and write them unless they are ``short``."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if short:
            shorten(notebook)
        ExecutePreprocessor(timeout=1200).preprocess(notebook, {"metadata": {"path": str(FOLDER)}})
        if not short:
            tidy(notebook)
            nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main("--short" in sys.argv[1:])
