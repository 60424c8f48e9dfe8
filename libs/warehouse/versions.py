"""What is known about one version of a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import datetime

import orjson

from libs.warehouse.quarantine import quarantine_of

PROPERTY = "oneblock"  # the transaction property that holds a version's facts


@dataclass(frozen=True)
class Commit:
    """What a run says of the version that it commits."""

    run: str
    run_dir: str
    attempt: int
    plan_digest: str
    inventory_digest: str
    engine: str
    rows: int
    bytes: int
    bad_rows: int = 0  # set aside: see libs.warehouse.quarantine
    bad_files: int = 0

    @property
    def quarantine(self) -> str | None:
        """Where the table of what was set aside is, below the warehouse; None: nothing was."""
        return quarantine_of(self.run_dir, self.attempt) if self.bad_rows else None

    def properties(self) -> dict[str, str]:
        """As Lance transaction properties, so that facts and rows are committed together."""
        return {PROPERTY: orjson.dumps(asdict(self)).decode(), "run": self.run}

    @classmethod
    def parse(cls, properties: dict[str, str] | None) -> Commit | None:
        """Back from transaction properties; None for a commit that isn't ours."""
        text = (properties or {}).get(PROPERTY)
        if text is None:
            return None
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in orjson.loads(text).items() if k in known})


@dataclass(frozen=True)
class Version:
    """A tagged, immutable state of a dataset's rows."""

    number: int
    created_at: datetime
    lance_version: int
    commit: Commit

    @property
    def name(self) -> str:
        """As people write it: v1, v2, …"""
        return f"v{self.number}"
