"""The connection to the database: transactions to read and to write, with errors of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from libs.common.errors import PermanentError, TransientError
from services.catalog.store.address import database_url, prepare_file

BUSY = 5.0  # seconds that a connection waits for a lock before it gives up
T = TypeVar("T")
WRITE = "oneblock_write"  # execution option of a connection that is going to write


class _Cursor(Protocol):
    def execute(self, sql: str) -> object: ...
    def close(self) -> object: ...


class _Driver(Protocol):
    isolation_level: str | None

    def cursor(self) -> _Cursor: ...


class Database:
    """Connections to read and to write. Every error of the driver comes out as TransientError."""

    def __init__(self, url: str) -> None:
        self.url = database_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url) if self.sqlite else _postgres(self.url)
        # aiosqlite crosses to its thread and back some ten times for one query: 3 ms instead of 1.
        self._reader = _sqlite_reader(self.url) if self.sqlite else None

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds in one transaction."""
        with translated():
            if self._reader is not None:
                return await asyncio.to_thread(_read, self._reader, work)
            async with self.engine.connect() as connection, connection.begin():
                return await connection.run_sync(work)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end, or not at all."""
        with translated():
            async with self.engine.connect() as connection:
                await connection.execution_options(**{WRITE: True})
                async with connection.begin():
                    yield connection

    async def ping(self) -> None:
        """Raises TransientError when the database doesn't answer."""
        await self.read(lambda connection: connection.execute(text("SELECT 1")))

    async def close(self) -> None:
        await self.engine.dispose()
        if self._reader is not None:
            self._reader.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Driver errors as TransientError; a message that can't be kept ends as a dead letter."""
    try:
        yield
    except IntegrityError:
        raise  # two writers met; `record` takes the rows again
    except (DBAPIError, PoolTimeout, OSError) as error:
        if _is_about_values(error):
            raise PermanentError(f"the database: {_reason(error)}", code="unkeepable") from error
        raise TransientError(f"the database: {_reason(error)}", code=_code(error)) from error


def _is_about_values(error: Exception) -> bool:
    """SQLSTATE class 22, "data exception": no table will ever take these values."""
    driver = error.orig if isinstance(error, DBAPIError) else None
    return str(getattr(driver, "sqlstate", "")).startswith("22")


def _reason(error: Exception) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0][:300]


def _code(error: Exception) -> str:
    full = ("disk is full", "No space left", "could not extend file")
    if any(said in str(error) for said in full):
        return "storage_full"
    known = isinstance(error, OperationalError | InterfaceError | PoolTimeout | OSError)
    return "database_unavailable" if known else "database_error"


def _postgres(url: URL) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=5,
        max_overflow=5,
        pool_timeout=BUSY,
        pool_pre_ping=True,  # a restarted server is noticed here, not in a request
        connect_args={
            "timeout": BUSY,
            "command_timeout": 30,
            "server_settings": {
                "application_name": "oneblock-catalog",
                "lock_timeout": f"{int(BUSY * 1000)}",
                "jit": "off",
            },
        },
    )


def _sqlite(url: URL) -> AsyncEngine:
    prepare_file(url)
    engine = create_async_engine(
        url, pool_size=4, max_overflow=4, pool_timeout=BUSY, connect_args={"timeout": BUSY}
    )
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _sqlite_reader(url: URL) -> Engine:
    engine = create_engine(
        url.set(drivername="sqlite"),
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=4,
        pool_timeout=BUSY,
        connect_args={"timeout": BUSY, "check_same_thread": False},
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _read(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection, connection.begin():
        return work(connection)


def _configure(driver: _Driver, _record: object) -> None:
    """WAL, so that readers never wait for the writer.

    synchronous=FULL, because a fact is acknowledged after its commit: with NORMAL a power loss
    takes the last commits away, and nobody would deliver those facts again.
    """
    driver.isolation_level = None  # we say BEGIN ourselves, see _begin
    cursor = driver.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={int(BUSY * 1000)}",
        "journal_size_limit=67108864",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """A writer takes the lock at once: waiting for it later fails without waiting (SQLITE_BUSY)."""
    writes = connection.get_execution_options().get(WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
