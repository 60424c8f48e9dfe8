"""Messages, runs and specs on NATS JetStream."""

from libs.common.bus.bus import Bus
from libs.common.bus.delivery import Delivery
from libs.common.bus.fate import charged
from libs.common.bus.faults import BusNotMigrated, BusUnreachable
from libs.common.bus.lease import Lease, LeaseHeld
from libs.common.bus.records import Acceptance, Desired, RunEnded, RunRecord, Slot
from libs.common.bus.runs import Runs
from libs.common.bus.specs import Specs

__all__ = [
    "Acceptance",
    "Bus",
    "BusNotMigrated",
    "BusUnreachable",
    "Delivery",
    "Desired",
    "Lease",
    "LeaseHeld",
    "RunEnded",
    "RunRecord",
    "Runs",
    "Slot",
    "Specs",
    "charged",
]
