"""Writing facts into the tables: one transaction, the fold, only rows that changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from libs.common.errors import TransientError
from services.catalog.evidence import Evidence
from services.catalog.projection import columns
from services.catalog.record import Event, Key, Kind, fold, says
from services.catalog.store.database import Database
from services.catalog.store.models import DatasetRow, DeliveryRow, RunRow, SpecRow, VersionRow

MODELS: Mapping[Kind, type[SQLModel]] = {
    "dataset": DatasetRow,
    "run": RunRow,
    "version": VersionRow,
    "delivery": DeliveryRow,
}
TRIES = 5  # how often two writers may meet over the same new row before the message waits


async def record(database: Database, events: Sequence[Event]) -> None:
    """Folds the events into the tables and commits; doing it again changes nothing.

    Raises TransientError when the database can't be written; nothing is half done then.
    """
    for _ in range(TRIES):
        try:
            return await _record(database, events)
        except IntegrityError:
            continue  # another process inserted the row: this time it is found and locked
    raise TransientError("the database: too many writers at once", code="database_busy")


async def record_spec(
    database: Database, dataset: str, generation: int, manifest: Mapping[str, object]
) -> None:
    """Keeps a manifest unless a newer generation's is known."""
    dialect = sqlite if database.sqlite else postgresql
    new = dialect.insert(SpecRow).values(key=dataset, generation=generation, manifest=manifest)
    newer = new.on_conflict_do_update(
        index_elements=["key"],
        set_={"generation": new.excluded.generation, "manifest": new.excluded.manifest},
        where=table(SpecRow).c.generation < new.excluded.generation,
    )
    async with database.writing() as connection:
        await connection.execute(newer)


async def _record(database: Database, events: Sequence[Event]) -> None:
    touched = {key for event in events for key in says(event)}
    if not touched:
        return
    async with database.writing() as connection:
        known = await _load(connection, touched)
        after = fold(known, events)
        changed = {key: e for key, e in after.items() if known.get(key) != e}
        await _save(connection, changed, known)


async def _load(connection: AsyncConnection, keys: Iterable[Key]) -> dict[Key, Evidence]:
    """What is known of the rows, locked until the commit (SQLite: the whole file is)."""
    found: dict[Key, Evidence] = {}
    for kind, ids in sorted(_by_kind(keys).items()):
        rows = table(MODELS[kind])
        # In the order of the keys, so that two writers never wait for each other.
        query = select(rows.c.key, rows.c.evidence).where(rows.c.key.in_(ids))
        query = query.order_by(rows.c.key).with_for_update()
        for key, evidence in await connection.execute(query):
            found[Key(kind, key)] = Evidence.parse(evidence)
    return found


async def _save(
    connection: AsyncConnection, changed: Mapping[Key, Evidence], known: Mapping[Key, Evidence]
) -> None:
    for kind, ids in sorted(_by_kind(changed).items()):
        rows = table(MODELS[kind])
        keys = [Key(kind, id) for id in sorted(ids)]
        values = {key: _values(key, changed[key]) for key in keys}
        if new := [values[key] for key in keys if key not in known]:
            await connection.execute(insert(rows), new)
        if old := [_renamed(values[key]) for key in keys if key in known]:
            await connection.execute(update(rows).where(rows.c.key == bindparam("of")), old)


def _values(key: Key, evidence: Evidence) -> dict[str, object]:
    return {"key": key.id, "evidence": evidence.to_json(), **columns(key, evidence)}


def _renamed(values: dict[str, object]) -> dict[str, object]:
    """`key` says which row; it can't be a parameter of the same name as the column set."""
    return {"of" if name == "key" else name: value for name, value in values.items()}


def _by_kind(keys: Iterable[Key]) -> dict[Kind, list[str]]:
    kinds: defaultdict[Kind, list[str]] = defaultdict(list)
    for key in keys:
        kinds[key.kind].append(key.id)
    return kinds


def table(model: type[SQLModel]) -> Table:
    """The Core table of a model: bulk work goes without the ORM."""
    found: Table = model.__table__  # type: ignore[attr-defined]
    return found
