"""What facts say about one row of the catalog, kept so that order and repetition don't matter.

Each part only ever moves one way, whatever comes first: the earliest entry of a slot, the latest
entry of a slot, the greatest number. That makes `merge` commutative, associative and idempotent,
so a stream that is replayed, reordered or delivered twice ends in the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

T = TypeVar("T")

Entry = Mapping[str, object]  # {"time": ISO 8601 in UTC, "id": of the fact, …: what it said}
NOTHING: Entry = {}


@dataclass(frozen=True)
class Evidence:
    """`first` and `last`: slot → entry; `most`: name → number."""

    first: Mapping[str, Entry] = field(default_factory=dict)
    last: Mapping[str, Entry] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)

    def merge(self, other: Evidence) -> Evidence:
        """Both together."""
        return Evidence(
            _union(self.first, other.first, lambda a, b: min(a, b, key=_order)),
            _union(self.last, other.last, lambda a, b: max(a, b, key=_order)),
            _union(self.most, other.most, max),
        )

    def to_json(self) -> dict[str, object]:
        """As kept in a column."""
        return {"first": dict(self.first), "last": dict(self.last), "most": dict(self.most)}

    @classmethod
    def parse(cls, value: Mapping[str, Mapping[str, object]]) -> Evidence:
        """Back from a column."""
        return cls(**value)  # type: ignore[arg-type]  # `to_json` wrote it


def stamp(time: datetime) -> str:
    """A time as text that sorts as the time does."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def moment(entry: Entry) -> datetime:
    """When the fact of an entry happened."""
    return datetime.fromisoformat(str(entry["time"]))


def _order(entry: Entry) -> tuple[str, str]:
    """Time first; the id decides between facts of the same moment, so that the order is total."""
    return str(entry["time"]), str(entry["id"])


def _union(a: Mapping[str, T], b: Mapping[str, T], pick: Callable[[T, T], T]) -> dict[str, T]:
    both = {key: pick(a[key], b[key]) for key in a if key in b}
    return dict(sorted({**a, **b, **both}.items()))
