"""Every message ever published parses for ever, and keeps its id."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from libs.common.cloudevents import from_message, to_structured
from libs.common.events import FACTS, TERMINAL, ErrorInfo, Fact, Progress, RunChanged, RunState

GOLDEN = sorted(Path(__file__).parent.joinpath("golden").glob("oneblock.*.json"))
NAMES = [path.stem for path in GOLDEN]


@pytest.mark.parametrize("path", GOLDEN, ids=NAMES)
def test_a_golden_message_still_says_the_same(path: Path) -> None:
    golden = json.loads(path.read_bytes())
    received = from_message(golden["type"], {}, path.read_bytes())
    said = json.loads(received.data.model_dump_json())
    assert {name: said[name] for name in golden["data"]} == golden["data"]
    assert (received.id, received.type) == (golden["id"], golden["type"])
    assert received.trace == golden["traceparent"]
    assert received.time == datetime(2026, 11, 23, 8, 15, 30, 123000, tzinfo=UTC)


@pytest.mark.parametrize("path", GOLDEN, ids=NAMES)
def test_the_id_of_a_golden_message_never_changes(path: Path) -> None:
    golden = json.loads(path.read_bytes())
    assert FACTS[golden["type"]].model_validate(golden["data"]).id() == golden["id"]


@pytest.mark.parametrize("path", GOLDEN, ids=NAMES)
def test_a_newer_release_may_add_fields(path: Path) -> None:
    golden = json.loads(path.read_bytes())
    newer = golden | {"data": golden["data"] | {"added": {"later": [1]}}, "extension": "x"}
    received = from_message(golden["type"], {}, json.dumps(newer).encode())
    assert received.data.id() == golden["id"]


@pytest.mark.parametrize("path", GOLDEN, ids=NAMES)
def test_a_message_is_written_as_it_was_read(path: Path) -> None:
    golden = json.loads(path.read_bytes())
    received = from_message(golden["type"], {}, path.read_bytes())
    body = to_structured(
        received.data, source=golden["source"], time=received.time, trace=received.trace
    )
    assert json.loads(body) == golden


@pytest.mark.parametrize("kind", FACTS)
def test_every_fact_has_a_golden_message(kind: str) -> None:
    told = {json.loads(path.read_bytes())["type"] for path in GOLDEN}
    assert kind in told, f"write tests/contract/golden/{kind}.json"


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_a_fact_is_described_and_names_its_subject(fact: type[Fact]) -> None:
    assert fact.__doc__
    assert "→" in fact.__doc__, "say from whom to whom"
    assert FACTS[fact.TYPE] is fact
    assert fact.TYPE.startswith(("oneblock.ingest.", "oneblock.event."))


def test_no_two_golden_messages_share_an_id() -> None:
    ids = [json.loads(path.read_bytes())["id"] for path in GOLDEN]
    assert len(set(ids)) == len(ids)


def test_facts_are_frozen() -> None:
    fact = RunChanged(run="run-1", dataset="a/b", state="accepted")
    with pytest.raises(ValidationError, match="frozen"):
        fact.state = "failed"  # type: ignore[misc]


def test_different_content_has_a_different_id() -> None:
    one = RunChanged(run="run-1", dataset="a/b", state="failed")
    error = ErrorInfo(code="oom", detail="out of memory")
    assert one.id() != one.model_copy(update={"error": error}).id()
    assert one.id() == RunChanged(run="run-1", dataset="a/b", state="failed", attempt=0).id()


def test_progress_still_parses() -> None:
    path = Path(__file__).parent / "golden" / "progress.json"
    progress = Progress.model_validate_json(path.read_bytes())
    assert json.loads(progress.model_dump_json()) == json.loads(path.read_bytes())


def test_terminal_states_are_all_but_the_two_of_a_live_run() -> None:
    assert set(get_args(RunState)) - TERMINAL == {"accepted", "running"}
