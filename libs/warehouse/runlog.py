"""The log of a run: JSON lines beside its inventory, one file per stage and attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from pathlib import Path

import orjson

MAX_BYTES = 8 * 1024 * 1024  # a stage's log per attempt; what comes after is dropped and said so


class RunLog:
    """Appends to and reads the log of one run. Lines are small; each append is one write."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._run = run

    def append(
        self,
        stage: str,
        attempt: int,
        event: str,
        *,
        level: str = "info",
        **fields: str | int | float | None,
    ) -> None:
        """One line: what happened, at which stage of which attempt."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": self._run,
            "stage": stage,
            "attempt": attempt,
            "level": level,
            "event": event,
            **fields,
        }
        path = self._folder / f"{stage}.{attempt:04}.jsonl"
        self._folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            if size < MAX_BYTES:
                file.write(orjson.dumps(line) + b"\n")
                if file.tell() >= MAX_BYTES:
                    file.write(
                        orjson.dumps(line | {"event": "log_full", "level": "warning"}) + b"\n"
                    )

    def since(
        self, position: Mapping[str, int], limit: int
    ) -> tuple[list[dict[str, object]], dict[str, int]]:
        """The next `limit` lines beyond `position`, by time, and the position behind them.

        A position is the number of bytes read of each file, by the file's name; {} is the start.
        """
        files = [
            _lines(path, max(0, position.get(path.name, 0)), limit)
            for path in sorted(self._folder.glob("*.jsonl"))
        ]
        lines, reached = [], dict(position)
        by_time = merge(*files, key=lambda found: str(found[2]["time"]))
        for name, end, line in islice(by_time, limit):
            lines.append(line)
            reached[name] = end
        return lines, reached

    def read(self) -> Iterator[dict[str, object]]:
        """All lines, oldest first; a line that is half written yet is left out."""
        lines: list[dict[str, object]] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                lines += [orjson.loads(line) for line in file if line.endswith(b"\n")]
        yield from sorted(lines, key=lambda line: str(line["time"]))


def _lines(path: Path, start: int, limit: int) -> Iterator[tuple[str, int, dict[str, object]]]:
    """(file name, bytes read with it, line); without one that is half written yet."""
    with path.open("rb") as file:
        file.seek(start)
        for raw in islice(file, limit):
            start += len(raw)
            if raw.endswith(b"\n"):
                with suppress(orjson.JSONDecodeError):  # a position in the middle of a line
                    yield path.name, start, orjson.loads(raw)
