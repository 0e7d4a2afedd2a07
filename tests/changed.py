"""The quick tests of what changed since a commit: ``python -m tests.changed [COMMIT]`` prints their files.

These are the project's own (``tests/project``), test files that changed, and of each changed module of ``gan_jax`` the
tests of its room that import it.
"""

import ast
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT


def imported(path: Path) -> set[str]:
    """Dotted names of the modules that a file may import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def tests_of(changed: list[str]) -> list[str]:
    """Test files of ``changed`` files, all by their paths from the checkout's root."""
    found = {"tests/project"}
    for name in changed:
        parts = Path(name).with_suffix("").parts
        if Path(name).name.startswith("test_") and (ROOT / name).exists():
            found.add(name)
        elif parts[0] == "gan_jax" and name.endswith(".py"):
            module = ".".join(parts).removesuffix(".__init__")
            room = ROOT / "tests" / parts[1] if len(parts) > 2 else ROOT / "tests"
            found |= {str(path.relative_to(ROOT)) for path in room.glob("test_*.py") if module in imported(path)}
    return sorted(found)


def changed_since(commit: str) -> list[str]:
    """Files that differ from ``commit``, new ones included."""
    commands = ["git", "diff", "--name-only", commit], ["git", "ls-files", "--others", "--exclude-standard"]
    ran = [subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout for command in commands]
    return "".join(ran).splitlines()


if __name__ == "__main__":
    print(" ".join(tests_of(changed_since(sys.argv[1] if len(sys.argv) > 1 else "HEAD"))))
