"""Facts that wait together are committed together, and one that is bad holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text

from libs.common.bus import Desired
from libs.common.errors import TransientError
from libs.common.events import DatasetTransformed, RunChanged
from services.catalog.record import Event
from services.catalog.recorder import Recorder
from services.catalog.store.database import Database
from services.catalog.store.ledger import table
from services.catalog.store.models import RunRow, SpecRow
from services.catalog.store.schema import migrate

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Specs:
    """Holds one generation of every dataset; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, name: str) -> Desired | None:
        self.asked += 1
        return Desired(dataset=name, generation=3, manifest={"n": 3}, digest="d")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/catalog.db")
    await migrate(database)
    yield database
    await database.close()


def accepted(n: int, generation: int = 0) -> Event:
    fact = RunChanged(run=f"run-{n}", dataset="default/a", state="accepted", generation=generation)
    return Event(fact, START)


async def test_one_bad_fact_among_many_is_the_only_one_refused(database: Database) -> None:
    told: list[Event] = []
    recorder = Recorder(database, Specs().get, told.append)
    huge = DatasetTransformed(
        run="run-x", dataset="default/a", generation=0, run_dir="d", version=1, rows=2**63
    )
    events = [accepted(n) for n in range(9)] + [Event(huge, START)]
    waiting = [asyncio.ensure_future(recorder.keep(event)) for event in events]
    await asyncio.sleep(0)  # all of them queue up before the writer begins
    recorder.start()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    await recorder.stop()
    assert [r for r in results[:9] if r is not None] == []
    assert isinstance(results[9], OverflowError)
    found = await database.read(lambda c: c.execute(select(table(RunRow).c.key)).scalars().all())
    assert sorted(found) == sorted(f"run-{n}" for n in range(9))
    assert len(told) == 9


async def test_the_manifest_is_asked_for_once_for_each_generation(database: Database) -> None:
    specs = Specs()
    recorder = Recorder(database, specs.get, lambda event: None)
    recorder.start()
    for generation in (1, 2, 3, 1, 0):
        await recorder.keep(accepted(1, generation))
    assert specs.asked == 1  # generation 3 answered for those before it
    await recorder.keep(accepted(1, 4))
    assert specs.asked == 2
    await recorder.stop()
    kept = await database.read(lambda c: c.execute(select(table(SpecRow))).one())
    assert (kept.key, kept.generation, kept.manifest) == ("default/a", 3, {"n": 3})


async def test_a_locked_database_makes_the_message_wait_and_leaves_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.catalog.store.database.BUSY", 0.1)
    quick = Database(str(database.url))
    recorder = Recorder(quick, Specs().get, lambda event: None)
    recorder.start()
    async with database.writing() as connection:
        await connection.execute(text("DELETE FROM runs"))
        with pytest.raises(TransientError) as raised:
            await recorder.keep(accepted(1))
    assert raised.value.code == "database_unavailable"
    await recorder.keep(accepted(1))  # the message comes again
    await recorder.stop()
    await quick.close()
