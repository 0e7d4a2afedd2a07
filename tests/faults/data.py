"""Faults of the data: reading, splitting, classes, order, feeding."""

from tests.faults.fault import Fault

FAULTS: tuple[Fault, ...] = ()
