"""The catalog's fold of facts: the same rows whatever the order, however often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events import (
    DatasetDeleted,
    DatasetDelivered,
    DatasetTransformed,
    ErrorInfo,
    Fact,
    RunChanged,
    SourceResolved,
)
from services.catalog.evidence import Evidence
from services.catalog.projection import Columns, columns
from services.catalog.record import Event, Key, fold
from services.catalog.stages import Stage, stages

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME, RUN = "default/cars", "run-1"


def at(second: float, fact: Fact) -> Event:
    return Event(fact, START + timedelta(seconds=second))


def accepted(run: str = RUN, generation: int = 1) -> RunChanged:
    return RunChanged(run=run, dataset=NAME, generation=generation, state="accepted", cause="event")


def ended(state: str, run: str = RUN, **more: object) -> RunChanged:
    return RunChanged.model_validate({"run": run, "dataset": NAME, "state": state, **more})


def resolved(run: str = RUN) -> SourceResolved:
    return SourceResolved(
        run=run, dataset=NAME, generation=1, cause="event", run_dir=f"{NAME}.runs/{run}",
        digest="d", files=2, bytes=70,
    )  # fmt: skip


def transformed(run: str = RUN, version: int = 1, unchanged: bool = False) -> DatasetTransformed:
    return DatasetTransformed(
        run=run, dataset=NAME, generation=1, cause="event", run_dir=f"{NAME}.runs/{run}",
        version=version, rows=10, bytes=60, columns=(("a", "int64"),), engine="local",
        unchanged=unchanged,
    )  # fmt: skip


def delivered(run: str = RUN, version: int = 1, unchanged: bool = False) -> DatasetDelivered:
    return DatasetDelivered(
        run=run, dataset=NAME, version=version, destination="file:///out", kind="local",
        format="csv", files=0 if unchanged else 3, rows=10, bytes=55, unchanged=unchanged,
    )  # fmt: skip


def whole_run() -> list[Event]:
    return [
        at(0, accepted()), at(1, resolved()), at(2, transformed()),
        at(3, delivered()), at(4, ended("succeeded", version=1)),
    ]  # fmt: skip


def rows(*events: Event) -> dict[Key, Columns]:
    return {key: columns(key, evidence) for key, evidence in fold({}, events).items()}


def run_of(*events: Event, run: str = RUN) -> Columns:
    return rows(*events)[Key("run", run)]


def stages_of(*events: Event) -> list[Stage]:
    return stages(fold({}, events)[Key("run", RUN)])


def test_a_whole_run_gives_a_dataset_a_run_a_version_and_a_delivery() -> None:
    found = rows(*whole_run())
    assert sorted(key.kind for key in found) == ["dataset", "delivery", "run", "version"]
    dataset = found[Key("dataset", NAME)]
    assert dataset["version"] == 1
    assert dataset["created_at"] == START
    assert dataset["updated_at"] == START + timedelta(seconds=4)
    run = found[Key("run", RUN)]
    assert (run["state"], run["version"], run["cause"]) == ("succeeded", 1, "event")
    assert run["finished_at"] == START + timedelta(seconds=4)
    version = found[Key("version", f"{NAME}@1")]
    assert (version["rows"], version["run"], version["columns"]) == (10, RUN, [["a", "int64"]])


def test_the_stages_tell_when_they_worked_and_what_they_did() -> None:
    ingest, transform, sink = stages_of(*whole_run())
    assert (ingest.state, ingest.files, ingest.bytes) == ("succeeded", 2, 70)
    assert (transform.state, transform.rows) == ("succeeded", 10)
    assert transform.started_at == START + timedelta(seconds=1)
    assert transform.finished_at == START + timedelta(seconds=2)
    assert (sink.state, sink.finished_at) == ("succeeded", START + timedelta(seconds=4))


def test_a_run_that_works_is_running_in_one_stage() -> None:
    events = whole_run()[:2]
    assert run_of(*events)["state"] == "running"
    assert [s.state for s in stages_of(*events)] == ["succeeded", "running", "pending"]


def test_a_failed_run_names_the_stage_that_failed() -> None:
    error = ErrorInfo(code="parse_error", detail="line 3")
    events = [*whole_run()[:2], at(3, ended("failed", stage="transform", error=error))]
    assert run_of(*events)["error"] == {"code": "parse_error", "detail": "line 3", "path": None}
    assert [s.state for s in stages_of(*events)] == ["succeeded", "failed", "not_run"]


def test_a_failure_without_a_stage_belongs_to_the_first_that_has_not_ended() -> None:
    events = [*whole_run()[:2], at(3, ended("cancelled"))]
    assert [s.state for s in stages_of(*events)] == ["succeeded", "cancelled", "not_run"]


def test_a_terminal_state_is_written_once() -> None:
    late = at(9, ended("failed", error=ErrorInfo(code="late", detail="too late")))
    for events in ([*whole_run(), late], [late, *whole_run()]):
        assert run_of(*events)["state"] == "succeeded"
        assert run_of(*events)["error"] is None


def test_a_repeated_request_does_not_end_the_run_it_repeats() -> None:
    events = [at(0, accepted()), at(1, ended("duplicate", into=RUN)), at(1, ended("duplicate"))]
    assert run_of(*events)["state"] == "accepted"


def test_a_run_that_waits_for_the_active_one_is_not_over() -> None:
    waiting = at(0, ended("coalesced"))
    assert run_of(waiting)["state"] == "accepted"
    assert run_of(waiting, at(5, resolved()))["state"] == "running"


def test_a_run_coalesced_into_another_ends_and_says_into_which() -> None:
    run = run_of(at(0, ended("coalesced", into="run-2")))
    assert (run["state"], run["into"]) == ("coalesced", "run-2")
    assert stages_of(at(0, ended("coalesced", into="run-2"))) == []


def test_a_failure_that_does_not_know_its_cause_keeps_the_one_that_was_accepted() -> None:
    assert run_of(at(5, accepted()), at(1, ended("failed")))["cause"] == "event"


def test_an_unchanged_run_does_not_take_over_the_version_it_found() -> None:
    made, found = at(5, transformed()), at(1, transformed("run-9", unchanged=True))
    for events in ([made, found], [found, made]):
        version = rows(*events)[Key("version", f"{NAME}@1")]
        assert (version["run"], version["created_at"]) == (RUN, made.time)


def test_an_unchanged_delivery_does_not_take_over_the_one_that_wrote() -> None:
    written, found = at(1, delivered()), at(5, delivered("run-9", unchanged=True))
    for events in ([written, found], [found, written]):
        (delivery,) = (c for k, c in rows(*events).items() if k.kind == "delivery")
        assert (delivery["run"], delivery["files"]) == (RUN, 3)


def test_a_deleted_dataset_comes_back_with_a_newer_generation_only() -> None:
    deleted = at(5, DatasetDeleted(dataset=NAME, generation=2))
    old, new = at(9, accepted(generation=1)), at(6, accepted("run-2", generation=3))
    assert rows(old, deleted)[Key("dataset", NAME)]["deleted"] is True
    assert rows(new, old, deleted)[Key("dataset", NAME)]["deleted"] is False


def test_a_fact_without_a_dataset_name_makes_no_dataset() -> None:
    found = rows(at(0, RunChanged(run=RUN, dataset="", state="failed")))
    assert list(found) == [Key("run", RUN)]


def test_nul_in_an_error_is_replaced_because_postgres_cannot_keep_it() -> None:
    error = ErrorInfo(code="parse_error", detail="line 1: 'a\0b'")
    assert "\0" not in str(run_of(at(0, ended("failed", error=error)))["error"])


FACTS = st.one_of(
    st.builds(accepted, run=st.sampled_from(["run-1", "run-2"]), generation=st.integers(1, 3)),
    st.builds(resolved, run=st.sampled_from(["run-1", "run-2"])),
    st.builds(transformed, st.sampled_from(["run-1", "run-2"]), st.integers(1, 3), st.booleans()),
    st.builds(delivered, st.sampled_from(["run-1", "run-2"]), st.integers(1, 3), st.booleans()),
    st.builds(
        ended,
        st.sampled_from(["succeeded", "failed", "cancelled", "coalesced", "duplicate", "running"]),
        st.sampled_from(["run-1", "run-2"]),
        into=st.sampled_from([None, "run-1", "run-2"]),
        attempt=st.integers(0, 3),
    ),
    st.builds(DatasetDeleted, dataset=st.just(NAME), generation=st.integers(1, 4)),
)
# Few moments, so that facts of the same moment are tried too.
EVENTS = st.lists(st.builds(at, st.integers(0, 4), FACTS), max_size=8)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.data())
def test_order_repetition_and_batches_change_nothing(
    events: list[Event], data: st.DataObject
) -> None:
    expected = fold({}, events)
    again = data.draw(
        st.permutations(
            events + data.draw(st.lists(st.sampled_from(events)) if events else st.just([]))
        )
    )
    stored: dict[Key, Evidence] = {}
    while again:
        size = data.draw(st.integers(1, len(again)))
        batch, again = again[:size], again[size:]
        stored |= fold(stored, batch)
    assert stored == expected
    assert {k: columns(k, e) for k, e in stored.items()} == {
        k: columns(k, e) for k, e in expected.items()
    }


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_replaying_everything_over_the_result_changes_nothing(events: list[Event]) -> None:
    once = fold({}, events)
    assert fold(once, reversed(events)) == once


@given(EVENTS)
def test_evidence_survives_being_stored_as_json(events: list[Event]) -> None:
    for evidence in fold({}, events).values():
        assert Evidence.parse(evidence.to_json()) == evidence  # type: ignore[arg-type]
