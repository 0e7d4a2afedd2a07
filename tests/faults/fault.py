"""A named fault: a slip that somebody could make, and the tests that are there to find it."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Fault:
    """One slip in one file.

    Attributes:
      name: in short, with hyphens.
      file: where it is, from the checkout's root.
      old: text that occurs there exactly once.
      new: what stands there instead.
      tests: node ids of quick tests, of which at least one must fail then: ``tests/test_x.py::test_y``.
      breaks: what goes wrong by it, in a sentence.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    breaks: str

    def apply(self, root: Path) -> None:
        """Puts it into the checkout ``root``; ValueError: its text isn't there exactly once."""
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.name}: {self.old!r} occurs {text.count(self.old)} times in {self.file}")
        path.write_text(text.replace(self.old, self.new))
