"""Record what the manual's notebooks show: ``python -m tests.notebooks`` runs them, and keeps their outputs tidy.

``make notebooks`` only runs them. Bars of progress and places of temporary files are left out: they differ each time.
"""

import re
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


def main() -> None:
    """Run all and write them."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        ExecutePreprocessor(timeout=1200).preprocess(notebook, {"metadata": {"path": str(FOLDER)}})
        tidy(notebook)
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main()
