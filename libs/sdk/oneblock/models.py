"""What the services answer, as plain typed values that ignore what a newer release adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

Json = Mapping[str, Any]  # a JSON object as it came

GOOD = frozenset({"succeeded", "skipped"})
TERMINAL = GOOD | {"coalesced", "duplicate", "failed", "cancelled"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A JSON object; `raw` keeps everything, the fields what is always there."""

    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, data: Json) -> Self:
        known = {f.name for f in fields(cls)} - {"raw"}
        values = {**data, **cls._read(data)}
        return cls(raw=data, **{k: v for k, v in values.items() if k in known and v is not None})

    @classmethod
    def _read(cls, _data: Json) -> Json:
        """Fields that aren't taken as they come."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Upload(Answer):
    """A file that ingest keeps; `url` goes into a manifest."""

    url: str = ""
    size: int = 0  # bytes
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Stage(Answer):
    """How far one stage of a run is."""

    name: str = ""
    state: str = ""
    attempt: int = 0
    rows: int = 0
    bytes: int = 0
    files: int = 0
    done: int = 0  # units of work finished …
    total: int = 0  # … of so many
    started_at: str = ""
    finished_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Run(Answer):
    """One attempt to bring a dataset up to its spec and sources."""

    id: str = ""
    dataset: str = ""
    generation: int = 0
    cause: str = ""
    state: str = ""
    version: int | None = None
    into: str | None = None  # the run that did this one's work
    stages: tuple[Stage, ...] = ()
    error: Json | None = None
    created_at: str = ""
    finished_at: str = ""

    @classmethod
    def _read(cls, data: Json) -> Json:
        return {"stages": tuple(Stage.parse(s) for s in data.get("stages") or ())}

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    @property
    def good(self) -> bool:
        return self.state in GOOD

    @property
    def error_code(self) -> str:
        return str((self.error or {}).get("code") or "")

    @property
    def error_detail(self) -> str:
        found = self.error or {}
        where = f"{found['path']}: " if found.get("path") else ""
        return where + str(found.get("detail") or "")


@dataclass(frozen=True, kw_only=True)
class Accepted(Answer):
    """A request that was taken down durably; `run` says what becomes of it."""

    run: str = ""
    dataset: str = ""
    duplicate: bool = False

    @classmethod
    def _read(cls, data: Json) -> Json:
        run = data.get("run")
        return {"run": run.get("id") if isinstance(run, Mapping) else run}


@dataclass(frozen=True, kw_only=True)
class Dataset(Answer):
    """`namespace/name` and what is known of it."""

    dataset: str = ""
    namespace: str = ""
    name: str = ""
    generation: int = 0
    version: int | None = None
    rows: int | None = None
    bytes: int | None = None
    state: str = ""
    updated_at: str = ""

    @property
    def full_name(self) -> str:
        return self.dataset or f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Version(Answer):
    """An immutable state of a dataset's rows."""

    number: int = 0
    rows: int = 0
    bytes: int = 0
    run: str = ""
    engine: str = ""
    created_at: str = ""

    @classmethod
    def _read(cls, data: Json) -> Json:
        return {"number": data.get("version")}


@dataclass(frozen=True, kw_only=True)
class Row(Answer):
    """One row: its values, its place in the version, its identity."""

    row_idx: int = 0
    row_key: str = ""
    row: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Page(Answer):
    """Some rows of one version, in its order."""

    rows: tuple[Row, ...] = ()
    features: Sequence[Json] = ()
    num_rows_total: int = 0
    version: int | None = None

    @classmethod
    def _read(cls, data: Json) -> Json:
        return {"rows": tuple(Row.parse(r) for r in data.get("rows") or ())}

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        named = [str(f["name"]) for f in self.features if "name" in f]
        return named or list(self.rows[0].row if self.rows else ())

    def values(self) -> Iterator[Json]:
        """Each row's values by column."""
        return (row.row for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class BadItem(Answer):
    """Something of a version's sources that couldn't be read."""

    number: int = 0
    path: str = ""
    code: str = ""
    detail: str = ""
    whole: bool = False  # no single record, but the file or a piece of it
    start: int = 0  # where it is in the file, in bytes
    stop: int | None = None
    line: int | None = None
    truncated: bool = False  # more of it was there than is kept

    @property
    def place(self) -> str:
        """Where in the file, for people."""
        if self.line is not None:
            return f"line {self.line:,}"
        whole = self.whole and not self.start
        return "the file" if whole else f"byte {self.start:,}"


@dataclass(frozen=True, kw_only=True)
class LogLine(Answer):
    """One line of a run's log."""

    time: str = ""
    stage: str = ""
    attempt: int = 0
    level: str = "info"
    event: str = ""
