"""What the service, its Ray client process and a run's actor say to each other, as JSON."""

from __future__ import annotations

from typing import Literal

from services.transform.driver import Done, Output
from services.transform.plan import Frozen
from services.transform.tasks import Trouble

NAMESPACE = "oneblock"
ADDRESS = "ONEBLOCK_RAY_CONNECT"  # in the client process's environment


class State(Frozen):
    """What the actor says of its run."""

    state: Literal["running", "done", "failed"]
    fingerprint: str
    progress: Done = Done()
    output: Output | None = None
    trouble: Trouble | None = None


class Terms(Frozen):
    """How long things may take, in seconds, and how often a task's worker may die."""

    deadline: float
    linger: float
    tries: int


class Call(Frozen):
    """What the service asks its client process."""

    do: Literal["connect", "begin", "look", "cancel", "end"]
    run: str = ""
    plan: str = ""
    terms: str = ""


class Said(Frozen):
    """What came of it; `gone`: there is no such actor (any more); `lost`: no cluster."""

    state: State | None = None
    trouble: Literal["gone", "lost"] | None = None
    detail: str = ""
    cpus: int = 0
