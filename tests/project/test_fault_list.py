"""The list of named faults (`tests.faults`) can't rot: their texts are there; `tests.conftest` knows their tests."""

import re
from pathlib import Path

import pytest

from tests.faults import AREAS, EVERY
from tests.faults.__main__ import outcome
from tests.faults.fault import Fault
from tests.helpers import ROOT


@pytest.mark.parametrize("name", EVERY)
def test_a_faults_text_is_there_once(name: str) -> None:
    fault = EVERY[name]
    assert (ROOT / fault.file).read_text().count(fault.old) == 1, f"{fault.old!r} in {fault.file}"
    assert fault.old != fault.new
    assert fault.tests
    assert all((ROOT / test.partition("::")[0]).is_file() for test in fault.tests)
    assert re.fullmatch(r"[a-z0-9-]+", fault.name)
    assert fault.breaks.endswith(".")


def test_each_fault_has_a_name_of_its_own() -> None:
    assert len(EVERY) == sum(map(len, AREAS.values()))


def test_a_fault_is_put_into_one_place_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    fault = Fault("x", "a.py", "x = 1", "x = 2", ("tests/test_a.py::test_x",), "All.")
    fault.apply(tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 2\ny = 1\n"
    for old, times in (("x = 1", 0), ("=", 2)):
        with pytest.raises(ValueError, match=f"occurs {times} times in a.py"):
            Fault("x", "a.py", old, "", (), "All.").apply(tmp_path)


@pytest.mark.parametrize(
    ("code", "said", "found"),
    [
        (1, "1 failed", "found"),
        (0, "1 passed", "NOT FOUND"),
        (0, "1 passed, 1 skipped in 2 s", "NOT FOUND (tests were skipped)"),
        (2, "error: a module can't be imported", "NOT RUN\nerror: a module can't be imported"),
        (4, "no such test", "NOT RUN\nno such test"),
        (-1, "took more", "NOT RUN\ntook more"),
    ],
)
def test_only_a_test_that_fails_has_found_a_fault(code: int, said: str, found: str) -> None:
    assert outcome(code, said) == found
