"""`oneblock quarantine`: what couldn't be read of a dataset's sources."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from oneblock.cli.looking import Limit, Name, version_number
from oneblock.cli.options import Form, Home, Output
from oneblock.cli.output import print_json, print_table
from oneblock.names import full_name
from oneblock.sync.client import Client

app = typer.Typer(help="What couldn't be read of a dataset's sources.", no_args_is_help=True)
Of = Annotated[str | None, typer.Option("--version", help="v3 or 3; else the newest.")]


@app.command("list")
def list_items(
    name: Name, version: Of = None, limit: Limit = 100, output: Output = Form.table,
    home: Home = None,
) -> None:  # fmt: skip
    """Files and records that were set aside, each with its place and the reason."""
    with Client(home) as client:
        found = client.quarantine(name, version=version_number(version), limit=limit)
    if output is Form.json:
        print_json({"items": [item.raw for item in found]})
    elif found:
        rows = [(i.number, i.path, i.place, i.code, i.detail) for i in found]
        print_table(("NUMBER", "FILE", "PLACE", "CODE", "DETAIL"), rows)
    else:
        print(f"nothing of {full_name(name)} is in quarantine", file=sys.stderr)


@app.command("show")
def show(
    name: Name,
    number: Annotated[int, typer.Argument(min=0, help="The NUMBER that `list` shows.")],
    version: Of = None,
    home: Home = None,
) -> None:
    """Write the bytes that are kept of one item to stdout, as they were."""
    with Client(home) as client:
        data = client.quarantined_bytes(name, number, version=version_number(version))
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
