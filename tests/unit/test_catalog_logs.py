"""Reading a run's log on from where one was, while it is being written."""

from __future__ import annotations

from pathlib import Path

from libs.warehouse import RunLog


def test_lines_of_all_stages_come_by_time_and_each_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "run-1")
    for stage, numbers in (("ingest", (1, 3, 5)), ("transform", (0, 2, 4))):
        lines = [f'{{"time": "2026-03-01T12:00:0{n}.000+00:00", "n": {n}}}\n' for n in numbers]
        (tmp_path / f"{stage}.0001.jsonl").write_text("".join(lines))
    first, position = log.since({}, 4)
    rest, position = log.since(position, 4)
    assert [line["n"] for line in first + rest] == list(range(6))
    assert log.since(position, 4) == ([], position)
    log.append("sink", 1, "step", n=6)
    assert [line["n"] for line in log.since(position, 4)[0]] == [6]


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "run-1")
    log.append("sink", 1, "whole")
    path = tmp_path / "sink.0001.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    lines, position = log.since({}, 10)
    assert len(lines) == 1
    path.write_bytes(whole + whole)
    assert len(log.since(position, 10)[0]) == 1


def test_a_made_up_position_gives_no_line_that_is_not_there(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "run-1")
    log.append("sink", 1, "whole")
    for position in (-5, 3, 10**9):
        lines, _ = log.since({"sink.0001.jsonl": position, "../../etc/passwd": 0}, 10)
        assert lines in ([], [*log.read()])


def test_a_run_that_wrote_nothing_has_no_lines(tmp_path: Path) -> None:
    assert RunLog(tmp_path / "none", "run-1").since({}, 10) == ([], {})
