"""CloudEvents on the wire: structured, binary, a bare manifest; and everything that is none."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.cloudevents import MAX_BYTES, from_message, to_structured
from libs.common.errors import PermanentError
from libs.common.events import CancelRequested, IngestRequested

# A busy machine is no failure.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MANIFEST = {"apiVersion": "core.oneblock.ai/v1alpha1", "kind": "DataSet"}
REQUESTED, CANCEL = IngestRequested.TYPE, CancelRequested.TYPE


def event(**changes: object) -> bytes:
    """A structured cancel event with some attributes changed; None leaves one out."""
    whole = {
        "specversion": "1.0",
        "id": "7",
        "source": "/them",
        "type": CANCEL,
        "data": {"run": "r"},
    }
    return json.dumps({k: v for k, v in (whole | changes).items() if v is not None}).encode()


def test_what_is_written_is_read_again() -> None:
    fact = CancelRequested(run="run-1", reason="größer")
    body = to_structured(fact, source="oneblock/ingest", time=NOW, trace=TRACE)
    received = from_message(CANCEL, {}, body)
    assert received.data == fact
    assert (received.id, received.time, received.trace) == (fact.id(), NOW, TRACE)
    assert received.source == "oneblock/ingest"


def test_a_given_id_replaces_the_one_of_the_content() -> None:
    body = to_structured(IngestRequested(manifest={}), source="s", time=NOW, id="mine")
    assert from_message(REQUESTED, {}, body).id == "mine"


def test_time_is_written_in_utc() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5)))
    body = json.loads(to_structured(CancelRequested(run="r"), source="s", time=east))
    assert body["time"] == "2026-11-23T08:00:00Z"


def test_binary_mode_takes_attributes_from_headers() -> None:
    headers = {
        "Ce-Specversion": "1.0", "ce-type": CANCEL, "ce-id": "a%20b", "ce-source": "/them",
        "ce-time": "2026-11-23T08:00:00Z", "content-type": "application/json",
        "traceparent": TRACE,
    }  # fmt: skip
    received = from_message(CANCEL, headers, b'{"run": "run-1"}')
    assert received.data == CancelRequested(run="run-1")
    assert (received.id, received.time, received.trace) == ("a b", NOW, TRACE)


def test_data_may_be_base64() -> None:
    data = base64.b64encode(b'{"run": "run-9"}').decode()
    assert from_message(CANCEL, {}, event(data=None, data_base64=data)).data.run == "run-9"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(MANIFEST).encode(),
        b"apiVersion: core.oneblock.ai/v1alpha1\nkind: DataSet\n",
        b"\xef\xbb\xbfapiVersion: core.oneblock.ai/v1alpha1\nkind: DataSet\n",
        event(type=REQUESTED, data=MANIFEST),
        event(type=REQUESTED, data={"manifest": MANIFEST}),
    ],
    ids=["json", "yaml", "yaml-bom", "as-data", "as-fact"],
)
def test_a_request_may_be_a_bare_manifest(body: bytes) -> None:
    received = from_message(REQUESTED, None, body, position="OB_INGEST:7")
    assert received.data == IngestRequested(manifest=MANIFEST)


def test_a_binary_event_may_carry_a_yaml_manifest() -> None:
    headers = {"ce-specversion": "1.0", "ce-type": REQUESTED, "ce-id": "1", "ce-source": "s"}
    received = from_message(REQUESTED, headers, b"kind: DataSet\napiVersion: x\n")
    assert received.data == IngestRequested(manifest={"kind": "DataSet", "apiVersion": "x"})


def test_a_message_without_an_id_is_known_by_its_place_in_the_stream() -> None:
    body = json.dumps(MANIFEST).encode()
    first = from_message(REQUESTED, {}, body, position="OB_INGEST:7", received=NOW)
    again = from_message(REQUESTED, {}, body, position="OB_INGEST:7", received=NOW)
    other = from_message(REQUESTED, {}, body, position="OB_INGEST:8")
    assert first == again
    assert first.id != other.id
    assert first.time == NOW


def test_a_message_id_header_serves_as_id() -> None:
    body = json.dumps(MANIFEST).encode()
    assert from_message(REQUESTED, {"Nats-Msg-Id": "x-1"}, body).id == "x-1"


def test_a_broken_trace_is_dropped_and_the_header_wins() -> None:
    assert from_message(CANCEL, {"traceparent": "nonsense"}, event()).trace == ""
    assert (
        from_message(CANCEL, {"traceparent": "nonsense"}, event(traceparent=TRACE)).trace == TRACE
    )


def test_a_minor_version_of_the_specification_is_accepted() -> None:
    assert from_message(CANCEL, {}, event(specversion="1.1")).id == "7"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"no json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "a CloudEvent is a JSON object"),
        (b"NaN", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "specversion"),
        (event(specversion="2.0"), "specversion '2.0'"),
        (event(specversion=None), "specversion"),
        (event(specversion=1), "must be a string"),
        (event(type="com.example.other"), "unknown type 'com.example.other'; known: oneblock."),
        (event(type=None), "unknown type ''"),
        (event(type=REQUESTED, data=MANIFEST), "on the subject 'oneblock.ingest.cancel'"),
        (event(data=None), "oneblock.ingest.cancel"),
        (event(data={}), "run: Field required"),
        (event(data={"run": 7}), "run: Input should be a valid string"),
        (event(data=None, data_base64="%%"), "data_base64"),
        (event(data=None, data_base64="ü"), "data_base64"),
        (event(data=None, data_base64="eA=="), "not JSON"),
        (event(id=7), "'id' must be a string"),
        (event(time="yesterday"), "not RFC 3339"),
        (b" " * (2 * 1024 * 1024), f"at most {MAX_BYTES}"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_fact_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(PermanentError) as caught:
        from_message(CANCEL, {}, body)
    assert caught.value.code == "invalid_event"
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "body", [b"a: [", b"a: 1\na: 2", b"- 1", b"!!python/name:os.system x", b"\xff", b"a: 1e999"]
)
def test_a_bare_manifest_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(PermanentError) as caught:
        from_message(REQUESTED, {}, body)
    assert caught.value.code == "invalid_event"


def test_a_fact_too_large_for_a_message_is_not_written() -> None:
    with pytest.raises(PermanentError) as caught:
        to_structured(CancelRequested(run="r", reason="x" * MAX_BYTES), source="s", time=NOW)
    assert caught.value.code == "event_too_large"


@PATIENT
@given(subject=st.sampled_from([REQUESTED, CANCEL, "oneblock.event.x"]), body=st.binary())
def test_no_bytes_raise_anything_but_a_permanent_error(subject: str, body: bytes) -> None:
    code = "invalid_event"
    try:
        from_message(subject, {}, body)
    except PermanentError as error:
        code = error.code
    assert code == "invalid_event"
