"""The tables. Columns are a projection of `evidence`; nothing is kept in them alone."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, Index, MetaData, Text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
JsonObject = dict[str, object]


class Moment(TypeDecorator[datetime]):
    """A time in UTC; SQLite keeps no time zone, so it is put back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and dialect.name == "sqlite" else value


class Table(SQLModel):
    """What all tables share: text without a length, one set of names for constraints."""

    metadata = MetaData(naming_convention=NAMING)


class DatasetRow(Table, table=True):
    """A dataset: that it exists, and its newest generation and version."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index("ix_datasets_newest", "created_at", "key"),
        Index("ix_datasets_namespace_newest", "namespace", "created_at", "key"),
    )

    key: str = Field(sa_column=Column(Text, primary_key=True))  # namespace/name
    namespace: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    generation: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted: bool
    version: int | None = Field(sa_column=Column(BigInteger))
    created_at: datetime = Field(sa_column=Column(Moment, nullable=False))
    updated_at: datetime = Field(sa_column=Column(Moment, nullable=False))
    evidence: JsonObject = Field(sa_column=Column(JSON, nullable=False))


class SpecRow(Table, table=True):
    """The newest manifest of a dataset that the catalog has seen in the bus's key-value store."""

    __tablename__ = "specs"

    key: str = Field(sa_column=Column(Text, primary_key=True))  # namespace/name
    generation: int = Field(sa_column=Column(BigInteger, nullable=False))
    manifest: JsonObject = Field(sa_column=Column(JSON, nullable=False))


class RunRow(Table, table=True):
    """A run and its state."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_newest", "created_at", "key"),
        Index("ix_runs_namespace_newest", "namespace", "created_at", "key"),
        Index("ix_runs_dataset_newest", "dataset", "created_at", "key"),
        Index("ix_runs_state_newest", "state", "created_at", "key"),
    )

    key: str = Field(sa_column=Column(Text, primary_key=True))  # the run's id
    namespace: str = Field(sa_column=Column(Text, nullable=False))
    dataset: str = Field(sa_column=Column(Text, nullable=False))
    generation: int = Field(sa_column=Column(BigInteger, nullable=False))
    cause: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    attempt: int = Field(sa_column=Column(BigInteger, nullable=False))
    version: int | None = Field(sa_column=Column(BigInteger))
    into: str | None = Field(sa_column=Column(Text))
    error: JsonObject | None = Field(sa_column=Column(JSON(none_as_null=True)))
    run_dir: str | None = Field(sa_column=Column(Text))
    created_at: datetime = Field(sa_column=Column(Moment, nullable=False))
    finished_at: datetime | None = Field(sa_column=Column(Moment))
    evidence: JsonObject = Field(sa_column=Column(JSON, nullable=False))


class VersionRow(Table, table=True):
    """A version of a dataset."""

    __tablename__ = "versions"
    __table_args__ = (Index("ix_versions_dataset_number", "dataset", "number", unique=True),)

    key: str = Field(sa_column=Column(Text, primary_key=True))  # namespace/name@number
    namespace: str = Field(sa_column=Column(Text, nullable=False))
    dataset: str = Field(sa_column=Column(Text, nullable=False))
    number: int = Field(sa_column=Column(BigInteger, nullable=False))
    run: str | None = Field(sa_column=Column(Text))
    run_dir: str | None = Field(sa_column=Column(Text))
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    engine: str = Field(sa_column=Column(Text, nullable=False))
    columns: list[list[str]] = Field(sa_column=Column(JSON, nullable=False))  # name, Arrow type
    created_at: datetime = Field(sa_column=Column(Moment, nullable=False))
    evidence: JsonObject = Field(sa_column=Column(JSON, nullable=False))


class DeliveryRow(Table, table=True):
    """One version brought to one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("ix_deliveries_dataset_version", "dataset", "version", "key"),)

    key: str = Field(sa_column=Column(Text, primary_key=True))  # digest of what it is
    namespace: str = Field(sa_column=Column(Text, nullable=False))
    dataset: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    run: str = Field(sa_column=Column(Text, nullable=False))
    destination: str = Field(sa_column=Column(Text, nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    format: str = Field(sa_column=Column(Text, nullable=False))
    files: int = Field(sa_column=Column(BigInteger, nullable=False))
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    manifest: str = Field(sa_column=Column(Text, nullable=False))
    delivered_at: datetime = Field(sa_column=Column(Moment, nullable=False))
    evidence: JsonObject = Field(sa_column=Column(JSON, nullable=False))
