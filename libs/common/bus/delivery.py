"""What happens to a message after its handler: decided here, purely; acted by the middleware."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from libs.common.bus.lease import LeaseHeld
from libs.common.bus.records import RunEnded
from libs.common.errors import Cancelled, LeaseLost, PermanentError, TransientError

Outcome = Literal[
    "done", "permanent", "undecodable", "cancelled", "ended", "transient", "held", "lost", "bug",
    "stopped",
]  # fmt: skip
DELAYS = (1.0, 5.0, 30.0, 120.0, 600.0)  # seconds before try 2, 3, …; then it is spent
BUG_TRIES = 3
HELD_AT_MOST = 2.0  # seconds between two looks at a run that another attempt works on
LOST_DELAY = 5.0


@dataclass(frozen=True)
class Delivery:
    """What is known about a message beside its fact."""

    id: str  # the CloudEvent's
    time: datetime  # the CloudEvent's
    deliveries: int  # 1 the first time
    trace: str  # its traceparent, "" without one
    stream_sequence: int
    reply: str | None


@dataclass(frozen=True)
class Action:
    """How the message is settled, and what is told to the world first."""

    settle: Literal["ack", "nak", "term"]
    delay: float = 0.0  # seconds; nak only
    end: Literal["failed", "cancelled", "retell"] | None = None  # of the run
    dead: bool = False  # a dead letter keeps the message


class Undecodable(PermanentError):
    """The message is no fact of ours."""


def classify(error: BaseException | None) -> Outcome:
    """The kind of end that a handler came to."""
    known: tuple[tuple[type[BaseException], Outcome], ...] = (
        (Undecodable, "undecodable"),
        (Cancelled, "cancelled"),
        (RunEnded, "ended"),
        (LeaseLost, "lost"),
        (LeaseHeld, "held"),
        (PermanentError, "permanent"),
        (TransientError, "transient"),
    )
    if error is None:
        return "done"
    return next((outcome for kind, outcome in known if isinstance(error, kind)), "bug")


def decide(outcome: Outcome, tries: int, *, owns_run: bool, retry_after: float = 0.0) -> Action:
    """What to do. `owns_run`: the run stands or falls with this message.

    `tries` are those that failed, this one included. A message also comes again because a process
    or the broker died, or because another attempt held the run: that is nobody's failure.
    A message without a run to fail (a projection, a clean-up) is retried for ever when the trouble
    is transient: giving up would lose a fact because some database was away.
    """
    if outcome == "transient" and (tries <= len(DELAYS) or not owns_run):
        return Action("nak", DELAYS[min(tries, len(DELAYS)) - 1])
    if outcome == "bug" and tries < BUG_TRIES:
        return Action("nak", DELAYS[tries - 1])
    if outcome == "held":
        return Action("nak", min(max(1.0, retry_after), HELD_AT_MOST))
    return _FINAL[outcome][owns_run]


_DEAD = Action("term", dead=True)
_FAILED = Action("ack", end="failed")
_AGAIN = Action("nak", LOST_DELAY)
_FINAL: dict[Outcome, tuple[Action, Action]] = {  # without a run, with one
    "done": (Action("ack"), Action("ack")),
    "permanent": (_DEAD, _FAILED),
    "transient": (_DEAD, _FAILED),
    "undecodable": (_DEAD, _DEAD),
    "cancelled": (Action("ack"), Action("ack", end="cancelled")),
    "ended": (Action("ack"), Action("ack", end="retell")),
    "lost": (_AGAIN, _AGAIN),
    "bug": (_DEAD, Action("term", end="failed", dead=True)),
    "stopped": (Action("nak"), Action("nak")),
}
