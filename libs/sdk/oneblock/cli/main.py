"""The command line as a whole: commands, the stack's own ones, and how errors are told."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from oneblock.cli import looking, quarantine, work
from oneblock.cli.options import Home
from oneblock.errors import ApiError, OneBlockError

STACK_GROUP = "oneblock.stack"  # entry points that add `up`, `down`, …; in the platform's package
STACK_COMMANDS = ("up", "down", "doctor", "admin", "token")

app = typer.Typer(
    name="oneblock",
    help="Files become datasets: processed, versioned, readable, delivered.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def everywhere(
    _home: Home = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from oneblock import __version__

        print(__version__)
        raise typer.Exit


def build() -> typer.Typer:
    """The app with every command that is installed."""
    for module, names in (
        (work, ("apply", "plan", "upload", "cancel", "retry", "delete")),
        (looking, ("get", "describe", "rows", "logs", "events")),
    ):
        for name in names:
            app.command(name)(getattr(module, name))
    from oneblock.cli.status import status

    app.command("status")(status)
    app.add_typer(quarantine.app, name="quarantine")
    _add_stack_commands()
    return app


def _add_stack_commands() -> None:
    found = list(entry_points(group=STACK_GROUP))
    for entry in found:
        entry.load()(app)
    if not found:
        for name in STACK_COMMANDS:
            app.command(name, hidden=True)(_not_installed)


def _not_installed() -> None:
    """Runs the stack on this machine; not installed here."""
    raise OneBlockError(
        "the stack itself is not installed here, only its client",
        hint="install the platform (`make setup` in a clone of it)",
    )


def main() -> None:
    """Runs one command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        build()()
    except OneBlockError as error:
        _tell(error)
        sys.exit(1)
    except BrokenPipeError:  # `oneblock rows … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _tell(error: OneBlockError) -> None:
    print(f"error: {error.detail}", file=sys.stderr)
    if isinstance(error, ApiError):
        for one in error.errors:
            if str(one) != error.detail:
                print(f"  {one}", file=sys.stderr)
    if error.hint:
        print(f"→ {error.hint}", file=sys.stderr)
