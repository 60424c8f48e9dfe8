"""What happens to a message after its handler: the whole policy as tables."""

from __future__ import annotations

import pytest

from libs.common.bus.delivery import (
    BUG_TRIES,
    DELAYS,
    Action,
    Outcome,
    Undecodable,
    classify,
    decide,
)
from libs.common.bus.lease import LeaseHeld
from libs.common.bus.records import RunEnded, RunRecord
from libs.common.errors import Cancelled, LeaseLost, PermanentError, TransientError

ACK = Action("ack")
DEAD = Action("term", dead=True)
FAILED = Action("ack", end="failed")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "done"),
        (PermanentError("x", code="not_found"), "permanent"),
        (Undecodable("x", code="invalid_event"), "undecodable"),
        (Cancelled("run-1"), "cancelled"),
        (RunEnded(RunRecord(id="run-1", dataset="a/b")), "ended"),
        (TransientError("x", code="timeout"), "transient"),
        (LeaseHeld("run-1", "other", 12.0), "held"),
        (LeaseLost("run-1"), "lost"),
        (ValueError("x"), "bug"),
        (KeyError("x"), "bug"),
        (TimeoutError(), "bug"),  # untranslated: a bug at some edge
    ],
)
def test_every_end_of_a_handler_has_one_kind(error: Exception | None, outcome: Outcome) -> None:
    assert classify(error) == outcome


@pytest.mark.parametrize(
    ("outcome", "deliveries", "without_run", "with_run"),
    [
        ("done", 1, ACK, ACK),
        ("done", 99, ACK, ACK),
        ("permanent", 1, DEAD, FAILED),
        ("undecodable", 1, DEAD, DEAD),
        ("cancelled", 1, ACK, Action("ack", end="cancelled")),
        ("ended", 1, ACK, Action("ack", end="retell")),
        ("lost", 1, Action("nak", 5.0), Action("nak", 5.0)),
        ("stopped", 1, Action("nak"), Action("nak")),
        ("transient", 1, Action("nak", 1.0), Action("nak", 1.0)),
        ("transient", 2, Action("nak", 5.0), Action("nak", 5.0)),
        ("transient", 3, Action("nak", 30.0), Action("nak", 30.0)),
        ("transient", 4, Action("nak", 120.0), Action("nak", 120.0)),
        ("transient", 5, Action("nak", 600.0), Action("nak", 600.0)),
        ("transient", 6, Action("nak", 600.0), FAILED),
        ("transient", 99, Action("nak", 600.0), FAILED),
        ("bug", 1, Action("nak", 1.0), Action("nak", 1.0)),
        ("bug", 2, Action("nak", 5.0), Action("nak", 5.0)),
        ("bug", 3, DEAD, Action("term", end="failed", dead=True)),
        ("bug", 4, DEAD, Action("term", end="failed", dead=True)),
    ],
)
def test_the_policy(
    outcome: Outcome, deliveries: int, without_run: Action, with_run: Action
) -> None:
    assert decide(outcome, deliveries, owns_run=False) == without_run
    assert decide(outcome, deliveries, owns_run=True) == with_run


@pytest.mark.parametrize(("left", "delay"), [(0.2, 1.0), (1.5, 1.5), (900.0, 2.0)])
def test_a_held_run_is_looked_at_again_soon(left: float, delay: float) -> None:
    assert decide("held", 50, owns_run=True, retry_after=left) == Action("nak", delay)


def test_nothing_but_success_an_end_or_a_dead_letter_takes_a_message_away() -> None:
    kinds: tuple[Outcome, ...] = ("transient", "held", "lost", "bug", "stopped")
    for outcome in kinds:
        for deliveries in range(1, len(DELAYS) + 5):
            for owns_run in (False, True):
                action = decide(outcome, deliveries, owns_run=owns_run)
                gone = action.settle != "nak"
                assert not gone or action.dead or action.end == "failed"


def test_a_bug_gets_few_tries() -> None:
    assert [decide("bug", n, owns_run=True).settle for n in (1, 2, BUG_TRIES)] == [
        "nak",
        "nak",
        "term",
    ]
