"""What the platform adds to the command line: up, down, doctor, admin, token, secret."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from oneblock.cli.options import Form, Home, Output
from oneblock.cli.output import print_json, print_table
from oneblock.home import home_folder

from deploy.local.secrets import secret

Port = Annotated[
    int | None,
    typer.Option(
        min=0, max=65_000, envvar="ONEBLOCK_UP_PORT", help="First of the ports; 0: any free ones."
    ),
]
TokensFile = Annotated[
    Path | None,
    typer.Option("--file", help="Tokens file (else ONEBLOCK_TOKENS_FILE, else HOME/tokens.json)."),
]

admin = typer.Typer(help="Work on the broker.", no_args_is_help=True)
token = typer.Typer(help="API tokens.", no_args_is_help=True)


def PLUGIN(app: typer.Typer) -> None:  # noqa: N802 - the name that every plug-in has
    """Adds the commands."""
    for command in (up, down, doctor):
        app.command(command.__name__)(command)
    admin.command("migrate")(migrate)
    token.command("create")(token_create)
    token.command("revoke")(token_revoke)
    app.add_typer(admin, name="admin")
    app.add_typer(token, name="token")
    app.add_typer(secret, name="secret")


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when requests are accepted.")
    ] = False,
    port: Port = None,
    ray: Annotated[
        bool, typer.Option("--ray/--no-ray", help="With a Ray head, or without.")
    ] = True,
    host: Annotated[
        str, typer.Option(help="Where catalog and ingest listen; not loopback: with tokens only.")
    ] = "127.0.0.1",
    root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder that file:// may point into; repeat for several."),
    ] = None,
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """Run the whole stack on this machine; Ctrl-C stops it, nothing is lost."""
    from deploy.local import launch

    roots = tuple(folder.expanduser().resolve() for folder in root or ())
    wish = launch.Wish(home_folder(home), port, ray, host, roots)
    if not detach:
        launch.up(wish)
        return
    quiet = output is Form.json
    state = launch.up_detached(wish, (lambda _line: None) if quiet else print)
    if quiet:
        print_json(state)
    else:
        print("it runs on; see it with `oneblock status`, stop it with `oneblock down`")


def down(home: Home = None) -> None:
    """Stop the stack of this machine; `up` continues where it was."""
    from deploy.local import launch

    folder = home_folder(home)
    stopped = launch.down(folder)
    print(f"stopped the stack in {folder}" if stopped else f"no stack runs in {folder}")


def doctor(port: Port = None, output: Output = Form.table, home: Home = None) -> None:
    """Check this machine and the stack, and say what to do; exits with 1 when something fails."""
    from deploy.local.doctor import examine

    found = examine(home_folder(home), port)
    if output is Form.json:
        print_json({"items": [check.__dict__ for check in found]})
    else:
        print_table(
            ("CHECK", "", "FOUND", "WHAT TO DO"), [tuple(c.__dict__.values()) for c in found]
        )
    if any(check.outcome == "fail" for check in found):
        raise typer.Exit(1)


def migrate(
    nats_url: Annotated[
        str, typer.Option(envvar="ONEBLOCK_NATS_URL", help="The broker.")
    ] = "nats://127.0.0.1:4222",
    nats_token: Annotated[
        str | None, typer.Option(envvar="ONEBLOCK_NATS_TOKEN", show_default=False)
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream.")] = 1,
) -> None:
    """Create or update streams, consumers and buckets; harmless to repeat."""
    from libs.common.bus.admin import migrate as bring_up_to_date
    from libs.common.errors import OneBlockError

    try:
        changes = asyncio.run(bring_up_to_date(nats_url, nats_token, replicas))
    except OneBlockError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        raise typer.Exit(1) from error
    for change in changes or ["nothing to change"]:
        print(change)


def token_create(
    name: Annotated[str, typer.Option(help="For whom.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write, label, admin; repeat for several.")
    ] = None,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Namespaces it sees; repeat for several. Else all.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires.")] = None,
    file: TokensFile = None,
    home: Home = None,
) -> None:
    """Make an API token; it is shown once, the file keeps its hash."""
    from libs.common.web.tokens import SCOPES, add_entry, new_token

    wanted = scope or ["read"]
    if unknown := sorted(set(wanted) - set(SCOPES)):
        raise typer.BadParameter(f"unknown scope {', '.join(unknown)}; known: {', '.join(SCOPES)}")
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    text, entry = new_token(
        name=name,
        scopes=[s for s in SCOPES if s in wanted],
        namespaces=namespace or ["*"],
        expires=expires,
    )
    path = _tokens_file(file, home)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    add_entry(path, entry)
    print(text)
    print(f"kept in {path}; services use it with ONEBLOCK_TOKENS_FILE={path}", file=sys.stderr)


def token_revoke(
    ident: Annotated[str, typer.Argument(help="The token's id: what stands before its dot.")],
    file: TokensFile = None,
    home: Home = None,
) -> None:
    """Revoke an API token; holds within a second."""
    from libs.common.web.tokens import remove_entry

    path = _tokens_file(file, home)
    ident = ident.removeprefix("ob_").partition(".")[0]
    if not path.exists() or not remove_entry(path, ident):
        print(f"error: no token {ident} in {path}", file=sys.stderr)
        raise typer.Exit(1)
    print(f"revoked {ident}")


def _tokens_file(given: Path | None, home: Path | None) -> Path:
    told = os.environ.get("ONEBLOCK_TOKENS_FILE")
    return given or (Path(told) if told else home_folder(home) / "tokens.json")
