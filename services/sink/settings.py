"""What the sink is told by its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from libs.common.settings import CommonSettings


def paths(value: object) -> object:
    """`:`-separated absolute folders."""
    return tuple(Path(p) for p in value.split(":") if p) if isinstance(value, str) else value


class SinkSettings(CommonSettings):
    """`ONEBLOCK_…`, see the README."""

    sink_roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(paths)] = ()
    sink_concurrency: int = Field(2, ge=1, le=64)  # versions delivered at a time
