"""Faults that the tests must find, by area; ``python -m tests.faults`` puts each into a copy and sees."""

from tests.faults import (
    containers,
    core,
    data,
    evaluation,
    games,
    losses,
    networks,
    outside,
    reports,
    runs,
    sampling,
    small_data,
    transfer,
    using,
)
from tests.faults.fault import Fault

AREAS: dict[str, tuple[Fault, ...]] = {
    "containers": containers.FAULTS,
    "core": core.FAULTS,
    "data": data.FAULTS,
    "evaluation": evaluation.FAULTS,
    "games": games.FAULTS,
    "losses": losses.FAULTS,
    "networks": networks.FAULTS,
    "outside": outside.FAULTS,
    "reports": reports.FAULTS,
    "runs": runs.FAULTS,
    "sampling": sampling.FAULTS,
    "small_data": small_data.FAULTS,
    "transfer": transfer.FAULTS,
    "using": using.FAULTS,
}
EVERY = {f"{area}.{fault.name}": fault for area, faults in AREAS.items() for fault in faults}
