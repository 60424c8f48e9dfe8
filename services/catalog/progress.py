"""How far the runs that work just now are: in memory only, bounded, lost ones don't matter."""

from __future__ import annotations

from collections import OrderedDict

from libs.common.events import Progress

RUNS = 2000  # runs that are remembered; the longest silent is forgotten first


class Board:
    """The newest progress of each stage of each run."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, dict[str, Progress]] = OrderedDict()

    def note(self, progress: Progress) -> None:
        """Keeps it unless a later attempt has told already."""
        stages = self._runs.setdefault(progress.run, {})
        known = stages.get(progress.stage)
        if known is None or progress.attempt >= known.attempt:
            stages[progress.stage] = progress
        self._runs.move_to_end(progress.run)
        while len(self._runs) > RUNS:
            self._runs.popitem(last=False)

    def of(self, run: str) -> dict[str, Progress]:
        """By stage; empty for a run that told nothing."""
        return self._runs.get(run, {})

    def forget(self, run: str) -> None:
        """The run has ended: its facts say it all."""
        self._runs.pop(run, None)
