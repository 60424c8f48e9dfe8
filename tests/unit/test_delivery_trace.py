"""Traces and logs: what one request caused can be found by one id."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import orjson
import pytest
import structlog

from libs.common import logs, trace
from libs.common.settings import CommonSettings

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_what_is_caused_belongs_to_the_same_trace_as_its_cause() -> None:
    with trace.bind(PARENT) as here:
        assert here.id == "a" * 32
        assert here.span != "b" * 16
        sent = trace.parse(trace.outgoing())
        assert sent is not None
        assert (sent.id, sent.span != here.span) == (here.id, True)
    assert trace.current() is None


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "garbage",
        "00-" + "0" * 32 + "-" + "b" * 16 + "-01",
        "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "b" * 16 + "-01",
        PARENT + "-more",
    ],
)
def test_a_malformed_header_begins_a_new_trace(header: str | None) -> None:
    assert trace.parse(header) is None
    with trace.bind(header) as here:
        assert here.id != "a" * 32


def test_a_later_version_of_the_standard_is_understood() -> None:
    parsed = trace.parse("01" + PARENT[2:] + "-more")
    assert parsed is not None
    assert parsed.id == "a" * 32


def test_lines_are_json_and_name_service_run_and_trace_where_nobody_looks() -> None:
    out = io.StringIO()
    logs.configure(CommonSettings(), "sink", out)
    with trace.bind(PARENT), logs.about(run="run-1", dataset=None):
        structlog.get_logger("x").info("dataset_delivered", rows=3)
        logging.getLogger("some.library").warning("careful %s", "now")
    ours, theirs = [orjson.loads(line) for line in out.getvalue().splitlines()]
    assert ours["event"] == "dataset_delivered"
    assert (ours["run"], ours["trace"], ours["service"]) == ("run-1", "a" * 32, "sink")
    assert (theirs["event"], theirs["run"], theirs["level"]) == ("careful now", "run-1", "warning")
    assert "dataset" not in ours


def test_a_traceback_is_one_line_of_json() -> None:
    out = io.StringIO()
    logs.configure(CommonSettings(), "sink", out)
    try:
        raise ValueError("x")
    except ValueError:
        structlog.get_logger("x").exception("broken")
    (line,) = out.getvalue().splitlines()
    assert "ValueError" in orjson.loads(line)["exception"]


def test_a_person_gets_plain_lines_and_the_level_is_kept() -> None:
    out = io.StringIO()
    settings = CommonSettings.model_validate({"log_json": False, "log_level": "warning"})
    logs.configure(settings, "sink", out)
    structlog.get_logger("x").info("unimportant")
    structlog.get_logger("x").warning("important")
    assert "important" in out.getvalue()
    assert "unimportant" not in out.getvalue()


@pytest.mark.parametrize(("wanted", "passes"), [("here:1", 0), ("here:3", 2), ("here", 0)])
def test_a_crash_point_kills_at_the_pass_asked_for(wanted: str, passes: int) -> None:
    program = (
        "from libs.common.crashpoints import crash_point\n"
        "for n in range(5):\n    crash_point('there'); crash_point('here'); print(n, flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"CRASHPOINT": wanted}, capture_output=True, text=True
    )
    assert done.returncode == -9
    assert done.stdout.split() == [str(number) for number in range(passes)]
