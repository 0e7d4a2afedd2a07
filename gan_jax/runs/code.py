"""The user's own code that a run's config names: what it was when the run began, and whether it still is.

Code is run from where it lies, never out of a workdir, which anybody may have written. What a workdir has of it is its
hash, by which a change is noticed, and a copy for people to put back.
"""

import ast
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax.config import names_outside
from gan_jax.util import named
from gan_jax.util.errors import UserError
from gan_jax.util.files import read_json, read_regular, write_atomically, write_json

KEY = "code."  # before a file's name, where what differs in two runs is told by keys
_ELSEWHERE = ("get_config", "get_hyper", "get_search")  # what these return is compared by itself


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the user's own code.

    Attributes:
      path: where it lies.
      content: what is in it.
    """

    path: Path
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of its lines, but for those of the functions that return a config, a sweep or a search."""
        lines = self.content.splitlines(keepends=True)
        try:
            functions = [node for node in ast.parse(self.content).body if isinstance(node, ast.FunctionDef)]
        except (SyntaxError, ValueError):  # it was changed since it was run
            functions = []
        for node in functions:
            if node.name in _ELSEWHERE and node.end_lineno is not None:
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                lines[first - 1 : node.end_lineno] = [b""] * (node.end_lineno - first + 1)
        return hashlib.sha256(b"".join(lines)).hexdigest()


class Code:
    """What a workdir knows of the user's own code: ``code.json``, and copies in ``code/``.

    Args:
      folder: the workdir.
      read: what this process has read already, of another workdir's.
    """

    def __init__(self, folder: Path, read: "Code | None" = None) -> None:
        self.folder = folder
        self._file = folder / "code.json"
        # Read once, when the run is made: what is changed later is another run's.
        self._read: dict[tuple[str, ...], dict[str, File]] = read._read if read else {}

    def files(self, config: ConfigDict) -> dict[str, File]:
        """Return the files that ``config`` names, by a short name that is the same wherever they lie.

        Raises:
          UserError: one is gone.
        """
        names = tuple(names_outside(config))
        if names not in self._read:
            found: dict[str, File] = {}
            for path in sorted({path for path in map(named.source, names) if path}):
                number = 1 + sum(file.path.name == path.name for file in found.values())
                name = path.name if number == 1 else f"{path.stem}_{number}{path.suffix}"
                try:
                    found[name] = File(path, read_regular(path))
                except OSError as error:
                    raise self._gone(name, path) from error
            self._read[names] = found
        return self._read[names]

    def digests(self, config: ConfigDict) -> dict[str, str]:
        """Return what changes when a file does, by its key."""
        return {f"{KEY}{name}": file.digest for name, file in self.files(config).items()}

    def check_place(self, config: ConfigDict) -> None:
        """Raise `UserError` if code is gone, or lies in the workdir."""
        judges = config.eval.features
        others = [named.source(judges)] if named.is_function(judges) else []
        for path in [*(file.path for file in self.files(config).values()), *filter(None, others)]:
            if path.resolve().is_relative_to(self.folder.resolve()):
                raise UserError(
                    f"{path} lies in the workdir {self.folder}, and no code is run out of a workdir: move it "
                    "elsewhere, or give another --workdir"
                )

    def check(self, config: ConfigDict) -> None:
        """Raise `UserError` if code is gone, lies in the workdir, or isn't what the run was made with."""
        self.check_place(config)
        if differing := self.differing(config):
            raise UserError(
                f"the run in {self.folder} was made with other code{self.told(config, differing)}: put that back, or "
                "train on with the new by --change"
            )

    def differing(self, config: ConfigDict) -> dict[str, str]:
        """Return what isn't as the run here has it, by key, in words."""
        known, found = self._known(), self.digests(config)
        both = [key for key in found if key in known and known[key] != found[key]]
        return {key: f"{key}: {shown(key, known[key])} -> {shown(key, found[key])}" for key in both}

    def told(self, config: ConfigDict, differing: Mapping[str, str]) -> str:
        """Return where those of ``differing`` lie that are code, and where their copies do; words to end with."""
        files, known = self.files(config), self._known()
        own = [(name, file) for name, file in files.items() if f"{KEY}{name}" in differing]
        return "".join(
            f"; {file.path} has changed{self._as_it_was(name, known.get(f'{KEY}{name}', ''))}" for name, file in own
        )

    def keep(self, config: ConfigDict) -> None:
        """Write down what the run goes on with."""
        files = self.files(config)
        if not files:
            self._file.unlink(missing_ok=True)
            return
        for name, file in files.items():
            copy = self._copy(name, file.digest)
            if not copy.exists():
                write_atomically(copy, lambda opened, file=file: opened.write(file.content))  # type: ignore[misc]
        write_json(self._file, {name: {"file": str(file.path), "sha256": file.digest} for name, file in files.items()})

    def changes(self, config: ConfigDict, step: int, known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what was changed, now that the run goes on with ``config`` from ``step``; see `Workdir.changes`.

        ``known`` are the changes that are written down: of those from ``step`` on nothing is left.
        """
        before = self._known()
        for change in reversed(known):
            if change["step"] >= step and change["key"] in before:
                before[change["key"]] = change["old"]
        found = self.digests(config)
        keys = [key for key in found if before.get(key, found[key]) != found[key]]
        return [{"step": step, "key": key, "old": before[key], "new": found[key]} for key in keys]

    def _known(self) -> dict[str, str]:
        """Return the hashes in ``code.json``, by key."""
        if not self._file.exists():
            return {}
        try:
            return {f"{KEY}{name}": str(entry["sha256"]) for name, entry in read_json(self._file).items()}
        except (AttributeError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._file}, which says what code the run here was made with, is damaged: restore it, or remove it "
                "if that code hasn't changed"
            ) from error

    def _copy(self, name: str, digest: str) -> Path:
        stem, dot, suffix = name.rpartition(".")
        return self.folder / "code" / f"{stem or name}.{digest[:12]}{dot}{suffix if dot else ''}"

    def _as_it_was(self, name: str, digest: str) -> str:
        copy = self._copy(name, digest)
        return f" (as it was: {copy})" if digest and copy.exists() else ""

    def _gone(self, name: str, path: Path) -> UserError:
        known = self._known().get(f"{KEY}{name}", "")
        return UserError(
            f"there is no file {path}, the code of the run in {self.folder}{self._as_it_was(name, known)}: put it back "
            "there, or a link to it"
        )


def shown(key: str, value: Any) -> str:
    """Return a key's value for people: of a hash the beginning."""
    return str(value)[:12] if key.startswith(KEY) else str(value)
