"""How a benchmark prints what it found: the ratio, the target, and the times behind it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One figure against its target."""

    name: str
    value: float
    unit: str  # "×" for ratios
    target: str  # "≤ 0.4", "≥ 20", or "" where there is none
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if not self.target:
            return None
        sign, limit = self.target.split()
        return self.value <= float(limit) if sign == "≤" else self.value >= float(limit)

    def line(self) -> str:
        mark = {True: "met", False: "MISSED", None: ""}[self.met]
        target = f"(target {self.target}) {mark}" if self.target else ""
        return f"{self.name:<58} {self.value:>10.3f} {self.unit:<4} {target:<24} {self.detail}"


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], target: str) -> Finding:
    """Median of the pairwise ratios ours/theirs, seconds of both beside it."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    detail = f"ours {statistics.median(ours):.2f} s, theirs {statistics.median(theirs):.2f} s"
    return Finding(name, statistics.median(pairs), "×", target, f"{detail}, {len(pairs)} pairs")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(findings: Sequence[Finding], output: Path | None = None) -> None:
    """Prints the findings, and writes them as JSON where asked."""
    for finding in findings:
        print(finding.line(), flush=True)
    if output is not None:
        output.write_text(json.dumps([asdict(f) | {"met": f.met} for f in findings], indent=1))
