"""The catalog's tables on SQLite and on Postgres: migrations, the fold, writers at once."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from libs.common.errors import PermanentError, TransientError
from libs.common.events import DatasetDelivered, DatasetTransformed, RunChanged, SourceResolved
from services.catalog.record import Event
from services.catalog.store.database import Database
from services.catalog.store.ledger import MODELS, record, record_spec, table
from services.catalog.store.models import SpecRow
from services.catalog.store.schema import drift, is_current, migrate
from tests.postgres import Postgres, postgres

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    server: Postgres = request.getfixturevalue("server")
    return server.fresh_url()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await migrate(database)
    yield database
    await database.close()


def story(run: str, dataset: str, version: int) -> list[Event]:
    about = {"run": run, "dataset": dataset, "generation": version}
    run_dir = f"{dataset}.runs/{run}"
    facts = [
        RunChanged(**about, state="accepted"),
        SourceResolved(**about, run_dir=run_dir, digest="d", files=1, bytes=9),
        DatasetTransformed(**about, run_dir=run_dir, version=version, rows=4),
        DatasetDelivered(
            run=run, dataset=dataset, version=version, destination="file:///o", kind="local",
            format="csv", files=1, rows=4, bytes=8,
        ),
        RunChanged(**about, state="succeeded", version=version),
    ]  # fmt: skip
    return [Event(f, START + timedelta(seconds=10 * version + i)) for i, f in enumerate(facts)]


async def dump(database: Database) -> dict[str, list[dict[str, object]]]:
    def rows_of(connection: Connection) -> dict[str, list[dict[str, object]]]:
        tables = {kind: table(model) for kind, model in MODELS.items()}
        return {
            kind: [dict(r) for r in connection.execute(select(t).order_by(t.c.key)).mappings()]
            for kind, t in tables.items()
        }

    return await database.read(rows_of)


async def test_migrations_from_nothing_give_the_tables_of_the_models(url: str) -> None:
    database = Database(url)
    assert not await is_current(database)
    await migrate(database)
    assert await is_current(database)
    assert await drift(database) == []
    await database.close()


async def test_a_table_that_differs_from_its_model_is_told(database: Database) -> None:
    async with database.writing() as connection:
        await connection.execute(text("ALTER TABLE runs ADD COLUMN stray TEXT"))
    assert "stray" in str(await drift(database))


async def test_processes_that_migrate_at_once_all_succeed(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    revisions = await asyncio.gather(*(migrate(d) for d in databases))
    assert len(set(revisions)) == 1
    for database in databases:
        await database.close()


async def test_facts_in_any_order_and_number_give_the_same_rows(database: Database) -> None:
    events = [*story("run-1", "default/a", 1), *story("run-2", "default/a", 2)]
    for event in events:
        await record(database, [event])
    expected = await dump(database)
    assert [row["version"] for row in expected["dataset"]] == [2]
    assert [row["state"] for row in expected["run"]] == ["succeeded", "succeeded"]
    assert expected["run"][0]["created_at"] == START + timedelta(seconds=10)
    async with database.writing() as connection:
        for model in MODELS.values():
            await connection.execute(table(model).delete())
    shuffled = random.Random(7).sample(events * 3, k=len(events) * 3)
    await record(database, shuffled[:5])
    await record(database, shuffled[5:])
    assert await dump(database) == expected


async def test_writers_that_meet_over_the_same_rows_lose_nothing(url: str) -> None:
    databases = [Database(url) for _ in range(3)]
    await migrate(databases[0])
    events = [e for n in range(1, 9) for e in story(f"run-{n}", "default/a", n)]
    random.Random(3).shuffle(events)
    await asyncio.gather(*(record(databases[i % 3], [event]) for i, event in enumerate(events * 2)))
    together = await dump(databases[0])
    await record(databases[0], events)
    assert await dump(databases[1]) == together
    assert together["dataset"][0]["version"] == 8
    assert {row["state"] for row in together["run"]} == {"succeeded"}
    for database in databases:
        await database.close()


async def test_an_older_manifest_never_replaces_a_newer_one(database: Database) -> None:
    for generation in (2, 1, 3, 2):
        await record_spec(database, "default/a", generation, {"n": generation})
    rows = table(SpecRow)
    kept = await database.read(lambda connection: connection.execute(select(rows)).one())
    assert (kept.generation, kept.manifest) == (3, {"n": 3})


async def test_a_fact_that_cannot_be_kept_leaves_nothing_half_done(database: Database) -> None:
    huge = DatasetTransformed(
        run="run-1", dataset="default/a", generation=1, run_dir="d", version=1, rows=2**63
    )
    with pytest.raises((PermanentError, OverflowError)):
        await record(database, [*story("run-2", "default/b", 1), Event(huge, START)])
    assert all(rows == [] for rows in (await dump(database)).values())


async def test_the_sqlite_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "catalog.db"
    database = Database(f"sqlite:///{path}")
    await migrate(database)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    await database.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:secret@h/d", "unknown database 'mysql'; known: postgresql, sqlite"),
        ("no url: secret", "not a database URL"),
        ("sqlite:///relative.db", "absolute path"),
        ("sqlite://", "absolute path"),
    ],
)
async def test_an_unusable_url_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(PermanentError, match=said) as raised:
        Database(url)
    assert "secret" not in str(raised.value)


async def test_a_database_that_does_not_answer_is_a_transient_error() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(TransientError) as raised:
        await database.ping()
    assert raised.value.code == "database_unavailable"
    await database.close()
