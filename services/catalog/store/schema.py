"""Bringing the tables up to this release, with Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from services.catalog.store.database import Database
from services.catalog.store.models import Table

LOCK = 0x0B1_0CC  # Postgres advisory lock: one process migrates, the others wait
FOLDER = Path(__file__).resolve().parent.parent / "migrations"


def configuration() -> Config:
    """Alembic's configuration, without any file of its own."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


async def migrate(database: Database, revision: str = "head") -> str:
    """Upgrades to `revision`, in one transaction; returns the revision that stands then."""
    async with database.writing() as connection:
        if not database.sqlite:  # SQLite's writers wait for each other anyway
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        await connection.run_sync(_upgrade, revision)
        return await connection.run_sync(_current)


async def is_current(database: Database) -> bool:
    """Whether the tables are those of this release."""
    newest = ScriptDirectory.from_config(configuration()).get_current_head()
    return await database.read(_current) == newest


async def drift(database: Database) -> list[object]:
    """How the tables differ from the models; empty when migrations and models agree."""
    return await database.read(_compare)


def _upgrade(connection: Connection, revision: str) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _current(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def _compare(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Table.metadata))
