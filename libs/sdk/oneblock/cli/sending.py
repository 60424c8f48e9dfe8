"""How far an upload is: a bar on a terminal, a line now and then when piped, nothing for JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

from oneblock.cli.output import shown, size
from oneblock.progress import Progress, silent

WORTH = 4 << 20  # bytes below which nobody waits long enough to look
EVERY = 10.0  # seconds between two lines


@contextmanager
def sending(what: str, *, quiet: bool) -> Iterator[Progress]:
    """What a transfer tells its progress to; on standard error."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar() as bar:
            yield _Drawn(bar, shown(what))
    else:
        yield _Lines(what)


def _bar() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Drawn:
    """A bar that appears with the first bytes of something large."""

    def __init__(self, bar: Bar, what: str) -> None:
        self._bar, self._what = bar, what.replace("[", "\\[")
        self._task = bar.add_task(self._what, total=None, visible=False)

    def __call__(self, sent: int, total: int) -> None:
        if total >= WORTH:
            self._bar.update(self._task, completed=sent, total=total, visible=True)


class _Lines:
    def __init__(self, what: str) -> None:
        self._what, self._told = what, time.monotonic()

    def __call__(self, sent: int, total: int) -> None:
        if time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            print(f"{shown(self._what)}: {size(sent)} of {size(total)}", file=sys.stderr)
