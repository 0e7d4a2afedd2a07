"""Faults of runs: resuming, rollbacks, checkpoints, sweeps, searches, processes."""

from tests.faults.fault import Fault

FAULTS: tuple[Fault, ...] = ()
