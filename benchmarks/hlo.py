"""Reading the text of an optimised program of XLA's."""

import math
import re
from dataclasses import dataclass

_BYTES = {"f64": 8, "s64": 8, "u64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "u8": 1, "s8": 1, "pred": 1}


@dataclass(frozen=True, eq=False)
class Instruction:
    """A line of a program: ``name = type code(operands), attributes``.

    Attributes:
      line: all of it.
    """

    name: str
    type: str
    code: str
    operands: tuple["Instruction", ...]
    line: str

    def attribute(self, pattern: str) -> str:
        """Return what the group in ``pattern`` is in the line, or nothing."""
        found = re.search(pattern, self.line)
        return found[1] if found else ""

    @property
    def called(self) -> str:
        """The computation that a fusion is, or nothing."""
        return self.attribute(r"calls=%([\w.-]+)")

    @property
    def path(self) -> str:
        """Where it is from, in the traced function."""
        return self.attribute(r'op_name="([^"]*)"')

    @property
    def shapes(self) -> list[list[int]]:
        """Of its results."""
        return [sides for _, sides in _arrays(self.type)]

    @property
    def nbytes(self) -> int:
        """Of its results."""
        return sum(_BYTES.get(dtype, 0) * math.prod(sides) for dtype, sides in _arrays(self.type))


def computations(program: str) -> dict[str, list[Instruction]]:
    """By name, in their order: who is called comes before its callers."""
    found, own = dict[str, dict[str, Instruction]](), dict[str, Instruction]()
    for line in program.splitlines():
        if opened := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            own = found[opened[1]] = {}
        elif parts := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)", line):
            name, type_, code, operands = parts.groups()
            read = tuple(own[x] for x in re.findall(r"%([\w.-]+)", operands) if x in own)
            own[name] = Instruction(name, type_, code, read, line)
    return {name: list(instructions.values()) for name, instructions in found.items()}


def _arrays(type_: str) -> list[tuple[str, list[int]]]:
    return [
        (dtype, [int(side) for side in sides.split(",") if side])
        for dtype, sides in re.findall(r"(\w+)\[([\d,]*)\]", type_)
    ]
