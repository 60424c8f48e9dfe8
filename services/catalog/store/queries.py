"""Reading the tables: newest first, by keyset, and never beyond the caller's namespaces.

Plain functions of a connection, for `Database.read`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, literal, select, tuple_

from services.catalog.store.ledger import table
from services.catalog.store.models import (
    DatasetRow,
    DeliveryRow,
    Moment,
    RunRow,
    SpecRow,
    VersionRow,
)

DATASETS, SPECS, RUNS = table(DatasetRow), table(SpecRow), table(RunRow)
VERSIONS, DELIVERIES = table(VersionRow), table(DeliveryRow)
STAND_INS = ("coalesced", "duplicate")  # states of runs whose work another run does

Row = Mapping[str, object]
Position = tuple[datetime, str]  # of the last row of a page: created_at, key


@dataclass(frozen=True)
class Filter:
    """Which rows of a list. `namespaces`: what the caller may see; None is everything."""

    namespaces: frozenset[str] | None = None
    namespace: str | None = None
    dataset: str | None = None
    states: tuple[str, ...] = ()
    q: str | None = None
    after: Position | None = None
    limit: int = 100


def list_datasets(connection: Connection, by: Filter) -> list[Row]:
    """Datasets that aren't deleted."""
    query = _newest(DATASETS, by).where(DATASETS.c.deleted.is_(False))
    if by.q:
        query = query.where(DATASETS.c.key.icontains(by.q, autoescape=True))
    return _all(connection, query)


def list_runs(connection: Connection, by: Filter) -> list[Row]:
    query = _newest(RUNS, by)
    if by.dataset is not None:
        query = query.where(RUNS.c.dataset == by.dataset)
    if by.states:
        query = query.where(RUNS.c.state.in_(by.states))
    return _all(connection, query)


def list_versions(connection: Connection, dataset: str, below: int | None, limit: int) -> list[Row]:
    query = select(VERSIONS).where(VERSIONS.c.dataset == dataset)
    if below is not None:
        query = query.where(VERSIONS.c.number < below)
    return _all(connection, query.order_by(VERSIONS.c.number.desc()).limit(limit))


def one_dataset(connection: Connection, key: str) -> Row | None:
    return _one(connection, select(DATASETS).where(DATASETS.c.key == key))


def one_run(connection: Connection, key: str) -> Row | None:
    return _one(connection, select(RUNS).where(RUNS.c.key == key))


def one_version(connection: Connection, dataset: str, number: int) -> Row | None:
    return _one(connection, select(VERSIONS).where(VERSIONS.c.key == f"{dataset}@{number}"))


def newest_version(connection: Connection, dataset: str) -> int | None:
    """Its number; None where there is no such dataset, or no version yet."""
    query = select(DATASETS.c.version).where(DATASETS.c.key == dataset)
    number: int | None = (connection.execute(query)).scalar_one_or_none()
    return number


def spec_of(connection: Connection, dataset: str) -> Row | None:
    return _one(connection, select(SPECS).where(SPECS.c.key == dataset))


def newest_runs(connection: Connection, datasets: Sequence[str]) -> dict[str, Row]:
    """The newest run of each dataset that did work of its own."""
    newest = (
        select(RUNS.c.key)
        .where(RUNS.c.dataset == DATASETS.c.key, RUNS.c.state.not_in(STAND_INS))
        .order_by(RUNS.c.created_at.desc(), RUNS.c.key.desc())
        .limit(1)
        .scalar_subquery()
    )
    keys = select(newest).where(DATASETS.c.key.in_(datasets))
    found = _all(connection, select(RUNS).where(RUNS.c.key.in_(keys)))
    return {str(run["dataset"]): run for run in found}


def versions_named(connection: Connection, keys: Sequence[str]) -> dict[str, Row]:
    """Versions by `dataset`, for keys `dataset@number`."""
    found = _all(connection, select(VERSIONS).where(VERSIONS.c.key.in_(keys)))
    return {str(version["dataset"]): version for version in found}


def newest_deliveries(connection: Connection, dataset: str, limit: int) -> list[Row]:
    """The newest version that reached each destination."""
    latest = (
        select(DELIVERIES.c.destination, func.max(DELIVERIES.c.version).label("version"))
        .where(DELIVERIES.c.dataset == dataset)
        .group_by(DELIVERIES.c.destination)
        .subquery()
    )
    same = and_(
        DELIVERIES.c.destination == latest.c.destination, DELIVERIES.c.version == latest.c.version
    )
    query = select(DELIVERIES).join(latest, same).where(DELIVERIES.c.dataset == dataset)
    return _all(connection, query.order_by(DELIVERIES.c.destination).limit(limit))


def deliveries_of(connection: Connection, dataset: str, versions: Sequence[int]) -> list[Row]:
    query = select(DELIVERIES).where(
        DELIVERIES.c.dataset == dataset, DELIVERIES.c.version.in_(versions)
    )
    return _all(connection, query.order_by(DELIVERIES.c.key))


def _newest(rows: Table, by: Filter) -> Select[tuple[object, ...]]:
    """One page from `after` on; an index serves each combination of filter and order."""
    seen: list[ColumnElement[bool]] = []
    if by.namespaces is not None:
        seen.append(rows.c.namespace.in_(sorted(by.namespaces)))
    if by.namespace is not None:
        seen.append(rows.c.namespace == by.namespace)
    if by.after is not None:
        at, key = by.after
        # Compared as a pair, which the index answers; with OR it would be read from its start.
        page = tuple_(rows.c.created_at, rows.c.key)
        seen.append(page < tuple_(literal(at, Moment()), literal(key)))
    order = (rows.c.created_at.desc(), rows.c.key.desc())
    return select(rows).where(*seen).order_by(*order).limit(by.limit)


def _all(connection: Connection, query: Select[tuple[object, ...]]) -> list[Row]:
    return list((connection.execute(query)).mappings())  # type: ignore[arg-type]


def _one(connection: Connection, query: Select[tuple[object, ...]]) -> Row | None:
    return (connection.execute(query)).mappings().one_or_none()  # type: ignore[return-value]
