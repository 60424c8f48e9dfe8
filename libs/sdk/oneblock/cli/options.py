"""Options that every command has: which stack, and how to print."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Form(StrEnum):
    """How an answer is printed."""

    table = "table"
    json = "json"


class RowForm(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    csv = "csv"


def _use_home(home: Path | None) -> Path | None:
    if home is not None:
        os.environ["ONEBLOCK_HOME"] = str(home.expanduser().absolute())
    return home


HOME = typer.Option(
    "--home",
    help="Data folder of the stack (else ONEBLOCK_HOME, else ~/.oneblock).",
    callback=_use_home,
    file_okay=False,
)
FORM = typer.Option("--output", "-o", help="How to print.")

Home = Annotated[Path | None, HOME]
Output = Annotated[Form, FORM]
RowOutput = Annotated[RowForm, FORM]
