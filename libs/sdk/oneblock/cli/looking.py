"""Commands that look: get, describe, rows, logs, events."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from oneblock.cli.options import Form, Home, Output, RowForm, RowOutput
from oneblock.cli.output import flat, print_csv, print_json, print_table, shown, size
from oneblock.models import LogLine, Version
from oneblock.names import full_name
from oneblock.sync.client import Client

Name = Annotated[str, typer.Argument(help="namespace/name, or a name in default.")]
# Headings, cells, and the objects as they came.
Listing = tuple[tuple[str, ...], list[tuple[object, ...]], list[Mapping[str, Any]]]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


class Kind(StrEnum):
    """What `get` lists."""

    datasets = "datasets"
    versions = "versions"
    runs = "runs"


def get(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    dataset: Annotated[str | None, typer.Argument(help="Whose versions or runs.")] = None,
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Limit = 50,
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """List datasets, the versions of a dataset, or runs; newest first."""
    if kind is Kind.versions and not dataset:
        raise typer.BadParameter("`oneblock get versions NAME` needs the name of a dataset")
    with Client(home) as client:
        columns, rows, raw = _listing(client, kind, dataset, state, limit)
    if output is Form.json:
        print_json({"items": raw})
    elif rows:
        print_table(columns, rows)
    else:
        print(f"no {kind.value} yet; make one with `oneblock apply -f FILE`", file=sys.stderr)


def describe(
    name: Annotated[str, typer.Argument(help="A dataset, or the id of a run.")],
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """Everything that is known of a dataset or a run."""
    with Client(home) as client:
        is_run = name.startswith("run-") and "/" not in name
        found = client.run(name).raw if is_run else client.dataset(name).raw
    if output is Form.json:
        print_json(found)
    else:
        print_table(("FIELD", "VALUE"), list(flat(found)))


def rows(
    name: Name,
    columns: Annotated[str | None, typer.Option(help="Only these: a,b,c.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Rows to pass over.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 20,
    version: Annotated[str | None, typer.Option(help="v3 or 3; else the newest.")] = None,
    output: RowOutput = RowForm.table,
    home: Home = None,
) -> None:
    """A page of a dataset's rows."""
    wanted = [c.strip() for c in columns.split(",")] if columns else None
    with Client(home) as client:
        page = client.rows(
            name, version=version_number(version), offset=offset, limit=limit, columns=wanted
        )
    if output is RowForm.json:
        print_json(page.raw)
    elif output is RowForm.csv:
        print_csv(page.columns, page.values())
    else:
        print_table(page.columns, ([v.get(c) for c in page.columns] for v in page.values()))
        last = offset + len(page.rows)
        where = f"rows {offset + 1:,} to {last:,}" if page.rows else "no rows here"
        print(f"{where} of {page.num_rows_total:,} in {full_name(name)}", file=sys.stderr)


def logs(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until the run has ended.")
    ] = False,
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """The log of a run."""
    with Client(home) as client:
        for line in client.logs(run, follow=follow):
            if output is Form.json:
                _json_line(line.raw)
            else:
                print(_log_line(line), flush=follow)


def events(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = True,
    home: Home = None,
) -> None:
    """What happens from now on, one JSON object a line."""
    with Client(home) as client:
        for event in client.events():
            _json_line(event)
            if not follow:
                return


def _listing(
    client: Client, kind: Kind, dataset: str | None, state: str | None, limit: int
) -> Listing:
    if kind is Kind.datasets:
        found = client.datasets(limit=limit)
        head: tuple[str, ...] = ("DATASET", "VERSION", "GENERATION", "UPDATED")
        table: list[tuple[object, ...]] = [
            (d.full_name, _v(d.version), d.generation, d.updated_at) for d in found
        ]
        return head, table, [d.raw for d in found]
    if kind is Kind.versions:
        made = client.versions(dataset or "", limit=limit)
        head = ("VERSION", "ROWS", "SIZE", "ENGINE", "RUN", "CREATED")
        return head, [_version_row(v) for v in made], [v.raw for v in made]
    name = full_name(dataset) if dataset else None
    runs = client.runs(name, state=state, limit=limit)
    head = ("RUN", "DATASET", "STATE", "VERSION", "CAUSE", "CREATED", "ERROR")
    cells: list[tuple[object, ...]] = [
        (r.id, r.dataset, r.state, _v(r.version), r.cause, r.created_at, r.error_detail)
        for r in runs
    ]
    return head, cells, [r.raw for r in runs]


def _version_row(v: Version) -> tuple[object, ...]:
    return (_v(v.number), v.rows, size(v.bytes), v.engine, v.run, v.created_at)


def _v(number: int | None) -> str:
    return f"v{number}" if number else ""


def version_number(version: str | None) -> int | None:
    if version is None:
        return None
    if not (digits := version.removeprefix("v")).isdecimal():
        raise typer.BadParameter(f"--version {version!r} is no version; write v3 or 3")
    return int(digits)


def _log_line(line: LogLine) -> str:
    known = ("time", "at", "stage", "attempt", "level", "event", "run")
    more = " ".join(f"{k}={shown(v)}" for k, v in line.raw.items() if k not in known)
    time = line.time or str(line.raw.get("at") or "")
    return shown(f"{time} {line.level:<7} {line.stage:<9} {line.event}") + f"  {more}"


def _json_line(value: object) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)
