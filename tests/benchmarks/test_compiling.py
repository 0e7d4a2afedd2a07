"""Which kernels of a program are the same."""

import pytest

from benchmarks.compiling import kernels

_PROGRAM = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%most (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[] parameter(0)
  %y.1 = f32[] parameter(1)
  ROOT %largest = f32[] WHAT(%x.1, %y.1)
}

%first (p: f32[SIDE]) -> f32[] {
  %p = f32[SIDE]{0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %out = f32[] reduce(%p, %zero), dimensions={0}, to_apply=%add, metadata={op_name="here"}
}

%second (q: f32[8]) -> f32[] {
  %q = f32[8]{0} parameter(0)
  %nought = f32[] constant(0)
  ROOT %result = f32[] reduce(%q, %nought), dimensions={0}, to_apply=%most, metadata={op_name="there"}
}

ENTRY %main (a: f32[SIDE], b: f32[8]) -> f32[] {
  %a = f32[SIDE]{0} parameter(0)
  %b = f32[8]{0} parameter(1)
  %one = f32[] fusion(%a), kind=kLoop, calls=%first
  %two = f32[] fusion(%b), kind=kLoop, calls=%second
  ROOT %all = f32[] subtract(%one, %two)
}
"""


@pytest.mark.parametrize(("what", "side", "different"), [("add", 8, 1), ("maximum", 8, 2), ("add", 9, 2)])
def test_kernels_that_differ_in_names_alone_are_the_same(what: str, side: int, different: int) -> None:
    assert kernels(_PROGRAM.replace("WHAT", what).replace("SIDE", str(side))) == (2, different)
