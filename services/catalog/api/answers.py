"""From rows of the tables to the shapes that are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from libs.common.events import Progress
from services.catalog import stages
from services.catalog.api import shapes
from services.catalog.evidence import Evidence
from services.catalog.store.queries import Row

COUNTS = ("files", "rows", "bytes")


def run(row: Row, progress: Mapping[str, Progress]) -> shapes.Run:
    """With its stages; those that work show their last progress."""
    evidence = Evidence.parse(cast(Mapping[str, Mapping[str, object]], row["evidence"]))
    found = [
        _stage(s, progress.get(s.name), cast(int, row["attempt"])) for s in stages.stages(evidence)
    ]
    return shapes.Run.model_validate({**row, "id": row["key"], "stages": found})


def _stage(stage: stages.Stage, told: Progress | None, attempt: int) -> shapes.Stage:
    live = told if told and stage.state not in ("succeeded", "not_run") else None
    counts = {name: getattr(stage, name) or (getattr(live, name) if live else 0) for name in COUNTS}
    return shapes.Stage(
        name=stage.name,
        state="running" if live and stage.state == "pending" else stage.state,
        started_at=stage.started_at,
        finished_at=stage.finished_at,
        attempt=told.attempt if told else attempt,
        done=live.done if live else 0,
        total=live.total if live else 0,
        **counts,
    )


def version(row: Row, deliveries: list[Row]) -> shapes.Version:
    columns = cast(list[tuple[str, str]], row["columns"])
    return shapes.Version.model_validate(
        {
            **row,
            "version": row["number"],
            "name": f"v{row['number']}",
            "columns": [{"name": name, "type": kind} for name, kind in columns],
            "deliveries": [delivery(d) for d in deliveries if d["version"] == row["number"]],
        }
    )


def delivery(row: Row) -> shapes.Delivery:
    return shapes.Delivery.model_validate(dict(row))


def dataset(row: Row, newest: Row | None, latest_run: Row | None) -> shapes.Dataset:
    return shapes.Dataset.model_validate(
        {
            **row,
            "dataset": row["key"],
            "state": _state(row, latest_run),
            "rows": newest["rows"] if newest else None,
            "bytes": newest["bytes"] if newest else None,
            "latest_run": _brief(latest_run),
        }
    )


def _brief(row: Row | None) -> shapes.RunBrief | None:
    return shapes.RunBrief.model_validate({**row, "id": row["key"]}) if row else None


def _state(row: Row, latest_run: Row | None) -> object:
    if row["deleted"]:
        return "deleted"
    return latest_run["state"] if latest_run else "unknown"
