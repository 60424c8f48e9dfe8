"""Commands that ask for work: apply, plan, upload, cancel, retry, delete."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from oneblock.cli.options import Form, Home, Output
from oneblock.cli.output import flat, print_json, print_table, size
from oneblock.cli.sending import sending
from oneblock.cli.watching import outcome, watcher
from oneblock.errors import RunFailed
from oneblock.models import Run
from oneblock.sync.client import Client

Files = Annotated[
    list[str], typer.Option("--filename", "-f", help="Manifest, YAML or JSON; - is standard input.")
]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Until the run has ended.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait at most.", min=0)]
Force = Annotated[bool, typer.Option("--force", help="Process everything again.")]
RunId = Annotated[str, typer.Argument(help="Id of the run.")]


def apply(
    filename: Files,
    wait: Wait = False,
    timeout: Timeout = None,
    force: Force = False,
    key: Annotated[str | None, typer.Option(help="The same key asks for the same run.")] = None,
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """Bring datasets up to their manifests.

    A source path without a scheme (`./data.csv`) is taken from the manifest's folder and uploaded.
    """
    with Client(home) as client:
        runs = []
        for name in filename:
            with sending("uploading", quiet=output is Form.json) as progress:
                runs.append(client.apply(_manifest(name), force=force, key=key, progress=progress))
        for run in runs:
            if wait:
                follow(client, run, timeout, output)
            elif output is Form.json:
                print_json(run.raw)
            else:
                print(f"{run.dataset or 'accepted'}: {run.id}")
                print(f"follow it with `oneblock logs -f {run.id}`", file=sys.stderr)


def plan(filename: Files, output: Output = Form.table, home: Home = None) -> None:
    """Say what applying a manifest would do; changes nothing."""
    with Client(home) as client:
        for name in filename:
            found = client.plan(_manifest(name))
            if output is Form.json:
                print_json(found)
            else:
                print_table(("WHAT", "PLANNED"), flat(found))


def upload(
    files: Annotated[list[Path], typer.Argument(help="Local files, or folders with all below.")],
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """Send local files to the stack; prints the URLs to name in a manifest.

    A folder becomes one URL. A connection that breaks costs what was under way, not the whole.
    """
    found = []
    with Client(home) as client:
        for file in files:
            with sending(file.name, quiet=output is Form.json) as progress:
                found.append(client.upload(file, progress=progress))
    if output is Form.json:
        print_json({"items": [u.raw for u in found]})
    else:
        print_table(("URL", "SIZE", "SHA256"), [(u.url, size(u.size), u.sha256) for u in found])


def cancel(run: RunId, output: Output = Form.table, home: Home = None) -> None:
    """Ask for a run to stop."""
    with Client(home) as client:
        found = client.cancel(run)
    if output is Form.json:
        print_json(found)
    else:
        print(f"{run}: asked to stop; see it with `oneblock describe {run}`")


def retry(
    run: RunId,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """Ask for another run of the dataset of a run."""
    with Client(home) as client:
        begun = client.retry(run)
        if wait:
            follow(client, begun, timeout, output)
        elif output is Form.json:
            print_json(begun.raw)
        else:
            print(begun.id)


def delete(
    dataset: Annotated[str, typer.Argument(help="namespace/name, or a name in default.")],
    output: Output = Form.table,
    home: Home = None,
) -> None:
    """Withdraw a dataset's spec; its versions stay."""
    with Client(home) as client:
        found = client.delete(dataset)
    if output is Form.json:
        print_json(found)
    else:
        print(f"{dataset}: withdrawn; its versions stay readable")


def follow(client: Client, run: Run, timeout: float | None, output: Form) -> None:
    """Show a run until its end; raises RunFailed unless it ended well."""
    begun = time.monotonic()
    try:
        with watcher(quiet=output is Form.json) as watch:
            ended = client.wait(run.id, timeout=timeout, watch=watch, check=False)
    except KeyboardInterrupt:
        print(f"\n{run.id} goes on; stop it with `oneblock cancel {run.id}`", file=sys.stderr)
        raise typer.Exit(130) from None
    if output is Form.json:
        print_json(ended.raw)
    if not ended.good:
        raise RunFailed(ended.id, ended.state, ended.error_code, ended.error_detail)
    if output is not Form.json:
        print(outcome(ended, time.monotonic() - begun))
        print(f"read it with `oneblock rows {ended.dataset}`", file=sys.stderr)


def _manifest(name: str) -> str:
    return sys.stdin.read() + "\n" if name == "-" else name
