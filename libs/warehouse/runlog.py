"""The log of a run: JSON lines beside its inventory, one file per stage and attempt."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
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

    def read(self) -> Iterator[dict[str, object]]:
        """All lines, oldest first; a line that is half written yet is left out."""
        lines: list[dict[str, object]] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                lines += [orjson.loads(line) for line in file if line.endswith(b"\n")]
        yield from sorted(lines, key=lambda line: str(line["time"]))
