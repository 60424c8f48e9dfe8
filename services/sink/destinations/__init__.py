"""Kinds of destination, one file each: how a version is brought there, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from libs.common.registry import Registry


class Rows(Protocol):
    """The rows of one version, in its order; `libs.warehouse.Reader` is one."""

    schema: pa.Schema  # with system columns
    user_schema: pa.Schema
    rows: int

    def batches(self, *, system: bool = False, batch_bytes: int = ...) -> Iterator[pa.RecordBatch]:
        """All rows in batches of about so many bytes; memory stays flat whatever their number."""


@dataclass(frozen=True)
class Access:
    """What the operator lets destinations touch."""

    roots: tuple[Path, ...] = ()  # folders below which local destinations may lie
    closed: tuple[Path, ...] = ()  # folders that are never a destination, such as the warehouse


@dataclass(frozen=True)
class Order:
    """One version for one destination; says everything that decides what lies there after."""

    dataset: str  # namespace/name
    run: str  # that delivers
    attempt: int
    version: int
    made_by: str  # the run that made the version
    url: str
    format: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)  # destination.options
    path: str = "spec.destination"  # where the manifest says this, for error messages


class Watch(Protocol):
    """The sink's eye on one delivery; safe to call from the delivering thread, and blocks."""

    def wrote(self, rows: int, bytes: int, files: int = 0) -> None:
        """Reports progress; raises Cancelled, LeaseLost or TransientError where work must stop."""

    def fence(self) -> None:
        """Call last before readers see the version; raises LeaseLost, Cancelled, TransientError."""

    def is_version(self, number: int, made_by: str) -> bool:
        """Whether this dataset has this version, made by that run."""


@dataclass(frozen=True)
class Receipt:
    """What lies at the destination now."""

    format: str
    files: int
    rows: int
    bytes: int
    manifest: str = ""  # URL of the `_manifest.json` there
    unchanged: bool = False  # it was there already, brought by another run
    superseded: bool = False  # a newer version is there and stays
    kept: tuple[str, ...] = ()  # others' files that could not be taken along, and are set aside


class Destination(Protocol):
    """One kind of destination.

    Readers there see the old version or the new one, never a mixture. Only what belongs to the
    same dataset is replaced or removed. Doing it twice, or again after a crash at any point, ends
    with the version there once and nothing else left. An older version never replaces a newer.
    Raises PermanentError and TransientError; drivers' errors are translated.
    """

    def deliver(self, order: Order, rows: Rows, access: Access, watch: Watch) -> Receipt:
        """Brings the version there, or finds that it is there already. Blocks."""


DESTINATIONS: Registry[Destination] = Registry(
    "services.sink.destinations", lambda: list(__path__), noun="destination"
)
