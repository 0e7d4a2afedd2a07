"""What MkDocs does for the manual beyond itself: pages from outside of ``docs/``, linked source code, notebooks.

Links in the pages are those of the checkout, so that they lead somewhere in an editor, too; here they become links
between the manual's pages.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files, InclusionLevel
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # of the checkout, by their place in the manual
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", "": "text"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from elsewhere, and one for each file of the checkout that a page links to."""
    for source, own in PAGES.items():
        files.append(File.generated(config, own, content=(ROOT / source).read_text()))
    for notebook in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        for name, content in converted(notebook).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for page in list(files.documentation_pages()):
        for _, link, _ in _LINK.findall(page.content_string):
            target = of_checkout(page.src_uri, link)
            place = place_of(target) if target else None
            if target and place and files.get_file_from_path(place) is None:
                hidden = InclusionLevel.NOT_IN_NAV
                files.append(File.generated(config, place, content=shown(target, place), inclusion=hidden))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links of the checkout lead to the manual's pages."""

    def led(found: re.Match[str]) -> str:
        head, link, anchor = found[1], found[2], found[3] or ""
        target = of_checkout(page.file.src_uri, link)
        if target is None:
            return found[0]
        place = posixpath.relpath(place_of(target), posixpath.dirname(page.file.src_uri) or ".")
        return f"{head}{place}{anchor})"

    return _LINK.sub(led, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Let the search find its script here, not in the network."""
    depth = page.file.dest_uri.count("/")
    return output.replace("https://unpkg.com/iframe-worker/shim", "../" * depth + "assets/iframe-worker.js")


def of_checkout(page: str, link: str) -> str | None:
    """Return which file of the checkout a ``link`` of the manual's ``page`` leads to, or None if to none."""
    if re.match(r"\w+:", link):
        return None
    sources = {place: source for source, place in PAGES.items()}
    folder = PurePosixPath(sources.get(page, f"docs/{page}")).parent
    target = posixpath.normpath(str(folder / link))
    return target if (ROOT / target).exists() else None


def place_of(target: str) -> str:
    """Return where the manual has the file ``target`` of the checkout."""
    if target in PAGES:
        return PAGES[target]
    if target.startswith("docs/"):
        own = target.removeprefix("docs/")
        return f"{own.removesuffix('.ipynb')}.md" if own.endswith(".ipynb") else own
    return target if target.endswith((".png", ".svg")) else f"source/{target}.md"


def shown(target: str, place: str) -> str | bytes:
    """Return a page with the source code of ``target``, or the picture that it is."""
    file = ROOT / target
    if not place.endswith(".md"):
        return file.read_bytes()
    hidden = "---\nsearch:\n  exclude: true\n---\n"
    return f"{hidden}# {target}\n\n````{_LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}````\n"


def converted(notebook: Path) -> dict[str, str | bytes]:
    """Return a notebook as a page of Markdown, and its pictures, by file name."""
    body, resources = MarkdownExporter().from_notebook_node(nbformat.read(notebook, as_version=4))
    found: dict[str, str | bytes] = {}
    for name, data in resources["outputs"].items():
        found[f"{notebook.stem}_{name}"] = data
        body = body.replace(f"({name})", f"({notebook.stem}_{name})")
    return {f"{notebook.stem}.md": body, **found}
