"""`_manifest.json`: what a delivered folder says about itself, for readers and for the next run."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

NAME = "_manifest.json"
MAX_BYTES = 64 * 1024 * 1024  # a manifest of about 400,000 files; larger ones aren't ours


class Column(BaseModel):
    """One column of the delivered rows."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str  # Arrow's name of it


class DeliveredFile(BaseModel):
    """One part, or one row's file."""

    model_config = ConfigDict(frozen=True)

    # Below the folder, never out of it: it is removed by this path.
    path: str = Field(pattern=r"^[^/\x00]+(/[^/\x00]+)*$")
    rows: int
    bytes: int
    sha256: str  # hex


class Contents(BaseModel):
    """The whole manifest; its presence makes a folder ours. A contract that only grows."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    producer: Literal["oneblock"] = "oneblock"
    dataset: str  # namespace/name
    version: int
    made_by: str  # the run that made the version
    run: str  # the run that delivered it
    format: str
    writing: str  # digest of how it was written: format and options
    rows: int
    bytes: int
    files: tuple[DeliveredFile, ...]
    columns: tuple[Column, ...] = Field(alias="schema")
    written_at: datetime

    def encode(self) -> str:
        """As it is written."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @classmethod
    def decode(cls, content: str) -> Contents | None:
        """Back from a file; None for a file that isn't ours."""
        try:
            contents = cls.model_validate_json(content)
        except ValidationError:
            return None
        outside = any({".", ".."}.intersection(f.path.split("/")) for f in contents.files)
        return None if outside else contents
