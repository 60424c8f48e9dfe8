"""Showing a run as it goes on: a bar on a terminal, a line per change when piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from oneblock.cli.output import shown, size
from oneblock.models import Run, Stage

DONE = frozenset({"succeeded", "failed", "cancelled"})


class Watcher(Protocol):
    """Is told each state of a run."""

    def __call__(self, run: Run, /) -> None: ...


@contextmanager
def watcher(quiet: bool) -> Iterator[Watcher]:
    """What fits standard error: nothing, a live display, or plain lines."""
    if quiet:
        yield lambda _run: None
    elif sys.stderr.isatty():
        with Bars() as bars:
            yield bars
    else:
        yield Lines()


class Lines:
    """A line for each stage that began or ended."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, run: Run) -> None:
        if run.into:
            self._say(f"{run.id} {run.state} into {run.into}")
        for stage in run.stages:
            if stage.state in DONE or stage.state == "running":
                self._say(f"{stage.name:<10} {stage.state}", counts(stage))

    def _say(self, line: str, more: str = "") -> None:
        if line not in self._said:
            self._said.add(line)
            print(f"{line}  {more}".rstrip(), file=sys.stderr, flush=True)


class Bars:
    """One line per stage with bar, rows and rows per second."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.fields[stage]:<10}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, int] = {}
        self._begun: dict[str, float] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._progress.stop()

    def __call__(self, run: Run) -> None:
        for stage in run.stages:
            if stage.state in DONE or stage.state == "running":
                self._show(stage)

    def _show(self, stage: Stage) -> None:
        if stage.name not in self._tasks:
            self._begun[stage.name] = time.monotonic()
            self._tasks[stage.name] = self._progress.add_task(
                "", total=None, stage=stage.name, counts=""
            )
        done = stage.state in DONE
        total = stage.total or (1 if done else None)
        text = counts(stage) if done else f"{counts(stage)} {self._pace(stage)}"
        self._progress.update(
            self._tasks[stage.name],  # type: ignore[arg-type]
            total=total,
            completed=(total or 0) if done else stage.done,
            counts=text if stage.state in ("running", "succeeded") else stage.state,
        )

    def _pace(self, stage: Stage) -> str:
        seconds = time.monotonic() - self._begun[stage.name]
        return f"({stage.rows / seconds:,.0f} rows/s)" if stage.rows and seconds > 0.2 else ""


def counts(stage: Stage) -> str:
    """What a stage has counted so far."""
    parts = [f"{stage.files:,} file{'s' * (stage.files != 1)}"] if stage.files else []
    parts += [f"{stage.rows:,} rows"] if stage.rows else []
    parts += [size(stage.bytes)] if stage.bytes else []
    return ", ".join(parts)


def outcome(run: Run, seconds: float) -> str:
    """A finished run in one line."""
    if run.state == "skipped":
        return f"{run.dataset} is up to date: version v{run.version}, nothing to do ({run.id})"
    rows = next((s.rows for s in run.stages if s.name == "transform"), 0)
    pace = f", {rows / seconds:,.0f} rows/s" if rows >= 10_000 and seconds > 0 else ""
    return shown(f"{run.dataset} v{run.version}: {rows:,} rows in {seconds:.1f} s{pace} ({run.id})")
