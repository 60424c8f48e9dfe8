"""`oneblock secret`: credentials of this machine's stack, encrypted in its data folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from oneblock.cli.options import Form, Home, Output
from oneblock.cli.output import print_json, print_table
from oneblock.errors import OneBlockError
from oneblock.home import home_folder

secret = typer.Typer(help="Credentials that manifests name by secretRef.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="As secretRef names it.")]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Whose datasets may use it; `*`: everybody's.")
]
Values = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY[=VALUE]…",
        help="KEY=VALUE; KEY=@FILE; KEY=- reads standard input; KEY alone asks for the value. "
        "For S3: access_key_id, secret_access_key, session_token, endpoint, region.",
    ),
]


@secret.command("set")
def set_(name: Name, values: Values, namespace: Namespace = "default", home: Home = None) -> None:
    """Make or replace a secret; what runs next uses it."""
    from libs.common.secretstore import SecretStore

    with _told():
        SecretStore(home_folder(home)).set(name, dict(map(_value, values)), namespace)
    print(f"set {namespace}/{name}")


@secret.command("list")
def list_(output: Output = Form.table, home: Home = None) -> None:
    """Names of secrets and of their values; never the values."""
    from libs.common.secretstore import SecretStore

    with _told():
        found = SecretStore(home_folder(home)).list()
    if output is Form.json:
        items = [{"namespace": owner, "name": name, "keys": keys} for owner, name, keys in found]
        print_json({"items": items})
    else:
        rows = [(owner, name, ", ".join(keys)) for owner, name, keys in found]
        print_table(("NAMESPACE", "NAME", "KEYS"), rows)


@secret.command("rm")
def rm(name: Name, namespace: Namespace = "default", home: Home = None) -> None:
    """Remove a secret."""
    from libs.common.secretstore import SecretStore

    with _told():
        gone = SecretStore(home_folder(home)).remove(name, namespace)
    if not gone:
        raise OneBlockError(
            f"no secret {namespace}/{name}", hint="see them with `oneblock secret list`"
        )
    print(f"removed {namespace}/{name}")


def _value(given: str) -> tuple[str, str]:
    """A key with its value, from wherever it was said to be."""
    key, mark, value = given.partition("=")
    if not mark:
        return key, typer.prompt(key, hide_input=True)
    if value == "-":
        return key, sys.stdin.read().rstrip("\r\n")
    if value.startswith("@"):
        try:
            return key, Path(os.path.expanduser(value[1:])).read_text().rstrip("\r\n")  # noqa: PTH111
        except (OSError, UnicodeDecodeError) as error:
            raise OneBlockError(f"can't read {value[1:]}: {error}") from error
    return key, value


@contextmanager
def _told() -> Iterator[None]:
    """The platform's errors as the command line tells them."""
    from libs.common.errors import OneBlockError as PlatformError

    try:
        yield
    except PlatformError as error:
        raise OneBlockError(error.detail) from error
