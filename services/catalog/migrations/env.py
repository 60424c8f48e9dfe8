"""What Alembic runs: inside the transaction of `migrate`, or on its own for `alembic revision`."""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from services.catalog.store.address import SETTING
from services.catalog.store.database import Database
from services.catalog.store.models import Table


def run(connection: Connection) -> None:
    """Runs what was asked for, in the connection's transaction."""
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_alone() -> None:
    """For `alembic revision --autogenerate`, against the database of ONEBLOCK_CATALOG_DB."""
    database = Database(os.environ[SETTING])
    async with database.writing() as connection:
        await connection.run_sync(run)
    await database.close()


if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    asyncio.run(run_alone())
